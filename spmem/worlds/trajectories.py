"""Ways to look at a house: every camera stands in free space, at eye height, and moves smoothly."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.worlds.freespace import RADIUS, WalkableSpace, free_space
from spmem.worlds.house import House

EYE = 1.5
"""Height of the eye above the floor, in world units."""

TURN = 0.5
"""World units of walking that take as long as turning by a radian."""

SPACING = 0.04
"""World units between the points of a way."""

FloatArray = NDArray[np.float64]


def walk(
    house: House,
    steps: int,
    *,
    seed: int = 0,
    width: int = 128,
    height: int = 96,
    fov_x: float = 1.3,
    stride: float = 0.08,
) -> Camera:
    """Wander from room to room, rooms not seen yet first, then on to others: places come again.

    Args:
        house: Where.
        steps: Number of cameras, T.
        seed: Seed of the way.
        width: In pixels.
        height: In pixels.
        fov_x: Radians.
        stride: World units from one camera to the next; turning takes its share, so that walkers slow down in bends.

    Returns:
        Cameras ``[T]``.

    Raises:
        InputError: ``steps`` is not positive, or ``stride`` is not.
    """
    _check_steps(steps, 1, stride)
    rng, free = np.random.default_rng([seed, 1]), _house_free_space(house)
    rooms = rng.permutation(house.rooms)
    place = _choose_place(rng, free, int(rooms[0]))
    ways, i, length = [place[None]], 0, 0.0
    while length < 1.3 * steps * stride + 1:
        i += 1
        goal = _choose_place(rng, free, int(rooms[i % len(rooms)]), apart=place)
        ways.append(free.way(place, goal))
        length += float(np.linalg.norm(np.diff(ways[-1], axis=0), axis=1).sum())
        place = goal
    keys = _add_view_angles(
        rng, _smooth_way(free, np.concatenate(ways), closed=False), closed=False
    )
    return _keys_to_cameras(
        _interpolate_keys(keys, np.arange(0.0, steps) * stride), width, height, fov_x
    )


def loop(
    house: House,
    steps: int,
    *,
    seed: int = 0,
    width: int = 128,
    height: int = 96,
    fov_x: float = 1.3,
) -> Camera:
    """Go round through up to three rooms and come back: the last camera is the first one. Arguments as :func:`walk`'s.

    Raises:
        InputError: ``steps`` is less than 2.
    """
    _check_steps(steps, 2)
    rng, free = np.random.default_rng([seed, 2]), _house_free_space(house)
    rooms = rng.permutation(house.rooms)
    stations = _choose_places(rng, free, [int(rooms[i % len(rooms)]) for i in range(3)])
    ways = [free.way(stations[i - 1], stations[i]) for i in (1, 2, 0)]
    keys = _add_view_angles(rng, _smooth_way(free, np.concatenate(ways), closed=True), closed=True)
    paced = _interpolate_keys(keys, np.linspace(0, 1, steps) * _cumulate_effort(keys)[-1])
    paced[-1] = paced[0]  # but for whole turns and rounding, they are the same
    return _keys_to_cameras(paced, width, height, fov_x)


def reverse(
    house: House,
    steps: int,
    *,
    turn: bool = True,
    seed: int = 0,
    width: int = 128,
    height: int = 96,
    fov_x: float = 1.3,
) -> Camera:
    """Walk to another room and back the same way, where every place is seen again. Arguments as :func:`walk`'s.

    With ``turn`` the walker turns round at the far end and comes back looking ahead, so that the way back shows the
    other side of everything; without, it walks backwards and every view comes again.

    Raises:
        InputError: ``steps`` is less than 3.
    """
    _check_steps(steps, 3)
    rng, free = np.random.default_rng([seed, 3]), _house_free_space(house)
    rooms = rng.permutation(house.rooms)
    start, goal = _choose_places(rng, free, [int(rooms[i % len(rooms)]) for i in range(2)])
    out = _add_view_angles(
        rng, _smooth_way(free, free.way(start, goal), closed=False), closed=False
    )
    back = out[::-1].copy()
    if turn:
        about = np.repeat(out[-1:], 24, 0)
        about[:, 2] += np.linspace(0, math.pi, 24)
        back[:, 2] += math.pi
        out = np.concatenate([out, about])
    keys = np.concatenate([out, back])
    return _keys_to_cameras(
        _interpolate_keys(keys, np.linspace(0, 1, steps) * _cumulate_effort(keys)[-1]),
        width,
        height,
        fov_x,
    )


def rotate_and_return(
    house: House,
    steps: int,
    *,
    angle: float = math.pi,
    seed: int = 0,
    width: int = 128,
    height: int = 96,
    fov_x: float = 1.3,
) -> Camera:
    """Stand in a room, turn away by ``angle`` radians (positive: to the right) and back. Arguments as :func:`walk`'s.

    The last camera is the first one; halfway it looks ``angle`` away.

    Raises:
        InputError: ``steps`` is less than 3.
    """
    _check_steps(steps, 3)
    rng, free = np.random.default_rng([seed, 4]), _house_free_space(house)
    x, z = _choose_place(rng, free, int(rng.integers(house.rooms)))
    yaw = rng.uniform(-math.pi, math.pi)
    turned = angle * (1 - np.cos(np.linspace(0, 2 * math.pi, steps))) / 2
    keys = np.stack([np.full(steps, x), np.full(steps, z), yaw + turned, np.full(steps, 0.08)], 1)
    return _keys_to_cameras(keys, width, height, fov_x)


def _check_steps(steps: int, least: int, stride: float = 1.0) -> None:
    if steps < least or not stride > 0:
        raise InputError(f"steps must be >= {least} and stride > 0, got {steps} and {stride}")


def _house_free_space(house: House) -> WalkableSpace:
    return free_space(house.seed, house.rooms, house.room_size, house.moving)


def _choose_place(
    rng: np.random.Generator, free: WalkableSpace, room: int, *, apart: FloatArray | None = None
) -> FloatArray:
    """A place (x, z) in a room, among the clearer half of it, and ``apart`` from another place."""
    cells = np.argwhere((free.room == room) & free.walkable)
    merit = free.clearance[cells[:, 0], cells[:, 1]]
    if apart is not None:
        far = np.linalg.norm(free.points(cells) - apart, axis=1)
        merit = np.minimum(merit, far / 4)
    best = cells[merit >= np.median(merit)]
    place: FloatArray = free.points(best[rng.integers(len(best))])
    return place


def _choose_places(
    rng: np.random.Generator, free: WalkableSpace, rooms: list[int]
) -> list[FloatArray]:
    """A place in each of the rooms, in their order."""
    stations = [_choose_place(rng, free, rooms[0])]
    for room in rooms[1:]:
        stations.append(_choose_place(rng, free, room, apart=stations[-1]))
    return stations


def _smooth_way(free: WalkableSpace, way: FloatArray, *, closed: bool) -> FloatArray:
    """The same way at even steps with its corners rounded, as far as it keeps clear of everything."""
    way = way[np.append(True, np.linalg.norm(np.diff(way, axis=0), axis=1) > 1e-9)]
    if closed:
        way = way[:-1]
    for _ in range(80):
        moved = way / 2 + (np.roll(way, 1, 0) + np.roll(way, -1, 0)) / 4
        fits = free.clear(moved) >= RADIUS
        if not closed:
            fits[[0, -1]] = False
        way = np.where(fits[:, None], moved, way)
    if closed:
        way = np.concatenate([way, way[:1]])
    along = np.append(0, np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1)))
    even = np.linspace(0, along[-1], max(int(along[-1] / SPACING), 2) + 1)
    return np.stack([np.interp(even, along, column) for column in way.T], 1)


def _add_view_angles(rng: np.random.Generator, way: FloatArray, *, closed: bool) -> FloatArray:
    """Keys ``[n, 4]`` x, z, yaw, pitch along a way at even steps: ahead, with glances to the sides, up and down."""
    n = len(way) - 1
    # A closed way goes on at both its ends, an open one stops.
    round_ = np.concatenate([way[:-1], way[:-1], way[:-1], way[:1]])
    whole = round_ if closed else np.pad(way, ((n, n), (0, 0)), mode="reflect", reflect_type="odd")
    reach = max(int(0.25 / SPACING), 1)
    ahead = np.roll(whole, -reach, 0) - np.roll(whole, reach, 0)
    yaw = np.unwrap(np.arctan2(ahead[:, 0], ahead[:, 1]))
    bell = np.exp(-0.5 * (np.arange(-4 * reach, 4 * reach + 1) / (1.5 * reach)) ** 2)
    yaw = np.convolve(yaw, bell / bell.sum(), mode="same")[n : 2 * n + 1]
    share = np.arange(n + 1) / n
    waves = [max(round(n * SPACING / period), 1) for period in (3.1, 5.3, 4.2)]
    glance = [np.sin(2 * np.pi * (k * share + rng.random())) for k in waves]
    pitch = 0.08 + 0.05 * glance[2]
    return np.column_stack([way, yaw + 0.3 * glance[0] + 0.25 * glance[1], pitch])


def _cumulate_effort(keys: FloatArray) -> FloatArray:
    """``[n]`` the effort up to each key: walking and turning in one measure."""
    step = np.diff(keys, axis=0) * np.array([1, 1, TURN, TURN])
    return np.append(0, np.cumsum(np.linalg.norm(step, axis=1)))


def _interpolate_keys(keys: FloatArray, along: FloatArray) -> FloatArray:
    """Keys ``[m, 4]`` at efforts ``[m]``."""
    pace = _cumulate_effort(keys)
    return np.stack([np.interp(along, pace, column) for column in keys.T], 1)


def _keys_to_cameras(keys: FloatArray, width: int, height: int, fov_x: float) -> Camera:
    """Cameras ``[T]`` at eye height, of x, z, yaw (0 looks along +z, growing to the right) and pitch (down)."""
    x, z, yaw, pitch = keys.T
    sy, cy, sp, cp = np.sin(yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch)
    zero, one = np.zeros_like(x), np.ones_like(x)
    rows = [
        [cy, -sy * sp, sy * cp, x],
        [zero, cp, sp, -EYE * one],
        [-sy, -cy * sp, cy * cp, z],
        [zero, zero, zero, one],
    ]
    c2w = torch.from_numpy(np.stack([np.stack(row, -1) for row in rows], -2))
    return Camera.from_fov(fov_x, c2w, width=width, height=height)
