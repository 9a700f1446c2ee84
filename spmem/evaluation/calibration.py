"""Does ``context.coverage`` say how much of a view was really seen? Random cameras in houses half walked through.

    python -m spmem.evaluation.calibration [WORLDS [FIRST]]

For every query: what memory claims (``coverage``), and the true share of the camera's pixels whose surface some
stored frame saw, by exact depth. All stored frames count, since each is fused, also those that are no keyframes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.config import MemoryConfig
from spmem.evaluation.sight import seen_masks, sight_of
from spmem.opening import open as open_memory
from spmem.testing.truth import covered_but_wrong
from spmem.worlds import House, walk
from spmem.worlds.freespace import WalkableSpace, free_space

ROOMS = 6
STRIDE = 0.12
"""World units between stored frames: with 80 of them, two or three of the rooms are walked through."""
FOV = 1.3


def calibration(
    seeds: Iterable[int] = range(60),
    *,
    stored: int = 80,
    queries: int = 40,
    width: int = 128,
    height: int = 96,
    config: MemoryConfig | None = None,
) -> list[dict[str, Any]]:
    """A row for each query camera.

    Half of the cameras stand in rooms that were walked through, half in rooms that were not; all in free space, at
    any height from a child's eyes to above a tall man's, and look anywhere but straight up or down.

    Args:
        seeds: One house each.
        stored: Frames stored of a walk.
        queries: Cameras asked about, in each house.
        width: Width of all images, in pixels.
        height: Height of all images, in pixels.
        config: Configuration of the memory; None takes the defaults.

    Returns:
        Rows of ``world`` (the seed), ``where`` (``walked`` or ``other`` rooms), ``coverage`` as memory says,
        ``seen``, the true share, and ``before`` and ``behind``: the share of all pixels that memory covers more than 5 %
        before, and behind, the truth.

    Example:
        >>> row, *_ = calibration([1], stored=2, queries=2, width=32, height=24)
        >>> sorted(row), row["where"]
        (['before', 'behind', 'coverage', 'seen', 'where', 'world'], 'walked')
    """
    return [
        row
        for seed in seeds
        for row in _measure_world(seed, stored, queries, width, height, config or MemoryConfig())
    ]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean absolute error with its standard error over worlds, bias, the same by where the cameras stood, and what is wrong.

    Example:
        >>> fact = {"where": "other", "coverage": 0.5, "before": 0.0, "behind": 0.01}
        >>> rows = [fact | {"world": w, "seen": s} for w, s in ((0, 0.4), (1, 0.6))]
        >>> errors = summary(rows)
        >>> round(errors["mean absolute error"], 3), round(errors["bias"], 3)
        (0.1, 0.0)
        >>> errors["covered but wrong: before"], errors["covered but wrong: behind"]  # of what is covered
        (0.0, 0.02)
    """
    off = np.array([row["coverage"] - row["seen"] for row in rows])
    world = np.array([row["world"] for row in rows])
    where = np.array([row["where"] for row in rows])
    each = [float(np.abs(off[world == one]).mean()) for one in np.unique(world)]
    error = float(np.std(each, ddof=1)) / len(each) ** 0.5 if len(each) > 1 else math.nan
    return {
        "worlds": len(each),
        "queries": len(rows),
        "mean absolute error": float(np.abs(off).mean()),
        "standard error": error,
        "bias": float(off.mean()),
        "worst": float(np.abs(off).max()),
        **{
            f"covered but wrong: {side}": _share_of_covered(rows, side)
            for side in ("before", "behind")
        },
        **{f"in {one} rooms": float(np.abs(off[where == one]).mean()) for one in np.unique(where)},
    }


def _share_of_covered(rows: Sequence[dict[str, Any]], side: str) -> float:
    """Share of the covered pixels of all queries."""
    return float(
        sum(row[side] for row in rows) / (sum(row["coverage"] for row in rows) or math.nan)
    )


