"""Houses: exact depth, normals and instances, the same for the same seed, and what moves in them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spmem import Camera, Frame, worlds
from spmem.errors import CameraError, InputError
from spmem.worlds import House, View
from spmem.worlds.building import build

SIZE = {"width": 40, "height": 30}


@functools.cache
def tour(seed: int = 0, moving: int = 0) -> tuple[House, Camera, View]:
    """Forty views of a house, well apart."""
    house = House(seed=seed, rooms=4, moving=moving)
    cameras = worlds.walk(house, 400, **SIZE)[::10]
    return house, cameras, house.render(cameras, torch.zeros(40))


def named(house: House, view: View, ending: str) -> torch.Tensor:
    """Pixels whose instance's name ends so."""
    return torch.tensor([name.endswith(ending) for name in house.instances])[view.instance.long()]


def test_view_has_the_stated_shapes_and_types() -> None:
    house, _, view = tour()
    assert (view.rgb.shape, view.rgb.dtype) == ((40, 30, 40, 3), torch.uint8)
    assert (view.depth.shape, view.depth.dtype) == ((40, 30, 40), torch.float32)
    assert (view.normal.shape, view.normal.dtype) == ((40, 30, 40, 3), torch.float32)
    assert (view.instance.shape, view.instance.dtype) == ((40, 30, 40), torch.int32)
    assert house.instances[0] == "none"
    assert len(set(house.instances)) == len(house.instances)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=6, deadline=None)
def test_depth_lands_on_floor_ceiling_and_walls(seed: int) -> None:
    house = House(seed=seed, rooms=3)
    cameras = worlds.walk(house, 30, seed=seed, **SIZE)[::3]
    view = house.render(cameras)
    points = cameras.unproject(view.depth)
    assert (points[named(house, view, " floor")][:, 1].abs() < 1e-4).all()
    for room, box in enumerate(house.plan.rooms.tolist()):
        wall, ceiling = view.instance == 3 * room + 1, view.instance == 3 * room + 3
        assert ((points[ceiling][:, 1] + house.plan.heights[room]).abs() < 1e-4).all()
        # Inner sides at x0, z0, x1, z1 face +x, +z, -x, -z.
        for side, axis, facing in zip(box, (0, 2, 0, 2), (1, 1, -1, -1), strict=True):
            off = points[wall & (view.normal[..., axis] == facing)][:, axis] - side
            assert (off.abs() < 1e-4).all()
        assert (view.normal[wall].abs().amax(-1) == 1).all()


def test_normals_are_unit_and_face_the_camera() -> None:
    house, cameras, view = tour()
    assert torch.allclose(view.normal.norm(dim=-1), torch.ones(40, 30, 40), atol=1e-5)
    assert ((view.normal * cameras.rays()).sum(-1) < 0).all()
    up = torch.tensor([0.0, -1.0, 0.0])
    assert torch.equal(view.normal[named(house, view, " floor")].unique(dim=0), up[None])


def test_every_camera_agrees_on_what_another_saw() -> None:
    """A ray at a point that another camera saw ends there, at the same instance, or before it: never behind."""
    house, cameras, view = tour()
    rng = np.random.default_rng(0)
    i, y, x = (torch.from_numpy(rng.integers(0, n, 3000)) for n in (40, 30, 40))
    points = cameras.unproject(view.depth)[i, y, x]
    eyes = cameras.position[torch.from_numpy(rng.integers(0, 40, 3000))]
    probe = Camera.look_at(eyes, points, fov_x=0.01, width=1, height=1)
    far = (points - eyes).norm(dim=-1)
    seen = house.render(probe, torch.zeros(3000))
    assert (seen.depth[:, 0, 0] <= far + 1e-3).all()
    there = (seen.depth[:, 0, 0] - far).abs() < 1e-4
    assert 0.1 < there.float().mean() < 0.9
    # Where two things touch, rounding decides which is met.
    same = seen.instance[:, 0, 0][there] == view.instance[i, y, x][there]
    assert same.float().mean() > 0.999


