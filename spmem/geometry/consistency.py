"""Do the depth of two views and their poses agree, under another reading of the poses or another scale of the depth?"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from spmem.geometry.conventions import opencv_from_opengl
from spmem.geometry.projection import project, rays
from spmem.geometry.se3 import inverse, transform

GRID = 48
"""Points a side that are compared."""


class DepthView(NamedTuple):
    """What one camera sees: z-depth ``[H, W]`` in world units, 0 = none; K ``[3, 3]`` in pixels; c2w ``[4, 4]``."""

    depth: Float[Tensor, "h w"]
    K: Float[Tensor, "3 3"]
    c2w: Float[Tensor, "4 4"]


class Agreement(NamedTuple):
    """Share of one view's points that the other sees at their depth, under three readings of the poses.

    0 if the two views do not overlap (fewer than a tenth of the points land in the other image).

    given: As they are.
    opengl: As if the camera axes were OpenGL's (+y up, +z backward).
    inverted: As if the matrices were world-to-camera.
    """

    given: float
    opengl: float
    inverted: float


class Overlap(NamedTuple):
    """How one view's points lie in the other, as shares of those that land where it has depth.

    agree: At the depth that it sees.
    before: Before what it sees: it looks through them, which no scene allows.
    parallax: Median of how far the camera moved, as a share of the points' depth: the angle in radians by which they
        shift, at most.
    """

    agree: float
    before: float
    parallax: float


def pose_agreement(a: DepthView, b: DepthView, *, tolerance: float = 0.02) -> Agreement:
    """Reproject a's depth into b under each reading; a point agrees within ``tolerance`` of its depth.

    Real walks agree above 0.5 under the right reading and under 0.1 under a wrong one, once the camera has turned.
    """
    readings = (
        (a.c2w, b.c2w),
        (opencv_from_opengl(a.c2w), opencv_from_opengl(b.c2w)),
        (inverse(a.c2w), inverse(b.c2w)),
    )
    found = (
        overlap(a._replace(c2w=one), b._replace(c2w=other), tolerance=tolerance, least=0.1)
        for one, other in readings
    )
    return Agreement(*(0.0 if one is None else one.agree for one in found))


def overlap(
    a: DepthView, b: DepthView, factor: float = 1.0, *, tolerance: float = 0.02, least: float = 0.25
) -> Overlap | None:
    """Look at a's points from b, as if the depth of both were ``factor`` times what it is.

    Args:
        a: Where the points are.
        b: Where they are looked at.
        factor: Of the depth.
        tolerance: Of a point's depth, as a share.
        least: Share of the points that must land where b has depth, and at least 20 points.

    Returns None if fewer do.
    """
    points = _points(a)
    # Depth times f among poses as they are is depth as it is among positions divided by f.
    here, there = (_scaled_position(view.c2w, 1 / factor) for view in (a, b))
    uv, z = project(transform(here, points), b.K, there)
    height, width = b.depth.shape
    x, y = uv.floor().long().unbind(-1)
    inside = (z > 0) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
    seen, z = b.depth[y[inside], x[inside]], z[inside]
    known = seen > 0
    if int(known.sum()) < max(int(len(points) * least), 20):
        return None
    off = (z - seen)[known] / seen[known]
    moved = float((here[:3, 3] - there[:3, 3]).norm())
    return Overlap(
        agree=float((off.abs() < tolerance).float().mean()),
        before=float((off < -tolerance).float().mean()),
        parallax=moved / float(z[known].median()),
    )


def _points(view: DepthView) -> Tensor:
    """Points [N, 3] that a view has on a grid, as its camera sees them."""
    height, width = view.depth.shape
    step_y, step_x = (max(1, n // GRID) for n in (height, width))
    z = view.depth[::step_y, ::step_x].reshape(-1)
    ray = rays(view.K, width, height)[::step_y, ::step_x].reshape(-1, 3)
    points: Tensor = (ray * z[:, None])[z > 0]
    return points


def _scaled_position(c2w: Tensor, factor: float) -> Tensor:
    """The pose with its position multiplied."""
    scaled = c2w.clone()
    scaled[:3, 3] *= factor
    return scaled
