"""Surfaces carried on beyond where they are known, on CPU: the nearest known pixel, and its plane.

:mod:`spmem.kernels.carry_torch`, the plain twin, says what is computed; nearest is exact here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.carry_torch import ALONG
from spmem.kernels.jit import njit

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Mask = NDArray[np.bool_]

FAR = 1 << 20
"""More rows than an image has."""


@njit()
def nearest(mask: Mask) -> I32:
    """Flat index ``y * w + x`` of the True pixel of an image ``[h, w]`` nearest to each, -1 in an image without one.

    Meijster, Roerdink and Hesselink, A General Algorithm for Computing Distance Transforms in Linear Time (2000): the
    nearest row in each column, then the lower envelope of the columns' parabolas along each row. Of pixels as near the
    one of the leftmost column is taken, there the upper one.
    """
    h, w = mask.shape
    row = np.empty((h, w), np.int32)  # of the nearest True pixel in the column
    last = np.full(w, -FAR, np.int32)
    for y in range(h):
        for x in range(w):
            if mask[y, x]:
                last[x] = y
            row[y, x] = last[x]
    last[:] = FAR
    for y in range(h - 1, -1, -1):
        for x in range(w):
            if mask[y, x]:
                last[x] = y
            if last[x] - y < y - row[y, x]:
                row[y, x] = last[x]
    found = np.full((h, w), -1, np.int32)
    column, start = np.empty(w, np.int32), np.empty(w, np.int32)
    rise = np.empty(w, np.int64)
    for y in range(h):
        top = -1
        for x in range(w):
            away = np.int64(abs(row[y, x] - y))
            if away >= FAR // 2:
                continue  # a column without any
            rise[x] = away * away
            begin = np.int64(0)
            while top >= 0:
                u = np.int64(column[top])
                # From here on column x is strictly nearer than column u.
                begin = (np.int64(x) * x - u * u + rise[x] - rise[u]) // (2 * (x - u)) + 1
                if begin > start[top]:
                    break
                top -= 1
            if top < 0:
                begin = np.int64(0)
            if begin < w:
                top += 1
                column[top], start[top] = x, begin
        for x in range(w - 1, -1, -1):
            while top > 0 and start[top] > x:
                top -= 1
            if top >= 0:
                found[y, x] = row[y, column[top]] * w + column[top]
    return found


@njit()
def carry(mask: Mask, depth: F32, normal: F32, K: F32, c2w: F32, stretch: float) -> F32:
    """One image of :func:`spmem.kernels.carry_torch.carry`."""
    h, w = mask.shape
    at, filled = nearest(mask), np.zeros((h, w), np.float32)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    for y in range(h):
        for x in range(w):
            if mask[y, x]:
                filled[y, x] = depth[y, x]
                continue
            if at[y, x] < 0:
                continue
            v, u = at[y, x] // w, at[y, x] % w
            n, z = normal[v, u], depth[v, u]
            nx = n[0] * c2w[0, 0] + n[1] * c2w[1, 0] + n[2] * c2w[2, 0]
            ny = n[0] * c2w[0, 1] + n[1] * c2w[1, 1] + n[2] * c2w[2, 1]
            nz = n[0] * c2w[0, 2] + n[1] * c2w[1, 2] + n[2] * c2w[2, 2]
            along = nx * ((x + 0.5 - cx) / fx) + ny * ((y + 0.5 - cy) / fy) + nz
            across = z * (nx * ((u + 0.5 - cx) / fx) + ny * ((v + 0.5 - cy) / fy) + nz)
            plane = across / along if abs(along) > ALONG else np.inf
            filled[y, x] = plane if z / stretch < plane < z * stretch else z
    return filled
