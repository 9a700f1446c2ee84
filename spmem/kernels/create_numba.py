"""New discs on CPU, and the names of what pixels show; :mod:`spmem.kernels.fuse_torch` says what is computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.chunks import CHUNK
from spmem.kernels.discs_numba import HALF, ONE, STEEP, ZERO
from spmem.kernels.fuse_torch import REACH
from spmem.kernels.hashing import FREE, capacity, find, scattered
from spmem.kernels.jit import njit
from spmem.kernels.prepare_numba import DEPTH, NORMAL, WEIGHT
from spmem.kernels.simd import PAD
from spmem.kernels.threads import Turns, claimed

B = NDArray[np.bool_]
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

LOW = np.int64(0xFFFFF)
"""Bits of a voxel's coordinate that tell it from the others in view."""


@njit(fastmath=True)
def gather(
    planes: F32,
    rgb: NDArray[np.uint8 | np.float32],
    scale: float,
    shown: I32,
    K: F32,
    c2w: F32,
    voxel: float,
) -> tuple[I64, F32]:
    """Voxel [s, 3] and sums [s, 13] of the new discs; ``shown`` becomes -2 - s at the pixels of disc s."""
    height, width = planes.shape[1] - 1, planes.shape[2] - PAD
    n = 0
    for y in range(height):
        for x in range(width):
            n += (shown[y, x] < 0) & (planes[DEPTH, y, x] > ZERO)
    cell = np.empty((n, 3), np.int64)
    size = capacity(n)
    keys, disc = np.zeros(size, np.uint64), np.empty(size, np.int32)
    sums = np.zeros((n, 13), np.float32)
    per_unit, edge = ONE / np.float32(voxel), np.float32(voxel)
    factor = np.float32(scale)
    count = 0
    for y in range(height):
        dy = (np.float32(y) + HALF - K[1, 2]) / K[1, 1]
        for x in range(width):
            z = planes[DEPTH, y, x]
            if shown[y, x] >= 0 or not z > ZERO:
                continue
            dx = (np.float32(x) + HALF - K[0, 2]) / K[0, 0]
            n0, n1, n2 = planes[NORMAL, y, x], planes[NORMAL + 1, y, x], planes[NORMAL + 2, y, x]
            px = c2w[0, 0] * dx * z + c2w[0, 1] * dy * z + c2w[0, 2] * z + c2w[0, 3]
            py = c2w[1, 0] * dx * z + c2w[1, 1] * dy * z + c2w[1, 2] * z + c2w[1, 3]
            pz = c2w[2, 0] * dx * z + c2w[2, 1] * dy * z + c2w[2, 2] * z + c2w[2, 3]
            nx = c2w[0, 0] * n0 + c2w[0, 1] * n1 + c2w[0, 2] * n2
            ny = c2w[1, 0] * n0 + c2w[1, 1] * n1 + c2w[1, 2] * n2
            nz = c2w[2, 0] * n0 + c2w[2, 1] * n1 + c2w[2, 2] * n2
            ax, ay, az = abs(nx), abs(ny), abs(nz)
            side = 0 if ax >= ay and ax >= az else (1 if ay >= az else 2)
            up = (nx if side == 0 else (ny if side == 1 else nz)) > ZERO
            i = np.int64(np.floor(px * per_unit))
            j = np.int64(np.floor(py * per_unit))
            k = np.int64(np.floor(pz * per_unit))
            name = ((i & LOW) << 40 | (j & LOW) << 20 | k & LOW) << 3 | (2 * side + up)
            key = np.uint64(name) + np.uint64(1)
            at = find(keys, key, scattered(key), 1)
            if keys[at] == FREE:
                keys[at], disc[at] = key, count
                cell[count, 0], cell[count, 1], cell[count, 2] = i, j, k
                count += 1
            s = disc[at]
            shown[y, x] = -2 - s
            w = planes[WEIGHT, y, x]
            cosine = -(n0 * dx + n1 * dy + n2) / np.sqrt(dx * dx + dy * dy + ONE)
            pixel_size = z / K[0, 0]
            reach = max(np.float32(REACH) * pixel_size / max(cosine, STEEP), edge)
            detail = edge / pixel_size * (edge / pixel_size)
            sums[s, 0] += ONE
            sums[s, 1] += w
            sums[s, 2] += w * px
            sums[s, 3] += w * py
            sums[s, 4] += w * pz
            sums[s, 5] += w * nx
            sums[s, 6] += w * ny
            sums[s, 7] += w * nz
            sums[s, 8] += w * factor * np.float32(rgb[y, x, 0])
            sums[s, 9] += w * factor * np.float32(rgb[y, x, 1])
            sums[s, 10] += w * factor * np.float32(rgb[y, x, 2])
            sums[s, 11] += w * reach
            sums[s, 12] += w * detail
    return cell[:count], sums[:count]


@njit(fastmath=True)
def write(
    sums: F32,
    rows: I64,
    time: float,
    position: F32,
    normal: F32,
    radius: F32,
    colour: F32,
    confidence: F32,
    first_seen: F32,
    last_seen: F32,
    detail: F32,
) -> None:
    """New discs, the means of their pixels, into their rows."""
    for s in range(len(rows)):
        i, share = rows[s], ONE / sums[s, 1]
        nx, ny, nz = sums[s, 5], sums[s, 6], sums[s, 7]
        length = np.sqrt(nx * nx + ny * ny + nz * nz)
        unit = ONE / length if length > ZERO else ZERO
        radius[i], detail[i] = sums[s, 11] * share, sums[s, 12] * share
        confidence[i] = sums[s, 1] / sums[s, 0]
        first_seen[i] = last_seen[i] = time
        for k in range(3):
            position[i, k], colour[i, k] = sums[s, 2 + k] * share, sums[s, 8 + k] * share
            normal[i, k] = sums[s, 5 + k] * unit


@njit()
def name(turns: Turns, shown: I32, chunks: I32, rows: I64, ids: I64) -> None:
    """Row of the disc that each pixel [h, w] shows or became, -1 for none; ``shown`` as :func:`gather` leaves it."""
    width = ids.shape[1]
    for y in claimed(turns):
        for x in range(width):
            m = np.int64(shown[y, x])
            if m >= 0:
                ids[y, x] = np.int64(chunks[m // CHUNK]) * CHUNK + m % CHUNK
            else:
                ids[y, x] = rows[-2 - m] if m < -1 else -1


@njit()
def spell_out(turns: Turns, ids: I64, used: B, by: int, out: I64) -> None:
    """Rows of blocks of ``by`` pixels as rows of their pixels [H, W]; -1 for those not used."""
    height, width = out.shape
    for j in claimed(turns):
        for y in range(j * by, min((j + 1) * by, height)):
            for i in range(ids.shape[1]):
                row = ids[j, i]
                for x in range(i * by, min((i + 1) * by, width)):
                    out[y, x] = row if used[y, x] else -1
