"""Every shipped rule and index passes the suites that third parties are given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from spmem.config import RetrievalConfig
from spmem.protocols import Retriever, ViewIndex
from spmem.registry import SHIPPED
from spmem.retrieval.indices.places import make_index
from spmem.retrieval.rules import METHODS, retriever
from spmem.retrieval.rules.covisibility import Covisibility
from spmem.testing.retriever import RetrieverTests
from spmem.testing.view_index import ViewIndexTests


@pytest.mark.parametrize("name", METHODS)
class TestRules(RetrieverTests):
    @pytest.fixture
    def make(self, name: str) -> Callable[[], Retriever]:
        return partial(retriever, name)


@pytest.mark.parametrize("index", ["voxels", "flat", "faiss"])
class TestCovisibilityByItsIndex(RetrieverTests):
    @pytest.fixture
    def make(self, index: str) -> Callable[[], Retriever]:
        if index == "faiss":
            pytest.importorskip("faiss")
        return lambda: Covisibility(RetrievalConfig(index=index, candidates=2), scan=0)


@pytest.mark.parametrize("name", sorted(SHIPPED["view_index"]))
class TestIndices(ViewIndexTests):
    @pytest.fixture
    def make(self, name: str) -> Callable[[int], ViewIndex]:
        if name == "faiss":
            pytest.importorskip("faiss")
        return partial(make_index, name)
