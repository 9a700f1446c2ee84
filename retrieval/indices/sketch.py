"""Covisibility descriptors: vectors whose inner product estimates how much two views see of the same place.

A view's descriptor is a count sketch of its voxel set (:mod:`spmem.retrieval.indices.voxels`): every voxel adds the square
root of half its share, with a sign, to one entry; sign and entry are drawn by a hash of the voxel. What different
voxels add to the same entry has random signs, so the inner product of two descriptors is Bhattacharyya's coefficient
of the two sets, with a noise of about ``1 / sqrt(dim)``.

Source: the count sketch (Charikar, Chen, Farach-Colton 2002) and its use for inner products (Cormode, Garofalakis
2005). ``benchmarks/descriptors.py`` compares it with dense signs and with random Fourier features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.retrieval.indices.voxels import GRIDS, VoxelSets


def sketch(sets: VoxelSets, dim: int) -> NDArray[np.float32]:
    """Descriptors ``[b, dim]`` float32 of b sets; an empty set has one of zeros.

    Example:
        >>> from spmem.retrieval.indices.voxels import voxels
        >>> wall = np.random.default_rng(0).random((500, 3), np.float32)
        >>> half = np.where(np.arange(500) < 250, 0.004, 0.0).astype(np.float32)
        >>> both = voxels(np.tile(wall, (2, 1)), np.concatenate([half, half]), np.array([0, 500, 1000]), edge=0.3)
        >>> a, b = sketch(both, 256)
        >>> float(np.round(a @ b, 1))
        1.0
    """
    amplitude = np.sqrt(sets.share / GRIDS)
    sign = np.where(sets.key >> np.uint64(63), amplitude, -amplitude)
    set_ = np.repeat(np.arange(len(sets)), np.diff(sets.offsets))
    entry = set_ * dim + ((sets.key >> np.uint64(20)) % np.uint64(dim)).astype(np.int64)
    flat = np.bincount(entry, sign, len(sets) * dim)
    return flat.reshape(len(sets), dim).astype(np.float32)
