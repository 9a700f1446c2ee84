"""Floor plans: a rectangle cut into rooms, and doors that join all of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WALL = 0.15
"""Thickness of the walls between rooms."""

SMALLEST = 4.0
"""The smallest ``room_size``: below, furniture would not fit, nor would every room get its door."""

KINDS = ("living room", "kitchen", "bedroom", "study", "dining room", "playroom", "library", "hall")


class FloorPlan(NamedTuple):
    """Rooms and the passages through the walls between them, as a structure of arrays.

    The floor is y = 0 and heights are negative y (OpenCV's y points down). Rectangles are x0, z0, x1, z1.

    rooms: ``[R, 4]`` inner sides of the rooms.
    heights: ``[R]`` of the ceilings above the floor.
    kinds: What each room is, of ``KINDS``.
    doors: ``[D, 4]`` the floor of each passage, as deep as the wall.
    door_heights: ``[D]``.
    joins: ``[D, 2]`` the rooms on both sides; the first lies at the smaller coordinate.
    axes: ``[D]`` 0 where one walks through along x, 2 along z.
    """

    rooms: NDArray[np.float64]
    heights: NDArray[np.float64]
    kinds: tuple[str, ...]
    doors: NDArray[np.float64]
    door_heights: NDArray[np.float64]
    joins: NDArray[np.int64]
    axes: NDArray[np.int64]


def draw_plan(rng: np.random.Generator, rooms: int, room_size: float) -> FloorPlan:
    """A house of ``rooms`` rooms that average ``room_size`` x ``room_size``, centred at x = z = 0."""
    draws = [
        np.array(_cut_rooms(rng, _draw_outline(rng, rooms, room_size), rooms)) for _ in range(12)
    ]
    grown = max(draws, key=lambda r: float((r[:, 2:] - r[:, :2]).min()))  # no narrow rooms
    inner = grown + np.array([1, 1, -1, -1]) * WALL / 2
    first = rng.permutation(len(KINDS))
    kinds = tuple(KINDS[first[i % len(KINDS)]] for i in range(rooms))
    heights = rng.uniform(2.5, 2.9, rooms).round(2)
    doors, door_heights, joins, axes = _place_doors(rng, grown)
    return FloorPlan(inner, heights, kinds, doors, door_heights, joins, axes)


def _draw_outline(rng: np.random.Generator, rooms: int, size: float) -> tuple[float, ...]:
    aspect = 1.0 if rooms == 1 else rng.uniform(1.0, 1.6)
    x, z = size * (rooms * aspect) ** 0.5, size * (rooms / aspect) ** 0.5
    return (-x / 2, -z / 2, x / 2, z / 2)


def _cut_rooms(
    rng: np.random.Generator, r: tuple[float, ...], rooms: int
) -> list[tuple[float, ...]]:
    """Cut across the longer side in proportion to the rooms on each side, again and again."""
    if rooms == 1:
        return [r]
    x0, z0, x1, z1 = r
    left = rooms // 2
    share = left / rooms * rng.uniform(0.9, 1.1)
    if x1 - x0 >= z1 - z0:
        at = x0 + share * (x1 - x0)
        return _cut_rooms(rng, (x0, z0, at, z1), left) + _cut_rooms(
            rng, (at, z0, x1, z1), rooms - left
        )
    at = z0 + share * (z1 - z0)
    return _cut_rooms(rng, (x0, z0, x1, at), left) + _cut_rooms(rng, (x0, at, x1, z1), rooms - left)


def _place_doors(
    rng: np.random.Generator, grown: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """A random spanning tree over the rooms that share a wall, and half of the other walls too.

    ``grown`` are the rooms up to the middle of their walls, so that neighbours touch exactly. Every cut has
    two rooms at its end that face each other over the shorter one's whole side, hence the tree always exists.
    """
    walls = []
    for axis in (0, 1):
        for a, ra in enumerate(grown):
            for b, rb in enumerate(grown):
                low = max(ra[1 - axis], rb[1 - axis])
                high = min(ra[3 - axis], rb[3 - axis])
                if abs(ra[2 + axis] - rb[axis]) < 1e-9 and high - low > 1.9:
                    walls.append((axis, a, b, ra[2 + axis], low, high))
    group = list(range(len(grown)))
    doors, heights, joins, axes = [], [], [], []
    for i in rng.permutation(len(walls)):
        axis, a, b, at, low, high = walls[i]
        needed = group[a] != group[b]
        width = rng.uniform(0.9, 1.3)
        place = rng.uniform(low + 0.25 + width / 2, high - 0.25 - width / 2)
        height = rng.uniform(2.0, 2.25)
        if not needed and rng.random() < 0.5:
            continue
        group = [group[a] if g == group[b] else g for g in group]
        across, along = (at - WALL / 2, at + WALL / 2), (place - width / 2, place + width / 2)
        x, z = (across, along) if axis == 0 else (along, across)
        doors.append((x[0], z[0], x[1], z[1]))
        heights.append(height)
        joins.append((a, b))
        axes.append(2 * axis)
    return (
        np.array(doors, np.float64).reshape(-1, 4),
        np.array(heights, np.float64),
        np.array(joins, np.int64).reshape(-1, 2),
        np.array(axes, np.int64),
    )
