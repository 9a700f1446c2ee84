"""Surfel discs to pixels on CPU: exact ray-disc intersection in two passes, bands of rows in parallel.

The arithmetic of a disc is spelled out once, in :mod:`spmem.kernels.raster_torch`, the plain twin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.jit import njit, prange

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

BANDS = 16
CHUNKS = 64
HALF = np.float32(0.5)


@njit(parallel=True)
def cull(
    position: F32,
    normal: F32,
    radius: F32,
    confidence: F32,
    w2c: F32,
    K: F32,
    width: int,
    height: int,
    near: float,
) -> tuple[I64, F32, I32]:
    """Discs that may touch the image.

    Their index [m], camera-space centre, normal and radius [m, 7], and pixel box [m, 4] as x0, y0, x1, y1 (ends
    excluded).
    """
    n = len(radius)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    index = np.empty(n, np.int64)
    counts = np.zeros(CHUNKS + 1, np.int64)
    step = (n + CHUNKS - 1) // CHUNKS
    for chunk in prange(CHUNKS):
        start = chunk * step
        m = start
        for i in range(start, min(start + step, n)):
            if confidence[i] <= 0:
                continue
            x, y, z = position[i, 0], position[i, 1], position[i, 2]
            Z = w2c[2, 0] * x + w2c[2, 1] * y + w2c[2, 2] * z + w2c[2, 3]
            if not near < Z:
                continue
            X = w2c[0, 0] * x + w2c[0, 1] * y + w2c[0, 2] * z + w2c[0, 3]
            Y = w2c[1, 0] * x + w2c[1, 1] * y + w2c[1, 2] * z + w2c[1, 3]
            r = radius[i]
            reach = max(Z - r, near)
            u, v = fx * X / Z + cx, fy * Y / Z + cy
            du = fx * r / reach * (1 + abs(X) / Z) + 1
            dv = fy * r / reach * (1 + abs(Y) / Z) + 1
            if u + du > 0 and u - du < width and v + dv > 0 and v - dv < height:
                index[m] = i
                m += 1
        counts[chunk + 1] = m - start
    offsets = np.cumsum(counts)
    kept = np.empty(offsets[CHUNKS], np.int64)
    disc = np.empty((offsets[CHUNKS], 7), np.float32)
    box = np.empty((offsets[CHUNKS], 4), np.int32)
    for chunk in prange(CHUNKS):
        for j in range(counts[chunk + 1]):
            i = index[chunk * step + j]
            m = offsets[chunk] + j
            kept[m] = i
            for a in range(3):
                disc[m, a] = w2c[a, 3]
                disc[m, 3 + a] = 0
                for b in range(3):
                    disc[m, a] += w2c[a, b] * position[i, b]
                    disc[m, 3 + a] += w2c[a, b] * normal[i, b]
            X, Y, Z = disc[m, 0], disc[m, 1], disc[m, 2]
            nx, ny, nz = disc[m, 3], disc[m, 4], disc[m, 5]
            r = radius[i]
            disc[m, 6] = r
            # the box of the disc's image: tangents of the dual conic r^2 (1 - n n^T) - c c^T
            C22 = r * r * (1 - nz * nz) - Z * Z
            if C22 >= 0:  # the disc reaches the camera's plane
                box[m, 0] = box[m, 1] = box[m, 2] = box[m, 3] = 0
                continue
            C02, C12 = -r * r * nx * nz - X * Z, -r * r * ny * nz - Y * Z
            C00, C11 = r * r * (1 - nx * nx) - X * X, r * r * (1 - ny * ny) - Y * Y
            u, v = fx * C02 / C22 + cx, fy * C12 / C22 + cy
            du = max(fx * np.sqrt(max(C02 * C02 - C00 * C22, 0)) / -C22, np.float32(0.71))
            dv = max(fy * np.sqrt(max(C12 * C12 - C11 * C22, 0)) / -C22, np.float32(0.71))
            box[m, 0] = max(int(np.ceil(u - du - 0.5)), 0)
            box[m, 1] = max(int(np.ceil(v - dv - 0.5)), 0)
            box[m, 2] = min(int(np.floor(u + du - 0.5)) + 1, width)
            box[m, 3] = min(int(np.floor(v + dv - 0.5)) + 1, height)
    return kept, disc, box


@njit()
def hit(
    disc: F32, m: int, dx: float, dy: float, fx: float, fy: float
) -> tuple[np.float32, np.float32]:
    """z-depth at which the ray (dx, dy, 1) meets disc m, and the weight there; 0, 0 where it misses."""
    X, Y, Z = disc[m, 0], disc[m, 1], disc[m, 2]
    nx, ny, nz = disc[m, 3], disc[m, 4], disc[m, 5]
    r2 = disc[m, 6] * disc[m, 6]
    against = nx * X + ny * Y + nz * Z
    along = nx * dx + ny * dy + nz
    z = against / along if along != 0 else np.float32(0)
    if z > 0:
        ex, ey, ez = z * dx - X, z * dy - Y, z - Z
        rho2 = ex * ex + ey * ey + ez * ez
        if rho2 <= r2:
            fall = 1 - rho2 / r2
            return z, fall * fall + np.float32(1e-3)
    # a disc thinner than a pixel still covers the pixel that holds its centre
    u, v = fx * (X / Z - dx), fy * (Y / Z - dy)
    if u * u + v * v <= np.float32(0.5):
        return Z, np.float32(1e-3)
    return np.float32(0), np.float32(0)


@njit(parallel=True)
def nearest(disc: F32, box: I32, K: F32, depth: F32) -> None:
    """Pass 1: the z-depth of every pixel's nearest hit, into depth [H, W]; inf where there is none."""
    height = len(depth)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    rows = (height + BANDS - 1) // BANDS
    for band in prange(BANDS):
        top, bottom = band * rows, min((band + 1) * rows, height)
        depth[top:bottom] = np.inf
        for m in range(len(disc)):
            for y in range(max(box[m, 1], top), min(box[m, 3], bottom)):
                dy = (np.float32(y) + HALF - cy) / fy
                for x in range(box[m, 0], box[m, 2]):
                    z, weight = hit(disc, m, (np.float32(x) + HALF - cx) / fx, dy, fx, fy)
                    if weight > 0 and z < depth[y, x]:
                        depth[y, x] = z


