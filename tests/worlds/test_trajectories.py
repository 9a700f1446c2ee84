"""Trajectories: always in free space, smooth, and back where they promise to be."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spmem import Camera, worlds
from spmem.errors import InputError
from spmem.worlds import House

WAYS: dict[str, Callable[..., Camera]] = {
    "walk": worlds.walk,
    "loop": worlds.loop,
    "reverse": worlds.reverse,
    "rotate_and_return": worlds.rotate_and_return,
}
SIZE = {"width": 16, "height": 16}


def turns(cameras: Camera) -> torch.Tensor:
    """Angles between one camera's and the next one's viewing direction."""
    forward = cameras.forward
    return (forward[1:] * forward[:-1]).sum(-1).clamp(-1, 1).acos()


def steps(cameras: Camera) -> torch.Tensor:
    return (cameras.position[1:] - cameras.position[:-1]).norm(dim=-1)


@pytest.mark.parametrize("way", WAYS)
@given(seed=st.integers(0, 10**6), rooms=st.sampled_from([1, 2, 4]))
@settings(max_examples=5, deadline=None)
def test_cameras_stand_in_free_space_and_pass_through_nothing(
    way: str, seed: int, rooms: int
) -> None:
    house = House(seed=seed, rooms=rooms, moving=1)
    cameras = WAYS[way](house, 60, seed=seed, **SIZE)
    eyes = cameras.position
    # All round, nothing is near the eye.
    for around in (
        eyes.new_tensor(a) for a in ([1.0, 0, 0], [-1.0, 0, 0], [0, 0, 1.0], [0, 0, -1.0])
    ):
        view = Camera.look_at(eyes, eyes + around, fov_x=math.pi / 2, **SIZE)
        depth = house.render(view).depth
        assert (depth > 0).all()
        assert (view.unproject(depth) - eyes[:, None, None]).norm(dim=-1).min() > 0.1
    # Below the eye there is but floor: nobody walks over tables.
    down = eyes + eyes.new_tensor([0.0, 1.0, 0.0])
    feet = Camera.look_at(eyes, down, up=(0.0, 0.0, 1.0), fov_x=2 * math.atan(0.1 / 1.5), **SIZE)
    below = {house.instances[i] for i in house.render(feet).instance.unique().tolist()}
    assert all(name.endswith("floor") or name.startswith(("rug", "door")) for name in below)
    # From each camera to the next, nothing is in between.
    far = steps(cameras)
    moved = far > 1e-4
    if moved.any():
        ahead = Camera.look_at(eyes[:-1][moved], eyes[1:][moved], fov_x=0.1, width=1, height=1)
        assert (house.render(ahead).depth.flatten() > far[moved]).all()


@pytest.mark.parametrize("way", WAYS)
def test_trajectories_are_their_seeds(way: str) -> None:
    house = House(seed=3)
    one, same, other = (WAYS[way](house, 20, seed=s, **SIZE) for s in (1, 1, 2))
    assert torch.equal(one.c2w, same.c2w)
    assert not torch.allclose(one.c2w, other.c2w, atol=0.1)


@pytest.mark.parametrize("way", WAYS)
def test_cameras_have_the_size_and_view_asked_for(way: str) -> None:
    cameras = WAYS[way](House(rooms=2), 7, width=40, height=20, fov_x=1.0)
    assert cameras.shape == (7,)
    assert (cameras.width, cameras.height) == (40, 20)
    assert cameras.K[0, 0, 0].item() == pytest.approx(20 / math.tan(0.5))
    assert torch.allclose(cameras.position[:, 1], torch.tensor(-1.5))
    Camera(cameras.K, cameras.c2w, width=40, height=20)  # rigid


@given(seed=st.integers(0, 10**6))
@settings(max_examples=5, deadline=None)
def test_walks_are_smooth_and_go_from_room_to_room(seed: int) -> None:
    house = House(seed=seed, rooms=4)
    cameras = worlds.walk(house, 500, seed=seed, stride=0.08, **SIZE)
    assert steps(cameras).max() < 0.081
    assert steps(cameras).mean() > 0.03
    assert turns(cameras).max() < 0.2
    rooms = torch.from_numpy(house.plan.rooms).float()
    x, z = cameras.position[:, 0, None], cameras.position[:, 2, None]
    inside = (x > rooms[:, 0]) & (x < rooms[:, 2]) & (z > rooms[:, 1]) & (z < rooms[:, 3])
    assert inside.any(0).sum() >= 2


@pytest.mark.parametrize("rooms", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_loops_come_back(seed: int, rooms: int) -> None:
    cameras = worlds.loop(House(seed=seed, rooms=rooms), 200, seed=seed, **SIZE)
    assert torch.equal(cameras.c2w[0], cameras.c2w[-1])
    assert (cameras.position - cameras.position[0]).norm(dim=-1).max() > 0.5
    assert steps(cameras).max() < 2 * steps(cameras).median() + 0.05
    assert turns(cameras).max() < 0.5


@pytest.mark.parametrize("angle", [math.pi / 2, -math.pi / 2, 1.0])
def test_turning_away_and_back(angle: float) -> None:
    cameras = worlds.rotate_and_return(House(), 41, angle=angle, **SIZE)
    assert torch.allclose(cameras.c2w[0], cameras.c2w[-1], atol=1e-6)
    assert steps(cameras).max() == 0
    level = torch.nn.functional.normalize(cameras.forward[:, [0, 2]], dim=-1)
    assert (level[0] @ level[20]).item() == pytest.approx(math.cos(angle), abs=1e-5)
    # To the right is along the first camera's +x.
    assert torch.sign(cameras.forward[20] @ cameras.c2w[0, :3, 0]).item() == math.copysign(1, angle)


def test_walking_backwards_shows_every_view_again() -> None:
    cameras = worlds.reverse(House(seed=1), 81, turn=False, **SIZE)
    assert torch.allclose(cameras.c2w, cameras.c2w.flip(0), atol=1e-5)


def test_turning_round_shows_the_other_side() -> None:
    cameras = worlds.reverse(House(seed=1), 161, turn=True, **SIZE)
    assert torch.allclose(cameras.position, cameras.position.flip(0), atol=1e-4)
    level = torch.nn.functional.normalize(cameras.forward[:, [0, 2]], dim=-1)
    there, back = level[:60], level.flip(0)[:60]
    assert torch.allclose((there * back).sum(-1), torch.tensor(-1.0), atol=1e-3)


def test_arguments_that_make_no_trajectory() -> None:
    house = House(rooms=1)
    for way, least in (("walk", 1), ("loop", 2), ("reverse", 3), ("rotate_and_return", 3)):
        WAYS[way](house, least, **SIZE)
        with pytest.raises(InputError, match="steps"):
            WAYS[way](house, least - 1, **SIZE)
    with pytest.raises(InputError, match="stride"):
        worlds.walk(house, 5, stride=0.0)
