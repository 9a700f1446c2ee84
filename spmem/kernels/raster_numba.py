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
from spmem.kernels.front_numba import LEVELS, level_of
from spmem.kernels.jit import njit
from spmem.kernels.simd import (
    LANES,
    TALL,
    WIDE,
    across,
    down,
    least,
    magnitude,
    root,
    some,
    spread,
    where,
)
from spmem.kernels.simd_memory import (
    add_to,
    load,
    put,
    put_columns3,
    store,
    take,
    take_rows,
    transpose,
)
from spmem.kernels.threads import Turns, claimed

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
B = NDArray[np.bool_]

STEP = 5
"""Bands are taken so far apart, so that threads, which get runs of them, have as much to do as one another."""
FAINT = np.float32(1e-3)
"""Weight at a disc's rim, and of a disc too thin to hit a pixel's ray."""


@njit()
def bands_of(height: int) -> int:
    """In how many bands of rows an image is drawn; not a multiple of ``STEP``."""
    return 8 if height <= 400 else 16


@njit()
def rows_of(height: int) -> int:
    """Rows of a band: whole tiles, as a tile over two bands would be a race between their threads."""
    each = (height + bands_of(height) - 1) // bands_of(height)
    return (each + TALL - 1) // TALL * TALL


@njit(fastmath=True)
def surest(confidence: F32, chunks: I32) -> int:
    """The highest level of the chunks' discs."""
    most = ZERO
    for c in chunks:
        for k in range(CHUNK):
            most = max(most, confidence[c * CHUNK + k])
        if most >= LEVELS[-1]:
            break
    level: int = level_of(float(most))
    return level


def infinite(planes: int, height: int, width: int) -> F32:
    """Planes of depths, nothing met yet."""
    return np.full((planes, height, width), INF)


@njit(fastmath=True)
def nearest(
    turns: Turns,
    record: F32,
    box: I32,
    span: I32,
    chunks: I32,
    first: int,
    confidence: F32,
    front: F32,
) -> None:
    """Pass 1: lower ``front`` [levels + 1, H + 1, W + PAD] to the z-depths of the nearest hits of chunks' discs, by level.

    Those that face away, and are not of the lowest, lower the last plane. The chunks' places are those from ``first`` on.
    """
    height = front.shape[1] - 1
    bands = bands_of(height)
    rows = rows_of(height)
    for i in claimed(turns):
        band = i * STEP % bands
        top, bottom = band * rows, min((band + 1) * rows, height)
        for c in range(first, first + len(chunks)):
            if span[c, 0] >= bottom or span[c, 1] <= top:
                continue
            for k in range(CHUNK):
                y0, y1 = max(box[c, Y0, k], top), min(box[c, Y1, k], bottom)
                if y0 >= y1:
                    continue
                if y1 == bottom and y0 > top and (y1 - y0) % TALL == 1:
                    y0 -= 1  # the last tile may not reach into the next band
                a, depth, lx = record[c, k, A], record[c, k, Z], record[c, k, LX]
                level = level_of(float(confidence[chunks[c - first] * CHUNK + k]))
                if a > ZERO and level > 0:
                    level = len(front) - 1
                nxx, nxy, nyy = record[c, k, NXX], record[c, k, NXY], record[c, k, NYY]
                x0, x1 = box[c, X0, k], box[c, X1, k]
                x, y = x0, y0
                while y < y1:
                    dy = down() + (np.float32(y) - record[c, k, V])
                    dx = across() + (np.float32(x) - record[c, k, U])
                    n = (dx * nxx + dy * nxy) * dx + dy * dy * nyy
                    along = dx * lx + (dy * record[c, k, LY] + record[c, k, L])
                    z = where(dx * dx <= HALF - dy * dy, depth, INF)
                    z = where(n <= along * along, spread(a) / along, z)
                    store(front, least(load(front, level, y, x), z), level, y, x)
                    x += WIDE
                    if x >= x1:
                        x, y = x0, y + TALL


