"""The default rule: candidates by the voxels they saw, exact visibility, greedy coverage, and of equals the sharpest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem.arrays import ArraySchema, require
from spmem.config import RetrievalConfig
from spmem.limits import FARTHEST, FINEST
from spmem.query import Query, Selection
from spmem.retrieval.greedy import Terms, greedy, shown
from spmem.retrieval.indices.inverted import VoxelIndex
from spmem.retrieval.indices.places import place_index
from spmem.retrieval.indices.voxels import voxel_edge, voxels, voxels_of_views
from spmem.retrieval.visibility.exact import Points, visibility, visible_points
from spmem.retrieval.visibility.sharpness import sharpness
from spmem.views import Views

SCHEMA = {"edge": ArraySchema("float64", "1", least=FINEST, most=FARTHEST)}
"""The edge of the index's voxels; the index has a schema of its own."""

SEARCHES = 2
"""The keyframes that match best show much the same; the second search is for what the first one's choice leaves."""


class Covisibility:
    """Picks the keyframes that together saw most of what the query's cameras will see.

    1. Points: a grid of the pixels that the map shows along the query's cameras.
    2. Candidates: the keyframes that saw most of the same voxels, searched for each camera over what is not shown yet,
       and over all.
    3. Which points each candidate saw, exactly, occlusion included, and how sharply.
    4. Greedy choice of those that add most, of equals the sharpest; ``terms`` says what counts. Then once more from 2.

    The answer begins with the keyframe that shows most, and most sharply.

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
        scan: int = 256,
    ) -> None:
        self.config = config or RetrievalConfig()
        self.terms = terms or Terms()
        self.scan = max(scan, self.config.candidates)
        self._index = place_index(self.config)
        self._edge: float | None = None

    def observe(self, views: Views, rows: slice) -> None:
        """Index what these rows saw; views that were changed are replaced.

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
            self._index, new = place_index(self.config), np.arange(len(views))
        self._index.add(views.ids[new], voxels_of_views(views, new, edge=self._edge))

    def arrays(self, views: Views) -> dict[str, NDArray[Any]] | None:
        """The index of these views, for a cache; None where it is not of the kind that is kept (``voxels``)."""
        if not isinstance(self._index, VoxelIndex) or self._edge is None:
            return None
        self._index.remove(np.setdiff1d(self._index.ids, views.ids))
        return {"edge": np.array([self._edge]), **self._index.arrays()}

    def restore(self, arrays: Mapping[str, NDArray[Any]], ids: NDArray[np.int64]) -> None:
        """Inverse of :meth:`arrays`, for views of these ids; nothing changes where the index is not of the kind that is kept.

        Raises:
            ValueError: Arrays that no index of these views gives.
        """
        if not isinstance(self._index, VoxelIndex):
            return
        require(arrays, SCHEMA)
        index = VoxelIndex.restore(arrays)
        if not np.array_equal(index.ids, ids):
            raise ValueError("the cached index is of other views")
        self._index, self._edge = index, float(arrays["edge"][0])

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
        sharp = np.zeros((0, len(points)), np.uint8)  # no rows where it does not count
        for _ in range(SEARCHES):
            new = np.setdiff1d(self._candidates(points, open_, query.exclude, views), rows)
            if not len(new):
                break
            rows = np.concatenate([rows, new])
            saw = visibility(points, views, new, tolerance=tolerance)
            order = np.argsort(rows)
            rows, seen = rows[order], np.concatenate([seen, saw])[order]
            if self.terms.sharpness > 0:
                how = sharpness(points, query.cameras, views, new, saw)
                sharp = np.concatenate([sharp, how])[order]
            chosen = greedy(
                seen, points.weight, views.times[rows], k, covered=covered, sharp=sharp, terms=self.terms
            )  # fmt: skip
            open_ = ~(covered | np.logical_or.reduce(seen[chosen], axis=0))
            if points.weight @ open_ <= self.terms.min_gain * points.weight.sum():
                break
        if self.terms.sharpness > 0:
            chosen = chosen[np.argsort(-(sharp[chosen] @ points.weight), kind="stable")]
        share = shown(seen[chosen], points.weight) / points.pixels
        return Selection(views.ids[rows[chosen]], share.astype(np.float32))

    def rank(self, query: Query, views: Views, k: int) -> Selection:
        """The k keyframes that each saw most of what is asked, whatever the others saw: best first, ties latest first.

        Scores are shares of all the query's pixels, exact as in :meth:`select`, and never 0. ``query.given`` and
        ``terms`` do not count here.
        """
        points = visible_points(query.projection)
        if k < 1 or not len(points):
            return Selection.empty()
        everything = np.ones(len(points), bool)
        rows = self._candidates(points, everything, query.exclude, views, wanted=k)
        seen = visibility(points, views, rows, tolerance=self.config.tolerance)
        share = shown(seen, points.weight) / points.pixels
        best = np.lexsort((rows, views.times[rows], share))[::-1][:k]
        best = best[share[best] > 0]
        return Selection(views.ids[rows[best]], share[best].astype(np.float32))

    def _candidates(
        self,
        points: Points,
        open_: NDArray[np.bool_],
        exclude: NDArray[np.int64],
        views: Views,
        *,
        wanted: int = 0,
    ) -> NDArray[np.int64]:
        """Rows of the keyframes to score, ascending: for each search ``config.candidates``, or more where wanted."""
        most = max(self.config.candidates, wanted)
        if self._edge is None or len(views) <= self.scan:
            return np.flatnonzero(~np.isin(views.ids, exclude))
        cameras = len(points.offsets) - 1
        share = (points.weight * (cameras / points.pixels)).astype(np.float32)
        left: NDArray[np.float32] = np.where(open_, share, np.float32(0))
        asked = [voxels(points.position, left, points.offsets, edge=self._edge)]
        if cameras > 1:
            together = points.offsets[[0, -1]]
            asked.append(
                voxels(points.position, share / np.float32(cameras), together, edge=self._edge)
            )
        dropped = max(0, len(self._index) - len(views))
        rows = []
        for sets in asked:
            for ids in self._index.search(sets, most + dropped, exclude)[1]:
                known = ids[np.isin(ids, views.ids)] if dropped else ids[ids >= 0]
                rows.append(views.rows(known[:most]))
        return np.unique(np.concatenate(rows))
