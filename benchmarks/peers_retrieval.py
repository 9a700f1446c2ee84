"""VMem's retrieval in the structure of its code: an object a surfel, a dictionary of keyframes, a loop over pixels.

What ``spmem.retrieval.rules.surfel_votes`` is raced against, and the plain form that its test compares it with. Written
written from the paper (arXiv 2506.18903) and the facts of its code; scales, cameras and ties are those of our rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem import Camera

CORNERS = 16
"""A surfel is drawn as a polygon of so many corners."""


@dataclass
class Surfel:
    """One oriented disc, in world units."""

    position: NDArray[np.float32]
    normal: NDArray[np.float32]
    radius: float


class SurfelMemory:
    """Surfels as a list, and for the index of each the keyframes that saw it."""

    def __init__(self, surfels: list[Surfel], seen_by: dict[int, list[int]]) -> None:
        self.surfels, self.seen_by = surfels, seen_by

    def render(self, camera: Camera) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Index of the nearest surfel of each pixel (-1 = none), its mean depth, and the cosine of the viewing angle."""
        index = np.full((camera.height, camera.width), -1)
        depth = np.full(index.shape, np.inf)
        cosine = np.zeros(index.shape)
        K, w2c, eye = camera.K.numpy(), camera.w2c.numpy(), camera.position.numpy()
        turns = np.linspace(0, 2 * math.pi, CORNERS, endpoint=False)
        for i, surfel in enumerate(self.surfels):
            away = surfel.position - eye
            cos = -float(away @ surfel.normal) / float(np.linalg.norm(away))
            if cos <= 0:
                continue
            side = np.cross(surfel.normal, [0, 0, 1] if abs(surfel.normal[2]) < 0.9 else [0, 1, 0])
            side /= np.linalg.norm(side)
            other = np.cross(surfel.normal, side)
            rim = np.cos(turns)[:, None] * side + np.sin(turns)[:, None] * other
            corners = (surfel.position + surfel.radius * rim) @ w2c[:3, :3].T + w2c[:3, 3]
            z = corners[:, 2]
            if z.min() <= 0:
                continue
            x = K[0, 0] * corners[:, 0] / z + K[0, 2]
            y = K[1, 1] * corners[:, 1] / z + K[1, 2]
            for row in range(max(0, math.floor(y.min())), min(camera.height, math.ceil(y.max()))):
                for column in range(
                    max(0, math.floor(x.min())), min(camera.width, math.ceil(x.max()))
                ):
                    if (
                        _is_in_polygon(column + 0.5, row + 0.5, x, y)
                        and z.mean() < depth[row, column]
                    ):
                        index[row, column] = i
                        depth[row, column] = z.mean()
                        cosine[row, column] = cos
        return index, depth, cosine

    def votes(
        self, index: NDArray[Any], depth: NDArray[Any], cosine: NDArray[Any], scale: float
    ) -> dict[int, float]:
        """Votes of each keyframe: cos / (1 + depth / scale) from every pixel that shows a surfel it saw."""
        votes: dict[int, float] = {}
        shown = index >= 0
        for surfel, z, cos in zip(index[shown], depth[shown], cosine[shown], strict=True):
            if cos <= 0:
                continue
            for keyframe in self.seen_by.get(int(surfel), []):
                votes[keyframe] = votes.get(keyframe, 0.0) + cos / (1 + z / scale)
        return votes


def choose(
    votes: dict[int, float],
    poses: dict[int, NDArray[Any]],
    pose: NDArray[Any],
    k: int,
    scale: float,
    *,
    suppress: bool = True,
) -> list[int]:
    """The keyframes nearest to the pose that stand apart from each other, among the k + 10 with most votes.

    poses are the camera-to-world matrices of all keyframes, in the order in which they were stored.
    """
    voted = sorted(votes, key=lambda id: (votes[id], id), reverse=True)[: k + 10]
    voted.sort(key=lambda id: (_pose_distance(poses[id], pose, scale), -id))
    if not suppress:
        return voted[:k]
    first = list(poses.values())[:5]
    gaps = sorted(
        _pose_distance(a, b, scale) for i, a in enumerate(first) for b in first[i + 1 :]
    )  # fmt: skip
    threshold = gaps[len(gaps) // 2] if gaps else 1.0
    chosen = voted[:1]
    while len(chosen) < min(k, len(voted)) and threshold >= 1e-5:
        for id in voted[1:]:
            apart = all(_pose_distance(poses[id], poses[c], scale) >= threshold for c in chosen)
            if apart and len(chosen) < k:
                chosen.append(id)
        threshold /= 1.2
    return (chosen + [id for id in voted if id not in chosen])[:k]


def _pose_distance(a: NDArray[Any], b: NDArray[Any], scale: float) -> float:
    step = float(np.linalg.norm(a[:3, 3] - b[:3, 3]))
    cos = (float(np.sum(a[:3, :3] * b[:3, :3])) - 1) / 2
    return 0.1 * step / scale + math.acos(min(1.0, max(-1.0, cos)))


def _is_in_polygon(px: float, py: float, x: NDArray[Any], y: NDArray[Any]) -> bool:
    """Whether a point lies in a polygon: an odd number of its edges cross the ray to the right."""
    odd, j = False, len(x) - 1
    for i in range(len(x)):
        if (y[i] > py) != (y[j] > py) and px < (x[j] - x[i]) * (py - y[i]) / (y[j] - y[i]) + x[i]:
            odd = not odd
        j = i
    return odd
