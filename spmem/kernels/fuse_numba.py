"""Fusion on CPU: which disc each pixel shows, and what discs learn from their pixels.

:mod:`spmem.kernels.fuse_torch`, the plain twin, says what is computed.
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
    STEEP,
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
from spmem.kernels.fuse_torch import (
    ALIGNED,
    ALIKE,
    BLUNT,
    CARVE,
    COARSE,
    FORGET,
    REACH,
    SHARP,
    SHARPER,
)
from spmem.kernels.jit import njit
from spmem.kernels.prepare_numba import DEPTH, NORMAL, WEIGHT
from spmem.kernels.simd import (
    LANES,
    PAD,
    TALL,
    WIDE,
    across,
    down,
    highest,
    least,
    lowest,
    magnitude,
    ramp,
    root,
    some,
    spread,
    where,
    whole,
)
from spmem.kernels.simd_memory import (
    add_to,
    columns3,
    gather,
    load,
    put,
    put_columns3,
    put_rows,
    store,
    take,
    take_rows,
    transpose,
)
from spmem.kernels.threads import Turns, claimed, shared

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

BANDS = 8
TINY = np.float32(1e-30)


def match(
    record: F32,
    box: I32,
    span: I32,
    K: F32,
    planes: F32,
    rgb: NDArray[np.uint8 | np.float32],
    scale: float,
    merge: float,
) -> tuple[I32, F32]:
    """The place of the disc that each pixel shows [H + 1, W + PAD], -1 for none; per place the sums [places, 8].

    Sums over the pixels that show a disc of weight, weighted point in camera axes, weighted colour, and 1.
    """
    height, width = planes.shape[1] - 1, planes.shape[2] - PAD
    shown = np.full((height + 1, width + PAD), -1, np.int32)
    sums = np.zeros((len(span) * CHUNK, 8), np.float32)
    rows = max((height + BANDS - 1) // BANDS, TALL)
    late, lateness = np.empty((BANDS, rows * width), np.int32), np.zeros(BANDS, np.int64)
    each = (3.0 * len(span) + 0.005 * height * width) / BANDS
    given = K, planes, rgb, scale
    shared(match_bands, BANDS, each)(record, box, span, *given, merge, shown, sums, late, lateness)
    add_late(*given, late, lateness, shown, sums)
    return shown, sums


@njit(fastmath=True)
def match_bands(
    turns: Turns,
    record: F32,
    box: I32,
    span: I32,
    K: F32,
    planes: F32,
    rgb: NDArray[np.uint8 | np.float32],
    scale: float,
    merge: float,
    shown: I32,
    sums: F32,
    late: I32,
    lateness: I64,
) -> None:
    """:func:`match`, a band of rows a turn. Pixels of discs that reach into other bands are left to :func:`add_late`."""
    height, width = planes.shape[1] - 1, planes.shape[2] - PAD
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    rows = max((height + BANDS - 1) // BANDS, TALL)
    near, factor, aligned = np.float32(merge), np.float32(scale), np.float32(ALIGNED)
    flat = rgb.reshape(height * width, 3)
    for band in claimed(turns):
        top, bottom = band * rows, min((band + 1) * rows, height)
        if top >= bottom:
            continue
        which = np.full((bottom - top + 1, width + PAD), -1, np.int32)
        central = np.full((bottom - top + 1, width + PAD), INF, np.float32)
        for c in range(len(span)):
            if span[c, 0] >= bottom or span[c, 1] <= top:
                continue
            for k in range(CHUNK):
                y0, y1 = max(box[c, Y0, k], top), min(box[c, Y1, k], bottom)
                a = record[c, k, A]
                if y0 >= y1:
                    continue
                m = c * CHUNK + k
                if box[c, Y0, k] < top or box[c, Y1, k] > bottom:
                    m = -2 - m  # another band may be adding to its sums
                lx, depth = record[c, k, LX], record[c, k, Z]
                nxx, nxy, nyy = record[c, k, NXX], record[c, k, NXY], record[c, k, NYY]
                nx, ny, nz = record[c, k, NX], record[c, k, NY], record[c, k, NZ]
                x0, x1 = box[c, X0, k], box[c, X1, k]
                x, y = x0, y0
                while y < y1:
                    dy = down() + (np.float32(y) - record[c, k, V])
                    dx = across() + (np.float32(x) - record[c, k, U])
                    along = dx * lx + (dy * record[c, k, LY] + record[c, k, L])
                    inverse = ONE / along
                    far = ((dx * nxx + dy * nxy) * dx + dy * dy * nyy) * inverse * inverse
                    hit = far <= ONE
                    z = where(hit, inverse * a, depth)
                    far = where(hit, far, where(dx * dx <= HALF - dy * dy, ONE, INF))
                    closest = load(central, y - top, x)
                    better = far < closest
                    if some(better):
                        seen = load(planes, DEPTH, y, x)
                        facing = (
                            load(planes, NORMAL, y, x) * nx
                            + load(planes, NORMAL + 1, y, x) * ny
                            + load(planes, NORMAL + 2, y, x) * nz
                        )
                        better = better & (magnitude(z - seen) <= seen * near)
                        better = better & (facing > aligned)
                        if some(better):
                            store(central, where(better, far, closest), y - top, x)
                            before = load(which, y - top, x)
                            store(which, where(better, np.int32(m), before), y - top, x)
                    x += WIDE
                    if x >= x1:
                        x, y = x0, y + TALL
        eight = np.empty((LANES, LANES), np.float32)
        for y in range(top, bottom):
            dy, at = (np.float32(y) + HALF - cy) / fy, y - top
            for x in range(width):
                m = which[at, x]
                shown[y, x] = m if m > -2 else -2 - m
            for x in range(0, width - LANES + 1, LANES):
                w = take(planes, WEIGHT, y, x)
                dx = (ramp() + (np.float32(x) + HALF - cx)) * (ONE / fx)
                wz, wc = w * take(planes, DEPTH, y, x), w * factor
                red, green, blue = columns3(flat, np.int64(y) * width + x)
                parts = transpose(
                    w, wz * dx, wz * dy, wz, wc * red, wc * green, wc * blue, spread(ONE)
                )
                put_rows(eight, parts, 0, 0)
                for lane in range(LANES):
                    m = which[at, x + lane]
                    if m >= 0:
                        add_to(sums, take(eight, lane, 0), m, 0)
                    elif m < -1:
                        late[band, lateness[band]] = y * width + x + lane
                        lateness[band] += 1
            for x in range(width - width % LANES, width):
                if which[at, x] != -1:
                    late[band, lateness[band]] = y * width + x
                    lateness[band] += 1


@njit(fastmath=True)
def add_late(
    K: F32,
    planes: F32,
    rgb: NDArray[np.uint8 | np.float32],
    scale: float,
    late: I32,
    lateness: I64,
    shown: I32,
    sums: F32,
) -> None:
    """Add the pixels of discs that several bands show, band by band, so that sums come out the same."""
    width, factor = planes.shape[2] - PAD, np.float32(scale)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    for band in range(BANDS):
        for p in range(lateness[band]):
            y, x = late[band, p] // width, late[band, p] % width
            dy, dx = (np.float32(y) + HALF - cy) / fy, (np.float32(x) + HALF - cx) / fx
            m, w = shown[y, x], planes[WEIGHT, y, x]
            wz, wc = w * planes[DEPTH, y, x], w * factor
            sums[m, 0] += w
            sums[m, 1] += wz * dx
            sums[m, 2] += wz * dy
            sums[m, 3] += wz
            for k in range(3):
                sums[m, 4 + k] += wc * np.float32(rgb[y, x, k])
            sums[m, 7] += ONE


@njit(fastmath=True)
def merge(
    turns: Turns,
    record: F32,
    chunks: I32,
    planes: F32,
    sums: F32,
    K: F32,
    c2w: F32,
    voxel: float,
    tolerance: float,
    max_confidence: float,
    time: float,
    averages: bool,
    position: F32,
    normal: F32,
    radius: F32,
    colour: F32,
    confidence: F32,
    last_seen: F32,
    detail: F32,
    low: F32,
    high: F32,
) -> None:
    """Update discs by the pixels that show them; take from those that rays pass through or finer pixels replace."""
    height, width = planes.shape[1] - 1, planes.shape[2] - PAD
    edge, near, most = np.float32(voxel), np.float32(tolerance), np.float32(max_confidence)
    now, carve = np.float32(time), np.float32(CARVE)
    right, bottom = np.float32(width) - HALF, np.float32(height) - HALF
    for c in claimed(turns):
        start = np.int64(chunks[c]) * CHUNK
        x0 = y0 = z0 = spread(INF)
        x1 = y1 = z1 = spread(-INF)
        for k in range(0, CHUNK, LANES):
            parts = take_rows(record, c, k, LANES)
            a, depth, nx, ny, nz, _, _, _ = transpose(*parts)
            before = take(confidence, start + k)
            alive = (before > ZERO) & (depth > ZERO)
            if not some(alive):
                continue
            parts = take_rows(record, c, k, 0)
            u, v, along, _, _, _, _, _ = transpose(*parts)
            x, y = where(u > ZERO, u + HALF, ZERO), where(v > ZERO, v + HALF, ZERO)
            px, py = whole(least(x, spread(right))), whole(least(y, spread(bottom)))
            inside = (u > -HALF) & (v > -HALF) & (u < right) & (v < bottom)
            seen = where(inside, gather(planes, DEPTH, py, px), ZERO)
            shows = magnitude(depth - seen) <= seen * near
            parts = take_rows(sums, c * CHUNK + k, 0)
            w, sx, sy, sz, red, green, blue, n = transpose(*parts)
            met, size = w > ZERO, take(radius, start + k)
            # seen through, or seen finer than it is: `describe` kept the latter from being shown
            through = alive & (depth < seen * (ONE - near)) & (w <= ZERO)
            dx, dy = (
                (u + (HALF - K[0, 2])) * (ONE / K[0, 0]),
                (v + (HALF - K[1, 2])) * (ONE / K[1, 1]),
            )
            cosine = along * (spread(-ONE) / root(dx * dx + dy * dy + ONE))
            finest = depth * (np.float32(REACH) / K[0, 0]) / where(cosine > STEEP, cosine, STEEP)
            finest = where(finest > edge, finest, edge)
            coarse = alive & shows & (finest < size * np.float32(COARSE)) & (a < ZERO) & (w <= ZERO)
            left = where(through, before - carve, before)
            left = where(left > ZERO, left, ZERO)
            put(confidence, where(coarse, ZERO, left), start + k)
            if not some(met):
                continue
            last = take(last_seen, start + k)
            put(last_seen, where(met & (last < now), now, last), start + k)
            if not averages:
                continue
            share = ONE / where(met, w, ONE)
            mean = w / where(met, n, ONE)
            gain = mean / (before + mean)
            gain = where(met, gain, ZERO)
            step = ((nx * sx + ny * sy + nz * sz) * share - a) * gain
            step = where(met, step, ZERO)
            turn = where(shows, gain, ZERO)
            nx = nx + (gather(planes, NORMAL, py, px) - nx) * turn
            ny = ny + (gather(planes, NORMAL + 1, py, px) - ny) * turn
            nz = nz + (gather(planes, NORMAL + 2, py, px) - nz) * turn
            unit = ONE / root(nx * nx + ny * ny + nz * nz)
            nx, ny, nz = nx * unit, ny * unit, nz * unit
            x, y, z = columns3(position, start + k)
            wx, wy, wz = columns3(normal, start + k)
            x, y, z = x + wx * step, y + wy * step, z + wz * step
            put_columns3(position, start + k, x, y, z)
            put_columns3(
                normal,
                start + k,
                where(met, nx * c2w[0, 0] + ny * c2w[0, 1] + nz * c2w[0, 2], wx),
                where(met, nx * c2w[1, 0] + ny * c2w[1, 1] + nz * c2w[1, 2], wy),
                where(met, nx * c2w[2, 0] + ny * c2w[2, 1] + nz * c2w[2, 2], wz),
            )
            across_voxel = edge * K[0, 0] / where(met, depth, ONE)
            remembered = take(detail, start + k)
            fresh, faded = across_voxel * across_voxel, remembered * np.float32(FORGET)
            ratio = fresh / where(faded > ZERO, faded, TINY)
            taken = (ratio - np.float32(SHARP)) * np.float32(1 / (SHARPER - SHARP))
            taken = least(taken, spread(ONE))
            alike = (ratio - np.float32(BLUNT)) * np.float32(1 / (ALIKE - BLUNT))
            alike = least(alike, spread(ONE))
            alike = where(alike > ZERO, alike, ZERO) * gain
            sharper = where(met, where(taken > alike, taken, alike), ZERO)
            put(detail, where(met, where(fresh > faded, fresh, faded), remembered), start + k)
            r, g, b = columns3(colour, start + k)
            r, g = r + (red * share - r) * sharper, g + (green * share - g) * sharper
            put_columns3(colour, start + k, r, g, b + (blue * share - b) * sharper)
            put(
                confidence,
                where(met, least(before + mean, spread(most)), take(confidence, start + k)),
                start + k,
            )
            size = where(met, size, -INF)
            x0, x1 = least(x0, x - size), where(x + size > x1, x + size, x1)
            y0, y1 = least(y0, y - size), where(y + size > y1, y + size, y1)
            z0, z1 = least(z0, z - size), where(z + size > z1, z + size, z1)
        least_corner = lowest(x0), lowest(y0), lowest(z0)
        most_corner = highest(x1), highest(y1), highest(z1)
        for axis in range(3):
            low[chunks[c], axis] = min(low[chunks[c], axis], least_corner[axis])
            high[chunks[c], axis] = max(high[chunks[c], axis], most_corner[axis])
