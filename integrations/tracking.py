"""The camera of a frame, found against the rendered map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import CameraError, FrameError, InputError, SpmemError
from spmem.protocols import Memory
from spmem.types import Projection

ON_MAP = 0.03
"""A point within this share of its depth from the map's plane lies on the map."""
DAMPING = 1e-4
"""Of the normal equations, relative to their mean diagonal: holds the motions that the view leaves open."""


class TrackingLostError(SpmemError, RuntimeError):
    """Too little of the frame lies on what memory knows: the guess is too far off, or the place is new."""


class ProjectiveIcp:
    """Aligns the frame's depth with the rendered map, coarse to fine.

    Distances to the map's planes with projective association (KinectFusion, Newcombe et al., ISMAR 2011, section
    3.5), solved by Gauss-Newton with Tukey's weights on the distance relative to depth. At each image size the map
    is rendered anew from the pose so far. Colour is not used: a view of a single wall leaves the motions along it
    open, and in those the pose keeps the guess.

    Args:
        heights: Image heights in pixels, coarse to fine: the frame is thinned out to about these.
        iterations: Gauss-Newton steps at each height.
        gate: Farthest association, as a share of the depth; about the error of the guess that can be undone.
        overlap: Share of the frame's pixels with depth that must lie on the map in the end.
        agreement: The same, as a share of those that fall on pixels which the map covers.
    """

    def __init__(
        self,
        *,
        heights: Sequence[int] = (60, 120, 240),
        iterations: int = 10,
        gate: float = 0.15,
        overlap: float = 0.3,
        agreement: float = 0.7,
    ) -> None:
        if not heights or min(heights) < 8 or iterations < 1 or not gate > 0:
            raise InputError(
                "projective-icp wants heights >= 8, iterations >= 1 and gate > 0, "
                f"got {list(heights)}, {iterations} and {gate}"
            )
        if not (0 < overlap <= 1 and 0 < agreement <= 1):
            raise InputError(f"overlap and agreement are shares, got {overlap} and {agreement}")
        self.heights = tuple(heights)
        self.iterations = iterations
        self.gate = gate
        self.overlap = overlap
        self.agreement = agreement

    def __call__(
        self,
        rgb: Float[Tensor, "h w 3"],
        depth: Float[Tensor, "h w"] | None,
        guess: Camera,
        memory: Memory,
    ) -> Camera:
        """The guess with its pose corrected.

        Raises:
            FrameError: No depth, or of another size than the guess.
            CameraError: The guess is a trajectory.
            TrackingLostError: Less than ``overlap`` or ``agreement`` of the frame lies on the map.
        """
        if depth is None:
            raise FrameError("projective-icp aligns depth, and got None; estimate it first")
        if guess.shape:
            raise CameraError(f"the guess is one camera, got {list(guess.shape)}; index it")
        if depth.shape != (guess.height, guess.width):
            raise FrameError(
                f"depth is {list(depth.shape)}, the guess {[guess.height, guess.width]} (height, width)"
            )
        pose, pairs = guess.c2w, None
        for level, height in enumerate(self.heights):
            small, camera = _thin_out(depth, guess, pose, max(guess.height // height, 1))
            known = memory.retrieve(camera[None], k=1).projection
            seen = small > 0
            points = (
                geometry.rays(camera.K, camera.width, camera.height)[seen] * small[seen][:, None]
            )
            for _ in range(self.iterations):
                pairs = _associate(geometry.transform(pose, points), known, self.gate)
                pose = _improve(pairs, pose, self.gate / 4**level)
            pairs = _associate(geometry.transform(pose, points), known, self.gate)
        assert pairs is not None
        self._check(pairs)
        return Camera(
            guess.K,
            geometry.nearest_rotation(pose),
            width=guess.width,
            height=guess.height,
            validate=False,
        )

    def _check(self, pairs: _Pairs) -> None:
        on_map = float((pairs.near & (pairs.residual.abs() < ON_MAP)).sum())
        covered, seen = float(pairs.covered.sum()), len(pairs.x)
        if on_map < self.overlap * seen or on_map < self.agreement * covered or not seen:
            raise TrackingLostError(
                f"of {seen} pixels with depth {covered:.0f} fall on the map and {on_map:.0f} lie on its surface: the "
                "guess is too far off (give a nearer one, or widen gate), or memory does not know this place"
            )


TRACKERS: Mapping[str, Callable[..., Any]] = {"projective-icp": ProjectiveIcp}
"""The shipped pose trackers by name; installed packages add theirs (:mod:`spmem.plugins`)."""


class _Pairs(NamedTuple):
    """The frame's points, and the map in the pixel that each falls into; ``[n]`` each.

    x: in the world. covered: the map covers that pixel. near: and is near enough to be the same surface.
    normal: the map's. residual: signed distance to its plane over z. z: depth in the rendered view.
    """

    x: Float[Tensor, "n 3"]
    covered: Bool[Tensor, " n"]
    near: Bool[Tensor, " n"]
    normal: Float[Tensor, "n 3"]
    residual: Float[Tensor, " n"]
    z: Float[Tensor, " n"]


def _associate(x: Float[Tensor, "n 3"], known: Projection, gate: float) -> _Pairs:
    camera = known.cameras[0]
    pixel, z = geometry.project(x, camera.K, camera.c2w)
    column, row = pixel.floor().long().unbind(-1)
    inside = (row >= 0) & (row < camera.height) & (column >= 0) & (column < camera.width) & (z > 0)
    at = (row.clamp(0, camera.height - 1), column.clamp(0, camera.width - 1))
    covered = inside & known.mask[0][at]
    normal, gap = known.normal[0][at], known.points[0][at] - x
    near = covered & (gap.norm(dim=-1) < gate * z)
    z = torch.where(covered, z, torch.ones_like(z))
    return _Pairs(x, covered, near, normal, (normal * gap).sum(-1) / z, z)


def _improve(pairs: _Pairs, pose: Float[Tensor, "4 4"], width: float) -> Float[Tensor, "4 4"]:
    """The pose after one reweighted least-squares step.

    Tukey's function is at least ``width`` wide: narrower at once, the few pixels that hold the last free motion
    would be taken for outliers. The twist is about the camera and in units of the depth, so that damping keeps the
    camera where it is, and not the scene's middle, where the view leaves a motion open.
    """
    near, residual = pairs.near, pairs.residual
    if not bool(near.any()):
        return pose
    spread = 1.4826 * float(residual[near].abs().median())
    width = max(width, 4.685 * spread)
    weight = near * (1 - (residual / width).square()).clamp(min=0).square()
    centre, scale = pose[:3, 3], pairs.z[near].median()
    turn = torch.linalg.cross((pairs.x - centre) / scale, pairs.normal)
    rows = (torch.cat([pairs.normal, turn], -1) / pairs.z[:, None]).double()
    normal = (rows * weight[:, None]).mT @ rows
    normal += (
        DAMPING * normal.diagonal().mean() * torch.eye(6, dtype=rows.dtype, device=rows.device)
    )
    step = torch.linalg.solve(normal, (rows * (weight * residual)[:, None]).sum(0)).to(pose.dtype)
    axis = step[3:] / scale
    skew = torch.linalg.cross(axis.expand(3, 3), torch.eye(3, device=axis.device)).mT
    improved = pose.clone()
    improved[:3, :3] = torch.linalg.matrix_exp(skew) @ pose[:3, :3]
    improved[:3, 3] = centre + step[:3]
    return improved


def _thin_out(
    depth: Float[Tensor, "h w"], guess: Camera, pose: Float[Tensor, "4 4"], stride: int
) -> tuple[Float[Tensor, "h2 w2"], Camera]:
    """Every stride-th pixel (no averaging, which would bridge edges), and the camera with just those pixels."""
    small = depth[stride // 2 :: stride, stride // 2 :: stride]
    K = guess.K.clone()
    K[:2, 2] -= stride // 2 + 0.5  # from the centre of the first pixel kept
    K[:2] /= stride
    K[:2, 2] += 0.5
    return small, Camera(K, pose, width=small.shape[1], height=small.shape[0], validate=False)
