"""Surfel discs to pixels on CPU: exact ray-disc intersection in two passes, bands of rows in parallel.

The arithmetic of a disc is spelled out once, in :mod:`spmem.kernels.raster_torch`, the plain twin; how it becomes a
record in :mod:`spmem.kernels.discs_numba`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.chunks import CHUNK
from spmem.kernels.discs_numba import (
    HALF,
    INF,
    LX,
    LY,
    NX,
    NXX,
    NXY,
    NY,
    NYY,
    NZ,
    ONE,
    X0,
    X1,
    Y0,
    Y1,
    ZERO,
    A,
    L,
    U,
    V,
    Z,
)
from spmem.kernels.jit import njit, prange
from spmem.kernels.raster_torch import LEVELS
from spmem.kernels.simd import (
    PAD,
    TALL,
    WIDE,
    across,
    down,
    least,
    load,
    magnitude,
    some,
    spread,
    store,
    where,
)

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
B = NDArray[np.bool_]

BANDS = 16
FAINT = np.float32(1e-3)
"""Weight at a disc's rim, and of a disc too thin to hit a pixel's ray."""


@njit()
def level_of(confidence: float) -> int:
    """How many of ``LEVELS`` a confidence reaches."""
    level = 0
    for bound in LEVELS:
        level += confidence >= bound
    return level


@njit(fastmath=True)
def surest(confidence: F32, chunks: I32) -> int:
    """The highest level of the chunks' discs."""
    most = ZERO
    for c in chunks:
        for k in range(CHUNK):
            most = max(most, confidence[c * CHUNK + k])
        if most >= LEVELS[-1]:
            break
    return level_of(float(most))


