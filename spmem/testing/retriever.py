"""Conformance of retrieval rules: subclass, give the fixture, and pytest proves the rule.

Needs pytest. Example::

    class TestMyRule(RetrieverTests):
        @pytest.fixture
        def make(self):
            return MyRule
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.protocols import Retriever
from spmem.query import Observers, Query, Selection
from spmem.testing.box import BoxRoom, voxel_ids
from spmem.types import Frame, Projection
from spmem.views import Views

TWO_ROOMS = BoxRoom(
    room=((-4.0, -1.5, -2.5), (4.0, 1.2, 2.5)),
    solids=(
        ((-0.03, -1.5, -2.5), (0.03, 1.2, 1.5)),
        ((1.5, 0.2, 0.4), (2.3, 1.2, 1.6)),
        ((-3.0, -0.2, -0.5), (-2.2, 1.2, 0.3)),
    ),
)
"""Two rooms side by side; between them a thin wall with a doorway at its far end, a box in each."""


def stand(x: float, z: float, turn: float, *, width: int = 64, height: int = 48) -> Camera:
    """A camera at (x, 0, z) in the two rooms, turned by radians from +z towards +x."""
    ahead = [x + float(np.sin(turn)), 0.05, z + float(np.cos(turn))]
    return Camera.look_at([x, 0.0, z], ahead, width=width, height=height)


def views_of(cameras: Sequence[Camera], first_id: int = 0, room: BoxRoom = TWO_ROOMS) -> Views:
    """Views of cameras that look at the room, a second and an id apart."""
    views, depth = Views(), room.render(Camera.stack(cameras)).depth.numpy()
    for i, camera in enumerate(cameras):
        views.append(first_id + i, float(first_id + i), camera, depth[i])
    return views


def query_of(
    cameras: Sequence[Camera],
    *,
    given: Views | None = None,
    exclude: Sequence[int] = (),
    seed: int = 0,
    known: bool = True,
    room: BoxRoom = TWO_ROOMS,
    among: Views | None = None,
) -> Query:
    """What cameras would see in the room; of a place that memory does not know where ``known`` is False.

    ``among`` are the views whose surfels vote and whose images can be read; None is a query without a map or bank.
    """
    together = Camera.stack(cameras)
    seen = room.render(together)
    if not known:
        nothing = torch.zeros_like(seen.depth)
        seen = Projection(
            together,
            torch.zeros_like(seen.rgb),
            nothing,
            torch.zeros_like(seen.normal),
            nothing > 0,
            torch.full_like(seen.surfel_ids, -1),
        )
    query = Query(together, seen, given or Views(), np.array(exclude, np.int64), 100.0, seed)
    if among is None:
        return query
    return replace(query, observers=observers_of(among), read=images_of(among, room))


def observers_of(views: Views) -> Observers:
    """Who saw each voxel of the room (the surfel ids of its renders), from the views' thumbnails."""

    @cache
    def saw() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Voxels and ids, by voxel, then id."""
        height, width = views.depth.shape[1:]
        cameras = Camera(views.K, views.c2w, width=width, height=height)
        voxels = voxel_ids(cameras.unproject(torch.from_numpy(views.depth))).numpy()
        pairs = np.unique((voxels * len(views) + np.arange(len(views))[:, None, None])[views.depth > 0])  # fmt: skip
        return pairs // len(views), views.ids[pairs % len(views)]

    def observers(surfel_ids: Tensor) -> tuple[Tensor, Tensor]:
        voxels, ids = saw()
        wanted = surfel_ids.cpu().numpy()
        first, end = (np.searchsorted(voxels, wanted, side) for side in ("left", "right"))
        offsets = np.concatenate([[0], np.cumsum(end - first)])
        rows = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], end - first)
        return torch.from_numpy(offsets), torch.from_numpy(ids[rows])

    return observers


def images_of(views: Views, room: BoxRoom = TWO_ROOMS) -> Callable[[int], Frame]:
    """Reads what each view's camera saw of the room, in the thumbnail's size."""

    @cache
    def frames() -> list[Frame]:
        height, width = views.depth.shape[1:]
        return room.frames(Camera(views.K, views.c2w, width=width, height=height))

    return lambda id: frames()[views.rows(np.array([id]))[0]]


def tour(n: int = 12) -> list[Camera]:
    """Cameras of a walk that looks around the left room, then the right one."""
    left = [stand(-2.0, -1.0, turn) for turn in np.linspace(-1.2, 1.2, n - n // 2)]
    right = [stand(2.0, -1.0, turn) for turn in np.linspace(1.2, -1.2, n // 2)]
    return left + right


class RetrieverTests:
    """What every :class:`spmem.protocols.Retriever` does, whatever it prefers. A subclass gives ``make``."""

    @pytest.fixture
    def make(self) -> Callable[[], Retriever]:
        """Override: makes a rule that has seen nothing."""
        raise AssertionError("subclasses give the fixture `make`: a callable that makes a rule")

    @pytest.fixture
    def views(self) -> Views:
        """Twelve views, ids from 5."""
        return Views.restore(_tour_view_arrays())

    @pytest.fixture
    def rule(self, make: Callable[[], Retriever], views: Views) -> Retriever:
        """A rule that has observed the views, in two goes."""
        rule = make()
        rule.observe(views, slice(0, 7))
        rule.observe(views, slice(7, len(views)))
        return rule

    def test_is_a_retriever(self, make: Callable[[], Retriever]) -> None:
        assert isinstance(make(), Retriever)

    def test_answers_at_most_k_different_ids_with_a_score_each(
        self, rule: Retriever, views: Views
    ) -> None:
        for k in (1, 3, len(views), 50):
            chosen = rule.select(query_of([stand(-2.0, -1.2, 0.1)], among=views), views, k)
            _is_sound(chosen, views.ids, k)

    def test_k_of_zero_answers_nothing(self, rule: Retriever, views: Views) -> None:
        assert len(rule.select(query_of([stand(-2.0, -1.2, 0.1)], among=views), views, 0).ids) == 0

    def test_an_empty_bank_answers_nothing(self, make: Callable[[], Retriever]) -> None:
        rule, views = make(), Views()
        rule.observe(views, slice(0, 0))
        assert len(rule.select(query_of([stand(-2.0, -1.2, 0.1)], among=views), views, 4).ids) == 0

    def test_excluded_ids_are_never_answered(self, rule: Retriever, views: Views) -> None:
        query = [stand(-2.0, -1.2, 0.1)]
        first = rule.select(query_of(query), views, 4).ids
        exclude = [*first.tolist(), 999]
        again = rule.select(query_of(query, exclude=exclude, among=views), views, 4)
        _is_sound(again, np.setdiff1d(views.ids, first), 4)
        every = rule.select(query_of(query, exclude=views.ids.tolist(), among=views), views, 4)
        assert len(every.ids) == 0

    def test_the_same_question_has_the_same_answer(self, rule: Retriever, views: Views) -> None:
        query = query_of([stand(-2.0, -1.2, 0.1), stand(-1.8, -1.0, 0.3)], seed=3, among=views)
        first, second = rule.select(query, views, 4), rule.select(query, views, 4)
        assert first.ids.tolist() == second.ids.tolist()
        assert first.scores.tolist() == second.scores.tolist()

    def test_selecting_changes_no_view(self, rule: Retriever, views: Views) -> None:
        before = {name: column.copy() for name, column in views.arrays().items()}
        rule.select(query_of([stand(-2.0, -1.2, 0.1)], among=views), views, 4)
        for name, column in views.arrays().items():
            np.testing.assert_array_equal(column, before[name])

    def test_observing_again_changes_no_answer(self, rule: Retriever, views: Views) -> None:
        query = query_of([stand(2.0, -1.2, -0.1)], among=views)
        before = rule.select(query, views, 4)
        rule.observe(views, slice(0, len(views)))
        assert rule.select(query, views, 4).ids.tolist() == before.ids.tolist()

    def test_views_that_moved_are_observed_again(
        self, make: Callable[[], Retriever], rule: Retriever, views: Views
    ) -> None:
        """The answers are then those of a rule that never saw the views elsewhere."""
        rows = np.array([1, 2, 9])
        views.move(views.ids[rows], views.c2w[rows[::-1]].copy())
        for row in rows.tolist():
            rule.observe(views, slice(row, row + 1))
        fresh = make()
        fresh.observe(views, slice(0, len(views)))
        query = query_of([stand(-2.0, -1.2, 0.1), stand(2.0, -1.2, -0.1)])
        mine, other = rule.select(query, views, 5), fresh.select(query, views, 5)
        assert mine.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(mine.scores, other.scores, atol=1e-5)

    def test_dropped_views_are_not_answered(self, rule: Retriever, views: Views) -> None:
        query = query_of([stand(-2.0, -1.2, 0.1)], among=views)
        dropped = views.ids[::2].copy()
        views.remove(dropped)
        _is_sound(rule.select(query, views, 50), views.ids, 50)

    def test_a_place_that_memory_does_not_know_is_no_error(
        self, rule: Retriever, views: Views
    ) -> None:
        _is_sound(
            rule.select(query_of([stand(-2.0, -1.2, 0.1)], known=False, among=views), views, 4),
            views.ids,
            4,
        )

    def test_views_without_depth_are_no_error(self, make: Callable[[], Retriever]) -> None:
        views, rule = Views(), make()
        for id, camera in enumerate(tour()):
            views.append(id, float(id), camera, np.zeros((48, 64), np.float32))
        rule.observe(views, slice(0, len(views)))
        _is_sound(
            rule.select(query_of([stand(-2.0, -1.2, 0.1)], among=views), views, 4), views.ids, 4
        )

    def test_what_the_generator_holds_is_no_error(self, rule: Retriever, views: Views) -> None:
        given = views_of([stand(-2.0, -1.1, 0.0)], first_id=80)
        query = query_of([stand(-2.0, -1.2, 0.1)], given=given)
        _is_sound(rule.select(query, views, 4), views.ids, 4)


@cache
def _tour_view_arrays() -> dict[str, NDArray[Any]]:
    return views_of(tour(), first_id=5).arrays()


def _is_sound(selection: Selection, possible: NDArray[np.int64], k: int) -> None:
    ids, scores = selection.ids, selection.scores
    assert ids.dtype == np.int64
    assert scores.dtype == np.float32
    assert ids.shape == scores.shape
    assert len(ids) <= k
    assert len(set(ids.tolist())) == len(ids)
    assert np.isin(ids, possible).all()
    assert np.isfinite(scores).all()
