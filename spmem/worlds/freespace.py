"""Where one can walk, and ways from place to place."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.jit import njit
from spmem.worlds.building import Building, build
from spmem.worlds.movers import swept

STEP = 0.08
"""Side of the grid's cells."""

RADIUS = 0.2
"""How far walkers stay from walls, furniture and the paths of what moves."""

FloatArray = NDArray[np.float64]


class WalkableSpace(NamedTuple):
    """A grid over the floor: cell i, j lies at ``origin + STEP * (i, j)``.

    clearance ``[nx, nz]`` is at most the distance to the nearest obstacle, 0 inside one and where nobody gets to; room ``[nx, nz]`` is the
    room a cell lies in, -1 for none.
    """

    origin: FloatArray
    clearance: FloatArray
    walkable: NDArray[np.bool_]
    room: NDArray[np.int64]

    def cell(self, points: FloatArray) -> NDArray[np.int64]:
        """``[n, 2]`` nearest cells of points ``[n, 2]`` (x, z)."""
        index = np.round((points - self.origin) / STEP)
        return np.clip(index, 0, np.array(self.clearance.shape) - 1).astype(np.int64)

    def points(self, cells: NDArray[np.int64]) -> FloatArray:
        """``[..., 2]`` (x, z) of cells ``[..., 2]``."""
        points: FloatArray = self.origin + STEP * cells
        return points

    def clear(self, points: FloatArray) -> FloatArray:
        """``[n]`` clearance at points ``[n, 2]``."""
        cells = self.cell(points)
        clearance: FloatArray = self.clearance[cells[:, 0], cells[:, 1]]
        return clearance

    def way(self, start: FloatArray, goal: FloatArray) -> FloatArray:
        """``[n, 2]`` points from start to goal that keep ``RADIUS`` from everything, and more where there is room."""
        (si, sj), (gi, gj) = self.cell(np.stack([start, goal]))
        away = _path_costs(self.clearance, int(gi), int(gj))
        return self.points(_descend_costs(away, int(si), int(sj)))


@lru_cache(maxsize=8)
def free_space(seed: int, rooms: int, room_size: float, moving: int) -> WalkableSpace:
    """The free floor of a house; arguments as :func:`build`'s."""
    return _measure_free_space(build(seed, rooms, room_size, moving))


def _measure_free_space(building: Building) -> WalkableSpace:
    plan = building.plan
    origin = plan.rooms[:, :2].min(0) - STEP
    nx, nz = np.ceil((plan.rooms[:, 2:].max(0) + STEP - origin) / STEP).astype(int) + 1
    x, z = np.meshgrid(
        *(o + STEP * np.arange(n) for o, n in zip(origin, (nx, nz), strict=True)), indexing="ij"
    )
    room = np.full((nx, nz), -1, np.int64)
    is_open = np.zeros((nx, nz), np.bool_)
    for i, (x0, z0, x1, z1) in enumerate(np.concatenate([plan.rooms, plan.doors])):
        inside = (x > x0) & (x < x1) & (z > z0) & (z < z1)
        is_open |= inside
        if i < len(plan.rooms):
            room[inside] = i
    # A wall may be thinner than two cells, so passages are opened a cell beyond their ends as well.
    for (x0, z0, x1, z1), axis in zip(plan.doors, plan.axes, strict=True):
        a, b = (STEP, 0.0) if axis == 0 else (0.0, STEP)
        is_open |= (x > x0 - a) & (x < x1 + a) & (z > z0 - b) & (z < z1 + b)
    steps = np.where(is_open, np.inf, 0.0)
    _sweep_costs(np.ones((nx, nz)), steps)
    # Steps to eight neighbours make up to 8 % too much of a distance, and a wall begins up to a step before its cells.
    clearance = STEP * np.maximum(0.92 * steps - 1, 0)
    standing = [rect for rects in building.taken for rect in rects]
    for x0, z0, x1, z1 in [*standing, *swept(building.orbits)]:
        apart = np.hypot(np.maximum(x0 - x, x - x1).clip(0), np.maximum(z0 - z, z - z1).clip(0))
        clearance = np.minimum(clearance, apart)
    widest = np.unravel_index(int(np.argmax(clearance)), clearance.shape)
    walkable = np.isfinite(_path_costs(clearance, int(widest[0]), int(widest[1])))
    return WalkableSpace(origin, clearance, walkable, room)


def _path_costs(clearance: FloatArray, i: int, j: int) -> FloatArray:
    """What the cheapest way from every cell to i, j costs: its length, and more beside obstacles; inf = no way."""
    cost = np.where(clearance < RADIUS, np.inf, 1 + (0.4 / np.maximum(clearance, RADIUS)) ** 2)
    away = np.full(clearance.shape, np.inf)
    away[i, j] = 0
    _sweep_costs(cost, away)
    return away


@njit()
def _sweep_costs(cost: FloatArray, away: FloatArray) -> None:
    """Lower ``away`` to the cheapest way's cost to any cell where it is 0, over eight neighbours, in place.

    Sweeps in four orders until nothing changes (Zhao, "A Fast Sweeping Method for Eikonal Equations", 2005, for
    the ordering).
    """
    n, m = cost.shape
    changed = True
    while changed:
        changed = False
        for order in range(4):
            for a in range(n):
                i = a if order % 2 == 0 else n - 1 - a
                for b in range(m):
                    j = b if order < 2 else m - 1 - b
                    if cost[i, j] == np.inf:
                        continue
                    for di in range(-1, 2):
                        for dj in range(-1, 2):
                            k, o = i + di, j + dj
                            if 0 <= k < n and 0 <= o < m:
                                far = math.sqrt(di * di + dj * dj)
                                way = away[k, o] + far * 0.5 * (cost[i, j] + cost[k, o])
                                if way < away[i, j] - 1e-9:
                                    away[i, j] = way
                                    changed = True


def _descend_costs(away: FloatArray, i: int, j: int) -> NDArray[np.int64]:
    """Cells from i, j down to where ``away`` is 0."""
    cells = [(i, j)]
    while away[i, j] > 0:
        window = away[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
        di, dj = np.unravel_index(int(np.argmin(window)), window.shape)
        i, j = max(i - 1, 0) + int(di), max(j - 1, 0) + int(dj)
        cells.append((i, j))
    return np.array(cells, np.int64)
