"""Every n-th keyframe back: a control that knows neither pose nor geometry."""

from __future__ import annotations

from dataclasses import dataclass

from spmem.errors import InputError
from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline, allowed, latest_first
from spmem.retrieval.rules.recent import by_age
from spmem.views import Views


@dataclass(frozen=True)
class FixedOffset(Baseline):
    """Every ``offset``-th keyframe back from the latest, whatever they show: the control that VMem (arXiv 2506.18903)
    was found not to beat beyond noise. A bank too short for k of them gives fewer. Scores as those of
    :class:`spmem.retrieval.rules.recent.Recent`.
    """

    offset: int = 4

    def __post_init__(self) -> None:
        if self.offset < 1:
            raise InputError(f"offset counts keyframes, at least 1, got {self.offset}")

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = latest_first(allowed(query, views), views)
        return by_age(rows[self.offset - 1 :: self.offset][: max(k, 0)], views)