@njit(parallel=True, fastmath=True)
def nearest(
    record: F32, box: I32, span: I32, chunks: I32, first: int, confidence: F32, front: F32
) -> None:
    """Pass 1: lower ``front`` [levels, H + 1, W + PAD] to the z-depths of the nearest hits of chunks' discs, by level.

    The chunks' places are those from ``first`` on.
    """
    height = front.shape[1] - 1
    rows = max((height + BANDS - 1) // BANDS, TALL)
    for band in prange(BANDS):
        top, bottom = band * rows, min((band + 1) * rows, height)
        for c in range(first, first + len(chunks)):
            if span[c, 0] >= bottom or span[c, 1] <= top:
                continue
            for k in range(CHUNK):
                y0, y1 = max(box[c, Y0, k], top), min(box[c, Y1, k], bottom)
                if y0 >= y1:
                    continue
                if y1 == bottom and y0 > top and (y1 - y0) % 2 == 1:
                    y0 -= 1  # the last tile may not reach into the next band
                level = level_of(float(confidence[chunks[c - first] * CHUNK + k]))
                a, depth, lx = record[c, A, k], record[c, Z, k], record[c, LX, k]
                nxx, nxy, nyy = record[c, NXX, k], record[c, NXY, k], record[c, NYY, k]
                for y in range(y0, y1, TALL):
                    dy = down() + (np.float32(y) - record[c, V, k])
                    n0, l0, n1 = dy * dy * nyy, dy * record[c, LY, k] + record[c, L, k], dy * nxy
                    thin = HALF - dy * dy
                    for x in range(box[c, X0, k], box[c, X1, k], WIDE):
                        dx = across() + (np.float32(x) - record[c, U, k])
                        n, along = (dx * nxx + n1) * dx + n0, dx * lx + l0
                        z = where(
                            n <= along * along,
                            spread(a) / along,
                            where(dx * dx <= thin, depth, INF),
                        )
                        store(front, least(load(front, level, y, x), z), level, y, x)


@njit(parallel=True, fastmath=True)
def blend(
    record: F32,
    box: I32,
    span: I32,
    chunks: I32,
    order: I32,
    colour: F32,
    confidence: F32,
    radius: F32,
    c2w: F32,
    front: F32,
    slab: float,
    rgb: F32,
    depth: F32,
    normal: F32,
    mask: B,
    ids: I64,
) -> None:
    """Pass 2: mix what lies within ``slab`` (a share of the depth) about the front and faces the camera.

    Normals come out in world axes. A pixel whose slab holds back faces only keeps its front depth, id -1.
    """
    height, width = depth.shape
    rows = max((height + BANDS - 1) // BANDS, TALL)
    thick, top_level = np.float32(slab), len(front) - 1
    for band in prange(BANDS):
        top, bottom = band * rows, min((band + 1) * rows, height)
        if top >= bottom:
            continue
        shape = (bottom - top + 1, width + PAD)
        mixed = np.zeros((8, shape[0], shape[1]), np.float32)
        best = np.zeros(shape, np.float32)
        which, middle = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
        for y in range(top, bottom, TALL):
            for x in range(0, width, WIDE):
                at, of = load(front, top_level, y, x), spread(np.float32(top_level))
                for level in range(top_level - 1, -1, -1):
                    other = load(front, level, y, x)
                    near = (of < np.float32(level + 2)) | (at >= INF)
                    near = near & (other * (ONE + thick) < at)
                    at, of = where(near, other, at), where(near, np.float32(level), of)
                store(middle, at, y - top, x)
        for c in order:
            if span[c, 0] >= bottom or span[c, 1] <= top:
                continue
            for k in range(CHUNK):
                y0, y1 = max(box[c, Y0, k], top), min(box[c, Y1, k], bottom)
                a = record[c, A, k]
                if y0 >= y1 or a > ZERO:
                    continue
                i, lx = chunks[c] * CHUNK + k, record[c, LX, k]
                strength = confidence[i] / (radius[i] * radius[i])
                nxx, nxy, nyy = record[c, NXX, k], record[c, NXY, k], record[c, NYY, k]
                red, green, blue = colour[i, 0], colour[i, 1], colour[i, 2]
                nx, ny, nz = record[c, NX, k], record[c, NY, k], record[c, NZ, k]
                for y in range(y0 - top, y1 - top, TALL):
                    dy = down() + (np.float32(y + top) - record[c, V, k])
                    n0, l0, n1 = dy * dy * nyy, dy * record[c, LY, k] + record[c, L, k], dy * nxy
                    thin = HALF - dy * dy
                    for x in range(box[c, X0, k], box[c, X1, k], WIDE):
                        dx = across() + (np.float32(x) - record[c, U, k])
                        n, along = (dx * nxx + n1) * dx + n0, dx * lx + l0
                        inverse, hit = ONE / along, n <= along * along
                        fall = ONE - n * inverse * inverse
                        z = where(hit, inverse * a, record[c, Z, k])
                        w = where(hit, fall * fall + FAINT, where(dx * dx <= thin, FAINT, ZERO))
                        at = load(middle, y, x)
                        w = where(magnitude(z - at) <= at * thick, w * strength, ZERO)
                        if not some(w > ZERO):
                            continue
                        store(mixed, load(mixed, 0, y, x) + w, 0, y, x)
                        store(mixed, load(mixed, 1, y, x) + w * z, 1, y, x)
                        store(mixed, load(mixed, 2, y, x) + w * red, 2, y, x)
                        store(mixed, load(mixed, 3, y, x) + w * green, 3, y, x)
                        store(mixed, load(mixed, 4, y, x) + w * blue, 4, y, x)
                        store(mixed, load(mixed, 5, y, x) + w * nx, 5, y, x)
                        store(mixed, load(mixed, 6, y, x) + w * ny, 6, y, x)
                        store(mixed, load(mixed, 7, y, x) + w * nz, 7, y, x)
                        before = load(best, y, x)
                        better = w > before
                        store(best, where(better, w, before), y, x)
                        store(which, where(better, np.int32(i), load(which, y, x)), y, x)
        for y in range(top, bottom):
            row = y - top
            for x in range(width):
                w = mixed[0, row, x]
                mask[y, x] = w > ZERO
                if w > ZERO:
                    share = ONE / w
                    depth[y, x] = mixed[1, row, x] * share
                    nx, ny, nz = mixed[5, row, x], mixed[6, row, x], mixed[7, row, x]
                    length = np.sqrt(nx * nx + ny * ny + nz * nz)
                    unit = ONE / length if length > ZERO else ZERO
                    for k in range(3):
                        rgb[y, x, k] = mixed[2 + k, row, x] * share
                        normal[y, x, k] = unit * (c2w[k, 0] * nx + c2w[k, 1] * ny + c2w[k, 2] * nz)
                    ids[y, x] = which[row, x]
                else:
                    depth[y, x] = middle[row, x] if middle[row, x] < INF else ZERO
                    for k in range(3):
                        rgb[y, x, k] = normal[y, x, k] = ZERO
                    ids[y, x] = -1
