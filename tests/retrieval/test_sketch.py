"""Covisibility sketches: the kernel against its twin, and what their inner product means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spmem.retrieval.sketch import sketch_points, sketch_points_plain, sketch_views, voxel_edge
from spmem.testing.retriever import stand, tour, views_of


@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 64, 100, 512]), st.floats(0.05, 5))
def test_the_kernel_and_the_plain_twin_agree(seed: int, dim: int, edge: float) -> None:
    draw = np.random.default_rng(seed)
    position = (draw.standard_normal((120, 3)) * 3).astype(np.float32)
    share = draw.integers(0, 3, 120).astype(np.float32) / 240
    offsets = np.array([0, 0, 50, 120])
    fast = sketch_points(position, share, offsets, edge=edge, dim=dim)
    plain = sketch_points_plain(position, share, offsets, edge=edge, dim=dim)
    assert fast.dtype == plain.dtype == np.float32
    np.testing.assert_allclose(fast, plain, atol=1e-6)
    assert not fast[0].any()


def test_a_sketch_times_itself_is_the_share_that_has_depth() -> None:
    views = views_of(tour(6))
    views.depth[3, :24] = 0
    sketches = sketch_views(views, np.arange(6), edge=0.4, dim=4096)
    expected = [1, 1, 1, 0.5, 1, 1]
    np.testing.assert_allclose((sketches**2).sum(1), expected, atol=0.15)


def test_the_product_estimates_the_overlap_of_shares() -> None:
    here = np.tile(np.array([[0.5, 0.5, 0.5], [1.5, 0.5, 0.5]], np.float32), (2, 1))
    here[3] = [2.5, 0.5, 0.5]
    share = np.array([0.36, 0.64, 0.25, 0.75], np.float32)
    a, b = sketch_points(here, share, np.array([0, 2, 4]), edge=1.0, dim=16384)
    assert float(a @ b) == pytest.approx(0.6 * 0.5, abs=0.03)


def test_views_of_one_room_match_and_views_of_two_do_not() -> None:
    views = views_of([stand(-2, -1, -0.3), stand(-1.8, -1.1, -0.2), stand(2, -1, 0.3)])
    sketches = sketch_views(views, np.arange(3), edge=0.4, dim=2048)
    product = sketches @ sketches.T
    assert product[0, 1] > 0.5
    assert abs(product[0, 2]) < 0.15


def test_a_sketch_depends_on_its_own_view_alone() -> None:
    views = views_of(tour(6))
    together = sketch_views(views, np.arange(6), edge=0.4, dim=64)
    np.testing.assert_array_equal(
        sketch_views(views, np.array([4, 1]), edge=0.4, dim=64), together[[4, 1]]
    )


def test_no_view_and_no_depth() -> None:
    views = views_of(tour(2))
    views.depth[:] = 0
    assert sketch_views(views, np.zeros(0, np.int64), edge=0.4, dim=64).shape == (0, 64)
    assert not sketch_views(views, np.arange(2), edge=0.4, dim=64).any()


def test_the_edge_follows_the_scale_of_the_depth() -> None:
    depth = views_of([stand(-2, -1, 0)]).depth[0]
    edge = voxel_edge(depth)
    assert edge is not None
    assert voxel_edge(depth * 100) == pytest.approx(100 * edge, rel=1e-5)
    assert voxel_edge(np.zeros_like(depth)) is None
