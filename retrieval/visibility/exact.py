"""Which of the query's visible points did each view see: exact at the thumbnail's resolution, occlusion included."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.jit import njit
from spmem.kernels.threads import Turns, claimed, shared
from spmem.types import Projection
from spmem.views import THUMB, Views

F32: TypeAlias = NDArray[np.float32]
I64: TypeAlias = NDArray[np.int64]

POINTS_PER_CAMERA = THUMB[0] * THUMB[1]
POINTS = 8192
"""At most this many points stand for a whole query, so that a long trajectory costs no more than a short one."""


@dataclass(frozen=True, eq=False)
class Points:
    """World points that stand for the covered pixels of query cameras ``[T]``, camera by camera.

    position ``[p, 3]`` float32, world units; normal ``[p, 3]`` float32, world axes, towards the query's camera
    (zero where unknown); weight ``[p]`` int64, the pixels that a point stands for; offsets ``[T + 1]`` int64: camera
    t has the points ``offsets[t]:offsets[t + 1]``; pixels: of all query cameras, covered or not.
    """

    position: NDArray[np.float32]
    normal: NDArray[np.float32]
    weight: NDArray[np.int64]
    offsets: NDArray[np.int64]
    pixels: int

    def __len__(self) -> int:
        return len(self.position)


def visible_points(projection: Projection) -> Points:
    """Sample the pixels that memory covers, on a grid as coarse as the cap on points asks.

    The pixel in the middle of each square cell stands for the cell (the last ones of a row and of a column for what
    is left over, too), so weights are whole numbers of pixels and sums of them exact in any order. At most 48x64
    points a camera and 8192 in all.
    """
    t, h, w = projection.mask.shape
    stride = stride_of(t, h, w)
    y, height = cells(h, stride)
    x, width = cells(w, stride)
    grid = np.s_[:, y[0] :: stride, x[0] :: stride]
    depth, mask, normal = (image[grid].cpu().numpy() for image in (projection.depth, projection.mask, projection.normal))  # fmt: skip
    K, c2w = (part.cpu().numpy() for part in (projection.cameras.K, projection.cameras.c2w))
    return Points(*_points(depth, mask, normal, K, c2w, y, x, height, width), t * h * w)


def visible_points_plain(projection: Projection) -> Points:
    """What :func:`visible_points` computes, as array expressions; positions differ by rounding."""
    t, h, w = projection.mask.shape
    stride = stride_of(t, h, w)
    y, height = cells(h, stride)
    x, width = cells(w, stride)
    grid = np.s_[:, y[0] :: stride, x[0] :: stride]
    depth, mask = (image[grid].cpu().numpy() for image in (projection.depth, projection.mask))
    camera, row, column = np.nonzero(mask & (depth > 0))

    z = depth[camera, row, column]
    K, c2w = (v.cpu().numpy()[camera] for v in (projection.cameras.K, projection.cameras.c2w))
    right = (x[column] + np.float32(0.5) - K[:, 0, 2]) / K[:, 0, 0] * z
    down = (y[row] + np.float32(0.5) - K[:, 1, 2]) / K[:, 1, 1] * z
    local = np.stack([right, down, z], -1, dtype=np.float32)
    return Points(
        position=(c2w[:, :3, :3] @ local[..., None])[..., 0] + c2w[:, :3, 3],
        normal=projection.normal[grid].cpu().numpy()[camera, row, column],
        weight=height[row] * width[column],
        offsets=np.searchsorted(camera, np.arange(t + 1)),
        pixels=t * h * w,
    )


def stride_of(t: int, h: int, w: int) -> int:
    """Edge of the square cells, each sampled once, that keep the samples of images ``[t, h, w]`` within the caps."""
    wanted = max(1, min(t * POINTS_PER_CAMERA, POINTS))
    return max(1, math.ceil(math.sqrt(t * h * w / wanted)))


def cells(n: int, stride: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Middles and widths of the cells that cut n pixels, the last one with the remainder."""
    middle = np.arange(min(stride // 2, n - 1), n, stride)
    width = np.full(len(middle), stride)
    width[-1] = n - stride * (len(middle) - 1)
    return middle, width


def visibility(
    points: Points, views: Views, rows: NDArray[np.int64], *, tolerance: float = 0.04
) -> NDArray[np.bool_]:
    """Whether each view saw each point: bool ``[len(rows), p]``.

    A point is seen when it projects into the view, its z-depth lies within ``tolerance`` (a share of the depth) of one
    of the four thumbnail pixels around it that have depth, and the view stands before the surface, not behind it.
    """
    seen = np.zeros((len(rows), len(points)), np.bool_)
    X, N = (np.ascontiguousarray(part.T) for part in (points.position, points.normal))
    shared(_seen, len(rows), 0.003 * len(points))(
        X, N, views.K, views.c2w, views.depth, rows, np.float32(tolerance), seen
    )
    return seen


def visibility_plain(
    points: Points, views: Views, rows: NDArray[np.int64], *, tolerance: float = 0.04
) -> NDArray[np.bool_]:
    """What :func:`visibility` computes, as array expressions: the same answers, bit for bit."""
    K, c2w, depth = views.K[rows], views.c2w[rows], views.depth[rows]
    height, width = depth.shape[1:]
    away = points.position - c2w[:, None, :3, 3]
    x, y, z = (_dot(away, c2w[:, None, :3, axis]) for axis in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        u = K[:, 0, 0, None] * x / z + K[:, 0, 2, None]
        w = K[:, 1, 1, None] * y / z + K[:, 1, 2, None]
    inside = (z > 0) & (u >= 0) & (u < width) & (w >= 0) & (w < height)
    inside &= _dot(points.normal, away) <= 0

    left, top = (np.floor(np.where(inside, v, 0) - np.float32(0.5)).astype(int) for v in (u, w))
    view = np.arange(len(rows))[:, None]
    hit = np.zeros_like(inside)
    for row in (top.clip(0), (top + 1).clip(max=height - 1)):
        for column in (left.clip(0), (left + 1).clip(max=width - 1)):
            there = depth[view, row, column]
            hit |= (there > 0) & (np.abs(z - there) <= np.float32(tolerance) * there)
    seen: NDArray[np.bool_] = inside & hit
    return seen


def _dot(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    product: NDArray[Any] = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
    return product


@njit()
def _points(
    depth: F32, mask: NDArray[np.bool_], normal: F32, K: F32, c2w: F32, y: I64, x: I64, height: I64, width: I64
) -> tuple[F32, F32, I64, I64]:  # fmt: skip
    most, n = depth.size, 0
    position, facing = np.empty((most, 3), np.float32), np.empty((most, 3), np.float32)
    weight, offsets, half = np.empty(most, np.int64), np.zeros(len(depth) + 1, np.int64), np.float32(0.5)  # fmt: skip
    for t in range(len(depth)):
        pose = c2w[t]
        for i in range(len(y)):
            for j in range(len(x)):
                z = depth[t, i, j]
                if not (mask[t, i, j] and z > 0):
                    continue
                right = (np.float32(x[j]) + half - K[t, 0, 2]) / K[t, 0, 0] * z
                down = (np.float32(y[i]) + half - K[t, 1, 2]) / K[t, 1, 1] * z
                for axis in range(3):
                    way = pose[axis, 0] * right + pose[axis, 1] * down + pose[axis, 2] * z
                    position[n, axis] = way + pose[axis, 3]
                    facing[n, axis] = normal[t, i, j, axis]
                weight[n] = height[i] * width[j]
                n += 1
        offsets[t + 1] = n
    return position[:n], facing[:n], weight[:n], offsets


@njit()
def _seen(
    turns: Turns, X: F32, N: F32, K: F32, c2w: F32, depth: F32, rows: I64, tolerance: np.float32,
    seen: NDArray[np.bool_],
) -> None:  # fmt: skip
    for i in claimed(turns):
        v = rows[i]
        _seen_by(X, N, K[v], c2w[v], depth[v], tolerance, seen[i])


@njit()
def _seen_by(X: F32, N: F32, K: F32, c2w: F32, depth: F32, tolerance: np.float32, inside: NDArray[np.bool_]) -> None:  # fmt: skip
    """Tells of the points ``X [3, p]`` which one view saw."""
    n, height, width, thumb = X.shape[1], depth.shape[0], depth.shape[1], depth.ravel()
    zero, half = np.float32(0), np.float32(0.5)
    right, bottom = np.float32(width), np.float32(height)
    U, W, Z = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    listed = np.empty(n, np.uint32)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    ax, ay, az, px = c2w[0, 0], c2w[1, 0], c2w[2, 0], c2w[0, 3]
    bx, by, bz, py = c2w[0, 1], c2w[1, 1], c2w[2, 1], c2w[1, 3]
    gx, gy, gz, pz = c2w[0, 2], c2w[1, 2], c2w[2, 2], c2w[2, 3]
    # Neither loop over all points branches, so the compiler makes vector instructions of the first, and the second
    # lists what is left to look up.
    for p in range(n):
        dx, dy, dz = X[0, p] - px, X[1, p] - py, X[2, p] - pz
        z = dx * gx + dy * gy + dz * gz
        u = fx * (dx * ax + dy * ay + dz * az) / z + cx
        w = fy * (dx * bx + dy * by + dz * bz) / z + cy
        facing = N[0, p] * dx + N[1, p] * dy + N[2, p] * dz <= zero
        inside[p] = (z > zero) & (u >= zero) & (u < right) & (w >= zero) & (w < bottom) & facing
        U[p], W[p], Z[p] = u, w, z
    count = 0
    for p in range(n):
        listed[count] = p
        count += inside[p]
    for j in range(count):
        p = listed[j]
        left, top = np.int32(np.floor(U[p] - half)), np.int32(np.floor(W[p] - half))
        row, column = max(top, 0), max(left, 0)
        first = np.uint32(row * width + column)
        across = np.uint32(min(left + 1, width - 1) - column)
        below = np.uint32((min(top + 1, height - 1) - row) * width)
        hit = _at(thumb, first, Z, p, tolerance) | _at(thumb, first + across, Z, p, tolerance)
        hit |= _at(thumb, first + below, Z, p, tolerance)
        inside[p] = hit | _at(thumb, first + below + across, Z, p, tolerance)


@njit()
def _at(thumb: F32, pixel: np.uint32, Z: F32, point: np.uint32, tolerance: np.float32) -> np.bool_:
    """Whether a point is as far as what the thumbnail has at a pixel."""
    there, z = thumb[pixel], Z[point]
    hit: np.bool_ = (there > np.float32(0)) & (abs(z - there) <= tolerance * there)
    return hit
