"""The inverted index: the same answers as comparing with every set, through any history."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spmem.retrieval.indices.inverted import VoxelIndex
from spmem.retrieval.indices.voxels import VoxelSets, voxels

I64 = NDArray[np.int64]


def places(draw: np.random.Generator, n: int) -> VoxelSets:
    """Sets of n views, each of one of eight places."""
    centre = 5 * draw.integers(0, 2, (n, 1, 3))
    position = (centre + draw.standard_normal((n, 50, 3))).reshape(-1, 3).astype(np.float32)
    share = draw.dirichlet(np.ones(50), n).astype(np.float32).ravel()
    return voxels(position, share, np.arange(n + 1) * 50, edge=0.7)


def as_dict(sets: VoxelSets, i: int) -> dict[int, float]:
    of = slice(*sets.offsets[i : i + 2])
    return dict(zip(sets.key[of].tolist(), sets.share[of].tolist(), strict=True))


def common(a: dict[int, float], b: dict[int, float]) -> float:
    return sum((a[key] * b[key]) ** 0.5 for key in a.keys() & b.keys()) / 2


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_answers_are_those_of_comparing_with_all_through_a_history(seed: int) -> None:
    draw = np.random.default_rng(seed)
    index, held = VoxelIndex(), dict[int, dict[int, float]]()
    for _ in range(6):
        ids, sets = draw.integers(0, 200, 30), places(draw, 30)
        index.add(ids, sets)
        held |= {int(id): as_dict(sets, i) for i, id in enumerate(ids)}
        gone = draw.integers(0, 200, 40)
        index.remove(gone)
        for id in gone.tolist():
            held.pop(id, None)
        assert len(index) == len(held)
        asked, exclude = places(draw, 2), np.array(list(held)[:2], np.int64)
        for i in range(2):
            scores, found = (part[i] for part in index.search(asked, 10, exclude))
            answered = found[found >= 0].tolist()
            exact = {id: common(as_dict(asked, i), set_) for id, set_ in held.items()}
            assert not set(answered) & set(exclude.tolist())
            assert set(answered) <= set(held)
            assert (np.diff(scores[: len(answered)]) <= 0).all()
            np.testing.assert_allclose(scores[: len(answered)], [exact[id] for id in answered], atol=0.05)  # fmt: skip
            missed = [exact[id] for id in held if id not in answered and id not in exclude]
            worst = scores[-1] if len(answered) == 10 else 0.0
            assert max(missed, default=0.0) <= worst + 0.05


def test_it_comes_back_from_its_arrays() -> None:
    draw = np.random.default_rng(0)
    index = VoxelIndex()
    index.add(np.arange(40), places(draw, 40))
    index.remove(np.arange(5))
    again, asked = VoxelIndex.restore(index.arrays()), places(draw, 3)
    for a, b in zip(index.search(asked, 8), again.search(asked, 8), strict=True):
        np.testing.assert_array_equal(a, b)
    for one in (index, again):
        one.add(np.arange(100, 140), places(np.random.default_rng(1), 40))
    np.testing.assert_array_equal(index.search(asked, 8)[1], again.search(asked, 8)[1])
    assert len(again) == len(index) == 75


@pytest.mark.parametrize(
    ("name", "value"), [("head", 10**6), ("next", 10**6), ("slot", -1), ("filled", 9)]
)
def test_arrays_that_lead_out_of_the_pool_are_refused(name: str, value: int) -> None:
    index = VoxelIndex()
    index.add(np.arange(40), places(np.random.default_rng(0), 40))
    arrays = {key: array.copy() for key, array in index.arrays().items()}
    arrays[name].ravel()[0] = value
    with pytest.raises(ValueError, match=r"does not fit together|wanted"):
        VoxelIndex.restore(arrays)


def test_a_chain_that_never_ends_is_refused() -> None:
    index = VoxelIndex()
    index.add(np.arange(40), places(np.random.default_rng(0), 40))
    arrays = {key: array.copy() for key, array in index.arrays().items()}
    arrays["next"][3] = 3
    with pytest.raises(ValueError, match=r"does not fit together|wanted"):
        VoxelIndex.restore(arrays)


def test_a_budget_reads_what_takes_most_of_the_picture() -> None:
    far, near = np.array([[50.0, 0, 0]], np.float32), np.zeros((1, 3), np.float32)
    index, n = VoxelIndex(budget=40), 60
    index.add(np.arange(n), voxels(np.tile(far, (n, 1)), np.ones(n, np.float32), np.arange(n + 1), edge=1.0))  # fmt: skip
    index.add(np.arange(n, n + 9), voxels(np.tile(near, (9, 1)), np.ones(9, np.float32), np.arange(10), edge=1.0))  # fmt: skip
    both = voxels(np.concatenate([far, near]), np.array([0.2, 0.8], np.float32), np.array([0, 2]), edge=1.0)  # fmt: skip
    assert set(index.search(both, 9)[1][0].tolist()) == set(range(n, n + 9))
