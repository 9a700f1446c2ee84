"""HY-WorldPlay's rule: the fields of view that overlap most with the query's, in a sphere, and the first keyframe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError
from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline, allowed, scene_scale
from spmem.retrieval.visibility.frustum import ball, inside
from spmem.views import THUMB, Views


@dataclass(frozen=True)
class FovSphere(Baseline):
    """Ranks keyframes by the share of the query's field of view, within a sphere, that lies in their own.

    HY-WorldPlay (arXiv 2512.14614, reconstituted context memory, and its released code: 20 latents, of which 12 the
    latest and 4 the first chunk): 50,000 points in a sphere of radius 8 round each query pose; overlap is the share of
    those in the query's field of view, 60 by 35 degrees, that are in the keyframe's and within 8 of it; the mean over
    the query's poses. Chunks of 4 latents are ranked by two of their poses, without a term for diversity, and the
    first chunk of all always has a place. No occlusion.

    Ours differs: ``radius`` is in scene scales (the median depth that the query sees) instead of world units; fields of
    view are the cameras' own; keyframes are ranked one by one; the latest frames are the working memory's part. Ties go
    to the latest. Scores are the mean overlaps; a keyframe without any is not chosen.

    Args:
        points: How many are drawn, by the query's seed.
        radius: In scene scales.
        first: How many places the bank's first keyframes have, at the end of the answer; one place is always ranked.
    """

    points: int = 50_000
    radius: float = 3.0
    first: int = 1

    def __post_init__(self) -> None:
        if self.points < 1 or not self.radius > 0 or self.first < 0:
            raise InputError("fov-sphere: points >= 1, radius > 0 and first >= 0 are wanted")

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = allowed(query, views)
        if k < 1 or not len(rows) or not len(query.cameras):
            return Selection.empty()
        overlap = self._overlap(query, views, rows)
        times = views.times[rows]
        anchors = np.lexsort((rows, times))[: min(self.first, k - 1)]
        ranked = np.lexsort((rows, times, overlap))[::-1]
        ranked = ranked[(overlap[ranked] > 0) & ~np.isin(ranked, anchors)]
        chosen = np.concatenate([ranked[: k - len(anchors)], anchors])
        return Selection(views.ids[rows[chosen]], overlap[chosen].astype(np.float32))

    def _overlap(self, query: Query, views: Views, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean over the query's cameras of the share of each one's field of view that keyframes share: ``[n]``."""
        K, c2w = query.cameras.K.cpu().numpy(), query.cameras.c2w.cpu().numpy()
        size = (query.cameras.height, query.cameras.width)
        radius = self.radius * scene_scale(query, views)
        space = radius * ball(self.points, query.seed)
        total = np.zeros(len(rows))
        for k, pose in zip(K, c2w, strict=True):
            around = space + pose[:3, 3]
            asked = around[inside(around, k[None], pose[None], size)[0]]
            there = inside(asked, views.K[rows], views.c2w[rows], THUMB, reach=radius)
            total += there.sum(1) / max(len(asked), 1)
        return total / len(K)
