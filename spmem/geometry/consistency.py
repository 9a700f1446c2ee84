"""Do poses and depth agree? Finds poses handed over under another convention, and depth in another scale."""

from __future__ import annotations

import math
import warnings
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
    local = _points(a)
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


def scale_agreement(
    a: Frame, b: Frame, factor: float, *, tolerance: float = 0.02, overlap: float = 0.25
) -> float:
    """Share of a's points that b sees at their depth, were the depth of both ``factor`` times what it is.

    0 where fewer than ``overlap`` of the points land in the other image where that has depth.
    """
    here, there = (_moved_by(camera.c2w, 1 / factor) for camera in (a.camera, b.camera))
    return _agree(transform(here, _points(a)), b, there, tolerance, overlap)


class ScaleCheck:
    """Compares frames until depth and poses are known to be in one scale, or warns that they are not.

    Depth in another unit than the poses fits while the camera turns, and contradicts itself once it moves: points then
    agree under a factor other than 1. Warned of is a factor of more than 1.15 either way under which more than 0.6 agree,
    where fewer than 0.3 do as given; frames that overlap too little say nothing.
    """

    def __init__(self) -> None:
        self._reference: Frame | None = None
        self._searches = 16

    def __call__(self, frame: Frame) -> None:
        """Look at the next frame; warns at most once."""
        if not self._searches or frame.depth is None:
            return
        if self._reference is None:
            self._reference = frame
            return
        given = scale_agreement(self._reference, frame, 1.0)
        if given == 0:
            self._reference = frame
        elif given > 0.5:
            others = (scale_agreement(self._reference, frame, factor) for factor in (0.5, 2.0))
            if max(others) < given / 2:  # the camera moved, and this is the scale that fits
                self._searches, self._reference = 0, None
        elif given < 0.3:
            self._searches -= 1
            best, factor = _best_scale(self._reference, frame)
            if best > 0.6 and not 1 / 1.15 < factor < 1.15:
                warnings.warn(
                    f"depth and poses seem to be in different scales: {given:.0%} of the points agree between frames at "
                    f"{self._reference.time:g} s and {frame.time:g} s as given, {best:.0%} if depth is multiplied by "
                    f"{factor:.3g}; bring one to the other's unit "
                    "(MemoryConfig(check_poses=False) turns this check off)",
                    stacklevel=4,
                )
                self._searches, self._reference = 0, None


def _best_scale(a: Frame, b: Frame) -> tuple[float, float]:
    """The largest agreement under a factor from 1 / 4096 to 4096, and the factor: the nearest to 1 of those as good."""
    coarse = {
        2.0 ** (step / 2): scale_agreement(a, b, 2.0 ** (step / 2), tolerance=0.05)
        for step in range(-24, 25)
    }
    good = [factor for factor, share in coarse.items() if share > max(coarse.values()) - 0.03]
    near = min(good, key=lambda factor: abs(math.log(factor)))
    fine = (near * 2.0 ** (step / 12) for step in range(-6, 7))
    return max((scale_agreement(a, b, factor), factor) for factor in fine)


def _points(frame: Frame) -> Tensor:
    """Points [N, 3] that a frame sees on a grid, as its camera sees them."""
    assert frame.depth is not None
    step_y, step_x = (max(1, n // GRID) for n in frame.depth.shape)
    z = frame.depth[::step_y, ::step_x].reshape(-1)
    camera = frame.camera
    ray = rays(camera.K, camera.width, camera.height)[::step_y, ::step_x].reshape(-1, 3)
    return (ray * z[:, None])[z > 0]


def _moved_by(c2w: Tensor, factor: float) -> Tensor:
    """The pose with its position multiplied."""
    scaled = c2w.clone()
    scaled[:3, 3] *= factor
    return scaled


def _agree(points: Tensor, b: Frame, c2w: Tensor, tolerance: float, overlap: float = 0.1) -> float:
    assert b.depth is not None
    uv, z = project(points, b.camera.K, c2w)
    x, y = uv.floor().long().unbind(-1)
    inside = (z > 0) & (x >= 0) & (y >= 0) & (x < b.camera.width) & (y < b.camera.height)
    seen = b.depth[y[inside], x[inside]]
    known = seen > 0
    if int(known.sum()) < max(int(len(points) * overlap), 20):
        return 0.0
    off = (seen - z[inside]).abs()[known] / seen[known]
    return float((off < tolerance).to(torch.float32).mean())
