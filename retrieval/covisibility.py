"""The default rule: candidates by covisibility sketches, exact visibility, greedy coverage."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.config import RetrievalConfig
from spmem.retrieval.greedy import Terms, greedy, shown
from spmem.retrieval.index import make_index
from spmem.retrieval.query import Query, Selection
from spmem.retrieval.sketch import sketch_points, sketch_views, voxel_edge
from spmem.retrieval.views import Views
from spmem.retrieval.visibility import Points, visibility, visible_points

SEARCHES = 2
"""The keyframes that match best show much the same; the second search is for what the first one's choice leaves."""


class Covisibility:
    """Picks the keyframes that together saw most of what the query's cameras will see.

    1. Points: a grid of the pixels that the map shows along the query's cameras.
    2. Candidates: the keyframes whose sketches match best, searched for each camera over what is not shown yet and
       3. Which points each candidate saw, occlusion included.
    4. Greedy choice of those that add most; ``terms`` says what counts. Then once more from 2.

    A selection's scores are the share of all the query's pixels that each keyframe saw, so nothing that is chosen has
    score 0, and a query of a place that memory does not know has no keyframes.

    Args:
        config: Names the index, and sizes it; None takes the defaults.
        terms: None takes the defaults.
        scan: Banks of at most this many keyframes (or of ``config.candidates``) are scored whole.

    Raises:
        UnknownNameError: No index goes by the configuration's name.
        MissingExtraError: That index needs a package that is not installed.
    """

    def __init__(
        self,
        config: RetrievalConfig | None = None,
        terms: Terms | None = None,
        *,
        scan: int = 1024,
    ) -> None:
        self.config = config or RetrievalConfig()
        self.terms = terms or Terms()
        self.scan = max(scan, self.config.candidates)
        self._index = make_index(self.config.index, self.config.dim)
        self._edge: float | None = None

    def observe(self, views: Views, rows: slice) -> None:
        """Add the sketches of these rows; those of views that were changed are replaced.

        The voxels' edge is set by the first view that has depth, and stays.
        """
        new = np.arange(len(views))[rows]
        for row in new if self._edge is None else ():
            self._edge = voxel_edge(views.depth[row])
            if self._edge is not None:
                break
        if self._edge is None:
            return
        if len(self._index) + len(new) > 2 * len(views):  # most of the index is of dropped views
            self._index, new = make_index(self.config.index, self.config.dim), np.arange(len(views))
        sketches = sketch_views(views, new, edge=self._edge, dim=self.config.dim)
        self._index.add(views.ids[new], sketches)

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        points = visible_points(query.projection)
        if k < 1 or not len(points):
            return Selection.empty()
        tolerance = self.config.tolerance
        held = query.given if self.terms.pre_cover else Views()
        given = visibility(points, held, np.arange(len(held)), tolerance=tolerance)
        covered: NDArray[np.bool_] = np.logical_or.reduce(given, axis=0)
        rows, chosen = np.zeros(0, np.int64), np.zeros(0, np.int64)
        seen, open_ = np.zeros((0, len(points)), bool), ~covered
        for _ in range(SEARCHES):
            new = np.setdiff1d(self._candidates(points, open_, query.exclude, views), rows)
            if not len(new):
                break
            rows = np.concatenate([rows, new])
            seen = np.concatenate([seen, visibility(points, views, new, tolerance=tolerance)])
            order = np.argsort(rows)
            rows, seen = rows[order], seen[order]
            chosen = greedy(seen, points.weight, views.times[rows], k, covered=covered, terms=self.terms)  # fmt: skip
            open_ = ~(covered | np.logical_or.reduce(seen[chosen], axis=0))
            if points.weight @ open_ <= self.terms.min_gain * points.weight.sum():
                break
        share = shown(seen[chosen], points.weight) / points.pixels
        return Selection(views.ids[rows[chosen]], share.astype(np.float32))

    def _candidates(
        self,
        points: Points,
        open_: NDArray[np.bool_],
        exclude: NDArray[np.int64],
        views: Views,
    ) -> NDArray[np.int64]:
        """Rows of the keyframes to score, ascending."""
        allowed = ~np.isin(views.ids, exclude)
        if self._edge is None or allowed.sum() <= self.scan:
            return np.flatnonzero(allowed)
        cameras = len(points.offsets) - 1
        share = (points.weight * (cameras / points.pixels)).astype(np.float32)
        dim, edge = self.config.dim, self._edge
        each = sketch_points(points.position, share * open_, points.offsets, edge=edge, dim=dim)
        whole = sketch_points(points.position, share, points.offsets[[0, -1]], edge=edge, dim=dim)
        queries = np.concatenate([each, whole])
        spare = max(0, len(self._index) - int(allowed.sum()))  # excluded, or dropped since
        wanted = min(self.config.candidates + spare, len(self._index))
        found = self._index.search(queries[queries.any(1)], wanted)[1]
        allowed_ids = views.ids[allowed]
        best = [ids[np.isin(ids, allowed_ids)][: self.config.candidates] for ids in found]
        return views.rows(np.unique(np.concatenate(best)))
