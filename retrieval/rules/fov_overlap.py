"""WorldMem's rule: greedy cover of the query's field of view, without occlusion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spmem.errors import InputError
from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline, allowed, scene_scale
from spmem.retrieval.visibility.frustum import ball, inside
from spmem.views import THUMB, Views


@dataclass(frozen=True)
class FovOverlap(Baseline):
    """Random points around the query; a keyframe counts by the share of those in the query's view that are in its own.

    WorldMem (arXiv 2504.12369, section 3.2 and its released code): 10,000 points in a ball of radius 30 at the
    current position, inside by angle alone (no occlusion), all query poses together, score = share - 0.2 * age /
    current time; greedy, taking out what a chosen keyframe covers. Ours differs in two lengths: the ball's radius is
    ``radius`` times the median depth that the query sees (worlds here have no blocks), and fields of view are those
    of the cameras instead of 105 by 75 degrees. As published, it goes on to k even where nothing overlaps. Scores
    are those at the time of choice.

    Args:
        points: How many are drawn, by the query's seed.
        radius: In scene scales.
        staleness: What the oldest keyframe's score loses.
    """

    points: int = 10_000
    radius: float = 3.0
    staleness: float = 0.2

    def __post_init__(self) -> None:
        if self.points < 1 or not self.radius > 0 or self.staleness < 0:
            raise InputError("fov-overlap: points >= 1, radius > 0 and staleness >= 0 are wanted")

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = allowed(query, views)
        if not len(rows) or not len(query.cameras):
            return Selection.empty()
        K, c2w = query.cameras.K.cpu().numpy(), query.cameras.c2w.cpu().numpy()
        space = ball(self.points, query.seed) * self.radius * scene_scale(query, views)
        space += c2w[:, :3, 3].mean(0)
        size = (query.cameras.height, query.cameras.width)
        asked = space[inside(space, K, c2w, size).any(0)]
        overlap = inside(asked, views.K[rows], views.c2w[rows], THUMB)
        times = views.times[rows]
        now = max(times.max(), query.time if query.time is not None else -np.inf)
        penalty = self.staleness * (now - times) / max(now - times.min(), np.finfo(float).tiny)

        chosen: list[int] = []
        scores: list[float] = []
        left = np.ones(len(asked), bool)
        for _ in range(min(k, len(rows))):
            score = (overlap & left).sum(1) / max(len(asked), 1) - penalty
            score[chosen] = -np.inf
            best = int(np.lexsort((rows, times, score))[-1])
            chosen.append(best)
            scores.append(score[best])
            left &= ~overlap[best]
        return Selection(views.ids[rows[chosen]], np.array(scores, np.float32))
