"""VMem's rule: surfels vote for the keyframes that saw them; of those with most votes, the nearest that stand apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spmem.errors import InputError
from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline, allowed, scene_scale
from spmem.retrieval.rules.pose_nearest import steps, turns
from spmem.retrieval.visibility.seen_surfels import seen_surfels
from spmem.views import Views

FLOOR = 1e-5
"""Where suppression gives up and takes the nearest."""


@dataclass(frozen=True)
class SurfelVotes(Baseline):
    """Every covered pixel adds cos / (1 + depth) to each keyframe that saw its surfel.

    VMem (arXiv 2506.18903, section 3, and ``modeling/pipeline.py`` of its code, K = 4): the k + 10 keyframes with most
    votes are candidates, ordered by their camera's distance from the query, 0.1 |t - t'| + angle. The nearest is taken,
    then every further one whose distance from all taken is at least a threshold; until there are k, the threshold is
    divided by 1.2, and at last the nearest are taken. The threshold is the median distance between the first five
    cameras.

    Ours differs: depth and |t - t'| count in scene scales (the median depth that the query sees); every camera of the
    query votes, with its own field of view, where VMem renders one mean pose 1 / 0.65 times as wide; the distance from
    the query is the mean over its cameras. The released demo turns suppression off and then always takes the latest
    frame too; that frame is left to the working memory here. A query without a map (no ``observers``) finds nothing.
    Scores are shares of all votes.

    Args:
        position: Weight of |t - t'| against radians, per scene scale.
        spare: Candidates beyond k.
        suppress: Whether those taken must stand apart; off, the nearest candidates are taken.
        relax: What the threshold is divided by where too few stand apart.
    """

    position: float = 0.1
    spare: int = 10
    suppress: bool = True
    relax: float = 1.2

    def __post_init__(self) -> None:
        if self.position < 0 or self.spare < 0 or not self.relax > 1:
            raise InputError("surfel-votes: position >= 0, spare >= 0 and relax > 1 are wanted")

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        scale = scene_scale(query, views)
        votes = surfel_votes(query, views, scale)
        rows = allowed(query, views)
        rows = rows[votes[rows] > 0]
        if k < 1 or not len(rows):
            return Selection.empty()
        rows = rows[np.lexsort((-views.times[rows], -votes[rows]))][: k + self.spare]
        c2w = views.c2w[rows]
        away = self._distance(c2w, query.cameras.c2w.cpu().numpy(), scale).mean(1)
        nearest = np.lexsort((-views.times[rows], away))
        if self.suppress:
            first = self._distance(views.c2w[:5], views.c2w[:5], scale)
            apart = self._distance(c2w, c2w, scale)
            nearest = _apart(nearest, apart, k, _median(first), self.relax)
        chosen = rows[nearest[:k]]
        return Selection(views.ids[chosen], (votes[chosen] / votes.sum()).astype(np.float32))

    def _distance(
        self, a: NDArray[np.float32], b: NDArray[np.float32], scale: float
    ) -> NDArray[np.float32]:
        return self.position * steps(a, b) / scale + turns(a, b)


def surfel_votes(query: Query, views: Views, scale: float) -> NDArray[np.float64]:
    """The votes ``[n]`` of the query's visible surfels for each view, weighted by how well the query sees them."""
    votes = np.zeros(len(views))
    ids, weights = seen_surfels(query.projection, scale)
    if query.observers is None or not len(ids) or not len(views):
        return votes
    device = query.projection.surfel_ids.device
    offsets, voted = query.observers(torch.from_numpy(ids).to(device))
    each, ids = np.repeat(weights, np.diff(offsets.cpu().numpy())), voted.cpu().numpy()
    known = np.isin(ids, views.ids)
    votes += np.bincount(views.rows(ids[known]), each[known], len(views))
    return votes


def _median(distances: NDArray[np.float32]) -> float:
    """The upper median of a symmetric matrix above its diagonal; 1 where there is nothing above it."""
    pairs = np.sort(distances[np.triu_indices(len(distances), 1)])
    return float(pairs[len(pairs) // 2]) if len(pairs) else 1.0


def _apart(
    order: NDArray[np.int64],
    distances: NDArray[np.float32],
    k: int,
    threshold: float,
    relax: float,
) -> NDArray[np.int64]:
    """The first k of an order that keep a threshold from each other, relaxed until there are k."""
    k = min(k, len(order))
    chosen = [int(order[0])]
    closest = distances[chosen[0]].copy()
    while len(chosen) < k and threshold >= FLOOR:
        for row in order[1:]:
            if closest[row] >= threshold and len(chosen) < k:
                chosen.append(int(row))
                closest = np.minimum(closest, distances[row])
        threshold /= relax
    chosen += [int(row) for row in order if row not in chosen][: k - len(chosen)]
    return np.array(chosen, np.int64)
