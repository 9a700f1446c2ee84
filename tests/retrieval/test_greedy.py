"""Greedy coverage: what it promises for any bank, and what each of its terms does."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spmem.errors import InputError
from spmem.retrieval.greedy import Terms, greedy, shown

EXACT = Terms(min_gain=0)
Bank = tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64]]


@st.composite
def banks(draw: st.DrawFn) -> Bank:
    """Up to seven views of up to twelve points, each view at its own time."""
    v, p = draw(st.integers(1, 7)), draw(st.integers(1, 12))
    rows = st.lists(st.booleans(), min_size=p, max_size=p)
    seen = np.array(draw(st.lists(rows, min_size=v, max_size=v)), bool)
    weight = np.array(draw(st.lists(st.integers(1, 9), min_size=p, max_size=p)), np.int64)
    times = np.array(draw(st.permutations(range(v))), np.float64)
    return seen, weight, times


def covered(seen: NDArray[np.bool_], weight: NDArray[np.int64], rows: object) -> int:
    return int(seen[np.array(rows, np.int64)].any(0) @ weight)


@given(banks(), st.integers(0, 5))
def test_reaches_its_guaranteed_share_of_the_best(bank: Bank, k: int) -> None:
    seen, weight, times = bank
    best = max(covered(seen, weight, rows) for rows in combinations(range(len(seen)), min(k, len(seen))))  # fmt: skip
    reached = covered(seen, weight, greedy(seen, weight, times, k, terms=EXACT))
    assert best * (1 - 1 / np.e) - 1e-9 <= reached <= best


@given(banks(), st.integers(1, 5))
def test_every_choice_is_the_best_at_its_time(bank: Bank, k: int) -> None:
    seen, weight, times = bank
    chosen = greedy(seen, weight, times, k, terms=replace(EXACT, fill=False)).tolist()
    for i, row in enumerate(chosen):
        reach = [covered(seen, weight, [*chosen[:i], other]) for other in range(len(seen))]
        assert reach[row] == max(reach) > covered(seen, weight, chosen[:i])


@given(banks(), st.integers(0, 6))
def test_asking_for_more_only_adds(bank: Bank, k: int) -> None:
    seen, weight, times = bank
    fewer, more = greedy(seen, weight, times, k), greedy(seen, weight, times, k + 1)
    assert more[: len(fewer)].tolist() == fewer.tolist()


@given(banks(), st.integers(1, 7), st.randoms(use_true_random=False))
def test_the_order_of_views_and_points_does_not_matter(bank: Bank, k: int, draw: object) -> None:
    seen, weight, times = bank
    views, points = list(range(len(seen))), list(range(len(weight)))
    draw.shuffle(views)
    draw.shuffle(points)
    chosen = greedy(seen, weight, times, k)
    again = greedy(seen[views][:, points], weight[points], times[views], k)
    assert np.array(views)[again].tolist() == chosen.tolist()


@given(banks(), st.integers(0, 9))
def test_chooses_no_view_twice_and_none_that_sees_nothing(bank: Bank, k: int) -> None:
    seen, weight, times = bank
    chosen = greedy(seen, weight, times, k)
    assert len(set(chosen.tolist())) == len(chosen) == min(k, int(seen.any(1).sum()))
    assert seen[chosen].any(1).all()


@given(banks())
def test_shown_sums_the_weight_of_what_is_seen(bank: Bank) -> None:
    seen, weight, _ = bank
    np.testing.assert_array_equal(shown(seen, weight), seen @ weight)


SEEN = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0]], bool)
ONES = np.ones(6, np.int64)
TIMES = np.array([0.0, 1.0, 2.0])


def test_diversity_prefers_what_is_new() -> None:
    assert greedy(SEEN, ONES, TIMES, 2).tolist() == [0, 2]
    assert greedy(SEEN, ONES, TIMES, 2, terms=Terms(diversity=False)).tolist() == [0, 1]


def test_what_is_shown_already_is_not_chosen_for() -> None:
    held = SEEN[0]
    assert greedy(SEEN, ONES, TIMES, 1, covered=held).tolist() == [2]
    assert greedy(SEEN, ONES, TIMES, 1, covered=held, terms=Terms(pre_cover=False)).tolist() == [0]


def test_fill_goes_on_with_what_sees_most() -> None:
    assert greedy(SEEN, ONES, TIMES, 3).tolist() == [0, 2, 1]
    assert greedy(SEEN, ONES, TIMES, 3, terms=Terms(fill=False)).tolist() == [0, 2]


def test_a_gain_below_the_threshold_is_not_worth_a_choice() -> None:
    terms = Terms(min_gain=0.2, fill=False)
    assert greedy(SEEN, ONES, TIMES, 3, terms=terms).tolist() == [0]


def test_staleness_prefers_the_later_of_two_that_nearly_match() -> None:
    assert greedy(SEEN[:2], ONES, TIMES[:2], 1).tolist() == [0]
    assert greedy(SEEN[:2], ONES, TIMES[:2], 1, terms=Terms(staleness=0.5)).tolist() == [1]


def test_ties_go_to_what_sees_more_then_to_the_latest() -> None:
    same = SEEN[[1, 1, 1]]
    assert greedy(same, ONES, np.array([1.0, 3.0, 2.0]), 3).tolist() == [1, 2, 0]
    assert greedy(same, ONES, np.zeros(3), 1).tolist() == [2]
    held = np.array([1, 1, 1, 0, 0, 1], bool)
    assert greedy(SEEN, ONES, TIMES, 1, covered=held).tolist() == [0]


def test_an_empty_bank_has_no_choice() -> None:
    assert len(greedy(np.zeros((0, 6), bool), ONES, np.zeros(0), 4)) == 0


@pytest.mark.parametrize(
    "wrong", [{"staleness": -0.1}, {"staleness": 1.5}, {"min_gain": 2.0}, {"sharpness": -1}]
)
def test_terms_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="share in"):
        Terms(**wrong)
