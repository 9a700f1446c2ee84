"""Spatia's rule: each of the query's cameras gets a keyframe of its own, so that most points are seen by both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from spmem.errors import InputError
from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline, allowed
from spmem.retrieval.visibility.exact import visibility, visible_points
from spmem.views import Views


@dataclass(frozen=True)
class VisibleHungarian(Baseline):
    """One-to-one assignment of keyframes to the query's cameras by the number of points that both see.

    Spatia (arXiv 2512.15716, reference frames, and ``utils/frustum_culling.py`` and ``inference.py`` of its code): a
    z-buffer of the global point cloud says which points are the front-most of their pixel, for history frames and for
    target cameras at 2 a second; a pair's worth is the size of the intersection; the Hungarian method (here scipy's) gives each target
    a frame of its own; the first 7 are the references. (The paper's text speaks of 3D overlap above a threshold.)

    Ours differs: a target's points are its covered pixels on a grid; a keyframe's z-buffer is its own depth thumbnail,
    within ``tolerance`` (of the depth; the code's is 1e-6 on the cloud itself). Of T cameras k are targets, evenly
    spread, as 81 frames give 7; where T < k the assignment is repeated with the keyframes that are left. A keyframe
    that shares no point is not chosen. Scores are the shares of the target camera's pixels that both see.
    """

    tolerance: float = 0.04

    def __post_init__(self) -> None:
        if not self.tolerance > 0:
            raise InputError(f"visible-hungarian: tolerance must be > 0, got {self.tolerance}")

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows, points = allowed(query, views), visible_points(query.projection)
        cameras = len(points.offsets) - 1
        if k < 1 or not len(rows) or not len(points):
            return Selection.empty()
        seen = visibility(points, views, rows, tolerance=self.tolerance)
        common = np.stack(
            [
                seen[:, start:end] @ points.weight[start:end]
                for start, end in zip(points.offsets[:-1], points.offsets[1:], strict=True)
            ]
        )
        free = np.flatnonzero(common.any(0))
        chosen: list[int] = []
        scores: list[float] = []
        while len(chosen) < k and len(free):
            targets = min(cameras, k - len(chosen), len(free))
            target = np.linspace(0, cameras - 1, targets).round().astype(int)
            shared = common[np.ix_(target, free)]
            _, column = linear_sum_assignment(shared, maximize=True)
            both = shared[np.arange(targets), column]
            if not both.any():
                break
            found = free[column[both > 0]]
            chosen += found.tolist()
            scores += (both[both > 0] * (cameras / points.pixels)).tolist()
            free = np.setdiff1d(free, found)
        return Selection(views.ids[rows[chosen]], np.array(scores, np.float32))
