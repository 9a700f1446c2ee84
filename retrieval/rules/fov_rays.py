"""Context-as-Memory's rule: keyframes whose field of view meets the query's, no two of one run, one from far back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError
from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline, allowed, scene_scale
from spmem.views import THUMB, Views


@dataclass(frozen=True)
class FovRays(Baseline):
    """Fields of view as wedges on the ground plan; what meets is drawn from, run by run.

    Context-as-Memory (arXiv 2506.03141, the section on memory retrieval, K = 20; its code is not public): seen from
    above, a camera is two rays, the left and right edge of its image. Two cameras see in common where a ray of one meets
    a ray of the other, not too far away. Of a run of consecutive keyframes that qualify, one is drawn; some of the
    places go to keyframes that are far away in space or time. No occlusion.

    Ours where the paper gives no number: the ground plan is perpendicular to the mean of the cameras' vertical axes; a
    camera that stands in the other's wedge meets it too; both count up to ``reach`` scene scales (the median depth
    that the query sees) from the cameras; of k places, ``far`` go, one at a time, to the keyframe farthest in time
    from all that were chosen, the others to runs in random order, then to their further members. The latest frame
    and the 10 % of recent frames are the working memory's part. Where fewer qualify, fewer are chosen. Scores are the
    share of the query's cameras that a keyframe meets.

    Args:
        reach: In scene scales.
        far: Places for keyframes far back in time.
    """

    reach: float = 3.0
    far: int = 1

    def __post_init__(self) -> None:
        if not self.reach > 0 or self.far < 0:
            raise InputError(
                f"fov-rays: reach > 0 and far >= 0 are wanted, got {self.reach}, {self.far}"
            )

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = allowed(query, views)
        if k < 1 or not len(rows) or not len(query.cameras):
            return Selection.empty()
        met = self._meetings(query, views, rows).mean(1)
        order = np.lexsort((rows, views.times[rows]))
        draw = np.random.default_rng(query.seed & 0xFFFFFFFF)
        drawn = order[_run_by_run(met[order] > 0, draw)]

        near = max(k - self.far, 1)
        chosen, rest = drawn[:near].tolist(), drawn[near:].tolist()
        times = views.times[rows]
        while rest and len(chosen) < k:
            gap = np.abs(times[rest][:, None] - times[chosen]).min(1)
            chosen.append(rest.pop(int(gap.argmax())))
        return Selection(views.ids[rows[chosen]], met[chosen].astype(np.float32))

    def _meetings(self, query: Query, views: Views, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each keyframe's wedge meets that of each of the query's cameras: ``[n, T]``."""
        K, c2w = query.cameras.K.cpu().numpy(), query.cameras.c2w.cpu().numpy()
        plan = _ground_plan(np.concatenate([c2w, views.c2w[rows]])[:, :3, 1])
        mine = _wedges(K, c2w, query.cameras.width, plan)
        theirs = _wedges(views.K[rows], views.c2w[rows], THUMB[1], plan)
        return wedges_meet(theirs, mine, self.reach * scene_scale(query, views))


def wedges_meet(
    a: tuple[NDArray[np.float64], NDArray[np.float64]],
    b: tuple[NDArray[np.float64], NDArray[np.float64]],
    reach: float,
) -> NDArray[np.bool_]:
    """Whether wedges in the plane meet within ``reach`` of their tips: bool ``[n, m]``.

    A set of wedges is tips ``[n, 2]`` and unit directions ``[n, 2, 2]`` of the rays at the two edges, from the one to
    the other against the clock by less than half a turn.

    Example:
        >>> ahead = np.array([[[0.6, 0.8], [-0.6, 0.8]]])
        >>> tip, beside, beyond = (np.array([at], float) for at in ([0, 0], [2, 0], [9, 0]))
        >>> [wedges_meet((tip, ahead), (at, ahead), 5.0).item() for at in (tip, beside, beyond)]
        [True, True, False]
    """
    (tip_a, edges_a), (tip_b, edges_b) = a, b
    gap = tip_b[None] - tip_a[:, None]
    p, q = (
        edges_a[:, None, :, None],
        edges_b[None, :, None, :],
    )  # each edge of one with each of the other
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = _cross(p, q)
        along_a = _cross(gap[:, :, None, None], q) / turn
        along_b = _cross(gap[:, :, None, None], p) / turn
    crossing = (along_a > 0) & (along_b > 0) & (np.maximum(along_a, along_b) <= reach)
    holds = _holds(edges_a[:, None], gap) | _holds(edges_b[None], -gap)
    near = np.linalg.norm(gap, axis=-1)
    same_tip = near <= 1e-4 * reach
    turned = _holds(edges_a[:, None, None], edges_b[None]).any(-1)
    turned |= _holds(edges_b[None, :, None], edges_a[:, None]).any(-1)
    meet: NDArray[np.bool_] = np.where(
        same_tip, turned, crossing.any((-2, -1)) | (holds & (near <= reach))
    )
    return meet


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    product: NDArray[np.float64] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return product


def _holds(edges: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points, as seen from the tips, lie between the edges, which belong to the wedge."""
    inside: NDArray[np.bool_] = (_cross(edges[..., 0, :], point) >= -1e-9) & (
        _cross(point, edges[..., 1, :]) >= -1e-9
    )
    return inside


def _ground_plan(down: NDArray[np.float32]) -> NDArray[np.float64]:
    """Two axes ``[2, 3]`` of the plane perpendicular to the mean of directions down ``[n, 3]``.

    With down as the third axis the frame is right-handed, so that a turn to the right is one against the clock on the plan.
    """
    mean = down.astype(np.float64).mean(0)
    mean = mean if np.linalg.norm(mean) > 1e-6 else down[0].astype(np.float64)
    plan: NDArray[np.float64] = np.linalg.svd(mean[None])[2][1:]
    return plan if np.linalg.det(np.stack([*plan, mean])) > 0 else plan[::-1]


def _wedges(
    K: NDArray[np.float32], c2w: NDArray[np.float32], width: int, plan: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tips, and left and right edge rays, of cameras on the ground plan."""
    sides = np.stack([-K[:, 0, 2], width - K[:, 0, 2]], 1) / K[:, :1, 0]
    rays = c2w[:, None, :3, 2] + sides[..., None] * c2w[:, None, :3, 0]
    edges = rays @ plan.T
    length = np.linalg.norm(edges, axis=-1, keepdims=True)
    return c2w[:, :3, 3] @ plan.T, edges / np.maximum(length, 1e-9)


def _run_by_run(meets: NDArray[np.bool_], draw: np.random.Generator) -> NDArray[np.int64]:
    """Positions where ``meets``, drawn: one of each run in random order of the runs, then the others."""
    positions = draw.permutation(np.flatnonzero(meets))
    run = np.cumsum(np.diff(meets, prepend=False) & meets)[positions]
    first = np.zeros(len(positions), bool)
    first[np.unique(run, return_index=True)[1]] = True
    return np.concatenate([positions[first], positions[~first]])
