"""Voxel sets: the kernel against its twin, and what the sets say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spmem.retrieval.indices.voxels import GRIDS, voxel_edge, voxels, voxels_of_views, voxels_plain
from spmem.testing.retriever import stand, tour, views_of


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 5))
def test_the_kernel_and_the_plain_twin_agree(seed: int, edge: float) -> None:
    draw = np.random.default_rng(seed)
    position = (draw.standard_normal((120, 3)) * 3).astype(np.float32)
    share = draw.integers(0, 3, 120).astype(np.float32) / 240
    offsets = np.array([0, 0, 50, 120])
    fast = voxels(position, share, offsets, edge=edge)
    plain = voxels_plain(position, share, offsets, edge=edge)
    np.testing.assert_array_equal(fast.offsets, plain.offsets)
    for start, stop in zip(fast.offsets[:-1], fast.offsets[1:], strict=True):
        order = np.argsort(fast.key[start:stop])
        np.testing.assert_array_equal(fast.key[start:stop][order], plain.key[start:stop])
        np.testing.assert_allclose(fast.share[start:stop][order], plain.share[start:stop], rtol=1e-5)  # fmt: skip


def test_each_grid_has_the_whole_picture_once() -> None:
    views = views_of(tour(6))
    views.depth[3, :24] = 0
    sets = voxels_of_views(views, np.arange(6), edge=0.4)
    total = np.add.reduceat(sets.share, sets.offsets[:-1])
    np.testing.assert_allclose(total, GRIDS * np.array([1, 1, 1, 0.5, 1, 1]), rtol=1e-4)


def test_what_one_grid_parts_is_together_in_the_other() -> None:
    beside = np.array([[0.49, 0.2, 0.2], [0.51, 0.2, 0.2]], np.float32) * 2
    sets = voxels(beside, np.ones(2, np.float32), np.array([0, 1, 2]), edge=1.0)
    a, b = sets.key[:GRIDS], sets.key[GRIDS:]
    assert len(set(a.tolist()) & set(b.tolist())) == 1


def test_a_set_depends_on_its_own_view_alone() -> None:
    views = views_of(tour(6))
    together = voxels_of_views(views, np.arange(6), edge=0.4)
    alone = voxels_of_views(views, np.array([4]), edge=0.4)
    np.testing.assert_array_equal(alone.key, together.key[slice(*together.offsets[4:6])])


def test_the_edge_follows_the_scale_of_the_depth() -> None:
    depth = views_of([stand(-2, -1, 0)]).depth[0]
    edge = voxel_edge(depth)
    assert edge is not None
    assert voxel_edge(depth * 100) == pytest.approx(100 * edge, rel=1e-5)
    assert voxel_edge(np.zeros_like(depth)) is None
