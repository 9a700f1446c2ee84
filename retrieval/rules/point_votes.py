"""Memory Forcing's rule: every visible point counts for the one keyframe that put it there."""

from __future__ import annotations

import numpy as np
import torch

from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline, allowed
from spmem.retrieval.visibility.seen_surfels import seen_surfels
from spmem.views import Views


class PointVotes(Baseline):
    """The keyframes that most of the query's visible surfels come from.

    Memory Forcing (arXiv 2510.03198, point-to-frame retrieval, K = 8; its code is not public): the points of a global
    cloud carry the frame that each came from; those visible from the query are counted, and the frames with the highest
    counts taken. Its cost goes with the points that are visible, not with the frames stored.

    Ours: a surfel's source is the first keyframe that saw it (``query.observers``); a frame that made surfels and did
    not become a keyframe leaves them to the next one. A surfel counts once, however many pixels and cameras show it.
    Surfels whose source is excluded or dropped count for none. Ties go to the latest. Scores are shares of the visible
    surfels; a keyframe without any is not chosen, and a query without a map finds nothing.
    """

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = allowed(query, views)
        surfels, _ = seen_surfels(query.projection, 1.0)
        if k < 1 or query.observers is None or not len(surfels) or not len(rows):
            return Selection.empty()
        device = query.projection.surfel_ids.device
        offsets, saw = (part.cpu().numpy() for part in query.observers(torch.from_numpy(surfels).to(device)))  # fmt: skip
        sources = saw[offsets[:-1][np.diff(offsets) > 0]]
        voted = views.rows(sources[np.isin(sources, views.ids)])
        votes = np.bincount(voted, minlength=len(views))[rows]
        best = np.lexsort((rows, views.times[rows], votes))[::-1][:k]
        best = best[votes[best] > 0]
        return Selection(views.ids[rows[best]], (votes[best] / len(surfels)).astype(np.float32))
