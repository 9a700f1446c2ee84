"""Explanations: shares of the query's pixels, by one measure for every rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spmem.query import Query, Selection
from spmem.retrieval.explain import contributions
from spmem.retrieval.rules.random import Random
from spmem.testing.retriever import query_of, stand, tour, views_of
from spmem.views import Views

VIEWS = views_of(tour(12), first_id=5)
QUERY = query_of([stand(-2.0, -1.2, 0.1), stand(-1.8, -1.0, 0.3)])


def of(ids: list[int]) -> Selection:
    return Selection(np.array(ids, np.int64), np.linspace(1, 0.5, len(ids), dtype=np.float32))


def union(query: Query, ids: list[int]) -> float:
    """Share that any of these saw, from what each adds to those before it."""
    return sum(contributions(query, VIEWS, of(ids[: i + 1]))[i].alone for i in range(len(ids)))


@settings(max_examples=10)
@given(st.lists(st.integers(5, 16), min_size=1, max_size=5, unique=True))
def test_without_a_keyframe_exactly_its_own_share_is_lost(ids: list[int]) -> None:
    told = contributions(QUERY, VIEWS, of(ids))
    whole = union(QUERY, ids)
    for i, part in enumerate(told):
        assert part.alone <= part.sees <= whole + 1e-9
        assert whole - union(QUERY, ids[:i] + ids[i + 1 :]) == pytest.approx(part.alone, abs=1e-9)
    assert sum(part.alone for part in told) <= whole + 1e-9
    assert whole <= min(1, sum(part.sees for part in told)) + 1e-9


def test_a_keyframe_twice_in_other_words_adds_nothing_alone() -> None:
    camera = stand(-2.0, -1.2, 0.1)
    views = views_of([camera, camera])
    first, second = contributions(query_of([camera]), views, of([0, 1]))
    assert first.sees == second.sees > 0.99
    assert first.alone == second.alone == 0


def test_names_scores_and_times_are_those_of_the_selection() -> None:
    chosen = Random().select(QUERY, VIEWS, 4)
    told = contributions(QUERY, VIEWS, chosen)
    assert [part.id for part in told] == chosen.ids.tolist()
    assert [part.time for part in told] == [float(id) for id in chosen.ids]
    assert [part.score for part in told] == chosen.scores.tolist()


def test_nothing_chosen_and_nothing_known() -> None:
    assert contributions(QUERY, VIEWS, Selection.empty()) == []
    unknown = query_of([stand(-2.0, -1.2, 0.1)], known=False)
    assert [part.sees for part in contributions(unknown, VIEWS, of([5, 6]))] == [0, 0]


def test_a_keyframe_that_is_gone_is_an_error() -> None:
    with pytest.raises(KeyError, match="99"):
        contributions(QUERY, Views.restore(VIEWS.arrays()), of([99]))
