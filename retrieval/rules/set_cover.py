"""Lyra 2.0's rule: the keyframes whose points fill most of the query's pixels, beyond those that it holds already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError
from spmem.kernels.jit import njit
from spmem.query import Query, Selection
from spmem.retrieval.greedy import Terms, greedy, shown
from spmem.retrieval.rules.baseline import Baseline, allowed, scene_scale
from spmem.views import THUMB, Views


@dataclass(frozen=True)
class SetCover(Baseline):
    """Every keyframe's point map is projected into the query's cameras; greedy set cover of the pixels that points hit.

    Lyra 2.0 (arXiv 2604.13036, retrieval by geometry, and the ``max_coverage`` mode of its code's Sparse3DCache, 1 view
    by default, 5 in the paper): point maps and target views at a quarter of the resolution; a pixel counts for a
    keyframe whose point there is at most 0.1 behind the nearest of all keyframes; the pixels of the temporally closest
    frame are covered beforehand; then the keyframe that adds most pixels, until none adds any. Brute force over the bank.

    Ours differs: both resolutions are the thumbnails' 48x64 (a quarter of 192x256), so that a point map still fills the
    pixels it saw; 0.1 is a share of the scene's scale (the median depth that the query sees); the temporally closest
    frame is the latest of those that the generator holds (``given``), and nothing is covered beforehand where it holds
    none; ties go to the keyframe with more pixels in all, then to the latest. Scores are shares of all the query's pixels
    that a keyframe's points fill.

    Args:
        tolerance: In scene scales, how far behind the nearest point one may lie.
        pre_cover: Whether the pixels of the latest frame that the generator holds count as covered; its points hide
            others in any case.
    """

    tolerance: float = 0.1
    pre_cover: bool = True

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise InputError(f"set-cover: tolerance must be >= 0 scales, got {self.tolerance}")

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = allowed(query, views)
        if k < 1 or not len(rows) or not len(query.cameras):
            return Selection.empty()
        held = np.lexsort((query.given.ids, query.given.times))[-1:]
        parts = [(views, rows), (query.given, held)]
        K, c2w, depth = (
            np.concatenate([getattr(bank, name)[which] for bank, which in parts])
            for name in ("K", "c2w", "depth")
        )
        small = query.cameras.resize(THUMB[1], THUMB[0])
        T_target_view = small.w2c.cpu().numpy()[:, None] @ c2w
        tolerance = np.float32(self.tolerance * scene_scale(query, views))
        filled = _filled(K, depth, small.K.cpu().numpy(), T_target_view, tolerance)

        seen, covered = filled[: len(rows)], filled[-1] if len(held) else None
        weight = np.ones(seen.shape[1], np.int64)
        terms = Terms(pre_cover=self.pre_cover, min_gain=0, fill=False)
        chosen = greedy(seen, weight, views.times[rows], k, covered=covered, terms=terms)
        share = shown(seen[chosen], weight) / seen.shape[1]
        return Selection(views.ids[rows[chosen]], share.astype(np.float32))


@njit()
def _filled(
    K: NDArray[np.float32],
    depth: NDArray[np.float32],
    target_K: NDArray[np.float32],
    T_target_view: NDArray[np.float32],
    tolerance: np.float32,
) -> NDArray[np.bool_]:
    """Which pixels of the target cameras each view fills with a point that nothing hides: ``[n, T * 48 * 64]``."""
    n, height, width = depth.shape
    cameras, pixels = len(target_K), height * width
    filled = np.zeros((n, cameras * pixels), np.bool_)
    half, zero, none = np.float32(0.5), np.float32(0), np.float32(np.inf)
    right, bottom = np.float32(width), np.float32(height)
    for t in range(cameras):
        fx, fy, cx, cy = target_K[t, 0, 0], target_K[t, 1, 1], target_K[t, 0, 2], target_K[t, 1, 2]
        nearest, own = np.full(pixels, none), np.full((n, pixels), none)
        for i in range(n):
            T = T_target_view[t, i]
            for y in range(height):
                down = (np.float32(y) + half - K[i, 1, 2]) / K[i, 1, 1]
                px, py, pz = (
                    T[0, 1] * down + T[0, 2],
                    T[1, 1] * down + T[1, 2],
                    T[2, 1] * down + T[2, 2],
                )
                for x in range(width):
                    d, side = depth[i, y, x], (np.float32(x) + half - K[i, 0, 2]) / K[i, 0, 0]
                    z = (T[2, 0] * side + pz) * d + T[2, 3]
                    if d <= zero or z <= zero:
                        continue
                    u = fx * ((T[0, 0] * side + px) * d + T[0, 3]) / z + cx
                    v = fy * ((T[1, 0] * side + py) * d + T[1, 3]) / z + cy
                    if u >= zero and u < right and v >= zero and v < bottom:
                        pixel = int(v) * width + int(u)
                        own[i, pixel] = min(own[i, pixel], z)
                        nearest[pixel] = min(nearest[pixel], z)
        for i in range(n):
            for pixel in range(pixels):
                z = own[i, pixel]
                filled[i, t * pixels + pixel] = z < none and z <= nearest[pixel] + tolerance
    return filled
