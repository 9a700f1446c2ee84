"""How a disc looks to a camera, and where a pixel's ray meets it, for Triton kernels.

The arithmetic is that of :mod:`spmem.kernels.discs_numba`, which derives it; what comes out is what
:mod:`spmem.kernels.raster_torch`, the plain twin, computes. Functions take a block of rows, or a single one.
"""

from __future__ import annotations

from spmem.kernels import fuse_torch, raster_torch
from spmem.kernels.triton_jit import constant, jit, tl

FAINT = constant(raster_torch.FAINT)
REACH = constant(fuse_torch.REACH)
STEEP = constant(fuse_torch.STEEP)
COARSE = constant(fuse_torch.COARSE)


@jit
def intrinsics(K, by):
    """Focal lengths and principal point in blocks of ``by`` pixels."""
    return tl.load(K) / by, tl.load(K + 4) / by, tl.load(K + 2) / by, tl.load(K + 5) / by


@jit
def into_camera(c2w, x, y, z):
    """A world vector in camera axes."""
    return (
        tl.load(c2w) * x + tl.load(c2w + 4) * y + tl.load(c2w + 8) * z,
        tl.load(c2w + 1) * x + tl.load(c2w + 5) * y + tl.load(c2w + 9) * z,
        tl.load(c2w + 2) * x + tl.load(c2w + 6) * y + tl.load(c2w + 10) * z,
    )


@jit
def into_world(c2w, x, y, z):
    """A vector in camera axes, in the world."""
    return (
        tl.load(c2w) * x + tl.load(c2w + 1) * y + tl.load(c2w + 2) * z,
        tl.load(c2w + 4) * x + tl.load(c2w + 5) * y + tl.load(c2w + 6) * z,
        tl.load(c2w + 8) * x + tl.load(c2w + 9) * y + tl.load(c2w + 10) * z,
    )


@jit
def point_into_camera(c2w, x, y, z):
    """A world point in camera axes."""
    return into_camera(c2w, x - tl.load(c2w + 3), y - tl.load(c2w + 7), z - tl.load(c2w + 11))


@jit
def load3(column, row, ok):
    """Three columns of rows, 0 where not ``ok``."""
    x = tl.load(column + 3 * row, mask=ok, other=0.0)
    y = tl.load(column + 3 * row + 1, mask=ok, other=0.0)
    return x, y, tl.load(column + 3 * row + 2, mask=ok, other=0.0)


@jit
def finest(X, Y, Z, a, fx, voxel):
    """The radius that new discs would have where these are seen; a is normal x centre."""
    cosine = -a / tl.sqrt(X * X + Y * Y + Z * Z)
    return tl.maximum(REACH * Z / fx / tl.maximum(cosine, STEEP), voxel)


@jit
def box(X, Y, Z, nx, ny, nz, r, fx, fy, cx, cy, width, height):
    """Whether a disc lies before the camera's plane, and its pixel box x0 y0 x1 y1 (ends excluded), inside the image."""
    r2 = r * r
    flat = Z * Z - r2 * (1.0 - nz * nz)
    before = flat > 0.0
    inverse = 1.0 / tl.where(before, flat, 1.0)
    u = (X * Z + r2 * nx * nz) * inverse * fx + (cx - 0.5)
    v = (Y * Z + r2 * ny * nz) * inverse * fy + (cy - 0.5)
    ex, ey = nx * Z - nz * X, ny * Z - nz * Y
    wide = tl.maximum(X * X + Z * Z - ex * ex - r2 * ny * ny, 0.0)
    tall = tl.maximum(Y * Y + Z * Z - ey * ey - r2 * nx * nx, 0.0)
    du = tl.maximum(tl.sqrt(wide) * r * inverse * fx, 0.71)
    dv = tl.maximum(tl.sqrt(tall) * r * inverse * fy, 0.71)
    right, bottom = width * 1.0, height * 1.0
    x0 = tl.minimum(tl.maximum(tl.ceil(u - du), 0.0), right).to(tl.int32)
    y0 = tl.minimum(tl.maximum(tl.ceil(v - dv), 0.0), bottom).to(tl.int32)
    x1 = tl.minimum(tl.maximum(tl.floor(u + du) + 1.0, 0.0), right).to(tl.int32)
    y1 = tl.minimum(tl.maximum(tl.floor(v + dv) + 1.0, 0.0), bottom).to(tl.int32)
    return before, x0, y0, x1, y1


@jit
def meet(dx, dy, level, lx, ly, nxx, nxy, nyy, a, Z):
    """Where a pixel's ray, so many pixels from the centre's, meets a disc: hit or not, depth, square of the distance."""
    far, along = (dx * nxx + dy * nxy) * dx + dy * dy * nyy, dx * lx + dy * ly + level
    inside = (far <= along * along) & (along != 0.0)
    inverse = 1.0 / tl.where(inside, along, 1.0)
    off = tl.where(inside, tl.maximum(far * inverse * inverse, 0.0), 1.0)
    return inside | (dx * dx + dy * dy <= 0.5), tl.where(inside, a * inverse, Z), off


@jit
def form(X, Y, Z, nx, ny, nz, a, r, fx, fy, cx, cy):
    """A disc's record: the centre's pixel, l and its slopes, and the coefficients of N."""
    sx, sy, closer = 1.0 / (r * fx), 1.0 / (r * fy), 1.0 / Z
    px, py, pz = (a - nx * X) * sx, nx * Y * sx, nx * Z * sx
    qx, qy, qz = ny * X * sy, (a - ny * Y) * sy, ny * Z * sy
    return (
        X * closer * fx + (cx - 0.5),
        Y * closer * fy + (cy - 0.5),
        a * closer,
        nx / fx,
        ny / fy,
        px * px + py * py + pz * pz,
        2.0 * (pz * qz - px * qx - py * qy),
        qx * qx + qy * qy + qz * qz,
    )
