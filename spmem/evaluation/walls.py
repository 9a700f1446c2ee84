"""Cameras on both sides of thin walls: near in pose and in frustum, with nothing in sight of each other."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.worlds import House
from spmem.worlds.freespace import WalkableSpace, free_space
from spmem.worlds.trajectories import EYE

NEAR = (0.3, 1.0)
"""World units from the wall between a station and the room behind it."""
CLIP = 4
"""Frames of a station, in which the camera turns by :data:`SWEEP` radians."""
SWEEP = 0.5
FOV = 1.3


def beside_walls(house: House, steps: int, *, seed: int, width: int, height: int) -> Camera:
    """Stations beside walls that two rooms share, in turns on either side.

    From each, the camera looks into its room, along the wall, or obliquely at the wall, so that its frustum reaches
    into the other room. Every station is a clip of :data:`CLIP` frames.

    Args:
        house: With at least two rooms.
        steps: Number of cameras, T.
        seed: Seed of the stations.
        width: In pixels.
        height: In pixels.

    Returns:
        Cameras ``[T]`` at eye height.

    Example:
        >>> beside_walls(House(seed=1, rooms=2), 8, seed=0, width=32, height=24).shape
        torch.Size([8])
    """
    rng = np.random.default_rng([seed, 8])
    free = free_space(house.seed, house.rooms, house.room_size, house.moving)
    sides = [(d, side) for d in range(len(house.plan.joins)) for side in (0, 1)]
    keys: list[tuple[float, float, float]] = []
    while len(keys) < steps:
        order = rng.permutation(len(sides))
        for door, side in (sides[i] for i in order):
            place, away = _choose_place_by_wall(rng, house, free, door, side)
            # 0 looks into the room, a quarter turn along the wall, and beyond that at it.
            off = rng.choice([0.0, 0.5, 0.7, 0.8]) * math.pi * rng.choice([-1, 1])
            start = away + off + rng.uniform(-0.3, 0.3)
            turns = np.linspace(-SWEEP / 2, SWEEP / 2, CLIP)
            keys += [(float(place[0]), float(place[1]), float(start + turn)) for turn in turns]
    x, z, yaw = np.array(keys[:steps]).T
    eye = torch.from_numpy(np.stack([x, np.full_like(x, -EYE), z], 1))
    ahead = torch.from_numpy(np.stack([np.sin(yaw), np.full_like(x, 0.08), np.cos(yaw)], 1))
    return Camera.look_at(eye, eye + ahead, width=width, height=height, fov_x=FOV)


def _choose_place_by_wall(
    rng: np.random.Generator, house: House, free: WalkableSpace, door: int, side: int
) -> tuple[NDArray[np.float64], float]:
    """A place (x, z) beside the wall with this door, and the yaw that looks away from the wall."""
    plan = house.plan
    axis = 0 if plan.axes[door] == 0 else 1
    room = int(plan.joins[door, side])
    face = plan.rooms[room, axis + 2] if side == 0 else plan.rooms[room, axis]
    cells = np.argwhere((free.room == room) & free.walkable)
    places = free.points(cells)
    far = np.abs(places[:, axis] - face)
    beside = places[(far >= NEAR[0]) & (far <= NEAR[1])]
    if not len(beside):  # furniture along the whole wall
        beside = places[np.argsort(far)[:20]]
    into = -1.0 if side == 0 else 1.0
    away = math.atan2(into, 0.0) if axis == 0 else math.atan2(0.0, into)
    return beside[rng.integers(len(beside))], away
