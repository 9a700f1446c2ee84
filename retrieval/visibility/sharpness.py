"""How well did each view show the points that it saw: as sharply as the query will, and from as near a direction?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.kernels.jit import njit
from spmem.kernels.threads import Turns, claimed, shared
from spmem.retrieval.visibility.exact import F32, I64, Points
from spmem.views import THUMB, Views


def sharpness(
    points: Points, cameras: Camera, views: Views, rows: NDArray[np.int64], seen: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """A number 0..255 for each view and point, uint8 ``[len(rows), p]``; 0 where the view did not see the point.

    255 times: the pixels that the view spends on a patch of surface there, as a share of the query's and at most 1, times the
    squared cosine of the angle between the two lines of sight. Resolution and angle are what Unstructured Lumigraph Rendering
    (Buehler et al. 2001, among its goals) weighs views by; this formula is ours. Image sizes do not count, as views are
    thumbnails.

    Args:
        points: Of the query, as :func:`spmem.retrieval.visibility.exact.visible_points` samples them.
        cameras: The query's ``[T]``, which the points are of.
        views: The bank's.
        rows: Of the views to judge.
        seen: ``[len(rows), p]``, as :func:`spmem.retrieval.visibility.exact.visibility` answers.
    """
    K, c2w = _thumbs(cameras)
    lines, area = _lines(points.position, points.offsets, K, c2w)
    sharp = np.zeros(seen.shape, np.uint8)
    shared(_sharpness, len(rows), 0.001 * len(points))(
        points.position, lines, area, views.K, views.c2w, rows, seen, sharp
    )
    return sharp


def sharpness_plain(
    points: Points, cameras: Camera, views: Views, rows: NDArray[np.int64], seen: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """What :func:`sharpness` computes, as array expressions; answers differ by rounding, 1 at most."""
    K, c2w = _thumbs(cameras)
    camera = np.repeat(np.arange(len(c2w)), np.diff(points.offsets))
    asked, line = _looked_at(points.position, K[camera], c2w[camera])
    pixels, other = _looked_at(points.position, views.K[rows, None], views.c2w[rows, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        sharp = np.minimum(pixels / asked, 1) * (line * other).sum(-1).clip(0) ** 2
    return np.where(seen, 255 * sharp, 0).astype(np.uint8)


def _thumbs(cameras: Camera) -> tuple[F32, F32]:
    """K in pixels of thumbnails, and c2w."""
    return cameras.resize(THUMB[1], THUMB[0]).K.cpu().numpy(), cameras.c2w.cpu().numpy()


def _looked_at(position: F32, K: F32, c2w: F32) -> tuple[F32, F32]:
    """Pixels on a unit of area that faces the camera, and the line of sight, of unit length."""
    away = position - c2w[..., :3, 3]
    z = (away * c2w[..., :3, 2]).sum(-1)
    line: F32 = away / np.linalg.norm(away, axis=-1, keepdims=True)
    return K[..., 0, 0] * K[..., 1, 1] / z**2, line


@njit()
def _lines(position: F32, offsets: I64, K: F32, c2w: F32) -> tuple[F32, F32]:
    """Of each point the query's line of sight [3, p], and the area of one of its pixels there."""
    lines, area = np.empty((3, len(position)), np.float32), np.empty(len(position), np.float32)
    for t in range(len(offsets) - 1):
        f, pose = K[t, 0, 0] * K[t, 1, 1], c2w[t]
        for p in range(offsets[t], offsets[t + 1]):
            x, y, z = position[p, 0] - pose[0, 3], position[p, 1] - pose[1, 3], position[p, 2] - pose[2, 3]  # fmt: skip
            depth = x * pose[0, 2] + y * pose[1, 2] + z * pose[2, 2]
            far = np.sqrt(x * x + y * y + z * z)
            lines[0, p], lines[1, p], lines[2, p] = x / far, y / far, z / far
            area[p] = depth * depth / f
    return lines, area


@njit()
def _sharpness(
    turns: Turns, position: F32, lines: F32, area: F32, view_K: F32, view_c2w: F32, rows: I64,
    seen: NDArray[np.bool_], sharp: NDArray[np.uint8],
) -> None:  # fmt: skip
    n, zero, one = len(position), np.float32(0), np.float32(1)
    for i in claimed(turns):
        f, pose = view_K[rows[i], 0, 0] * view_K[rows[i], 1, 1], view_c2w[rows[i]]
        for p in range(n):
            if seen[i, p]:
                x, y, z = position[p, 0] - pose[0, 3], position[p, 1] - pose[1, 3], position[p, 2] - pose[2, 3]  # fmt: skip
                depth = x * pose[0, 2] + y * pose[1, 2] + z * pose[2, 2]
                along = max(x * lines[0, p] + y * lines[1, p] + z * lines[2, p], zero)
                straight = along * along / (x * x + y * y + z * z)
                sharp[i, p] = np.uint8(np.float32(255) * min(area[p] * f / (depth * depth), one) * min(straight, one))  # fmt: skip