def test_colours_are_the_surfaces_own() -> None:
    """From near and far, from left and right, a point has one colour, up to what finer pixels resolve."""
    house, cameras, view = tour()
    points = cameras.unproject(view.depth)[::4, ::5, ::5].reshape(-1, 3)
    one, other = (
        house.render(Camera.look_at(eye.expand_as(points), points, fov_x=0.002, width=1, height=1), torch.zeros(len(points)))
        for eye in (cameras.position[0], cameras.position[3])
    )  # fmt: skip
    reach = [
        (v.depth[:, 0, 0] - (points - e).norm(dim=-1)).abs() < 1e-4
        for v, e in ((one, cameras.position[0]), (other, cameras.position[3]))
    ]
    both = reach[0] & reach[1]
    assert both.sum() > 30
    difference = (one.rgb[both].int() - other.rgb[both].int()).abs().amax(-1).flatten().float()
    assert difference.quantile(0.9) <= 6


def test_same_seed_same_house() -> None:
    _, cameras, view = tour()
    build.cache_clear()
    again = House(seed=0, rooms=4).render(cameras, torch.zeros(40))
    assert all(torch.equal(a, b) for a, b in zip(view, again, strict=True))


def test_other_seeds_other_houses() -> None:
    kinds = {House(seed=seed).plan.rooms.tobytes() for seed in range(6)}
    assert len(kinds) == 6
    _, _, one = tour(0)
    _, _, other = tour(1)
    assert (one.rgb.float().mean((0, 1, 2)) - other.rgb.float().mean((0, 1, 2))).abs().max() > 1


def test_batches_are_their_views_one_by_one() -> None:
    house, cameras, view = tour(0, 3)
    times = torch.zeros(40)
    for i in (0, 17, 39):
        alone = house.render(cameras[i], times[i])
        assert alone.depth.shape == (30, 40)
        assert all(torch.equal(a, b[i]) for a, b in zip(alone, view, strict=True))
    grid = house.render(cameras[torch.arange(6).view(2, 3)], 0.0)
    assert torch.equal(grid.rgb, view.rgb[:6].view(2, 3, 30, 40, 3))


def test_times_count_frames_at_ten_a_second() -> None:
    house, cameras, _ = tour(0, 3)
    counted = house.render(cameras[:12])
    given_ = house.render(cameras[:12], torch.arange(12) / 10)
    assert torch.equal(counted.rgb, given_.rgb)
    assert [f.time for f in house.frames(cameras[:3])] == [0.0, 0.1, 0.2]


def test_samples_smooth_the_colour_alone() -> None:
    house, cameras, view = tour()
    smooth = house.render(cameras, torch.zeros(40), samples=3)
    assert torch.allclose(smooth.depth, view.depth, rtol=1e-5)
    assert (smooth.instance == view.instance).float().mean() > 0.9999
    steps = [
        (v.rgb[:, :, 1:].float() - v.rgb[:, :, :-1].float()).abs().mean() for v in (smooth, view)
    ]
    assert steps[0] < steps[1]


def test_movers_move_and_nothing_else_does() -> None:
    house, cameras, view = tour(0, 3)
    later = house.render(cameras, torch.full((40,), 4.0))
    mover = torch.tensor(list(house.movers), dtype=torch.int32)
    moving = torch.isin(view.instance, mover) | torch.isin(later.instance, mover)
    assert moving.any()
    for before, after in zip(view, later, strict=True):
        assert torch.equal(before[~moving], after[~moving])
    seen = torch.isin(view.instance, mover)
    assert (later.instance[seen] != view.instance[seen]).float().mean() > 0.3


def test_movers_repeat_and_keep_their_shape() -> None:
    house = House(seed=2, rooms=1, moving=2)
    orbits = build(2, 1, house.room_size, 2).orbits
    period = abs(float(orbits.period[0]))
    at = orbits.poses(np.array([0.0, period, 0.3 * period]))
    assert np.allclose(at[0, 0], at[1, 0])
    assert not np.allclose(at[0, 0, :3], at[2, 0, :3])
    assert np.allclose(np.hypot(at[..., 3], at[..., 4]), 1)