@njit(parallel=True)
def blend(
    disc: F32,
    box: I32,
    kept: I64,
    colour: F32,
    confidence: F32,
    K: F32,
    front: F32,
    slab: float,
    rgb: F32,
    depth: F32,
    normal: F32,
    ids: I64,
) -> None:
    """Pass 2: mix what lies within ``slab`` (a share of the depth) behind the front and faces the camera.

    normal [H, W, 3] stays in camera axes. A pixel whose slab holds back faces only keeps its front depth, id -1.
    """
    height, width = front.shape
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    rows = (height + BANDS - 1) // BANDS
    for band in prange(BANDS):
        top, bottom = band * rows, min((band + 1) * rows, height)
        total = np.zeros((bottom - top, width) if bottom > top else (0, width), np.float32)
        best = np.zeros_like(total)
        for m in range(len(disc)):
            if disc[m, 0] * disc[m, 3] + disc[m, 1] * disc[m, 4] + disc[m, 2] * disc[m, 5] > 0:
                continue
            i = kept[m]
            strength = confidence[i] / (disc[m, 6] * disc[m, 6])
            for y in range(max(box[m, 1], top), min(box[m, 3], bottom)):
                dy = (np.float32(y) + HALF - cy) / fy
                for x in range(box[m, 0], box[m, 2]):
                    z, weight = hit(disc, m, (np.float32(x) + HALF - cx) / fx, dy, fx, fy)
                    if weight > 0 and z <= front[y, x] * (1 + slab):
                        w = np.float32(weight * strength)
                        total[y - top, x] += w
                        depth[y, x] += w * z
                        for a in range(3):
                            rgb[y, x, a] += w * colour[i, a]
                            normal[y, x, a] += w * disc[m, 3 + a]
                        if w > best[y - top, x]:
                            best[y - top, x] = w
                            ids[y, x] = i
        for y in range(top, bottom):
            for x in range(width):
                w = total[y - top, x]
                if w > 0:
                    depth[y, x] /= w
                    for a in range(3):
                        rgb[y, x, a] /= w
                    length = np.sqrt(
                        normal[y, x, 0] ** 2 + normal[y, x, 1] ** 2 + normal[y, x, 2] ** 2
                    )
                    if length > 0:
                        for a in range(3):
                            normal[y, x, a] /= length
                elif front[y, x] < np.inf:
                    depth[y, x] = front[y, x]