@njit(fastmath=True)
def blend(
    turns: Turns,
    record: F32,
    box: I32,
    span: I32,
    chunks: I32,
    order: I32,
    colour: F32,
    confidence: F32,
    radius: F32,
    c2w: F32,
    middle: F32,
    slab: float,
    rgb: F32,
    depth: F32,
    normal: F32,
    mask: B,
    ids: I64,
) -> None:
    """Pass 2: mix what lies within ``slab`` (a share of the depth) about the front ``middle`` and faces the camera.

    Normals come out in world axes. A pixel whose slab holds back faces only keeps its front depth, id -1.
    """
    height, width = depth.shape
    bands = bands_of(height)
    rows = rows_of(height)
    thick = np.float32(slab)
    for i in claimed(turns):
        band = i * STEP % bands
        top, bottom = band * rows, min((band + 1) * rows, height)
        if top >= bottom:
            continue
        shape = (bottom - top + 1, width + LANES)
        shade, facing = (
            np.empty((width + LANES, 3), np.float32),
            np.empty((width + LANES, 3), np.float32),
        )
        far = np.empty(width + LANES, np.float32)
        mixed = np.zeros((shape[0], shape[1], 8), np.float32)
        best = np.zeros(shape, np.float32)
        which = np.full(shape, -1, np.int32)
        for c in order:
            if span[c, 0] >= bottom or span[c, 1] <= top:
                continue
            for k in range(CHUNK):
                y0, y1 = max(box[c, Y0, k], top), min(box[c, Y1, k], bottom)
                a = record[c, k, A]
                if y0 >= y1 or a > ZERO:
                    continue
                row, lx = chunks[c] * CHUNK + k, record[c, k, LX]
                strength = confidence[row] / (radius[row] * radius[row])
                nxx, nxy, nyy = record[c, k, NXX], record[c, k, NXY], record[c, k, NYY]
                red, green, blue = colour[row, 0], colour[row, 1], colour[row, 2]
                nx, ny, nz = record[c, k, NX], record[c, k, NY], record[c, k, NZ]
                x0, x1 = box[c, X0, k], box[c, X1, k]
                x, y = x0, y0 - top
                while y < y1 - top:
                    dy = down() + (np.float32(y + top) - record[c, k, V])
                    dx = across() + (np.float32(x) - record[c, k, U])
                    n = (dx * nxx + dy * nxy) * dx + dy * dy * nyy
                    along = dx * lx + (dy * record[c, k, LY] + record[c, k, L])
                    inverse, hit = ONE / along, n <= along * along
                    fall = ONE - n * inverse * inverse
                    z = where(hit, inverse * a, record[c, k, Z])
                    w = where(dx * dx <= HALF - dy * dy, FAINT, ZERO)
                    w = where(hit, fall * fall + FAINT, w) * strength
                    at = load(middle, y + top, x)
                    w = where(magnitude(z - at) <= at * thick, w, ZERO)
                    if some(w > ZERO):
                        parts = transpose(
                            w, w * z, w * red, w * green, w * blue, w * nx, w * ny, w * nz
                        )
                        add_to(mixed, parts[0], y, x, 0)
                        add_to(mixed, parts[1], y, x + 1, 0)
                        add_to(mixed, parts[2], y, x + 2, 0)
                        add_to(mixed, parts[3], y, x + 3, 0)
                        add_to(mixed, parts[4], y + 1, x, 0)
                        add_to(mixed, parts[5], y + 1, x + 1, 0)
                        add_to(mixed, parts[6], y + 1, x + 2, 0)
                        add_to(mixed, parts[7], y + 1, x + 3, 0)
                        before = load(best, y, x)
                        better = w > before
                        store(best, where(better, w, before), y, x)
                        store(which, where(better, np.int32(row), load(which, y, x)), y, x)
                    x += WIDE
                    if x >= x1:
                        x, y = x0, y + TALL
        for y in range(top, bottom):
            for x in range(0, width, LANES):
                parts = take_rows(mixed, y - top, x, 0)
                w, wz, red, green, blue, nx, ny, nz = transpose(*parts)
                covered, at, square = (
                    w > ZERO,
                    take(middle, y, x),
                    nx * nx + ny * ny + nz * nz,
                )
                share = ONE / where(covered, w, ONE)
                unit = where(square > ZERO, ONE / root(square), ZERO)
                put(far, where(covered, wz * share, where(at < INF, at, ZERO)), x)
                put_columns3(shade, x, red * share, green * share, blue * share)
                put_columns3(
                    facing,
                    x,
                    unit * (nx * c2w[0, 0] + ny * c2w[0, 1] + nz * c2w[0, 2]),
                    unit * (nx * c2w[1, 0] + ny * c2w[1, 1] + nz * c2w[1, 2]),
                    unit * (nx * c2w[2, 0] + ny * c2w[2, 1] + nz * c2w[2, 2]),
                )
            for x in range(width):
                mask[y, x] = which[y - top, x] >= 0
            for x in range(width):
                ids[y, x] = which[y - top, x]
            for x in range(width):
                depth[y, x] = far[x]
            for x in range(width):
                for k in range(3):
                    rgb[y, x, k] = shade[x, k]
            for x in range(width):
                for k in range(3):
                    normal[y, x, k] = facing[x, k]
