"""Known free space: what is rendered through walls that nobody saw is not believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import spmem
from spmem import MemoryConfig, RetrievalConfig
from spmem.camera import Camera
from spmem.errors import InputError
from spmem.retrieval.visibility.free_space import BEYOND, STRIDE, KnownFreeSpace
from spmem.retrieval.visibility.walls import ABOUT, WALLS
from spmem.testing.box import BoxRoom
from spmem.testing.retriever import TWO_ROOMS, query_of, stand, tour, views_of

LEFT = BoxRoom(room=((-4.0, -1.5, -2.5), (-0.03, 1.2, 2.5)))
"""The left room alone; its walls are seen from within only."""


def left_views() -> KnownFreeSpace:
    free, views = (
        KnownFreeSpace(),
        views_of([stand(-2, -1, turn) for turn in (-0.6, 0, 0.6)], room=LEFT),
    )
    free.observe(views, slice(0, 3))
    return free


def test_what_was_looked_through_is_free() -> None:
    free, asked = left_views(), query_of([stand(-2, -1, 0.1)], room=LEFT).projection
    assert float(free.unseen(asked).mean()) < 0.1
    assert torch.equal(free.believed(asked).mask, asked.mask)


def test_what_shows_through_an_unseen_wall_is_not_believed() -> None:
    free = left_views()
    outside = stand(5, -0.5, -np.pi / 2)  # beyond the right room, looking at the left one
    seen = query_of([outside]).projection
    far = torch.full_like(
        seen.depth, 8.5
    )  # the left room's far wall, straight through the wall between
    through = spmem.Projection(seen.cameras, seen.rgb, far, seen.normal, seen.mask, seen.surfel_ids)
    assert float(free.unseen(through).min()) > 3.5
    assert not free.believed(through).mask.any()
    assert torch.equal(free.believed(through).depth, far)
    assert KnownFreeSpace(None).believed(through) is through


def test_most_is_believed_a_step_back_from_where_all_was_seen() -> None:
    free, asked = left_views(), query_of([stand(-2, -1.6, 0)], room=LEFT).projection
    assert free.believed(asked).coverage.item() > 0.8


def test_the_unit_of_length_does_not_matter() -> None:
    views = views_of(tour())
    small, large = KnownFreeSpace(), KnownFreeSpace()
    small.observe(views, slice(0, len(views)))
    views.c2w[:, :3, 3] *= 1000
    views.depth[:] *= 1000
    large.observe(views, slice(0, len(views)))
    camera = stand(0.5, 2, -2)
    one = TWO_ROOMS.render(camera[None])
    c2w = camera.c2w.clone()
    c2w[:3, 3] *= 1000
    other = spmem.Projection(Camera(camera.K, c2w, width=64, height=48)[None], one.rgb, 1000 * one.depth, one.normal, one.mask, one.surfel_ids)  # fmt: skip
    near, far = small.unseen(one), large.unseen(other) / 1000
    assert float((near - far).abs().quantile(0.95)) < 0.15


def test_unseen_space_is_what_marching_along_each_ray_finds() -> None:
    views = views_of([stand(-2, -1, turn) for turn in (-0.6, 0.7)], room=LEFT)
    free = KnownFreeSpace()
    free.observe(views, slice(0, 2))
    edge, seen = float(free.arrays()["edge"][0]), set[tuple[int, ...]]()
    for view in range(2):
        every = np.s_[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        voxels, open_, _ = marched(views.K[view], views.c2w[view], views.depth[view], every, edge, 0)  # fmt: skip
        seen |= set(map(tuple, voxels[open_].tolist()))
    asked = query_of([stand(-2, -1, 0.1), stand(5, -0.5, -np.pi / 2)], room=LEFT).projection
    asked.depth[1] = 8.5
    found = free.unseen(asked).numpy()
    for t in range(2):
        K, c2w = asked.cameras.K[t].numpy(), asked.cameras.c2w[t].numpy()
        voxels, open_, step = marched(K, c2w, asked.depth[t].numpy(), np.s_[:, :], edge, 0.5)
        known = np.array([tuple(one) in seen for one in voxels.reshape(-1, 3).tolist()]).reshape(open_.shape)  # fmt: skip
        counts = np.where(np.logical_or.accumulate(known & open_, axis=1), BEYOND, 1)
        wanted = step * (counts * (open_ & ~known)).sum(1)
        assert (
            np.mean(np.abs(found[t].ravel() - wanted) > 1e-3) < 0.02
        )  # borders fall to either side


def marched(
    K: Any, c2w: Any, depth: Any, pixels: Any, edge: float, start: float
) -> tuple[Any, Any, Any]:
    """Voxels ``[rays, steps, 3]`` along the pixels' rays, which lie before the surface, and the steps' length."""
    y, x = (axis[pixels].ravel() + 0.5 for axis in np.mgrid[:48, :64])
    ray = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)], -1)
    long = np.linalg.norm(ray, axis=1)
    z = (np.arange(128) + start) * (edge / 2 / long)[:, None]
    world = (ray @ c2w[:3, :3].T)[:, None] * z[..., None] + c2w[:3, 3]
    before = z < (depth[pixels].ravel() - edge / long)[:, None]
    return np.floor(world / edge).astype(int), before, np.full(len(z), edge / 2)


@pytest.mark.parametrize("size", [(48, 64), (50, 67), (96, 130)])
def test_what_is_believed_has_no_more_unseen_space_than_reach(size: tuple[int, int]) -> None:
    free, asked = left_views(), query_of([stand(5, -0.5, -np.pi / 2, height=size[0], width=size[1])]).projection  # fmt: skip
    asked.depth[:] = torch.linspace(0.5, 8.5, size[1])
    limit, unseen = float(np.median(free.arrays()["depths"])), free.unseen(asked)
    told, clear = free.believed(asked).mask, (unseen - limit).abs() > 1e-4
    assert torch.equal(told[clear], (asked.mask & (unseen <= limit))[clear])
    assert 0 < told.float().mean() < 1


def test_beside_surfaces_seen_from_behind_less_is_believed() -> None:
    free, asked = left_views(), query_of([stand(5, -0.5, -np.pi / 2)]).projection
    asked.depth[:] = torch.linspace(0.5, 8.5, 64)
    before = free.believed(asked).mask
    asked.mask[:, 10:30, 20:24] = False  # a wall, seen from behind
    behind = (~asked.mask).float()
    asked.mask[:, 36:, 20:60:3] = False  # narrower than three samples: specks
    near = 48 // ABOUT
    share = torch.nn.functional.avg_pool2d(behind, 2 * near + 1, 1, near, count_include_pad=False)
    counted = free.unseen(asked) * (1 + WALLS * share)
    limit, told = float(np.median(free.arrays()["depths"])), free.believed(asked).mask
    clear = (counted - limit).abs() > 1e-4
    assert torch.equal(told[clear], (asked.mask & (counted <= limit))[clear])
    lost = before & asked.mask & ~told
    assert lost[:, :30].any()
    assert not lost[:, 30 + near + 1 :].any()


def test_walls_count_alike_for_one_camera_and_for_many() -> None:
    free, asked = left_views(), query_of([stand(5, -0.5, -np.pi / 2)] * 12).projection
    asked.depth[:] = torch.linspace(0.5, 8.5, 64)
    asked.mask[:, 10:30, 20:44] = False
    one = spmem.Projection(*(getattr(asked, name)[:1] for name in ("cameras", "rgb", "depth", "normal", "mask", "surfel_ids")))  # fmt: skip
    together, alone = free.believed(asked).coverage, free.believed(one).coverage
    assert 0.05 < float(alone) < 0.8
    assert float((together - alone).abs().max()) < 0.05


def test_pixels_without_depth_looked_as_far_as_the_nearest_with_it() -> None:
    stood = [stand(-2, -1, turn) for turn in (-0.6, 0, 0.6)]
    whole, holed, blind = (views_of(stood, room=LEFT) for _ in range(3))
    pattern = np.random.default_rng(0).random(holed.depth.shape) < 0.4
    holed.depth[pattern] = 0
    holed.depth[:, 15:25, 20:40] = 0  # what the sensor did not answer for
    blind.depth[:] = 0
    asked = query_of([stand(-2, -1, 0.1)], room=LEFT).projection
    unseen: list[float] = []
    for views in (whole, holed):
        free = KnownFreeSpace()
        free.observe(views, slice(0, 3))
        unseen.append(float(free.unseen(asked).mean()))
    assert unseen[1] < unseen[0] + 0.1
    free = KnownFreeSpace()
    free.observe(blind, slice(0, 3))
    assert not len(free.arrays()["through"])
    between = views_of(stood, room=LEFT)
    between.depth[:, :, 4:60] = 0
    between.depth[:, :, :4] /= 4  # all without depth lie between near ones and far ones
    free.observe(between, slice(0, 3))
    assert float(free.unseen(asked).mean()) > unseen[1] + 0.3


def test_nothing_seen_believes_everything() -> None:
    asked = query_of([stand(-2, -1, 0)]).projection
    assert KnownFreeSpace().believed(asked) is asked


@pytest.mark.parametrize("size", [(48, 64), (50, 67), (7, 5), (240, 320)])
def test_any_image_size(size: tuple[int, int]) -> None:
    asked = query_of([stand(-2, -1, 0.1, height=size[0], width=size[1])], room=LEFT).projection
    assert left_views().unseen(asked).shape == (1, *size)


def test_memory_says_that_it_does_not_know_the_room_next_door() -> None:
    frames = LEFT.frames(Camera.stack([stand(-2, -1, turn) for turn in np.linspace(-3, 3, 16)]))
    behind = Camera.look_at([-2.0, 0.0, -8.0], [-2.0, 0.0, 0.0], width=64, height=48)
    claimed: dict[float | None, float] = {}
    for reach in (1.0, None):
        memory = spmem.open(config=MemoryConfig(retrieval=RetrievalConfig(reach=reach)))
        for frame in frames[3:13]:  # the wall at z = -2.5 is not among them
            memory.store(frame)
        claimed[reach] = float(memory.retrieve(behind, k=0).coverage)
    assert claimed[1.0] < 0.1 < claimed[None]
    with pytest.raises(InputError, match="reach > 0"):
        RetrievalConfig(reach=-1)


def test_what_a_view_alone_looked_through_can_be_taken_back() -> None:
    views = views_of([stand(-2, -1, turn) for turn in (-0.6, 0, 0.6, 2.5)], room=LEFT)
    free, without = KnownFreeSpace(), KnownFreeSpace()
    free.observe(views, slice(0, 4))
    without.observe(views, slice(0, 3))
    asked = query_of([stand(-2, -1, 2.5), stand(-2, -1, 0.1)], room=LEFT).projection
    assert not torch.equal(free.unseen(asked), without.unseen(asked))
    free.forget(views, np.array([3]))
    assert torch.equal(free.unseen(asked), without.unseen(asked))


def test_all_that_was_noted_can_be_taken_back_in_any_order() -> None:
    views = views_of([stand(-2, -1, turn) for turn in (-0.6, 0, 0, 0.6, 2.5)], room=LEFT)
    free = KnownFreeSpace()
    free.observe(views, slice(0, 5))
    for rows in ([3, 1], [0], [4, 2]):
        free.forget(views, np.array(rows))
    asked = query_of([stand(-2, -1, 2.5)], room=LEFT).projection
    assert free.believed(asked) is asked
    assert not len(free.arrays()["through"])


def test_it_comes_back_from_its_arrays() -> None:
    free, asked = left_views(), query_of([stand(5, -0.5, -np.pi / 2), stand(-2, -1, 2.5)], room=LEFT).projection  # fmt: skip
    back = KnownFreeSpace.restore(free.arrays())
    assert torch.equal(back.unseen(asked), free.unseen(asked))
    assert torch.equal(back.believed(asked).mask, free.believed(asked).mask)
    views = views_of([stand(-2, -1, turn) for turn in (-0.6, 0, 0.6)], room=LEFT)
    back.forget(views, np.arange(3))
    assert back.believed(asked) is asked
    assert KnownFreeSpace.restore(KnownFreeSpace().arrays()).believed(asked) is asked


@pytest.mark.parametrize(
    "wrong",
    [
        {"edge": np.zeros(1)},
        {"edge": np.full(1, np.nan)},
        {"edge": np.ones(2)},
        {"depths": np.array([2.0, 1.0])},
        {"depths": np.array([-1.0])},
        {"through": np.zeros(3, np.uint64), "looks": np.ones(3, np.int32)},
        {"through": np.ones(2, np.uint64), "looks": np.ones(2, np.int32)},
        {"through": np.arange(1, 4, dtype=np.uint64), "looks": np.zeros(3, np.int32)},
        {"looks": np.ones(3, np.int32)},
        {"looks": np.ones(3, np.int64), "through": np.arange(1, 4, dtype=np.uint64)},
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"does not fit|wanted|finite"):
        KnownFreeSpace.restore({**left_views().arrays(), **wrong})
