"""Which surfels a camera may see, and how each looks to it: culling by chunks, then one record a disc.

In pixels (x, y) away from where its centre projects, a disc of centre c, unit normal n and radius r is met by the
pixel's ray d = c / Z + (x / fx, y / fy, 0) at depth a / l with a = n.c and l = n.d, which is linear in (x, y); and the
squared distance of the hit from c, in radii, is N / l^2 with N = |a d - l c|^2 / r^2, which is a pure quadratic form
in (x, y) as it vanishes at the centre. So a record holds l's three and N's three coefficients, and a pixel costs a
dozen operations without cancellation in float32. The box is the projected ellipse's, exactly (its dual conic, as in
2D Gaussian Splatting, arXiv 2403.17888, section 4.2).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.chunks import CHUNK
from spmem.kernels.fuse_torch import COARSE, REACH
from spmem.kernels.fuse_torch import STEEP as STEEPEST
from spmem.kernels.jit import njit
from spmem.kernels.simd import (
    LANES,
    ceiling,
    floor,
    highest,
    least,
    lowest,
    root,
    some,
    spread,
    where,
    whole,
)
from spmem.kernels.simd_memory import columns3, put, put_rows, take, transpose
from spmem.kernels.threads import Turns, claimed, shared

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

BLOCK = 16
"""Pixels across the squares for which one farthest depth is kept."""
HALF = np.float32(0.5)
ZERO = np.float32(0)
ONE = np.float32(1)
INF = np.float32(np.inf)
STEEP = np.float32(STEEPEST)

U, V, L, LX, LY, NXX, NXY, NYY, A, Z, NX, NY, NZ = range(13)
"""Fields of a record: centre's pixel (the first pixel's centre is 0), l, N (NXY doubled), a, depth, normal; three are free."""
X0, Y0, X1, Y1 = range(4)
"""Sides of a disc's box; the ends are excluded, an empty box is not drawn."""


class Discs(NamedTuple):
    """The discs of some chunks in a camera's eyes; place c * CHUNK + k is row chunks[c] * CHUNK + k of the map."""

    record: F32
    box: I32
    span: I32

    @classmethod
    def room(cls, chunks: int) -> Discs:
        """Places for so many chunks: record [c, CHUNK, 16], box [c, 4, CHUNK], and the rows that a chunk spans."""
        return cls(
            np.empty((chunks, CHUNK, 2 * LANES), np.float32),
            np.empty((chunks, 4, CHUNK), np.int32),
            np.empty((chunks, 2), np.int32),
        )


def world_to_camera(c2w: F32) -> F32:
    """The inverses of rigid transforms [..., 4, 4], as :func:`spmem.geometry.inverse` gives them."""
    w2c, rotation = c2w.copy(), c2w[..., :3, :3].swapaxes(-1, -2)
    w2c[..., :3, :3], w2c[..., :3, 3:] = rotation, -(rotation @ c2w[..., :3, 3:])
    return w2c


def in_view(low: F32, high: F32, w2c: F32, K: F32, width: int, height: int, near: float) -> I32:
    """Chunks whose bounding box touches the view, nearest first."""
    begin = np.empty(len(low), np.float32)
    beginnings(low, high, w2c, K, width, height, near, begin)
    touched = np.flatnonzero(begin < INF)
    order: I32 = touched[np.argsort(begin[touched], kind="stable")].astype(np.int32)
    return order


@njit(fastmath=True)
def beginnings(
    low: F32, high: F32, w2c: F32, K: F32, width: int, height: int, near: float, begin: F32
) -> None:
    """The least depth that a chunk in view may have, infinity for one out of view."""
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    plane = np.empty((5, 4), np.float32)  # (x, y, z, 1) is inside where its products are positive
    for k in range(4):
        X, Y, Z = w2c[0, k], w2c[1, k], w2c[2, k]
        plane[0, k] = Z
        plane[1, k], plane[2, k] = fx * X + cx * Z, (np.float32(width) - cx) * Z - fx * X
        plane[3, k], plane[4, k] = fy * Y + cy * Z, (np.float32(height) - cy) * Z - fy * Y
    plane[0, 3] -= np.float32(near)
    for c in range(len(low)):
        x, dx = HALF * (high[c, 0] + low[c, 0]), HALF * (high[c, 0] - low[c, 0])
        y, dy = HALF * (high[c, 1] + low[c, 1]), HALF * (high[c, 1] - low[c, 1])
        z, dz = HALF * (high[c, 2] + low[c, 2]), HALF * (high[c, 2] - low[c, 2])
        begin[c] = INF
        for p in range(4, -1, -1):
            reach = abs(plane[p, 0]) * dx + abs(plane[p, 1]) * dy + abs(plane[p, 2]) * dz
            off = plane[p, 0] * x + plane[p, 1] * y + plane[p, 2] * z + plane[p, 3]
            if not off > -reach:
                break
            if p == 0:
                begin[c] = off - reach


