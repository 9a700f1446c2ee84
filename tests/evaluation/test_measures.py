"""The measures, by hand and by what must always hold."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spmem.evaluation import measures

SAW = torch.tensor(
    [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 0, 0],
    ]
).bool()
"""Five frames over six pixels; the fifth saw nothing."""


def test_coverage_counts_every_pixel_once() -> None:
    assert measures.coverage(SAW, [0]) == pytest.approx(4 / 6)
    assert measures.coverage(SAW, [0, 1]) == pytest.approx(4 / 6)
    assert measures.coverage(SAW, [1, 3]) == 1
    assert measures.coverage(SAW, [4]) == 0


def test_the_oracle_takes_what_adds_most_and_stops_when_nothing_does() -> None:
    assert measures.best(SAW, 1) == [0]
    assert measures.best(SAW, 5) == [0, 3]
    assert measures.best(SAW, 5, among=[1, 2, 4]) == [1, 2]
    assert measures.best(SAW, 5, among=[]) == []


def test_recall_is_of_the_best_single_frames() -> None:
    every = range(5)  # they see 4, 3, 1, 3 and 0
    assert measures.recall(SAW, [0], 1, every) == 1
    assert measures.recall(SAW, [3], 1, every) == 0
    assert measures.recall(SAW, [0, 3], 2, every) == 1  # ties with the second
    assert measures.recall(SAW, [0, 2], 3, every) == pytest.approx(1 / 3)
    assert measures.recall(SAW, [0, 1, 2, 3], 20, every) == 1  # the fifth is not wanted
    assert measures.recall(SAW, [2], 1, kept=[2, 4]) == 1  # the others are gone


def test_a_hit_is_one_frame_that_saw_enough() -> None:
    assert measures.any_hit(SAW, [2, 4], overlap=0.25) == 0
    assert measures.any_hit(SAW, [2, 3], overlap=0.5) == 1
    assert measures.any_hit(SAW, [1, 2], overlap=0.6) == 0  # together they would


def test_redundancy_is_what_pairs_have_in_common() -> None:
    assert measures.redundancy(SAW, [0, 1]) == pytest.approx(3 / 4)
    assert measures.redundancy(SAW, [0, 1, 3]) == pytest.approx((3 / 4 + 1 / 6 + 0) / 3)
    assert measures.redundancy(SAW, [4, 4]) == 0


def test_gaps_tell_eviction_from_bad_choice() -> None:
    kept = [1, 2, 4]
    lost = measures.gaps(SAW, [1, 4], measures.best(SAW, 2), measures.best(SAW, 2, kept))
    assert lost.best == 1
    assert lost.retention == pytest.approx(1 - 4 / 6)
    assert lost.retrieval == pytest.approx(4 / 6 - 3 / 6)


@st.composite
def masks(draw: st.DrawFn) -> Tensor:
    n, p = draw(st.integers(1, 7)), draw(st.integers(0, 12))
    density, seed = draw(st.sampled_from([0.1, 0.4, 0.8])), draw(st.integers(0, 2**32 - 1))
    saw = torch.from_numpy(np.random.default_rng(seed).random((n, p)) < density)
    return saw[:, saw.any(0)]


@given(saw=masks(), k=st.integers(0, 4), seed=st.integers(0, 99))
def test_what_always_holds(saw: Tensor, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kept = sorted(rng.permutation(len(saw))[: max(len(saw) - 2, 1)].tolist())
    chosen = rng.permutation(kept)[:k].tolist()
    best, best_kept = measures.best(saw, k), measures.best(saw, k, kept)
    lost = measures.gaps(saw, chosen, best, best_kept)
    assert lost.best == pytest.approx(lost.chosen + lost.retention + lost.retrieval)
    assert lost.best <= 1
    optimum = max(measures.coverage(saw, some) for some in combinations(kept, min(k, len(kept))))
    assert measures.coverage(saw, best_kept) >= (1 - 1 / np.e) * optimum - 1e-9
    assert measures.best(saw, k + 3)[:k] == best
    for value in (
        measures.recall(saw, chosen, k, kept),
        measures.redundancy(saw, chosen),
        measures.any_hit(saw, chosen),
    ):
        assert 0 <= value <= 1
    assert measures.redundancy(saw, chosen[::-1]) == pytest.approx(measures.redundancy(saw, chosen))
    ranked = sorted(kept, key=lambda row: -int(saw[row].sum()))
    assert measures.recall(saw, ranked[:k], k, kept) == 1
