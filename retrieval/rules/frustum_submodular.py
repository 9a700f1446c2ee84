"""The rule of the spmem paper's code: cameras whose frusta together overlap most with the query's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError
from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline, allowed, scene_scale
from spmem.retrieval.visibility.frustum import inside
from spmem.views import THUMB, Views

PAIRS = 5000
"""At most so many distances between cameras set the scale."""


@dataclass(frozen=True)
class FrustumSubmodular(Baseline):
    """Greedy on the sum, over the query's cameras, of the best overlap that a chosen keyframe has with each.

    Video World Models with Long-term Spatial Memory (arXiv 2506.05284, episodic memory in section 3, and
    ``infer_stream.py`` of its code, K = 10 or 5): overlap is the share of 32 points, drawn in a query camera's frustum
    uniformly in depth, that lie in the keyframe's frustum. Depths go from 0.02 to 3 times the 60th percentile of the
    distances between cameras. The choice stops when nothing gains, then drops keyframes that overlap no camera by 0.3
    or more, unless that drops all. No occlusion.

    Ours differs: fields of view are the cameras' instead of 90 degrees at 3:2; cameras that all stand in one place take
    the scene's scale for theirs; where nothing overlaps, no keyframe is taken (the code then takes one). Ties go to the
    latest. One camera never has more than one keyframe, since the best overlap is what counts; ``fill`` (the code's
    ``force_count``) goes on, without the threshold, with those that overlap most. Scores are the largest overlap with one of the query's cameras.

    Args:
        samples: Points in each query camera's frustum, drawn by the query's seed.
        near: In scales.
        far: In scales.
        percentile: Of the distances between cameras, which is the scale.
        threshold: Overlap that a keyframe must reach.
        fill: Whether to go on to k once nothing gains.
    """

    samples: int = 32
    near: float = 0.02
    far: float = 3.0
    percentile: float = 60.0
    threshold: float = 0.3
    fill: bool = False

    def __post_init__(self) -> None:
        if self.samples < 1 or not 0 <= self.near < self.far:
            raise InputError("frustum-submodular: samples >= 1 and 0 <= near < far are wanted")
        if not (0 <= self.percentile <= 100 and 0 <= self.threshold <= 1):
            raise InputError(
                "frustum-submodular: percentile in 0..100 and threshold in 0..1 are wanted"
            )

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = allowed(query, views)
        if k < 1 or not len(rows) or not len(query.cameras):
            return Selection.empty()
        overlap = self._overlap(query, views, rows)
        times, best = views.times[rows], np.zeros(overlap.shape[1])
        single = overlap.max(1)
        chosen: list[int] = []
        while len(chosen) < min(k, len(rows)):
            gain = np.maximum(overlap - best, 0).sum(1)
            row = int(np.lexsort((rows, times, gain))[-1])
            if gain[row] <= 0:
                break
            chosen.append(row)
            best = np.maximum(best, overlap[row])
        if self.fill:
            rest = np.lexsort((rows, times, single))[::-1]
            chosen += [int(r) for r in rest if r not in chosen and single[r] > 0][: k - len(chosen)]
        elif (single[chosen] >= self.threshold).any():
            chosen = [row for row in chosen if single[row] >= self.threshold]
        return Selection(views.ids[rows[chosen]], single[chosen].astype(np.float32))

    def _overlap(self, query: Query, views: Views, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Shares ``[n, T]`` of each query camera's points that lie in each keyframe's frustum."""
        K, c2w = query.cameras.K.cpu().numpy(), query.cameras.c2w.cpu().numpy()
        positions = np.concatenate([views.c2w[rows, :3, 3], c2w[:, :3, 3]])
        draw = np.random.default_rng(query.seed & 0xFFFFFFFF)
        scale = _spread(positions, self.percentile, draw) or scene_scale(query, views)
        near, far = self.near * scale, self.far * scale

        z = draw.uniform(near, far, self.samples)
        u = draw.uniform(0, query.cameras.width, self.samples)
        v = draw.uniform(0, query.cameras.height, self.samples)
        right = (u - K[:, None, 0, 2]) / K[:, None, 0, 0] * z
        down = (v - K[:, None, 1, 2]) / K[:, None, 1, 1] * z
        local = np.stack([right, down, np.broadcast_to(z, right.shape)], -1)
        points = local @ c2w[:, :3, :3].swapaxes(1, 2) + c2w[:, None, :3, 3]
        there = inside(points.reshape(-1, 3), views.K[rows], views.c2w[rows], THUMB, near=near, far=far)  # fmt: skip
        share: NDArray[np.float64] = there.reshape(len(rows), len(c2w), -1).mean(2)
        return share


def _spread(positions: NDArray[np.float32], percentile: float, draw: np.random.Generator) -> float:
    """A percentile of the distances between positions, of at most 5,000 drawn pairs; 0 where there are none."""
    n = len(positions)
    if n * (n - 1) // 2 <= PAIRS:
        a, b = np.triu_indices(n, 1)
    else:
        a, b = draw.integers(0, n, (2, PAIRS))
        a, b = a[a != b], b[a != b]
    distances = np.linalg.norm(positions[a] - positions[b], axis=1)
    return float(np.percentile(distances, percentile)) if len(distances) else 0.0