@njit(fastmath=True)
def unhidden(
    chunks: I32, low: F32, high: F32, w2c: F32, K: F32, width: int, height: int, far: F32
) -> I32:
    """Those of the chunks in view that begin before ``far`` (of a square of ``BLOCK`` pixels) somewhere they cover."""
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    keep = np.ones(len(chunks), np.bool_)
    for at in range(len(chunks)):
        c = chunks[at]
        x, y, z = (
            HALF * (low[c, 0] + high[c, 0]),
            HALF * (low[c, 1] + high[c, 1]),
            HALF * (low[c, 2] + high[c, 2]),
        )
        dx, dy, dz = high[c, 0] - x, high[c, 1] - y, high[c, 2] - z
        size = np.sqrt(dx * dx + dy * dy + dz * dz)
        Zc = w2c[2, 0] * x + w2c[2, 1] * y + w2c[2, 2] * z + w2c[2, 3]
        begin, end = Zc - size, Zc + size
        if begin <= ZERO:
            continue
        X = w2c[0, 0] * x + w2c[0, 1] * y + w2c[0, 2] * z + w2c[0, 3]
        Y = w2c[1, 0] * x + w2c[1, 1] * y + w2c[1, 2] * z + w2c[1, 3]
        left, right = X - size, X + size
        above, below = Y - size, Y + size
        x0 = cx + fx * (left / begin if left < 0 else left / end) - ONE
        x1 = cx + fx * (right / begin if right > 0 else right / end) + ONE
        y0 = cy + fy * (above / begin if above < 0 else above / end) - ONE
        y1 = cy + fy * (below / begin if below > 0 else below / end) + ONE
        i0, i1 = int(max(x0, ZERO)) // BLOCK, int(min(x1, np.float32(width - 1))) // BLOCK
        j0, j1 = int(max(y0, ZERO)) // BLOCK, int(min(y1, np.float32(height - 1))) // BLOCK
        hidden = True
        for j in range(j0, j1 + 1):
            for i in range(i0, i1 + 1):
                if far[j, i] >= begin:
                    hidden = False
        keep[at] = not hidden
    return chunks[keep]


def farthest(planes: F32, width: int, height: int, beyond: float) -> F32:
    """The largest depth (the least of all planes') of each square of ``BLOCK`` pixels, and a share ``beyond`` it."""
    down, across = (height + BLOCK - 1) // BLOCK, (width + BLOCK - 1) // BLOCK
    far = np.zeros((down, across), np.float32)
    each = 0.0004 * len(planes) * BLOCK * width
    shared(farthest_of_rows, down, each)(planes, width, height, beyond, far)
    return far


@njit(fastmath=True)
def farthest_of_rows(
    turns: Turns, planes: F32, width: int, height: int, beyond: float, far: F32
) -> None:
    """:func:`farthest`, a row of squares a turn, into zeros."""
    across = far.shape[1]
    for j in claimed(turns):
        line = np.zeros(width + LANES, np.float32)
        for y in range(j * BLOCK, min((j + 1) * BLOCK, height)):
            for x in range(0, width, LANES):
                most, nearer = take(line, x), take(planes, 0, y, x)
                for n in range(1, len(planes)):
                    nearer = least(nearer, take(planes, n, y, x))
                put(line, where(nearer > most, nearer, most), x)
        for i in range(across):
            for x in range(i * BLOCK, min((i + 1) * BLOCK, width)):
                far[j, i] = max(far[j, i], line[x])
        for i in range(across):
            far[j, i] *= ONE + np.float32(beyond)


