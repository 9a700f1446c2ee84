"""What the best choice would be: greedy cover of the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spmem.config import RetrievalConfig
from spmem.errors import InputError
from spmem.query import Query, Selection
from spmem.retrieval.greedy import Terms, greedy, shown
from spmem.retrieval.rules.baseline import Baseline, allowed
from spmem.views import Views

if TYPE_CHECKING:
    from typing import Self

Truth: TypeAlias = Callable[[Query, Views], tuple[NDArray[np.bool_], NDArray[np.int64]]]
"""Which of p points of the query each of n views really saw, bool ``[n, p]``, and the points' weights ``[p]``."""


@dataclass(frozen=True)
class Oracle(Baseline):
    """Chooses by the truth, which you supply: the bound that rules are measured against.

    Takes the keyframe that saw most of what the ones before it did not, and stops when none adds anything: greedy
    maximum cover, at least 1 - 1/e of the best choice of k (Nemhauser, Wolsey, Fisher 1978). The truth may come from
    exact depth (:func:`spmem.testing.truth.covisibility`) or from labels (Context-as-Memory's data set, arXiv
    2506.03141, has some). It may leave out what the generator holds already. Scores are shares of the weight seen.

    Example:
        >>> from spmem.testing.retriever import query_of, stand, views_of
        >>> views = views_of([stand(-2, -1, turn) for turn in (0.0, 0.1, 0.2)])
        >>> saw = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], bool)
        >>> rule = Oracle(lambda query, views: (saw, np.ones(3, np.int64)))
        >>> rule.select(query_of([stand(-2, -1, 0)]), views, 3).ids.tolist()
        [0, 2]
    """

    seen: Truth

    @classmethod
    def configured(cls, config: RetrievalConfig) -> Self:
        """Raise InputError: no configuration has the ground truth."""
        raise InputError(
            "the rule 'oracle' needs the ground truth, which no memory has: retrieve(cameras, method=Oracle(seen)), "
            "with Oracle of spmem.retrieval.rules.oracle and seen(query, views) -> masks [n, p] of what each keyframe "
            "saw, weights [p]"
        )

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = allowed(query, views)
        if k < 1 or not len(rows):
            return Selection.empty()
        seen, weight = self.seen(query, views)
        seen = seen[rows]
        chosen = greedy(seen, weight, views.times[rows], k, terms=Terms(min_gain=0, fill=False))
        share = shown(seen[chosen], weight) / max(int(weight.sum()), 1)
        return Selection(views.ids[rows[chosen]], share.astype(np.float32))
