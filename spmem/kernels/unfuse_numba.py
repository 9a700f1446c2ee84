"""Taking back out of discs what frames gave them, on CPU.

:mod:`spmem.kernels.unfuse_torch`, the plain twin, says what is computed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.discs_numba import HALF, ONE, ZERO
from spmem.kernels.fuse_torch import ALIGNED, SHARPER
from spmem.kernels.jit import njit
from spmem.kernels.prepare_numba import DEPTH, NORMAL, WEIGHT
from spmem.kernels.simd import PAD
from spmem.kernels.threads import Turns, claimed

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@njit(fastmath=True)
def add(
    turns: Turns,
    position: F32,
    normal: F32,
    rows: I64,
    place: I64,
    planes: F32,
    K: F32,
    c2w: F32,
    merge: float,
    sums: F32,
) -> None:
    """Add to ``sums[place[row]]`` what a frame gave to the discs of rows, each named once; place -1 leaves one out."""
    height, width = planes.shape[1] - 1, planes.shape[2] - PAD
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    near, aligned = np.float32(merge), np.float32(ALIGNED)
    for r in claimed(turns):
        row, slot = rows[r], place[rows[r]]
        if slot < 0:
            continue
        ax, ay, az = position[row, 0] - c2w[0, 3], position[row, 1] - c2w[1, 3], position[row, 2] - c2w[2, 3]  # fmt: skip
        px = c2w[0, 0] * ax + c2w[1, 0] * ay + c2w[2, 0] * az
        py = c2w[0, 1] * ax + c2w[1, 1] * ay + c2w[2, 1] * az
        pz = c2w[0, 2] * ax + c2w[1, 2] * ay + c2w[2, 2] * az
        if not pz > ZERO:
            continue
        u, v = px / pz * fx + cx - HALF, py / pz * fy + cy - HALF
        if not (u >= -ONE and v >= -ONE and u < width and v < height):
            continue
        ax, ay, az = normal[row, 0], normal[row, 1], normal[row, 2]
        nx = c2w[0, 0] * ax + c2w[1, 0] * ay + c2w[2, 0] * az
        ny = c2w[0, 1] * ax + c2w[1, 1] * ay + c2w[2, 1] * az
        nz = c2w[0, 2] * ax + c2w[1, 2] * ay + c2w[2, 2] * az
        x0, y0 = int(np.floor(u)), int(np.floor(v))
        n = weight = away = sx = sy = sz = ZERO
        for y in range(max(y0, 0), min(y0 + 2, height)):
            for x in range(max(x0, 0), min(x0 + 2, width)):
                z = planes[DEPTH, y, x]
                dx, dy = (np.float32(x) + HALF - cx) / fx, (np.float32(y) + HALF - cy) / fy
                off = (dx * z - px) * nx + (dy * z - py) * ny + (z - pz) * nz
                along = -(nx * dx + ny * dy + nz)
                ax, ay, az = (
                    planes[NORMAL, y, x],
                    planes[NORMAL + 1, y, x],
                    planes[NORMAL + 2, y, x],
                )
                shows = z > ZERO and along > ZERO and abs(off) <= near * z * along
                if shows and ax * nx + ay * ny + az * nz > aligned:
                    w = planes[WEIGHT, y, x]
                    n += ONE
                    weight += w
                    away += w * off
                    sx, sy, sz = sx + w * ax, sy + w * ay, sz + w * az
        if n > ZERO:
            share = ONE / n
            sums[slot, 0] += ONE
            sums[slot, 1] += weight * share
            sums[slot, 2] += away * share
            for k in range(3):
                sums[slot, 3 + k] += (c2w[k, 0] * sx + c2w[k, 1] * sy + c2w[k, 2] * sz) * share


@njit(fastmath=True)
def subtract(
    rows: I64,
    sums: F32,
    left: F32,
    max_confidence: float,
    position: F32,
    normal: F32,
    confidence: F32,
    detail: F32,
) -> None:
    """Leave discs without what frames gave them: ``left`` is the weight of all others."""
    duller, most = np.float32(1 / SHARPER), np.float32(max_confidence)
    for r in range(len(rows)):
        row = rows[r]
        if sums[r, 0] == ZERO:
            continue
        weight, gain, length = sums[r, 1], ONE / left[r], ZERO
        for k in range(3):
            n = normal[row, k]
            position[row, k] -= n * sums[r, 2] * gain
            normal[row, k] = n - (sums[r, 3 + k] - weight * n) * gain
            length += normal[row, k] * normal[row, k]
        for k in range(3):
            normal[row, k] /= np.sqrt(length)
        confidence[row] = min(left[r], most)
        detail[row] *= duller