@njit(fastmath=True)
def describe(
    turns: Turns,
    position: F32,
    normal: F32,
    radius: F32,
    confidence: F32,
    w2c: F32,
    K: F32,
    width: int,
    height: int,
    near: float,
    share: float,
    voxel: float,
    chunks: I32,
    first: int,
    record: F32,
    box: I32,
    span: I32,
) -> None:
    """Fill in the discs of chunks, a chunk a turn, ``share`` of their radius large, from the ``first`` place on.

    Where ``voxel`` is not 0, discs that face away, and those that pixels here see too finely for, get an empty box.
    """
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    W, H, rim = np.float32(width), np.float32(height), np.float32(0.71)
    closest, part, edge = np.float32(near), np.float32(share), np.float32(voxel)
    widest, tallest = spread(W), spread(H)
    for at in claimed(turns):
        c, start = first + at, np.int64(chunks[at]) * CHUNK
        top, bottom = tallest, spread(ZERO)
        for k in range(0, CHUNK, LANES):
            x, y, z = columns3(position, start + k)
            Zc = x * w2c[2, 0] + y * w2c[2, 1] + z * w2c[2, 2] + w2c[2, 3]
            drawn = (Zc > closest) & (take(confidence, start + k) > ZERO)
            there = where(drawn, Zc, ZERO)  # 0: not there, or behind the camera
            if not some(drawn):
                for lane in range(LANES):
                    record[c, k + lane, Z] = ZERO
                put(box, whole(spread(ZERO)), c, X0, k)
                put(box, whole(spread(ZERO)), c, Y0, k)
                put(box, whole(spread(ZERO)), c, X1, k)
                put(box, whole(spread(ZERO)), c, Y1, k)
                continue
            Zc = where(drawn, Zc, ONE)
            X = x * w2c[0, 0] + y * w2c[0, 1] + z * w2c[0, 2] + w2c[0, 3]
            Y = x * w2c[1, 0] + y * w2c[1, 1] + z * w2c[1, 2] + w2c[1, 3]
            x, y, z = columns3(normal, start + k)
            nx = x * w2c[0, 0] + y * w2c[0, 1] + z * w2c[0, 2]
            ny = x * w2c[1, 0] + y * w2c[1, 1] + z * w2c[1, 2]
            nz = x * w2c[2, 0] + y * w2c[2, 1] + z * w2c[2, 2]
            r = take(radius, start + k) * part
            r2, a, closer = r * r, nx * X + ny * Y + nz * Zc, ONE / Zc
            flat = Zc * Zc - r2 * (ONE - nz * nz)
            drawn = drawn & (flat > ZERO)  # else the disc reaches the camera's plane
            inverse = ONE / where(drawn, flat, ONE)
            u = (X * Zc + r2 * nx * nz) * inverse * fx + (cx - HALF)
            v = (Y * Zc + r2 * ny * nz) * inverse * fy + (cy - HALF)
            ex, ey = nx * Zc - nz * X, ny * Zc - nz * Y
            wide = X * X + Zc * Zc - ex * ex - r2 * ny * ny
            tall = Y * Y + Zc * Zc - ey * ey - r2 * nx * nx
            du = root(where(wide > ZERO, wide, ZERO)) * r * inverse * fx
            dv = root(where(tall > ZERO, tall, ZERO)) * r * inverse * fy
            du, dv = where(du > rim, du, rim), where(dv > rim, dv, rim)
            drawn = drawn & (u + du >= ZERO) & (v + dv >= ZERO) & (u - du < W) & (v - dv < H)
            if edge > ZERO:
                dx, dy = X * closer, Y * closer
                cosine = a * closer * (spread(-ONE) / root(dx * dx + dy * dy + ONE))
                steep = where(cosine > STEEP, cosine, STEEP)
                finest = Zc * (np.float32(REACH) / fx) / steep
                finest = where(finest > edge, finest, edge)
                large = take(radius, start + k) * np.float32(COARSE)
                drawn = drawn & (a < ZERO) & (finest >= large)
            x0, y0 = ceiling(u - du), ceiling(v - dv)
            x0, y0 = where(x0 > ZERO, x0, ZERO), where(y0 > ZERO, y0, ZERO)
            x1, y1 = least(floor(u + du) + ONE, widest), least(floor(v + dv) + ONE, tallest)
            drawn = drawn & (x0 < x1) & (y0 < y1)
            top = where(drawn, least(top, y0), top)
            bottom = where(drawn & (y1 > bottom), y1, bottom)
            put(box, whole(least(x0, widest)), c, X0, k)
            put(box, whole(least(y0, tallest)), c, Y0, k)
            put(box, whole(where(drawn, x1, ZERO)), c, X1, k)
            y1 = where(drawn, y1, ZERO)
            put(box, whole(y1), c, Y1, k)
            sx, sy = ONE / (r * fx), ONE / (r * fy)
            px, py, pz = (a - nx * X) * sx, nx * Y * sx, nx * Zc * sx
            qx, qy, qz = ny * X * sy, (a - ny * Y) * sy, ny * Zc * sy
            parts = transpose(
                X * closer * fx + (cx - HALF),
                Y * closer * fy + (cy - HALF),
                a * closer,
                nx * (ONE / fx),
                ny * (ONE / fy),
                px * px + py * py + pz * pz,
                (pz * qz - px * qx - py * qy) * np.float32(2),
                qx * qx + qy * qy + qz * qz,
            )
            put_rows(record, parts, c, k, 0)
            parts = transpose(a, there, nx, ny, nz, nz, nz, nz)
            put_rows(record, parts, c, k, LANES)
        span[c, 0], span[c, 1] = lowest(top), highest(bottom)
