"""Which of a pixel's hits is its front, on CPU; :mod:`spmem.kernels.front_torch` says what is computed."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spmem.kernels import front_torch
from spmem.kernels.discs_numba import INF, ONE, ZERO
from spmem.kernels.front_torch import RIM_RINGS, SURER, WAYS
from spmem.kernels.jit import njit, prange
from spmem.kernels.simd import PAD, TALL, WIDE, least, some, spread, where
from spmem.kernels.simd_memory import load, store

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Number: TypeAlias = Any
"""A float32 inside a kernel."""

LEVELS = tuple(np.float32(bound) for bound in front_torch.LEVELS)
SAME = np.float32(front_torch.SAME)


@njit()
def level_of(confidence: Number) -> int:
    """How many of ``LEVELS`` a confidence reaches."""
    level: Any = 0
    for bound in LEVELS:
        level += confidence >= bound
    return int(level)


@njit(parallel=True, fastmath=True)
def fronts(front: F32, around: I32, slab: float) -> F32:
    """The front of every pixel [H + 1, W + PAD]; front: planes [levels + 1, H + 1, W + PAD], the last of backs.

    Eight pixels at once as if all were looked through; one by one where that leads farther than ``SAME``.
    """
    height, width = front.shape[1] - 1, front.shape[2] - PAD
    thick, backs = np.float32(slab), len(front) - 1
    out = np.empty((height + 1, width + PAD), np.float32)
    out[height] = INF
    for tile in prange((height + TALL - 1) // TALL):
        y = tile * TALL
        for x in range(0, width, WIDE):
            back, at, sure = load(front, backs, y, x), spread(INF), spread(ZERO)
            first = spread(INF)
            for level in range(backs - 1, -1, -1):
                z = load(front, level, y, x)
                first = least(first, z)
                nearer = (sure < np.float32(level + SURER)) | (at >= INF)
                nearer = nearer & (z * (ONE + thick) < at) & (z <= back * (ONE + thick))
                at, sure = where(nearer, z, at), where(nearer, np.float32(level), sure)
            store(out, where(back * (ONE + thick) < at, back, at), y, x)
            if some(at >= first * (ONE + SAME)):
                for v in range(y, min(y + TALL, height)):
                    for u in range(x, min(x + WIDE, width)):
                        out[v, u] = believed(front, around, u, v, thick)
    return out


@njit(fastmath=True)
def believed(front: F32, around: I32, x: int, y: int, thick: Number) -> Number:
    """The front of one pixel."""
    backs = len(front) - 1
    back, at, sure = front[backs, y, x], INF, 0
    for level in range(backs - 1, -1, -1):
        z = front[level, y, x]
        if not (z * (ONE + thick) < at and z <= back * (ONE + thick)):
            continue
        if (
            at == INF
            or sure < level + SURER
            or not (
                at < z * (ONE + SAME)
                or rim(front, around, level, z, x, y, thick)
                or speck(front, around, z, x, y)
            )
        ):
            at, sure = z, level
    return back if back * (ONE + thick) < at else at


@njit(fastmath=True)
def clear(front: F32, level: int, z: Number, x: int, y: int, thick: Number) -> Any:
    """Whether the nearest hit of discs two levels surer is at depth z, and none a level surer, or facing away, hides it."""
    backs = len(front) - 1
    surer: Any = INF
    for k in range(level + SURER, backs):
        surer = min(surer, front[k, y, x])
    if not abs(surer - z) <= SAME * z:
        return False
    hides = front[backs, y, x]
    for k in range(level + 1, level + SURER):
        hides = min(hides, front[k, y, x])
    return surer <= hides * (ONE + thick)


@njit(fastmath=True)
def rim(front: F32, around: I32, level: int, z: Number, x: int, y: int, thick: Number) -> bool:
    """Whether something surer lies beside a hit, at its own depth."""
    height, width = front.shape[1] - 1, front.shape[2] - PAD
    for ring in range(RIM_RINGS):
        for way in range(WAYS):
            u, v = x + around[ring, way, 0], y + around[ring, way, 1]
            if 0 <= u < width and 0 <= v < height and clear(front, level, z, u, v, thick):
                return True
    return False


@njit(fastmath=True)
def speck(front: F32, around: I32, z: Number, x: int, y: int) -> bool:
    """Whether all that is met around a hit, on one of the rings, lies farther away."""
    height, width = front.shape[1] - 1, front.shape[2] - PAD
    for ring in range(RIM_RINGS, len(around)):
        alone: Any = True
        for way in range(WAYS):
            u, v = x + around[ring, way, 0], y + around[ring, way, 1]
            alone = alone and 0 <= u < width and 0 <= v < height
            if alone:
                nearest = INF
                for k in range(len(front)):
                    nearest = min(nearest, front[k, v, u])
                alone = z * (ONE + SAME) < nearest < INF
        if alone:
            return True
    return False
