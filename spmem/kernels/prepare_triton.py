"""A batch of depth images made ready for fusion, in Triton; :mod:`spmem.kernels.fuse_torch` says what is computed.

A pixel made ready is eight floats in a row, one sector of memory: depth, normal in camera axes, weight, colour. All
images of a batch have one size; small images have blocks of ``BY`` x ``BY`` pixels for pixels.
"""

from __future__ import annotations

from spmem.kernels import fuse_torch
from spmem.kernels.discs_triton import intrinsics
from spmem.kernels.triton_jit import constant, jit, tl

TAPS = constant(fuse_torch.TAPS)
SIDE = constant(2 * fuse_torch.TAPS + 1)
SUPPORT = constant(fuse_torch.SUPPORT)
NORMAL, WEIGHT, COLOUR, WIDE = (constant(field) for field in (1, 4, 5, 8))
"""Fields of a pixel made ready; its depth is the first of ``WIDE``."""


@jit
def share_of(K, edge):
    """Share by which a pixel's depth may differ from its neighbour's within a surface."""
    return tl.maximum(edge, 8.0 / tl.load(K))


@jit
def reduce(
    depth, confidence, rgb, K, edge, scale, width, height, small, used, ready,
    BY: tl.constexpr, SURE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Means of blocks over their pixels that are not beside a depth step; writes weight (so far) and colour.

    small: Depth of the blocks; used: whether a pixel went into one; SURE: whether there is a confidence.
    """
    view = tl.program_id(1)
    across, down = (width + BY - 1) // BY, (height + BY - 1) // BY
    p = tl.program_id(0) * LANES + tl.arange(0, LANES)
    there = p < across * down
    origin, step = view.to(tl.int64) * width * height, share_of(K + view * 9, edge)
    count = tl.zeros([LANES], tl.float32)
    inverse, weight, z = count, count, count
    red, green, blue = count, count, count
    for nth in range(BY * BY):
        x, y = p % across * BY + nth % BY, p // across * BY + nth // BY
        inside = there & (x < width) & (y < height)
        at = origin + y * width + x
        z = tl.load(depth + at, mask=inside, other=0.0)
        use = inside & (z > 0.0)
        for k in tl.static_range(9):
            u, v = x + k % 3 - 1, y + k // 3 - 1
            near = use & (u >= 0) & (v >= 0) & (u < width) & (v < height)
            other = tl.load(depth + origin + v * width + u, mask=near, other=0.0)
            use = use & ((other <= 0.0) | (tl.abs(other - z) <= step * z))
        tl.store(used + at, use, mask=inside)
        one = use.to(tl.float32)
        sure = one
        if SURE:
            sure = one * tl.load(confidence + at, mask=inside, other=0.0)
        keep = use | (BY == 1)
        count, weight = count + one, weight + sure
        inverse += tl.where(use, 1.0 / tl.where(use, z, 1.0), 0.0)
        red += tl.load(rgb + 3 * at, mask=inside & keep, other=0.0).to(tl.float32)
        green += tl.load(rgb + 3 * at + 1, mask=inside & keep, other=0.0).to(tl.float32)
        blue += tl.load(rgb + 3 * at + 2, mask=inside & keep, other=0.0).to(tl.float32)
    to = view.to(tl.int64) * across * down + p
    n = tl.maximum(count, 1.0)
    if BY > 1:
        z = tl.where(count > 0.0, count / tl.where(count > 0.0, inverse, 1.0), 0.0)
    tl.store(small + to, z, mask=there)
    tl.store(ready + to * WIDE + WEIGHT, weight / n, mask=there)
    tl.store(ready + to * WIDE + COLOUR, red * scale / n, mask=there)
    tl.store(ready + to * WIDE + COLOUR + 1, green * scale / n, mask=there)
    tl.store(ready + to * WIDE + COLOUR + 2, blue * scale / n, mask=there)


@jit
def fit(small, K, edge, grazing, voxels, by, width, height, spacing, ready, LANES: tl.constexpr):
    """A plane through each block's neighbours: writes depth (0 where not to be used), normal and weight."""
    view = tl.program_id(1)
    p = tl.program_id(0) * LANES + tl.arange(0, LANES)
    there = p < width * height
    origin = view.to(tl.int64) * width * height
    x, y = p % width, p // width
    step, voxel = share_of(K + view * 9, edge), tl.load(voxels + view)
    z = tl.load(small + origin + p, mask=there, other=0.0)
    valid = z > 0.0
    q0 = tl.where(valid, 1.0 / tl.where(valid, z, 1.0), 0.0)
    n = tl.zeros([LANES], tl.float32)
    sx, sy, sxx, sxy, syy, sq, sxq, syq = n, n, n, n, n, n, n, n
    for tap in tl.static_range(0, SIDE * SIDE, 2):  # every other pixel, as on a chessboard
        j = tap // SIDE - TAPS
        i = tap - (j + TAPS) * SIDE - TAPS
        u, v = x + i * spacing, y + j * spacing
        inside = there & (u >= 0) & (v >= 0) & (u < width) & (v < height)
        other = tl.load(small + origin + v * width + u, mask=inside, other=0.0)
        q = tl.where(other > 0.0, 1.0 / tl.where(other > 0.0, other, 1.0), 0.0)
        use = (q > 0.0) & (tl.abs(q - q0) <= 1.5 * step * q)
        one, off = use.to(tl.float32), tl.where(use, q - q0, 0.0)
        n, sx, sy = n + one, sx + i * one, sy + j * one
        sxx, sxy, syy = sxx + i * i * one, sxy + i * j * one, syy + j * j * one
        sq, sxq, syq = sq + off, sxq + i * off, syq + j * off
    n1 = tl.maximum(n, 1.0)
    cxx, cxy, cyy = sxx - sx * sx / n1, sxy - sx * sy / n1, syy - sy * sy / n1
    cxq, cyq = sxq - sx * sq / n1, syq - sy * sq / n1
    det = cxx * cyy - cxy * cxy
    sure = valid & (n >= SUPPORT) & (det > 1.0)
    det = tl.where(det > 1.0, det, 1.0)
    fx, fy, cx, cy = intrinsics(K + view * 9, by)
    dx, dy = (x + 0.5 - cx) / fx, (y + 0.5 - cy) / fy
    a = (cyy * cxq - cxy * cyq) / det / spacing * fx
    b = (cxx * cyq - cxy * cxq) / det / spacing * fy
    c = q0 - a * dx - b * dy
    unit = -1.0 / tl.maximum(tl.sqrt(a * a + b * b + c * c), 1e-12)
    unit = tl.where(sure, unit, 0.0)
    a, b, c = a * unit, b * unit, c * unit
    cosine = -(a * dx + b * dy + c) / tl.sqrt(dx * dx + dy * dy + 1.0)
    near = q0 * voxel * fx
    to = (origin + p) * WIDE
    weight = tl.load(ready + to + WEIGHT, mask=there, other=0.0) * cosine
    weight = tl.where(sure & (cosine > grazing), weight * tl.minimum(near * near, 1.0), 0.0)
    tl.store(ready + to, tl.where(weight > 0.0, z, 0.0), mask=there)
    tl.store(ready + to + NORMAL, a, mask=there)
    tl.store(ready + to + NORMAL + 1, b, mask=there)
    tl.store(ready + to + NORMAL + 2, c, mask=there)
    tl.store(ready + to + WEIGHT, weight, mask=there)
