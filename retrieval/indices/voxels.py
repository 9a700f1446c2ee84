"""What a view sees, as a set of voxels with the share of the image that each takes.

Space is cut into voxels twice, the second grid half a voxel further, so that places which one grid parts lie in one
voxel of the other. What is occluded has no pixels, so occlusion is in the sets. How much two views see of the same
place is the sum over common voxels of ``sqrt(share * share') / 2`` (Bhattacharyya's coefficient, the mean of both
grids): 1 for a view with itself, 0 where they have nothing in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.hashing import FREE, capacity, find
from spmem.kernels.jit import njit
from spmem.views import THUMB, Views

EDGE = 0.3
"""Edge of the voxels, as a share of the median depth of the first view.

By ``benchmarks/descriptors.py`` edges from 0.15 to 0.45 find the best views alike; smaller ones estimate a little better
from exact depth and make sets larger, which a keyframe pays for in bytes.
"""

GRIDS = 2
SEED = np.uint64(0x73706D656D)
"""Part of every key: sets made with different seeds do not compare."""

BATCH = 256
"""Views taken at once; bounds the memory that their points take."""

_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)


@dataclass(frozen=True, eq=False)
class VoxelSets:
    """Voxels of b views, one after the other.

    key ``[m]`` uint64, a hash of grid and coordinates, each once in its set; share ``[m]`` float32 > 0, of the view's
    pixels; set i is ``offsets[i]:offsets[i + 1]``, offsets ``[b + 1]`` int64.
    """

    key: NDArray[np.uint64]
    share: NDArray[np.float32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def voxel_edge(depth: NDArray[np.float32]) -> float | None:
    """Edge of the voxels in world units, from a view's depth ``[h, w]``; None where it has none."""
    known = depth[depth > 0]
    return EDGE * float(np.median(known)) if len(known) else None


def voxels_of_views(views: Views, rows: NDArray[np.int64], *, edge: float) -> VoxelSets:
    """Sets of views; that of a view without depth is empty."""
    parts = [_batch(views, rows[i : i + BATCH], edge) for i in range(0, len(rows), BATCH)]
    if not parts:
        return VoxelSets(np.zeros(0, np.uint64), np.zeros(0, np.float32), np.zeros(1, np.int64))
    sizes = np.concatenate([np.diff(part.offsets) for part in parts])
    return VoxelSets(
        np.concatenate([part.key for part in parts]),
        np.concatenate([part.share for part in parts]),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
    )


def _batch(views: Views, rows: NDArray[np.int64], edge: float) -> VoxelSets:
    position, known = world_points(views, rows)
    share = np.full(int(known.sum()), 1 / known[0].size, np.float32)
    offsets = np.concatenate([[0], np.cumsum(known.sum(1))]).astype(np.int64)
    return voxels(position[known], share, offsets, edge=edge)


