"""The keyframes whose cameras stood nearest, by position and direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError
from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline, allowed, scene_scale
from spmem.views import Views


@dataclass(frozen=True)
class PoseNearest(Baseline):
    """Orders keyframes by ``position * |t - t'| / scale + angle * theta``, to the nearest of the query's cameras.

    scale is the median depth that the query sees: at weights 1 and 1, a step to the side by the scene's depth counts
    as much as a turn by one radian, which moves the picture about as far. (VMem, arXiv 2506.18903, orders its
    candidates by 0.1 |t - t'| + theta in its own world units.) Scores are minus that distance.
    """

    position: float = 1.0
    angle: float = 1.0

    def __post_init__(self) -> None:
        if self.position < 0 or self.angle < 0:
            raise InputError(f"weights must be >= 0, got {self.position} and {self.angle}")

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = allowed(query, views)
        c2w = query.cameras.c2w.reshape(-1, 4, 4).cpu().numpy()
        if not len(rows) or not len(c2w):
            return Selection.empty()
        distance = self.position * steps(views.c2w[rows], c2w) / scene_scale(query, views)
        distance = (distance + self.angle * turns(views.c2w[rows], c2w)).min(1)
        best = np.lexsort((-rows, -views.times[rows], distance))[: max(k, 0)]
        return Selection(views.ids[rows[best]], -distance[best].astype(np.float32))


def steps(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distances ``[n, t]`` between the positions of poses ``[n, 4, 4]`` and ``[t, 4, 4]``."""
    length: NDArray[np.float32] = np.linalg.norm(a[:, None, :3, 3] - b[None, :, :3, 3], axis=-1)
    return length


def turns(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Angles ``[n, t]`` in radians between the rotations of poses: their trace is 1 + 2 cos."""
    trace = np.einsum("nij,tij->nt", a[:, :3, :3], b[:, :3, :3])
    angle: NDArray[np.float32] = np.arccos(np.clip((trace - 1) / 2, -1, 1))
    return angle