def test_movers_look_where_they_go() -> None:
    orbits = build(2, 1, 4.6, 2).orbits
    now, soon = orbits.poses(np.array([1.0, 1.001]))
    going = (soon - now)[:, [0, 2]]
    looking = now[:, [4, 3]]
    assert np.allclose(going / np.linalg.norm(going, axis=1, keepdims=True), looking, atol=0.02)


def test_number_of_movers_changes_nothing_else() -> None:
    still, cameras, view = tour()
    lively, _, _ = tour(0, 3)
    emptied = lively.hide(lively.movers)
    assert all(torch.equal(a, b) for a, b in zip(emptied.render(cameras, 0.0), view, strict=True))
    assert lively.instances[: len(still.instances)] == still.instances


def test_hiding_a_thing_shows_what_is_behind_it() -> None:
    house, cameras, view = tour()
    ids, counts = view.instance.unique(return_counts=True)
    thing = max(
        (int(n), int(i)) for i, n in zip(ids, counts, strict=True) if int(i) in house.things
    )[1]
    without = house.hide([thing])
    seen = without.render(cameras, 0.0)
    gone = view.instance == thing
    assert not (seen.instance == thing).any()
    assert (seen.depth[gone] >= view.depth[gone]).all()
    assert torch.equal(seen.depth[~gone], view.depth[~gone])
    assert torch.equal(seen.instance[~gone], view.instance[~gone])
    assert without.instances == house.instances
    assert without.hide([thing]) == without


def test_walls_cannot_be_hidden() -> None:
    house = House()
    with pytest.raises(InputError, match="only things can be hidden"):
        house.hide([1])


def test_outside_there_is_nothing() -> None:
    view = House().render(Camera.look_at([50, -1, 0], [0, -1, 0], width=8, height=6))
    assert not view.depth.any()
    assert not view.instance.any()
    assert not view.rgb.any()


def test_frames_are_lazy_and_valid() -> None:
    house, cameras, _ = tour()
    frames = house.frames(cameras)
    first = next(frames)
    assert isinstance(first, Frame)
    Frame(first.rgb, first.depth, first.camera, first.time)
    assert len(list(frames)) == 39
    with pytest.raises(CameraError, match="trajectory"):
        house.frames(cameras[0])


@pytest.mark.parametrize("wrong", [{"rooms": 0}, {"moving": -1}, {"room_size": 2.0}, {"seed": -1}])
def test_impossible_houses(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        House(**wrong)  # type: ignore[arg-type]


def test_too_many_movers() -> None:
    with pytest.raises(InputError, match="room for"):
        _ = House(rooms=1, moving=60).instances


def test_render_checks_its_arguments() -> None:
    house, cameras, _ = tour()
    with pytest.raises(InputError, match="odd"):
        house.render(cameras, samples=2)
    with pytest.raises(InputError, match="broadcast"):
        house.render(cameras, torch.zeros(7))


def test_rooms_look_unlike_one_another() -> None:
    """The view most alike in colour, of those from elsewhere, shows the same room far above chance (a quarter)."""
    house = House(seed=4, rooms=6)
    cameras = worlds.walk(house, 1200, seed=1, stride=0.1, **SIZE)[::8]
    view = house.render(cameras, 0.0)
    room = ((view.instance - 1) // 3).flatten(1)
    shown = torch.stack([(room == r).sum(1) for r in range(6)], 1).argmax(1)
    bins = (view.rgb.long() // 43 * torch.tensor([36, 6, 1])).sum(-1).flatten(1)
    look = torch.stack([torch.bincount(b, minlength=216) for b in bins]).float().sqrt()
    apart = (cameras.position[:, None] - cameras.position).norm(dim=-1) > 0.5
    best = (look @ look.T).masked_fill(~apart, -1).argmax(1)
    assert len(shown.unique()) > 3
    assert (shown[best] == shown).float().mean() > 0.8