def world_points(
    views: Views, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """World points ``[len(rows), 48 * 64, 3]`` of the views' thumbnails, and which pixels have depth."""
    depth, K, c2w = views.depth[rows], views.K[rows, None, None], views.c2w[rows]
    y, x = np.mgrid[: THUMB[0], : THUMB[1]].astype(np.float32) + np.float32(0.5)
    right, down = (x - K[..., 0, 2]) / K[..., 0, 0], (y - K[..., 1, 2]) / K[..., 1, 1]
    local = np.stack([right * depth, down * depth, depth], -1).reshape(len(rows), -1, 3)
    world = local @ c2w[:, :3, :3].swapaxes(1, 2) + c2w[:, None, :3, 3]
    return world, (depth > 0).reshape(len(rows), -1)


def voxels(
    position: NDArray[np.float32],
    share: NDArray[np.float32],
    offsets: NDArray[np.int64],
    *,
    edge: float,
) -> VoxelSets:
    """Sets of b point sets that lie one after the other.

    position ``[p, 3]`` in world units; share ``[p]`` >= 0, of its camera's pixels (0 leaves a point out); set i is
    ``offsets[i]:offsets[i + 1]``; edge is the voxels' edge in world units.
    """
    return VoxelSets(*_voxels(position, share, offsets, np.float32(edge)))


def voxels_plain(
    position: NDArray[np.float32],
    share: NDArray[np.float32],
    offsets: NDArray[np.int64],
    *,
    edge: float,
) -> VoxelSets:
    """What :func:`voxels` computes, as array expressions; keys of a set in another order."""
    keys, shares, sizes = [], [], [0]
    for start, stop in pairwise(offsets):
        sees = np.flatnonzero(share[start:stop] > 0) + start
        scaled = position[sees] / np.float32(edge)
        found = []
        for grid in range(GRIDS):
            shift = np.float32(grid / GRIDS)
            key = np.full(len(sees), SEED + np.uint64(grid))
            for axis in range(3):
                key = _mixed(key ^ np.floor(scaled[:, axis] + shift).astype(np.int64).astype(np.uint64))  # fmt: skip
            found.append(key)
        key, where = np.unique(np.concatenate(found), return_inverse=True)
        keys.append(key)
        shares.append(np.bincount(where, np.tile(share[sees], GRIDS), len(key)))
        sizes.append(len(key))
    return VoxelSets(
        np.concatenate([np.zeros(0, np.uint64), *keys]),
        np.concatenate([np.zeros(0), *shares]).astype(np.float32),
        np.cumsum(sizes).astype(np.int64),
    )


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
def voxel_key(x: np.float64, y: np.float64, z: np.float64, seed: np.uint64) -> np.uint64:
    """The hash of a voxel by its whole coordinates; never 0."""
    key = _mix(seed ^ np.uint64(np.int64(x)))
    key = _mix(_mix(key ^ np.uint64(np.int64(y))) ^ np.uint64(np.int64(z)))
    return key if key != np.uint64(0) else seed


@njit()
def _voxels(
    position: NDArray[np.float32],
    share: NDArray[np.float32],
    offsets: NDArray[np.int64],
    edge: np.float32,
) -> tuple[NDArray[np.uint64], NDArray[np.float32], NDArray[np.int64]]:
    sets, largest = len(offsets) - 1, 1
    for i in range(sets):
        largest = max(largest, offsets[i + 1] - offsets[i])
    size = capacity(GRIDS * largest)
    keys, amount = np.zeros(size, np.uint64), np.zeros(size, np.float32)
    used = np.zeros(GRIDS * largest, np.int64)
    out_key = np.zeros(max(GRIDS * len(position), 1), np.uint64)
    out_share = np.zeros(len(out_key), np.float32)
    bounds = np.zeros(sets + 1, np.int64)
    total = 0
    for i in range(sets):
        count = 0
        for grid in range(GRIDS):
            shift = np.float32(grid) / np.float32(GRIDS)
            vx, vy, vz, slot = np.float32(0), np.float32(0), np.float32(0), np.int64(-1)
            for p in range(offsets[i], offsets[i + 1]):
                if share[p] <= 0:
                    continue
                x = np.floor(position[p, 0] / edge + shift)
                y = np.floor(position[p, 1] / edge + shift)
                z = np.floor(position[p, 2] / edge + shift)
                if slot < 0 or x != vx or y != vy or z != vz:  # neighbours mostly share a voxel
                    vx, vy, vz = x, y, z
                    key = voxel_key(x, y, z, SEED + np.uint64(grid))
                    slot = find(keys, key, np.int64(key), 1)
                    if keys[slot] == FREE:
                        keys[slot] = key
                        used[count] = slot
                        count += 1
                amount[slot] += share[p]
        for n in range(count):
            slot = used[n]
            out_key[total], out_share[total] = keys[slot], amount[slot]
            keys[slot], amount[slot] = FREE, 0
            total += 1
        bounds[i + 1] = total
    return out_key[:total].copy(), out_share[:total].copy(), bounds
