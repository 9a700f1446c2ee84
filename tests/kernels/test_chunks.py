"""Rows that lie together in space: where surfels go, and that leaving chunks aside changes no picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spmem import Camera
from spmem.config import FusionConfig
from spmem.errors import InputError
from spmem.kernels import raster
from spmem.kernels.chunks import BLOCK_BITS, CHUNK, Chunks, curve
from spmem.stores.maps.surfels import SurfelMap
from spmem.testing.box import BoxRoom
from spmem.types import Surfels


def scattered(n: int, seed: int = 0, spread: float = 4.0, radius: float = 0.1) -> Surfels:
    g = torch.Generator().manual_seed(seed)
    return Surfels(
        ids=torch.arange(n),
        position=(torch.rand(n, 3, generator=g) - 0.5) * spread,
        normal=torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=-1),
        radius=radius * (0.5 + torch.rand(n, generator=g)),
        colour=torch.rand(n, 3, generator=g),
        confidence=0.5 + torch.rand(n, generator=g),
        first_seen=torch.zeros(n),
        last_seen=torch.zeros(n),
    )


cells = st.lists(st.tuples(*[st.integers(-200, 200)] * 3), min_size=1, max_size=400)


@given(st.lists(cells, min_size=1, max_size=4))
def test_rows_are_never_given_twice_and_a_chunk_is_of_one_block(
    batches: list[list[tuple[int, int, int]]],
) -> None:
    chunks, block_of, seen = Chunks(), {}, set()
    for batch in batches:
        cell = np.array(batch, np.int64)
        rows = chunks.take(len(cell), cell)
        assert len(set(rows.tolist())) == len(rows)
        assert seen.isdisjoint(rows.tolist())
        seen |= set(rows.tolist())
        for row, block in zip(rows.tolist(), map(tuple, cell >> BLOCK_BITS), strict=True):
            assert block_of.setdefault(row // CHUNK, block) == block
    restored = Chunks.restore(chunks.arrays(), chunks.n * CHUNK)
    more = np.array(batches[0], np.int64)
    assert chunks.take(len(more), more).tolist() == restored.take(len(more), more).tolist()


def test_the_curve_keeps_near_what_is_near() -> None:
    axis = np.arange(16)
    cell = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    order = cell[curve(torch.from_numpy(cell)).argsort().numpy()]
    size = np.ptp(order.reshape(-1, 64, 3), axis=1)
    assert (size == 3).all()  # each 64 in a row fill a cube of 4 x 4 x 4


def test_added_surfels_keep_their_order_and_values() -> None:
    given_, store = scattered(1000), SurfelMap(FusionConfig(voxel=0.05))
    ids = store.add(given_)
    held = store.surfels()
    at = torch.searchsorted(held.ids, ids)
    for name in ("position", "normal", "radius", "colour", "confidence"):
        assert torch.equal(getattr(held, name)[at], getattr(given_, name))
    assert len(store) == 1000
    store.fuse(BoxRoom().frames(BoxRoom().walk(1, width=64, height=48))[0])  # and goes on
    with pytest.raises(InputError, match="radius"):
        store.add(Surfels(**{**vars(given_), "radius": torch.zeros(1000)}))
    with pytest.raises(InputError, match="position"):
        store.add(Surfels(**{**vars(given_), "position": given_.position * torch.nan}))


@pytest.mark.parametrize("seed", range(3))
def test_what_is_left_aside_is_not_seen(seed: int) -> None:
    """A wall hides most of 60,000 surfels; the twin, which looks at each, sees the same."""
    behind = scattered(60_000, seed, spread=8.0, radius=0.02)
    g = torch.Generator().manual_seed(seed)
    n = 6000
    wall = Surfels(
        ids=torch.arange(n),
        position=torch.cat(
            [(torch.rand(n, 2, generator=g) - 0.5) * 9, torch.full((n, 1), -4.3)], -1
        ),
        normal=torch.tensor([0.0, 0, -1]).expand(n, 3),
        radius=torch.full((n,), 0.25),
        colour=torch.rand(n, 3, generator=g),
        confidence=torch.ones(n),
        first_seen=torch.zeros(n),
        last_seen=torch.zeros(n),
    )
    store = SurfelMap(FusionConfig(voxel=0.02))
    store.add(behind)
    store.add(wall)
    columns = store._columns
    assert columns is not None
    for position in ([0.0, 0, -7], [0.0, 0, 0.3]):  # the wall before it all; in the middle of it
        cameras = Camera.look_at(position, [0.3, 0.1, 3.0], width=120, height=90)[None]
        fast, plain = (raster.rasterize(columns, cameras, kernel=k) for k in ("numba", "torch"))
        same = fast[4] == plain[4]
        assert same.float().mean() > 0.999
        assert (fast[1] - plain[1]).abs()[same].quantile(0.999) < 1e-3


def test_a_view_does_not_depend_on_how_bounds_came_about() -> None:
    """After reopening, bounds are tight and chunks are drawn in another order: the sums are the same."""
    room, store, other = BoxRoom(), SurfelMap(), SurfelMap()
    frames = room.frames(room.walk(8, width=96, height=72, sweep=3.0))
    for frame in frames:
        store.fuse(frame)
    other.restore({k: np.array(v) for k, v in store.arrays().items()}, torch.device("cpu"))
    cameras = Camera.stack([frame.camera for frame in frames])
    a, b = store.render(cameras), other.render(cameras)
    for name in ("rgb", "depth", "normal", "surfel_ids"):
        assert torch.equal(getattr(a, name), getattr(b, name))


def test_an_edit_that_moves_surfels_far_is_seen() -> None:
    store = SurfelMap(FusionConfig(voxel=0.05))
    ids = store.add(scattered(300, spread=1.0))
    away = torch.tensor([50.0, 0, 0])
    store.edit(ids, position=store.surfels().position[torch.argsort(ids.argsort())] + away)
    camera = Camera.look_at(away + torch.tensor([0.0, 0, -3]), away, width=64, height=48)
    assert store.render(camera[None]).mask.any()
