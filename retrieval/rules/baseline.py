"""What rules without an index share: which rows are allowed, which are the latest, how large the scene is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spmem.config import RetrievalConfig
from spmem.query import Query
from spmem.views import Views

if TYPE_CHECKING:
    from typing import Self


class Baseline:
    """A rule without an index of its own."""

    @classmethod
    def configured(cls, config: RetrievalConfig) -> Self:
        """The rule with its published parameters, whatever the memory's configuration."""
        return cls()

    def observe(self, views: Views, rows: slice) -> None:
        """Nothing to prepare."""


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
