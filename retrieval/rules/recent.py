"""The latest keyframes: what a longer context window would hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline, allowed, latest_first
from spmem.views import Views


class Recent(Baseline):
    """The latest keyframes, whatever they show. Scores are minus the age in seconds, from the bank's latest.

    What FramePack and plain diffusion forcing go by, and the control of Context-as-Memory (arXiv 2506.03141, the
    comparison with DFoT and FramePack).
    """

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = latest_first(allowed(query, views), views)
        return by_age(rows[: max(k, 0)], views)


def by_age(rows: NDArray[np.int64], views: Views) -> Selection:
    """These rows in this order, scored by minus their age in seconds, from the bank's latest."""
    age = views.times.max(initial=-np.inf) - views.times[rows]
    return Selection(views.ids[rows], (-age).astype(np.float32))
