"""Descriptor indices: both kinds answer alike, and work beside torch in one process."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch

from spmem.errors import InputError, MissingExtraError, UnknownNameError
from spmem.retrieval.indices import flat
from spmem.retrieval.indices.faiss import FaissIndex
from spmem.retrieval.indices.flat import FlatIndex
from spmem.retrieval.indices.places import make_index


def test_faiss_and_flat_answer_alike_through_a_history() -> None:
    pytest.importorskip("faiss")
    draw = np.random.default_rng(0)
    indices = [FlatIndex(24), FaissIndex(24)]
    for _ in range(12):
        ids = draw.integers(0, 300, 40)
        rows = draw.standard_normal((40, 24)).astype(np.float32)
        gone = draw.integers(0, 300, 9)
        queries = draw.standard_normal((3, 24)).astype(np.float32)
        answers = []
        for index in indices:
            index.add(ids, rows)
            index.remove(gone)
            answers.append((len(index), *index.search(queries, 20, gone[:3] + 1)))
        (n_flat, scores_flat, ids_flat), (n_faiss, scores_faiss, ids_faiss) = answers
        assert n_flat == n_faiss
        np.testing.assert_array_equal(ids_flat, ids_faiss)
        np.testing.assert_allclose(scores_flat, scores_faiss, rtol=1e-4, atol=1e-5)


def test_a_large_bank_is_searched_along_the_graph() -> None:
    pytest.importorskip("faiss")
    draw = np.random.default_rng(0)
    place, ids = draw.standard_normal((40, 32)), np.arange(2000) * 3
    rows = (place[ids % 40] + draw.standard_normal((2000, 32)) / 4).astype(np.float32)
    exact, graph = FlatIndex(32), FaissIndex(32, graph_from=100)
    for part in np.array_split(np.arange(2000), 7):
        for index in (exact, graph):
            index.add(ids[part], rows[part])
    few, most = ids[::5], ids[200:]
    for exclude in (None, few, most):
        best, found = (index.search(rows[::50], 20, exclude)[1] for index in (exact, graph))
        hits = [np.isin(a, b).mean() for a, b in zip(best, found, strict=True)]
        assert np.mean(hits) > 0.95
        assert exclude is None or not np.isin(found, exclude).any()
    for index in (exact, graph):
        index.remove(most)
    np.testing.assert_array_equal(*(index.search(rows[:4], 5)[1] for index in (exact, graph)))


def test_faiss_and_torch_take_turns() -> None:
    pytest.importorskip("faiss")
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((3000, 64)).astype(np.float32)
    index = FaissIndex(64)
    index.add(np.arange(3000), rows)
    for i in range(5):
        queries = rows[i * 50 : i * 50 + 40]
        best = (torch.from_numpy(queries) @ torch.from_numpy(rows).T).topk(5).indices
        np.testing.assert_array_equal(index.search(queries, 5)[1], best.numpy())


@pytest.mark.gpu
def test_on_a_gpu_faiss_answers_as_flat_does() -> None:
    faiss = pytest.importorskip("faiss")
    if not faiss.get_num_gpus():
        pytest.skip("this faiss has no GPU support")
    test_faiss_and_flat_answer_alike_through_a_history()


def test_a_large_flat_bank_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "LARGE", 5)
    index = FlatIndex(8)
    with pytest.warns(UserWarning, match="voxels"):
        index.add(np.arange(6), np.ones((6, 8), np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.add(np.arange(6, 12), np.ones((6, 8), np.float32))


@pytest.mark.parametrize("name", ["flat", "faiss"])
def test_descriptors_of_another_length_are_refused(name: str) -> None:
    if name == "faiss":
        pytest.importorskip("faiss")
    index = make_index(name, 8)
    with pytest.raises(InputError, match=r"dim 8 takes ids \[n\] and descriptors \[n, 8\]"):
        index.add(np.arange(2), np.ones((2, 9), np.float32))
    with pytest.raises(InputError, match=r"got \[3\] and \[2, 8\]"):
        index.add(np.arange(3), np.ones((2, 8), np.float32))


def test_without_faiss_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"spmem\[cpu\]"):
        make_index("faiss", 8)


def test_an_unknown_index_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'faiss'"):
        make_index("fais", 8)
