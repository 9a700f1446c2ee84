"""Walks of unknown poses: they are followed, lost frames are reported, and known places found again."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

import spmem
from spmem import Camera, Frame, worlds
from spmem.errors import CameraError, FrameError, InputError
from spmem.integrations.tracking import ProjectiveIcp, TrackedFrame, follow, trajectory_error
from spmem.testing.box import BoxRoom

W, H = 96, 72
TRACKER = ProjectiveIcp(heights=(36, 72))


def unposed(frames: list[Frame]) -> Iterator[Frame]:
    """As they come from a camera that does not know where it is: all at the first one's pose."""
    return (frame.moved(frames[0].camera.c2w) for frame in frames)


def followed(frames: list[Frame], memory: spmem.SpatialMemory | None = None) -> list[TrackedFrame]:
    return list(follow(unposed(frames), memory or spmem.open(), tracker=TRACKER))


@pytest.fixture(scope="module")
def house() -> worlds.House:
    return worlds.House(seed=4, rooms=2)


@pytest.mark.parametrize("noise", [None, worlds.DepthNoise(seed=1)])
def test_a_walk_through_a_house_is_followed(
    house: worlds.House, noise: worlds.DepthNoise | None
) -> None:
    way = worlds.walk(house, 24, seed=4, width=W, height=H)
    found = followed(list(house.frames(way, noise=noise)))
    assert [one.how for one in found] == ["start"] + 23 * ["followed"]
    error = trajectory_error(Camera.stack([one.frame.camera for one in found]), way)
    assert error.ate <= 0.01 * error.path
    assert error.turn < math.radians(0.5)


def test_what_was_carried_off_is_reported_lost_and_found_again(house: worlds.House) -> None:
    way = worlds.walk(house, 10, seed=4, width=W, height=H)
    here = list(house.frames(way))
    strange = worlds.House(seed=77, rooms=1)
    there = list(strange.frames(worlds.walk(strange, 2, seed=3, width=W, height=H)))
    memory = spmem.open()
    found = followed([*here, *there, here[3], here[4]], memory)
    assert [one.how for one in found[10:12]] == 2 * ["lost"]
    assert all(one.camera is None and one.keyframe is None for one in found[10:12])
    assert found[12].how != "lost"
    for one, frame in zip(found[12:], here[3:5], strict=True):
        assert (one.frame.camera.position - frame.camera.position).norm() < 0.02
    alone = spmem.open()
    followed(here, alone)
    assert len(memory.keyframes) == len(alone.keyframes)  # strangers left nothing


def test_a_place_known_from_before_is_found_in(house: worlds.House) -> None:
    way = worlds.walk(house, 12, seed=4, width=W, height=H)
    frames = list(house.frames(way))
    memory = spmem.open()
    for frame in frames:
        memory.store(frame)
    middle = [frame.moved(torch.eye(4)) for frame in frames[5:8]]
    found = list(follow(middle, memory, tracker=TRACKER))
    assert [one.how for one in found] == ["found again", "followed", "followed"]
    for one, frame in zip(found, frames[5:8], strict=True):
        assert (one.frame.camera.position - frame.camera.position).norm() < 0.02


def test_a_sudden_turn_is_followed(house: worlds.House) -> None:
    way = worlds.walk(house, 6, seed=4, width=W, height=H)
    turn = torch.eye(4)
    turn[0, 0] = turn[2, 2] = math.cos(0.35)
    turn[0, 2], turn[2, 0] = math.sin(0.35), -math.sin(0.35)
    jerk = Camera(way.K[0], way.c2w[5] @ turn, width=W, height=H)
    frames = [*house.frames(way), *house.frames(jerk[None])]
    found = followed(frames)
    assert found[-1].how == "followed"
    assert (found[-1].frame.camera.c2w - jerk.c2w).abs().max() < 0.02


def test_colour_holds_the_way_along_a_wall() -> None:
    """A flat wall leaves the motion along it to its pattern: with colour the pose is found, without it stays the guess."""
    room = BoxRoom(room=((-50.0, -50.0, -3.0), (50.0, 50.0, 3.0)), solids=())
    camera = Camera.look_at([0, 0, 0], [0, 0, 1], fov_x=0.8, width=W, height=H)
    (frame,) = room.frames(camera[None])
    memory = spmem.open()
    memory.store(frame)
    aside = camera.c2w.clone()
    aside[0, 3] += 0.03
    off = {}
    for colour in (0.0, 0.1):
        found = ProjectiveIcp(heights=(36, 72), colour=colour)(
            frame.rgb_float(), frame.depth, frame.moved(aside).camera, memory
        )
        off[colour] = float(found.position.norm())
    assert off[0.0] > 0.02
    assert off[0.1] < 0.01


def test_errors_of_trajectories() -> None:
    way = BoxRoom().walk(20, width=W, height=H)
    turn = torch.eye(4)
    turn[:3, :3] = spmem.geometry.matrix_from_quaternion(torch.tensor([0.9, 0.1, -0.3, 0.2]))
    turn[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    moved = Camera(way.K, turn @ way.c2w, width=W, height=H)
    error = trajectory_error(moved, way)
    assert error.ate < 1e-5  # the same way in another world
    assert error.end < 1e-4
    assert error.turn < 1e-3
    longer = way.c2w.clone()
    longer[:, :3, 3] *= 1.1
    stretched = trajectory_error(Camera(way.K, longer, width=W, height=H), way)
    spread = (way.position - way.position.mean(0)).square().sum(-1).mean().sqrt()
    assert stretched.ate == pytest.approx(0.1 * float(spread), rel=1e-3)
    with pytest.raises(CameraError, match="one length"):
        trajectory_error(way[:3], way)


def test_bad_input_is_named() -> None:
    room = BoxRoom()
    (frame,) = room.frames(room.walk(1, width=W, height=H))
    with pytest.raises(FrameError, match="estimate it first"):
        list(follow([frame.replace(depth=None)], spmem.open()))
    with pytest.raises(InputError, match=r"takes spmem\.Frames"):
        list(follow(["frame"], spmem.open()))  # type: ignore[list-item]
    with pytest.raises(InputError, match="weight of brightness"):
        ProjectiveIcp(colour=-1)
