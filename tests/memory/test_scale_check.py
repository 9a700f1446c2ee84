"""Depth in another scale than the poses is warned of, once; right depth never is."""

from __future__ import annotations

import re
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spmem
from spmem import Frame, MemoryConfig, worlds
from spmem.checks import ScaleCheck
from spmem.integrations.readers import open_walk

SIZE = {"width": 64, "height": 48}
HOUSE = worlds.House(seed=1, rooms=2)


@cache
def walk(noise: bool = False) -> list[Frame]:
    cameras = worlds.walk(HOUSE, 30, seed=1 + noise, **SIZE)
    return list(HOUSE.frames(cameras, noise=worlds.DepthNoise(seed=2) if noise else None))


def told(frames: list[Frame], factor: float = 1.0) -> list[str]:
    """What the check says of frames whose depth is multiplied."""
    check = ScaleCheck()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for i, frame in enumerate(frames):
            assert frame.depth is not None
            check(frame.replace(depth=frame.depth * factor, time=float(i)))
    return [str(one.message) for one in said]


@pytest.mark.parametrize("noise", [False, True], ids=["exact", "noisy"])
@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0, 4.0, 1000.0])
def test_depth_in_another_unit_is_warned_of_once(noise: bool, factor: float) -> None:
    (words,) = told(walk(noise), factor)
    found = re.search(r"multiplied by ([\d.e+-]+)", words)
    assert found is not None
    assert 0.4 < float(found[1]) * factor < 2.5


@settings(max_examples=8)
@given(st.floats(0.01, 100.0))
def test_a_world_of_any_unit_is_right(unit: float) -> None:
    """Poses and depth multiplied together are the same world."""
    scaled = []
    for frame in walk():
        c2w = frame.camera.c2w.clone()
        c2w[:3, 3] *= unit
        assert frame.depth is not None
        scaled.append(frame.moved(c2w).replace(depth=frame.depth * unit))
    assert told(scaled) == []


def test_noise_and_things_that_move_are_not_warned_of() -> None:
    busy = worlds.House(seed=5, rooms=2, moving=4)
    moving = list(busy.frames(worlds.walk(busy, 30, seed=5, **SIZE)))
    for frames in (walk(noise=True), moving):
        assert told(frames) == []


def test_a_camera_that_only_turns_tells_nothing_of_scale() -> None:
    turn = list(HOUSE.frames(worlds.rotate_and_return(HOUSE, 12, seed=1, **SIZE)))
    assert told(turn) == told(turn, 3.0) == []


@pytest.mark.parametrize("arm", [0.1, -0.1])
def test_poses_of_a_device_that_turns_about_another_point_are_not_warned_of(arm: float) -> None:
    """Its camera sits a hand away from the point whose pose it tells: all that moves while it turns is that error."""
    house = worlds.House(seed=0, rooms=2)
    cameras = worlds.rotate_and_return(house, 24, seed=0, width=96, height=72)
    turned = []
    for frame in house.frames(cameras, noise=worlds.DepthNoise(seed=0)):
        c2w = frame.camera.c2w.clone()
        c2w[:3, 3] += c2w[:3, 2] * arm
        turned.append(frame.moved(c2w))
    assert told(turned) == []


HIDDEN = [(125, 62), (84, 180), (166, 45), (27, 183), (124, 44), (166, 61)]
"""Frames of the recorded walk that look at the same place past a wall."""


@pytest.mark.parametrize("count", [0, pytest.param(150, marks=pytest.mark.slow)])
def test_what_is_hidden_from_the_other_frame_contradicts_nothing(
    count: int, real_walks: Path
) -> None:
    if not (real_walks / "hololens_dvmvs").exists():
        pytest.skip(f"there is no hololens_dvmvs at {real_walks}")
    frames = open_walk(real_walks / "hololens_dvmvs")
    more = torch.randint(len(frames), (count, 2), generator=torch.Generator().manual_seed(0))
    for i, j in [*HIDDEN, *more.tolist()]:
        assert told([frames[i], frames[j]]) == []


def test_times_are_told_in_full() -> None:
    wrong = [frame.replace(depth=frame.depth * 3) for frame in walk() if frame.depth is not None]
    check = ScaleCheck()
    timed = [frame.replace(time=1305031102.5 + i / 4) for i, frame in enumerate(wrong)]
    with pytest.warns(UserWarning, match=r"frames at 1305031102\.5 s and 13050311\d\d\.\d+ s as"):
        list(map(check, timed))


def test_a_memory_warns_and_can_be_told_not_to() -> None:
    wrong = [frame.replace(depth=frame.depth * 3) for frame in walk() if frame.depth is not None]
    with warnings.catch_warnings(record=True) as said, spmem.open() as memory:
        warnings.simplefilter("always")
        for frame in wrong[:12]:
            memory.store(frame)
    assert ["different scales" in str(one.message) for one in said] == [True]
    with warnings.catch_warnings(), spmem.open(config=MemoryConfig(check_poses=False)) as memory:
        warnings.simplefilter("error")
        for frame in wrong[:12]:
            memory.store(frame)


@pytest.mark.parametrize("name", ["redkitchen_7scenes", "hololens_dvmvs"])
def test_real_walks_are_right_and_half_of_their_depth_is_not(name: str, real_walks: Path) -> None:
    if not (real_walks / name).exists():
        pytest.skip(f"there is no {name} at {real_walks}")
    recorded = open_walk(real_walks / name)
    frames = [recorded[i] for i in range(60, 80)]
    assert told(frames) == []
    assert told(frames, 0.5) != []
