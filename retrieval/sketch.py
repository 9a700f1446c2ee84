"""Covisibility descriptors: sketches whose inner product estimates how much two views see of the same place.

Space is cut into voxels; each voxel has a ±1 vector, drawn by a hash of its coordinates. A view's sketch is the sum of
the vectors of the voxels it sees (what is occluded has no pixels, so occlusion is in it), each times the square root
of the share of pixels that the voxel takes. Vectors of different voxels are nearly orthogonal, so the inner product
of two sketches estimates the sum over shared voxels of the geometric mean of their shares (Bhattacharyya's
coefficient), with a noise of about ``1 / sqrt(dim)``.

Source: the tug-of-war sketch (Alon, Matias, Szegedy 1996) and its use for inner products, as in the count sketch
(Charikar, Chen, Farach-Colton 2002); here every dimension takes every voxel, so no bucket is drawn.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.jit import njit
from spmem.retrieval.views import Views

EDGE = 0.15
"""Edge of the voxels, as a share of the median depth of the first view.

Measured on two RGB-D walks (a HoloLens walk through five rooms, 7-Scenes' kitchen): from 0.1 to 0.3 the candidates are
equally good; below, noise in the depth and the coarse thumbnails part what is the same; above, so do the corners of
large voxels.
"""

SEED = np.uint64(0x73706D656D)
"""Part of every descriptor: sketches made with different seeds do not compare."""

BATCH = 256
"""Views sketched at once; bounds the memory that their points take."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)
_ONE, _WORD = np.uint64(1), 64


def voxel_edge(depth: NDArray[np.float32]) -> float | None:
    """Edge of the voxels in world units, from a view's depth ``[h, w]``; None where it has none."""
    known = depth[depth > 0]
    return EDGE * float(np.median(known)) if len(known) else None


def sketch_views(
    views: Views, rows: NDArray[np.int64], *, edge: float, dim: int
) -> NDArray[np.float32]:
    """Sketches ``[len(rows), dim]`` float32 of views; a view without depth has a sketch of zeros."""
    parts = [
        _sketch_batch(views, rows[i : i + BATCH], edge, dim) for i in range(0, len(rows), BATCH)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, dim), np.float32)


def _sketch_batch(
    views: Views, rows: NDArray[np.int64], edge: float, dim: int
) -> NDArray[np.float32]:
    depth, K, c2w = views.depth[rows], views.K[rows, None, None], views.c2w[rows]
    height, width = depth.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float32) + np.float32(0.5)
    ray_x, ray_y = (x - K[..., 0, 2]) / K[..., 0, 0], (y - K[..., 1, 2]) / K[..., 1, 1]
    local = np.stack([ray_x * depth, ray_y * depth, depth], -1).reshape(len(rows), -1, 3)
    world = local @ c2w[:, :3, :3].swapaxes(1, 2) + c2w[:, None, :3, 3]
    known = (depth > 0).reshape(len(rows), -1)
    share = np.full(int(known.sum()), 1 / (height * width), np.float32)
    offsets = np.concatenate([[0], np.cumsum(known.sum(1))]).astype(np.int64)
    return sketch_points(world[known], share, offsets, edge=edge, dim=dim)


def sketch_points(
    position: NDArray[np.float32],
    share: NDArray[np.float32],
    offsets: NDArray[np.int64],
    *,
    edge: float,
    dim: int,
) -> NDArray[np.float32]:
    """Sketches ``[b, dim]`` float32 of b point sets that lie one after the other.

    position ``[p, 3]`` in world units; share ``[p]`` >= 0, of its camera's pixels (0 leaves a point out); set i is
    ``offsets[i]:offsets[i + 1]``; edge is the voxels' edge in world units.
    """
    return _sketches(position, share, offsets, np.float32(edge), dim)


def sketch_points_plain(
    position: NDArray[np.float32],
    share: NDArray[np.float32],
    offsets: NDArray[np.int64],
    *,
    edge: float,
    dim: int,
) -> NDArray[np.float32]:
    """What :func:`sketch_points` computes, as array expressions; agrees up to the rounding of sums."""
    out = np.zeros((len(offsets) - 1, dim), np.float32)
    bit = np.arange(dim)
    word = (bit // _WORD + 1).astype(np.uint64) * _GOLDEN
    for i, (start, stop) in enumerate(pairwise(offsets)):
        voxel = np.floor(position[start:stop] / np.float32(edge)).astype(np.int64)
        keys = np.full(len(voxel), SEED)
        for axis in range(3):
            keys = _mixed(keys ^ voxel[:, axis].astype(np.uint64))
        keys, where = np.unique(keys, return_inverse=True)
        amplitude = np.sqrt(np.bincount(where, share[start:stop], len(keys)))
        random = _mixed(keys[:, None] + word) >> (bit % _WORD).astype(np.uint64)
        out[i] = amplitude @ np.where(random & _ONE, 1.0, -1.0) / np.sqrt(dim)
    return out


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> _S30)) * _M1
    x = (x ^ (x >> _S27)) * _M2
    return x ^ (x >> _S31)


@njit()
def _mix(x: np.uint64) -> np.uint64:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit."""
    x = (x ^ (x >> _S30)) * _M1
    x = (x ^ (x >> _S27)) * _M2
    return x ^ (x >> _S31)


@njit()
def _sketches(
    position: NDArray[np.float32],
    share: NDArray[np.float32],
    offsets: NDArray[np.int64],
    edge: np.float32,
    dim: int,
) -> NDArray[np.float32]:
    sets = len(offsets) - 1
    out = np.zeros((sets, dim), np.float32)
    for i in range(sets):
        size = 16
        while size < 2 * (offsets[i + 1] - offsets[i]):
            size *= 2
        keys, amount = np.zeros(size, np.uint64), np.zeros(size, np.float64)
        for p in range(offsets[i], offsets[i + 1]):
            if share[p] > 0:
                key = SEED
                for axis in range(3):
                    key = _mix(key ^ np.uint64(np.int64(np.floor(position[p, axis] / edge))))
                slot = np.int64(key & np.uint64(size - 1))
                while amount[slot] > 0 and keys[slot] != key:
                    slot = np.int64((slot + 1) & (size - 1))
                keys[slot] = key
                amount[slot] += share[p]
        for voxel in range(size):
            if amount[voxel] > 0:
                amplitude = np.float32(np.sqrt(amount[voxel] / dim))
                for start in range(0, dim, _WORD):
                    word = _mix(keys[voxel] + np.uint64(start // _WORD + 1) * _GOLDEN)
                    for bit in range(min(_WORD, dim - start)):
                        sign = np.float32(np.int32((word >> np.uint64(bit)) & _ONE) * 2 - 1)
                        out[i, start + bit] += amplitude * sign
    return out
