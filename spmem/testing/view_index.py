"""Conformance of descriptor indices: subclass, give the fixture, and pytest proves the index.

Needs pytest. Example::

    class TestMyIndex(ViewIndexTests):
        @pytest.fixture
        def make(self):
            return MyIndex
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from spmem.protocols import ViewIndex

DIM = 16


class ViewIndexTests:
    """What every :class:`spmem.protocols.ViewIndex` does. A subclass gives ``make``: called with a dim.

    The banks are small (40 descriptors), so that an approximate index has to be exact on them, too.
    """

    @pytest.fixture
    def make(self) -> Callable[[int], ViewIndex]:
        """Override: makes an empty index for descriptors of a length."""
        raise AssertionError("subclasses give the fixture `make`: a callable, dim to an index")

    @pytest.fixture
    def ids(self) -> NDArray[np.int64]:
        """Neither dense nor small nor in order."""
        return np.random.default_rng(1).permutation(40) * 7 + 2**40

    @pytest.fixture
    def descriptors(self) -> NDArray[np.float32]:
        """One for each id."""
        return np.random.default_rng(2).standard_normal((40, DIM)).astype(np.float32)

    @pytest.fixture
    def index(
        self,
        make: Callable[[int], ViewIndex],
        ids: NDArray[np.int64],
        descriptors: NDArray[np.float32],
    ) -> ViewIndex:
        """All of them, added in three goes."""
        index = make(DIM)
        for part in (slice(0, 1), slice(1, 25), slice(25, 40)):
            index.add(ids[part], descriptors[part])
        return index

    def test_is_a_view_index(self, make: Callable[[int], ViewIndex]) -> None:
        assert isinstance(make(DIM), ViewIndex)

    def test_finds_the_largest_inner_products_best_first(
        self, index: ViewIndex, ids: NDArray[np.int64], descriptors: NDArray[np.float32]
    ) -> None:
        queries = np.random.default_rng(3).standard_normal((5, DIM)).astype(np.float32)
        scores, found = index.search(queries, 8)
        product = queries @ descriptors.T
        best = np.argsort(-product, axis=1)[:, :8]
        assert scores.dtype == np.dtype(np.float32)
        assert found.dtype == np.dtype(np.int64)
        np.testing.assert_array_equal(found, ids[best])
        np.testing.assert_allclose(scores, np.take_along_axis(product, best, 1), rtol=1e-5)

    def test_the_rest_is_filled_up(self, index: ViewIndex, ids: NDArray[np.int64]) -> None:
        scores, found = index.search(np.ones((2, DIM), np.float32), 50)
        assert scores.shape == found.shape == (2, 50)
        assert sorted(found[0, :40].tolist()) == sorted(ids.tolist())
        assert (found[:, 40:] == -1).all()
        assert (scores[:, 40:] == -np.inf).all()

    def test_an_empty_index_finds_nothing(self, make: Callable[[int], ViewIndex]) -> None:
        index = make(DIM)
        scores, found = index.search(np.ones((1, DIM), np.float32), 3)
        assert len(index) == 0
        assert found.tolist() == [[-1, -1, -1]]
        assert (scores == -np.inf).all()

    def test_no_query_and_no_result_have_their_shapes(self, index: ViewIndex) -> None:
        assert index.search(np.zeros((0, DIM), np.float32), 3)[1].shape == (0, 3)
        assert index.search(np.ones((2, DIM), np.float32), 0)[1].shape == (2, 0)

    def test_adding_nothing_is_allowed(self, index: ViewIndex) -> None:
        index.add(np.zeros(0, np.int64), np.zeros((0, DIM), np.float32))
        assert len(index) == 40

    def test_an_id_that_is_there_is_replaced(
        self, index: ViewIndex, ids: NDArray[np.int64], descriptors: NDArray[np.float32]
    ) -> None:
        index.add(ids[3:5], -10 * descriptors[3:5])
        _, found = index.search(-descriptors[3:5], 1)
        assert len(index) == 40
        assert found[:, 0].tolist() == ids[3:5].tolist()
        worst = index.search(descriptors[3:4], 40)[1][0, -1]
        assert worst == ids[3]

    def test_the_last_of_equal_ids_counts(self, make: Callable[[int], ViewIndex]) -> None:
        index, one = make(DIM), np.eye(2, DIM, dtype=np.float32)
        index.add(np.array([7, 7]), one)
        assert len(index) == 1
        assert index.search(one, 1)[0][:, 0].tolist() == [0, 1]

    def test_removed_ids_are_not_found(
        self, index: ViewIndex, ids: NDArray[np.int64], descriptors: NDArray[np.float32]
    ) -> None:
        index.remove(np.array([ids[0], ids[20], 12345]))
        found = index.search(descriptors[[0, 20]], 40)[1]
        assert len(index) == 38
        assert not np.isin(found, ids[[0, 20]]).any()
        index.add(ids[:1], descriptors[:1])
        assert index.search(10 * descriptors[:1], 40)[1][0].tolist().count(int(ids[0])) == 1

    def test_excluded_ids_are_not_answered(
        self, index: ViewIndex, ids: NDArray[np.int64], descriptors: NDArray[np.float32]
    ) -> None:
        exclude = np.array([ids[2], ids[30], 999])
        scores, found = index.search(descriptors[[2, 30]], 40, exclude)
        assert not np.isin(found, exclude).any()
        assert ((found >= 0).sum(1) == 38).all()
        assert (scores[:, 38:] == -np.inf).all()
        assert (index.search(descriptors[:1], 3, ids)[1] == -1).all()
        assert index.search(10 * descriptors[[2]], 40)[1].tolist()[0].count(int(ids[2])) == 1

    def test_searching_after_removing_finds_the_right_ones(
        self, index: ViewIndex, ids: NDArray[np.int64], descriptors: NDArray[np.float32]
    ) -> None:
        index.remove(ids[:10])
        unit = descriptors[10:] / np.linalg.norm(descriptors[10:], axis=1, keepdims=True)
        product = unit @ descriptors[10:].T
        np.testing.assert_array_equal(index.search(unit, 1)[1][:, 0], ids[10:][product.argmax(1)])
