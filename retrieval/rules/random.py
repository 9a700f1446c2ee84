"""The control that any rule has to beat."""

from __future__ import annotations

import numpy as np

from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline, allowed
from spmem.views import Views


class Random(Baseline):
    """Keyframes drawn without replacement, anew for every seed and bank. Scores are all 0: none is better.

    The control in the retrieval ablations of WorldMem (arXiv 2504.12369) and Context-as-Memory (arXiv 2506.03141).
    """

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = allowed(query, views)
        draw = np.random.default_rng([query.seed & 0xFFFFFFFF, *views.ids[rows]])
        rows = draw.permutation(rows)[: max(k, 0)]
        return Selection(views.ids[rows], np.zeros(len(rows), np.float32))