def reliability(rows: Sequence[dict[str, Any]], bins: int = 10) -> list[dict[str, Any]]:
    """The queries whose claimed coverage falls into each bin: how many, mean claim, mean truth.

    Example:
        >>> rows = [{"coverage": 0.05, "seen": 0.1}, {"coverage": 1.0, "seen": 0.9}]
        >>> [(r["queries"], r["seen"]) for r in reliability(rows, bins=2)]
        [(1, 0.1), (1, 0.9)]
    """
    claimed = np.array([row["coverage"] for row in rows])
    true = np.array([row["seen"] for row in rows])
    which = np.minimum((claimed * bins).astype(int), bins - 1)
    return [
        {
            "bin": f"{b / bins:.1f} to {(b + 1) / bins:.1f}",
            "queries": int((which == b).sum()),
            "coverage": float(claimed[which == b].mean()),
            "seen": float(true[which == b].mean()),
        }
        for b in range(bins)
        if (which == b).any()
    ]


def _measure_world(
    seed: int, stored: int, queries: int, width: int, height: int, config: MemoryConfig
) -> list[dict[str, Any]]:
    house = House(seed=seed, rooms=ROOMS)
    way = walk(house, stored, seed=seed, width=width, height=height, stride=STRIDE, fov_x=FOV)
    walked = _rooms_along(house, way)
    cameras, where = _sample_cameras(house, walked, queries, width, height)
    with open_memory(config=config) as memory:
        for frame in house.frames(way):
            memory.store(frame)
        shown = memory.retrieve(cameras, k=0, method="none", given=()).projection
    claimed = shown.coverage
    wrong = covered_but_wrong(shown.depth, shown.mask, house.render(cameras).depth)
    before, behind = (part.float().mean((1, 2)) for part in wrong)
    masks = seen_masks(sight_of(house, cameras), sight_of(house, way)).any(1)
    true = masks.float().mean((1, 2))
    return [
        {
            "world": seed,
            "where": where[i],
            "coverage": float(claimed[i]),
            "seen": float(true[i]),
            "before": float(before[i]),
            "behind": float(behind[i]),
        }
        for i in range(queries)
    ]


def _rooms_along(house: House, way: Camera) -> set[int]:
    """The rooms that a way goes through."""
    free = free_space(house.seed, house.rooms, house.room_size, house.moving)
    cells = free.cell(way.position[:, [0, 2]].double().numpy())
    return set(free.room[cells[:, 0], cells[:, 1]].tolist()) - {-1}


def _sample_cameras(
    house: House, walked: set[int], count: int, width: int, height: int
) -> tuple[Camera, list[str]]:
    """Cameras in free space: by turns in a room walked through, and in another (where there is one)."""
    rng = np.random.default_rng([house.seed, 5])
    free = free_space(house.seed, house.rooms, house.room_size, house.moving)
    inside = np.isin(free.room, list(walked))
    kinds = {"walked": inside & free.walkable, "other": ~inside & (free.room >= 0) & free.walkable}
    kinds = {name: cells for name, cells in kinds.items() if cells.any()}
    where = [list(kinds)[i % len(kinds)] for i in range(count)]
    eyes = np.array([_sample_eye(rng, free, kinds[name]) for name in where])
    yaw, pitch = rng.uniform(-math.pi, math.pi, count), rng.uniform(-0.5, 0.5, count)
    ahead = np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], 1)
    position = torch.from_numpy(eyes)
    target = position + torch.from_numpy(ahead)
    return Camera.look_at(position, target, width=width, height=height, fov_x=FOV), where


def _sample_eye(
    rng: np.random.Generator, free: WalkableSpace, cells: NDArray[np.bool_]
) -> list[float]:
    found = np.argwhere(cells)
    x, z = free.points(found[rng.integers(len(found))])
    return [float(x), -rng.uniform(0.9, 1.9), float(z)]


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    worlds, first = numbers[0] if numbers else 60, numbers[1] if len(numbers) > 1 else 0
    rows = calibration(range(first, first + worlds))
    for line in (summary(rows), *reliability(rows)):
        sys.stdout.write(f"{line}\n")
