"""Rules that look at no geometry: the controls that every claim about retrieval needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError
from spmem.retrieval.query import Query, Selection
from spmem.retrieval.views import Views


class Baseline:
    """A rule without an index of its own."""

    def observe(self, views: Views, rows: slice) -> None:
        """Nothing to prepare."""


class NoKeyframes(Baseline):
    """No keyframe at all: what the projection and the recent frames do alone."""

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """Nothing."""
        return Selection.empty()


class Recent(Baseline):
    """The latest keyframes, whatever they show. Scores are minus the age in seconds, from the bank's latest."""

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = latest_first(allowed(query, views), views)
        return _by_age(rows[: max(k, 0)], views)


class Random(Baseline):
    """Keyframes drawn without replacement, anew for every seed and bank. Scores are all 0: none is better."""

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = allowed(query, views)
        draw = np.random.default_rng([query.seed & 0xFFFFFFFF, *views.ids[rows]])
        rows = draw.permutation(rows)[: max(k, 0)]
        return Selection(views.ids[rows], np.zeros(len(rows), np.float32))


@dataclass(frozen=True)
class FixedOffset(Baseline):
    """Every ``offset``-th keyframe back from the latest, whatever they show: the control that VMem (arXiv 2506.18903)
    was found not to beat beyond noise. A bank too short for k of them gives fewer. Scores as :class:`Recent`'s.
    """

    offset: int = 4

    def __post_init__(self) -> None:
        if self.offset < 1:
            raise InputError(f"offset counts keyframes, at least 1, got {self.offset}")

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = latest_first(allowed(query, views), views)
        return _by_age(rows[self.offset - 1 :: self.offset][: max(k, 0)], views)


def allowed(query: Query, views: Views) -> NDArray[np.int64]:
    """Rows that the query does not exclude, ascending."""
    return np.flatnonzero(~np.isin(views.ids, query.exclude))


def latest_first(rows: NDArray[np.int64], views: Views) -> NDArray[np.int64]:
    """Rows by descending time, then id."""
    return rows[np.lexsort((rows, views.times[rows]))[::-1]]


def scene_scale(query: Query, views: Views) -> float:
    """A length that stands for the scene's size: the median depth that the query sees, else that of all views, else 1."""
    grid = np.s_[:, ::4, ::4]
    depth, mask = query.projection.depth[grid], query.projection.mask[grid]
    for candidate in ((depth * mask).cpu().numpy(), views.depth):
        known = candidate[candidate > 0]
        if len(known):
            return float(np.median(known))
    return 1.0


def _by_age(rows: NDArray[np.int64], views: Views) -> Selection:
    age = views.times.max(initial=-np.inf) - views.times[rows]
    return Selection(views.ids[rows], (-age).astype(np.float32))
