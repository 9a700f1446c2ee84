"""Do poses and depth agree? Finds poses handed over under another convention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spmem.errors import ConventionError
from spmem.geometry.conventions import opencv_from_opengl
from spmem.geometry.projection import project, rays
from spmem.geometry.se3 import inverse, transform

if TYPE_CHECKING:
    from spmem.types import Frame

GRID = 48
"""Points a side that are compared."""


@dataclass(frozen=True)
class Agreement:
    """Share of one frame's points that the other sees at their depth, under three readings of the poses.

    0 where the two views do not overlap (fewer than a tenth of the points land in the other image).
    """

    given: float
    opengl: float
    """As if the camera axes were OpenGL's (+y up, +z backward)."""
    inverted: float
    """As if the matrices were world-to-camera."""


def pose_agreement(a: Frame, b: Frame, *, tolerance: float = 0.02) -> Agreement:
    """Reproject a's depth into b under each reading; a point agrees within ``tolerance`` of its depth.

    Real walks agree above 0.5 under the right reading and under 0.1 under a wrong one, once the camera has turned.
    """
    if a.depth is None or b.depth is None:
        raise ValueError("pose_agreement compares frames with depth")
    step_y, step_x = (max(1, n // GRID) for n in a.depth.shape)
    z = a.depth[::step_y, ::step_x].reshape(-1)
    ray = rays(a.camera.K, a.camera.width, a.camera.height)[::step_y, ::step_x].reshape(-1, 3)
    local = (ray * z[:, None])[z > 0]
    readings = (
        (a.camera.c2w, b.camera.c2w),
        (opencv_from_opengl(a.camera.c2w), opencv_from_opengl(b.camera.c2w)),
        (inverse(a.camera.c2w), inverse(b.camera.c2w)),
    )
    shares = [_agree(transform(c2w_a, local), b, c2w_b, tolerance) for c2w_a, c2w_b in readings]
    return Agreement(*shares)


class PoseCheck:
    """Compares the first frames with one another until their poses are known to be right, or not."""

    def __init__(self) -> None:
        self._reference: Frame | None = None
        self._done = False

    def __call__(self, frame: Frame) -> None:
        """Look at the next frame. Raises ConventionError where poses contradict the depth, and fit otherwise."""
        if self._done or frame.depth is None:
            return
        if self._reference is None:
            self._reference = frame
            return
        found = pose_agreement(self._reference, frame)
        best = max(found.opengl, found.inverted)
        if found.given > 0.5 and best < found.given / 2:
            self._done, self._reference = True, None
        elif found.given < 0.3 and best > 0.6:
            reading = (
                "OpenGL axes; build the cameras with Camera.from_opengl"
                if found.opengl == best
                else "world-to-camera matrices; invert them"
            )
            raise ConventionError(
                f"poses and depth contradict each other: {found.given:.0%} of the points agree between frames at "
                f"{self._reference.time:g} s and {frame.time:g} s as given, {best:.0%} if the poses are {reading} "
                "(MemoryConfig(check_poses=False) turns this check off)"
            )
        elif max(found.given, best) == 0:
            self._reference = frame


def _agree(points: Tensor, b: Frame, c2w: Tensor, tolerance: float) -> float:
    assert b.depth is not None
    uv, z = project(points, b.camera.K, c2w)
    x, y = uv.floor().long().unbind(-1)
    inside = (z > 0) & (x >= 0) & (y >= 0) & (x < b.camera.width) & (y < b.camera.height)
    seen = b.depth[y[inside], x[inside]]
    known = seen > 0
    if int(known.sum()) < max(len(points) // 10, 20):
        return 0.0
    off = (seen - z[inside]).abs()[known] / seen[known]
    return float((off < tolerance).to(torch.float32).mean())
