"""Covisibility sketches: what their inner product means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spmem.retrieval.indices.sketch import sketch
from spmem.retrieval.indices.voxels import voxels, voxels_of_views
from spmem.testing.retriever import stand, views_of


@given(st.integers(0, 2**32 - 1))
def test_the_product_estimates_bhattacharyyas_coefficient(seed: int) -> None:
    draw = np.random.default_rng(seed)
    common = draw.uniform(-3, 3, (60, 3))
    position = np.concatenate([common, draw.uniform(-3, 3, (40, 3))] * 2).astype(np.float32)
    share = draw.dirichlet(np.ones(100), 2).astype(np.float32).ravel()
    sets = voxels(position, share, np.array([0, 100, 200]), edge=1.0)
    a, b = (dict(zip(sets.key[of].tolist(), sets.share[of], strict=True)) for of in (slice(*sets.offsets[:2]), slice(*sets.offsets[1:])))  # fmt: skip
    exact = sum(np.sqrt(a[key] * b[key]) for key in a.keys() & b.keys()) / 2
    one, other = sketch(sets, 16384)
    assert float(one @ other) == pytest.approx(exact, abs=0.06)
    assert float(one @ one) == pytest.approx(1, abs=0.06)


def test_views_of_one_room_match_and_views_of_two_do_not() -> None:
    views = views_of([stand(-2, -1, -0.3), stand(-1.8, -1.1, -0.2), stand(2, -1, 0.3)])
    sketches = sketch(voxels_of_views(views, np.arange(3), edge=0.8), 2048)
    product = sketches @ sketches.T
    assert product[0, 1] > 0.5
    assert abs(product[0, 2]) < 0.15


def test_no_view_and_no_depth() -> None:
    views = views_of([stand(-2, -1, 0), stand(2, -1, 0)])
    views.depth[:] = 0
    assert sketch(voxels_of_views(views, np.zeros(0, np.int64), edge=0.4), 64).shape == (0, 64)
    assert not sketch(voxels_of_views(views, np.arange(2), edge=0.4), 64).any()
