"""The per-pixel work of fusion on CPU; :mod:`spmem.kernels.fuse_torch` says what is computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.fuse_torch import (
    ALIGNED,
    COARSE,
    FINER,
    MERGED,
    NEW,
    SUPPORT,
    TAPS,
    UNUSED,
)
from spmem.kernels.jit import njit, prange

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

BANDS = 16
HALF = np.float32(0.5)


@njit(parallel=True)
def prepare(
    depth: F32, confidence: F32, K: F32, edge: float, grazing: float, reference: float, stride: int
) -> tuple[F32, F32]:
    """See the twin."""
    height, width = depth.shape
    normal = np.zeros((height, width, 3), np.float32)
    weight = np.zeros((height, width), np.float32)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    step = max(np.float32(edge), np.float32(8) / fx)
    for y in prange(height):
        for x in range(width):
            z = depth[y, x]
            if not z > 0:
                continue
            edge_beside = False
            for j in range(max(y - 1, 0), min(y + 2, height)):
                for i in range(max(x - 1, 0), min(x + 2, width)):
                    other = depth[j, i]
                    if other > 0 and abs(other - z) > step * z:
                        edge_beside = True
            if edge_beside:
                continue
            q0 = 1 / z
            reach = np.float32(1.5) * step * z
            n = 0
            sx = sy = sxx = sxy = syy = 0
            sq = sxq = syq = np.float32(0)
            for j in range(-TAPS, TAPS + 1):
                yy = y + j * stride
                if yy < 0 or yy >= height:
                    continue
                for i in range(-TAPS, TAPS + 1):
                    xx = x + i * stride
                    if xx < 0 or xx >= width:
                        continue
                    other = depth[yy, xx]
                    if other > 0 and abs(other - z) <= reach:
                        q = 1 / other - q0
                        n += 1
                        sx += i
                        sy += j
                        sxx += i * i
                        sxy += i * j
                        syy += j * j
                        sq += q
                        sxq += i * q
                        syq += j * q
            if n < SUPPORT:
                continue
            cxx, cxy, cyy = sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n
            det = cxx * cyy - cxy * cxy
            if det <= 1:
                continue
            cxq, cyq = sxq - sx * sq / n, syq - sy * sq / n
            a = (cyy * cxq - cxy * cyq) / det / stride * fx
            b = (cxx * cyq - cxy * cxq) / det / stride * fy
            dx, dy = (np.float32(x) + HALF - cx) / fx, (np.float32(y) + HALF - cy) / fy
            c = q0 - a * dx - b * dy
            length = np.sqrt(a * a + b * b + c * c)
            cosine = q0 / (length * np.sqrt(dx * dx + dy * dy + 1))
            if cosine <= grazing:
                continue
            normal[y, x, 0], normal[y, x, 1], normal[y, x, 2] = (
                -a / length,
                -b / length,
                -c / length,
            )
            near = reference / z
            weight[y, x] = cosine * min(near * near, 1.0) * confidence[y, x]
    return normal, weight


@njit(parallel=True)
def match(
    kept: I64, disc: F32, box: I32, K: F32, depth: F32, seen: F32, weight: F32, merge: float
) -> tuple[I64, I64]:
    """See the twin; takes the culled discs."""
    height, width = depth.shape
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    shown = np.full((height, width), -1, np.int64)
    through = np.full((height, width), -1, np.int64)
    rows = (height + BANDS - 1) // BANDS
    for band in prange(BANDS):
        top, bottom = band * rows, min((band + 1) * rows, height)
        off_centre = np.full((max(bottom - top, 0), width), np.inf, np.float32)
        front = np.full((max(bottom - top, 0), width), np.inf, np.float32)
        for m in range(len(disc)):
            if box[m, 1] >= bottom or box[m, 3] <= top:
                continue
            X, Y, Z = disc[m, 0], disc[m, 1], disc[m, 2]
            nx, ny, nz = disc[m, 3], disc[m, 4], disc[m, 5]
            r2 = disc[m, 6] * disc[m, 6]
            against = nx * X + ny * Y + nz * Z
            for y in range(max(box[m, 1], top), min(box[m, 3], bottom)):
                dy = (np.float32(y) + HALF - cy) / fy
                for x in range(box[m, 0], box[m, 2]):
                    if not weight[y, x] > 0:
                        continue
                    dx = (np.float32(x) + HALF - cx) / fx
                    along = nx * dx + ny * dy + nz
                    z = against / along if along != 0 else np.float32(0)
                    ex, ey, ez = z * dx - X, z * dy - Y, z - Z
                    central = 1 - (ex * ex + ey * ey + ez * ez) / r2
                    if not (z > 0 and central >= 0):
                        u, v = fx * (X / Z - dx), fy * (Y / Z - dy)
                        if u * u + v * v > HALF:
                            continue
                        z, central = Z, np.float32(-1)
                    z0 = depth[y, x]
                    off = abs(z - z0)
                    if off <= merge * z0 and -central < off_centre[y - top, x]:
                        facing = nx * seen[y, x, 0] + ny * seen[y, x, 1] + nz * seen[y, x, 2]
                        if facing > ALIGNED:
                            off_centre[y - top, x] = -central
                            shown[y, x] = kept[m]
                    if z < z0 * (1 - merge) and z < front[y - top, x]:
                        front[y - top, x] = z
                        through[y, x] = kept[m]
    return shown, through


@njit()
def group(keys: I64) -> tuple[int, I64]:
    """See the twin; open addressing, a table twice the rows."""
    n, width = keys.shape
    size = 16
    while size < 2 * n:
        size *= 2
    table = np.full(size, -1, np.int64)
    out = np.empty(n, np.int64)
    first = np.empty(n, np.int64)
    count = 0
    for p in range(n):
        h = np.uint64(1469598103934665603)
        for c in range(width):
            h = (h ^ np.uint64(keys[p, c])) * np.uint64(0x9E3779B97F4A7C15)
            h ^= h >> np.uint64(29)
        at = np.int64(h & np.uint64(size - 1))
        while True:
            g = table[at]
            if g < 0:
                table[at] = count
                first[count] = p
                out[p] = count
                count += 1
                break
            same = True
            for c in range(width):
                if keys[first[g], c] != keys[p, c]:
                    same = False
            if same:
                out[p] = g
                break
            at = (at + 1) & (size - 1)
    return count, out


@njit()
def _oriented(
    depth: F32, normal: F32, y: int, x: int, K: F32, c2w: F32, voxel: np.float32, out: F32
) -> None:
    """World point, world normal, radius and detail of a pixel into out [8]."""
    z, n = depth[y, x], normal[y, x]
    dx = (np.float32(x) + HALF - K[0, 2]) / K[0, 0]
    dy = (np.float32(y) + HALF - K[1, 2]) / K[1, 1]
    for a in range(3):
        out[a] = c2w[a, 0] * dx * z + c2w[a, 1] * dy * z + c2w[a, 2] * z + c2w[a, 3]
        out[3 + a] = c2w[a, 0] * n[0] + c2w[a, 1] * n[1] + c2w[a, 2] * n[2]
    length = np.sqrt(dx * dx + dy * dy + np.float32(1))
    cosine = -(n[0] * dx + n[1] * dy + n[2]) / length
    footprint = z / K[0, 0]
    out[6] = max(np.float32(0.8) * footprint / max(cosine, np.float32(0.25)), voxel)
    out[7] = (voxel / footprint) * (voxel / footprint)


@njit(parallel=True)
def classify(
    depth: F32, normal: F32, weight: F32, K: F32, c2w: F32, voxel: float, shown: I64, radius: F32
) -> U8:
    """See the twin."""
    height, width = depth.shape
    kind = np.full(height * width, UNUSED, np.uint8)
    for y in prange(height):
        point = np.empty(8, np.float32)
        for x in range(width):
            if weight[y, x] > 0:
                at = y * width + x
                kind[at] = NEW
                if shown[y, x] >= 0:
                    _oriented(depth, normal, y, x, K, c2w, np.float32(voxel), point)
                    finer = point[6] < np.float32(COARSE) * radius[shown[y, x]]
                    kind[at] = FINER if finer else MERGED
    return kind


@njit()
def cells(depth: F32, normal: F32, K: F32, c2w: F32, voxel: float, pixels: I64) -> I64:
    """See the twin."""
    width = depth.shape[1]
    out = np.empty((len(pixels), 4), np.int64)
    point = np.empty(8, np.float32)
    edge = np.float32(voxel)
    for p in range(len(pixels)):
        y, x = pixels[p] // width, pixels[p] % width
        _oriented(depth, normal, y, x, K, c2w, edge, point)
        axis = 0
        for a in range(3):
            out[p, a] = np.int64(np.floor(point[a] / edge))
            if abs(point[3 + a]) > abs(point[3 + axis]):
                axis = a
        out[p, 3] = 2 * axis + (1 if point[3 + axis] > 0 else 0)
    return out


@njit()
def sums(
    depth: F32,
    normal: F32,
    weight: F32,
    rgb: F32,
    features: F32,
    K: F32,
    c2w: F32,
    voxel: float,
    pixels: I64,
    segment: I64,
    count: int,
) -> F32:
    """See the twin; features [H, W, 0] where there are none."""
    width, channels = depth.shape[1], features.shape[2]
    total = np.zeros((count, 13 + channels), np.float32)
    point = np.empty(8, np.float32)
    for p in range(len(pixels)):
        y, x, s = pixels[p] // width, pixels[p] % width, segment[p]
        w = weight[y, x]
        _oriented(depth, normal, y, x, K, c2w, np.float32(voxel), point)
        total[s, 0] += 1
        total[s, 1] += w
        for a in range(6):
            total[s, 2 + a] += w * point[a]
        for a in range(3):
            total[s, 8 + a] += w * rgb[y, x, a]
        total[s, 11] += w * point[6]
        total[s, 12] += w * point[7]
        for c in range(channels):
            total[s, 13 + c] += w * features[y, x, c]
    return total
