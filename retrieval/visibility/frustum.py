"""Fields of view, without occlusion: points drawn in space, and which cameras have them in their image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.jit import njit


def ball(n: int, seed: int) -> NDArray[np.float32]:
    """Points ``[n, 3]``, uniform in the unit ball."""
    draw = np.random.default_rng(seed & 0xFFFFFFFF)
    direction = draw.standard_normal((n, 3), np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction * np.cbrt(draw.random((n, 1), np.float32))


def inside(
    points: NDArray[np.float32],
    K: NDArray[np.float32],
    c2w: NDArray[np.float32],
    size: tuple[int, int],
    *,
    near: float = 0.0,
    far: float = np.inf,
    reach: float = np.inf,
) -> NDArray[np.bool_]:
    """Whether points ``[p, 3]`` project into the images of cameras: ``[n, p]``.

    K ``[n, 3, 3]`` in pixels and c2w ``[n, 4, 4]`` are the cameras'; size is (height, width). Points count whose
    z-depth lies in ``near..far`` and above 0, and whose distance from the camera is at most ``reach``, in world units.

    Example:
        >>> K = np.array([[[50, 0, 32], [0, 50, 24], [0, 0, 1]]], np.float32)
        >>> points = np.array([[0, 0, 1], [0, 0, -1], [2, 0, 1]], np.float32)
        >>> inside(points, K, np.eye(4, dtype=np.float32)[None], (48, 64)).tolist()
        [[True, False, False]]
    """
    height, width = size
    return _inside(
        np.ascontiguousarray(points.T, np.float32),
        np.ascontiguousarray(K, np.float32),
        np.ascontiguousarray(c2w, np.float32),
        np.array([height, width, near, far, reach], np.float32),
    )


@njit()
def _inside(
    points: NDArray[np.float32],
    K: NDArray[np.float32],
    c2w: NDArray[np.float32],
    bounds: NDArray[np.float32],
) -> NDArray[np.bool_]:
    height, width, near, far, reach = bounds
    n, zero = points.shape[1], np.float32(0)
    out = np.empty((len(K), n), np.bool_)
    for i in range(len(K)):
        fx, fy, cx, cy = K[i, 0, 0], K[i, 1, 1], K[i, 0, 2], K[i, 1, 2]
        ax, ay, az, px = c2w[i, 0, 0], c2w[i, 1, 0], c2w[i, 2, 0], c2w[i, 0, 3]
        bx, by, bz, py = c2w[i, 0, 1], c2w[i, 1, 1], c2w[i, 2, 1], c2w[i, 1, 3]
        gx, gy, gz, pz = c2w[i, 0, 2], c2w[i, 1, 2], c2w[i, 2, 2], c2w[i, 2, 3]
        row, within = out[i], reach * reach
        for p in range(n):  # without branches, so that the compiler makes vector instructions of it
            dx, dy, dz = points[0, p] - px, points[1, p] - py, points[2, p] - pz
            z = dx * gx + dy * gy + dz * gz
            u = fx * (dx * ax + dy * ay + dz * az) + cx * z
            v = fy * (dx * bx + dy * by + dz * bz) + cy * z
            ahead = (z > zero) & (z >= near) & (z <= far)
            close = dx * dx + dy * dy + dz * dz <= within
            row[p] = ahead & close & (u >= zero) & (u < width * z) & (v >= zero) & (v < height * z)
    return out
