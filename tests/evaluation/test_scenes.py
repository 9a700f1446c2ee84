"""Episodes: what they promise, in every family; and that walls mislead whoever trusts poses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from spmem import Camera
from spmem.errors import FormatError
from spmem.evaluation.episode import REVISIT, BenchEpisode, Size
from spmem.evaluation.scenes import FAMILIES, recorded
from spmem.evaluation.sight import Sight, seen_masks, sight_of
from spmem.evaluation.walls import beside_walls
from spmem.worlds import House
from spmem.worlds.freespace import free_space

SMALL = Size(frames=32, targets=4, width=64, height=48)


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest) -> BenchEpisode:
    return FAMILIES[request.param](0, SMALL)


def test_every_target_comes_back_to_what_was_stored(made: BenchEpisode) -> None:
    assert len(made.frames) == len(made.sight) == SMALL.frames
    assert 1 <= len(made.targets) <= SMALL.targets
    assert {len(target.cameras) for target in made.targets} == {1, 4}
    for target in made.targets:
        pixels = target.sight.depth.numel()
        assert target.revisitable.shape == (pixels,)
        assert target.saw.shape == (SMALL.frames, int(target.revisitable.sum()))
        assert target.saw.any(0).all()
        assert target.gap >= 1
        assert target.time > (made.frames[-1].time or 0)
        first = target.revisitable.view(len(target.cameras), -1)[0]
        assert float(first.float().mean()) >= REVISIT


def test_a_seed_is_one_episode(made: BenchEpisode) -> None:
    again, other = (FAMILIES[made.family](seed, SMALL) for seed in (0, 1))
    assert torch.equal(again.sight.depth, made.sight.depth)
    assert [target.gap for target in again.targets] == [target.gap for target in made.targets]
    assert not torch.equal(other.sight.depth, made.sight.depth)


def test_beside_walls_cameras_stand_in_free_space_on_both_sides() -> None:
    house = House(seed=2, rooms=2)
    cameras = beside_walls(house, 32, seed=0, width=16, height=12)
    free = free_space(house.seed, house.rooms, house.room_size, house.moving)
    places = cameras.position[:, [0, 2]].double().numpy()
    assert (free.clear(places) > 0).all()
    cells = free.cell(places)
    assert set(free.room[cells[:, 0], cells[:, 1]].tolist()) == {0, 1}


def test_beside_walls_frames_near_in_pose_saw_nothing() -> None:
    """For most targets, a frame within two units that looks nearly the same way saw next to nothing of it."""
    made = FAMILIES["walls"](0, Size(frames=120, targets=12, width=64, height=48))
    misleading = 0
    for target in made.targets:
        away = (made.sight.cameras.position - target.cameras.position[0]).norm(dim=1)
        near = (away < 2) & (made.sight.cameras.forward @ target.cameras.forward[0] > 0.7)
        misleading += bool((near & (target.saw.float().mean(1) < 0.05)).any())
    assert misleading > len(made.targets) / 2


def test_a_wall_that_is_thin_at_a_distance_hides_what_is_behind() -> None:
    """Ten units away, a wall of 0.15 is thinner than the tolerance; its other face was not seen."""
    ahead = torch.eye(4)
    back = torch.diag(torch.tensor([-1.0, 1, -1, 1]))
    back[2, 3] = 20.15
    cameras = [Camera.from_fov(1.0, pose, width=8, height=6)[None] for pose in (ahead, back)]
    wall = torch.full((1, 6, 8), 10.0)
    facing = torch.zeros(1, 6, 8, 3)
    facing[..., 2] = -1
    here, there = Sight(cameras[0], wall, facing), Sight(cameras[1], wall)
    assert not seen_masks(here, there).any()
    assert seen_masks(Sight(here.cameras, wall), there).any()


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_thinned_pixels_stay_where_they_were(step: int) -> None:
    house = House(seed=0, rooms=1)
    camera = Camera.from_fov(1.2, torch.eye(4), width=24, height=12)[None]
    full = sight_of(house, camera)
    thin = full.thinned(step)
    picked = full.cameras.unproject(full.depth)[:, step // 2 :: step, step // 2 :: step]
    torch.testing.assert_close(thin.cameras.unproject(thin.depth), picked)


def test_a_recorded_walk_is_an_episode(real_walks: Path) -> None:
    made = recorded(real_walks / "redkitchen_7scenes", Size(frames=40, targets=4))
    assert made.family == "redkitchen_7scenes"
    assert (made.frames[0].camera.width, made.frames[0].camera.height) == (160, 120)
    assert len(made.targets) == 4
    assert len(made.frames) == 41  # of each fifth of 334 frames, 60 %


def test_a_walk_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="does not exist"):
        recorded(tmp_path / "none", SMALL)
