"""The benchmark's scenes: families of episodes in procedural houses, each a function of a seed, and recorded walks.

Every family comes back to places in another way. Walls and doors make rules fail that know only poses and frustums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.evaluation.episode import BenchEpisode, Size, episode
from spmem.evaluation.sight import Sight
from spmem.evaluation.walls import beside_walls
from spmem.integrations.readers import open_walk
from spmem.progress import track
from spmem.types import Frame
from spmem.worlds import House, loop, reverse, rotate_and_return, walk
from spmem.worlds.freespace import RADIUS, free_space
from spmem.worlds.house import FRAME_RATE

WIDEST = 160
"""Pixels of a recorded frame's width at most; larger ones are sampled."""
OUT = 0.6
"""Share of a recorded walk that is stored; targets come from the rest."""


def round_again(seed: int, size: Size) -> BenchEpisode:
    """``loop``: once round through three rooms, and the same way again, a little beside and looking a little elsewhere."""
    house = House(seed=seed, rooms=4)
    way = loop(house, size.frames, seed=seed, width=size.width, height=size.height)
    again = loop(house, size.frames, seed=seed, width=size.width, height=size.height)
    return _in_house("loop", house, way, _shift_sideways(house, again, seed), size)


def turn_and_return(seed: int, size: Size) -> BenchEpisode:
    """``rotate-and-return``: turn away by 90° to 180° on the spot, and back (as Context as Memory, arXiv 2506.03141)."""
    house = House(seed=seed, rooms=2)
    rng = np.random.default_rng([seed, 6])
    angle = float(rng.uniform(math.pi / 2, math.pi) * rng.choice([-1, 1]))
    way = rotate_and_return(
        house, 2 * size.frames, angle=angle, seed=seed, width=size.width, height=size.height
    )
    return _in_house("rotate-and-return", house, way[: size.frames], way[size.frames :], size)


def way_back(seed: int, size: Size) -> BenchEpisode:
    """``reverse``: to another room and back; odd seeds walk backwards, even ones turn round and see the other sides."""
    house = House(seed=seed, rooms=3)
    way = reverse(
        house, 2 * size.frames, turn=seed % 2 == 0, seed=seed, width=size.width, height=size.height
    )
    return _in_house("reverse", house, way[: size.frames], way[size.frames :], size)


def room_to_room(seed: int, size: Size) -> BenchEpisode:
    """``rooms``: wander through five rooms, then on, through rooms that were seen before."""
    house = House(seed=seed, rooms=5)
    steps = size.frames + max(size.frames // 2, 4)
    way = walk(
        house, steps, seed=seed, width=size.width, height=size.height, stride=24 / size.frames
    )
    return _in_house("rooms", house, way[: size.frames], way[size.frames :], size)


def both_sides(seed: int, size: Size) -> BenchEpisode:
    """``walls``: stations on both sides of thin walls, see :func:`spmem.evaluation.walls.beside_walls`."""
    house = House(seed=seed, rooms=4)
    way = beside_walls(house, size.frames, seed=seed, width=size.width, height=size.height)
    later = beside_walls(
        house, 8 * size.targets, seed=seed + 1000, width=size.width, height=size.height
    )
    return _in_house("walls", house, way, later, size)


FAMILIES: dict[str, Callable[[int, Size], BenchEpisode]] = {
    "loop": round_again,
    "rotate-and-return": turn_and_return,
    "reverse": way_back,
    "rooms": room_to_room,
    "walls": both_sides,
}


def recorded(path: Path, size: Size, format: str | None = None) -> BenchEpisode:
    """The first part of a recorded walk stored, targets from the rest; at most twice ``size.frames`` frames in all.

    Raises:
        InputError: Frames without depth, or nothing that comes back.
        FormatError: No data set is there, or it is broken.
    """
    opened = open_walk(path, format)
    opened = opened[:: max(1, math.ceil(len(opened) / (2 * size.frames)))]
    frames = [
        _thin_frame(frame, path).replace(time=i / FRAME_RATE)
        for i, frame in enumerate(track(opened, f"Reading {path.name}"))
    ]
    depth = torch.stack([frame.depth for frame in frames if frame.depth is not None])
    rgb = torch.stack([frame.rgb_float() for frame in frames])
    sight = Sight(Camera.stack([frame.camera for frame in frames]), depth, rgb=rgb)
    turn = math.ceil(OUT * len(frames))
    out, later = sight.part(slice(turn)), sight.part(slice(turn, None))
    made = episode(path.resolve().name, 0, tuple(frames[:turn]), out, later, size.targets)
    if not made.targets:
        raise InputError(
            f"{path}: nothing in the last {len(later)} frames comes back to what the first {turn} saw"
        )
    return made


def _in_house(family: str, house: House, way: Camera, later: Camera, size: Size) -> BenchEpisode:
    view, after = house.render(way), house.render(later)
    frames = tuple(
        Frame(view.rgb[i], view.depth[i], way[i], i / FRAME_RATE, validate=False)
        for i in range(len(way))
    )
    sight = Sight(way, view.depth, view.normal, view.rgb.float() / 255)
    ahead = Sight(later, after.depth, after.normal, after.rgb.float() / 255)
    return episode(family, house.seed, frames, sight, ahead, size.targets)


def _shift_sideways(house: House, way: Camera, seed: int) -> Camera:
    """The same way, up to a quarter of a unit beside it where there is room, looking up to 20° elsewhere."""
    rng = np.random.default_rng([seed, 7])
    free = free_space(house.seed, house.rooms, house.room_size, house.moving)
    along = np.linspace(0, 2 * math.pi, len(way), endpoint=False)
    waves = np.stack([np.sin(n * along + rng.uniform(0, 6.28)) for n in (3, 4, 5)], 1)
    position = way.position.double().numpy()
    moved = position + 0.25 * np.stack([waves[:, 0], 0 * along, waves[:, 1]], 1)
    fits = free.clear(moved[:, [0, 2]]) >= RADIUS
    c2w = way.c2w.double().numpy().copy()
    c2w[:, :3, :3] = _about_up(0.35 * waves[:, 2]) @ c2w[:, :3, :3]
    c2w[:, :3, 3] = np.where(fits[:, None], moved, position)
    return Camera(way.K, torch.from_numpy(c2w), width=way.width, height=way.height)


def _about_up(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[n, 3, 3]`` rotations about the world's vertical."""
    s, c, zero, one = np.sin(angle), np.cos(angle), np.zeros_like(angle), np.ones_like(angle)
    rows = [[c, zero, s], [zero, one, zero], [-s, zero, c]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _thin_frame(frame: Frame, path: Path) -> Frame:
    """No wider than :data:`WIDEST`: every n-th pixel of every n-th row."""
    if frame.depth is None:
        raise InputError(f"{path}: the benchmark compares with depth, and this walk has none")
    step = math.ceil(frame.camera.width / WIDEST)
    thin = Sight(frame.camera[None], frame.depth[None]).thinned(step)
    pick = slice(step // 2, None, step)
    rgb = frame.rgb[pick, pick].contiguous()
    return frame.replace(rgb=rgb, depth=thin.depth[0], camera=thin.cameras[0])
