"""How far a tracked trajectory lies from the true one."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from spmem.camera import Camera
from spmem.errors import CameraError


class TrajectoryError(NamedTuple):
    """Errors of a trajectory, in world units and radians.

    ate: Root mean square distance of the positions, after the rigid motion that fits them best (Sturm et al., "A Benchmark
        for the Evaluation of RGB-D SLAM Systems", IROS 2012, section VI; no scale is fitted).
    end: Distance of the last positions with the first poses laid upon one another: the drift.
    turn: Angle between the last rotations, likewise.
    path: Length of the true way. ``ate / path`` is the figure that papers give in per cent.
    """

    ate: float
    end: float
    turn: float
    path: float


def trajectory_error(found: Camera, truth: Camera) -> TrajectoryError:
    """Compare cameras ``[T]`` with the true ones, frame by frame.

    Raises CameraError where they are not trajectories of one length, at least 1.

    Example:
        >>> from spmem.testing.box import BoxRoom
        >>> way = BoxRoom().walk(8, width=64, height=48)
        >>> error = trajectory_error(way, way)
        >>> error.ate < 1e-6, error.path > 0.1
        (True, True)
    """
    if len(found.shape) != 1 or found.shape != truth.shape or not len(found):
        raise CameraError(
            f"wanted two trajectories of one length, got {list(found.shape)} and {list(truth.shape)}"
        )
    p, q = found.position.double().cpu(), truth.position.double().cpu()
    R = _fit_rotation(p - p.mean(0), q - q.mean(0))
    apart = (p - p.mean(0)) @ R.mT - (q - q.mean(0))
    c2w, true = found.c2w.double().cpu(), truth.c2w.double().cpu()
    last = true[0] @ torch.linalg.inv(c2w[0]) @ c2w[-1]
    apart_by = last[:3, :3] @ true[-1, :3, :3].mT
    cosine = (float(apart_by.trace()) - 1) / 2
    return TrajectoryError(
        ate=float(apart.square().sum(-1).mean().sqrt()),
        end=float((last[:3, 3] - true[-1, :3, 3]).norm()),
        turn=math.acos(min(max(cosine, -1.0), 1.0)),
        path=float((q[1:] - q[:-1]).norm(dim=-1).sum()),
    )


def _fit_rotation(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The rotation that takes p nearest to q (Umeyama, PAMI 1991, without scale)."""
    U, _, Vh = torch.linalg.svd(q.mT @ p)
    flip = torch.ones(3, dtype=p.dtype)
    flip[2] = torch.linalg.det(U @ Vh)
    rotation: torch.Tensor = U @ (flip[:, None] * Vh)
    return rotation
