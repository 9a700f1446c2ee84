"""Poses of data sets: other axes, nearly rigid rotations, frames whose tracking was lost."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import CameraError, FormatError, UnknownNameError
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.pixels import PIXELS, too_large

Axes = Literal["opencv", "opengl", "ned"]
RIGID_TOLERANCE = 0.02
"""How far from rigid a stored pose may be to be cleaned (device trackers leave 1e-3)."""

_UNIT_TOLERANCE = 0.02
_OPENCV_FROM_NED = [[0.0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]


def opencv_poses(c2w: Float[Tensor, "n 4 4"], axes: Axes) -> Float[Tensor, "n 4 4"]:
    """Camera-to-world poses of other axes as OpenCV's.

    ``opengl``: the camera's axes are +x right, +y up, +z backward; the world stays as it is.
    ``ned``: camera and world are +x forward (north), +y right (east), +z down, as TartanAir's (arXiv
    2003.14338); both are renamed, so that the world's up is -y.

    Raises UnknownNameError for other axes.
    """
    if axes == "opencv":
        return c2w
    if axes == "opengl":
        return geometry.opencv_from_opengl(c2w)
    if axes == "ned":
        rename = torch.tensor(_OPENCV_FROM_NED, dtype=c2w.dtype)
        return rename @ c2w @ rename.mT
    raise UnknownNameError("axes convention", axes, ("opencv", "opengl", "ned"))


def poses_from_rows(rows: NDArray[np.float64]) -> Float[Tensor, "n 4 4"]:
    """Row-major matrices, 3x4 or 4x4, given as ``[n, 12]`` or ``[n, 16]``."""
    poses = torch.eye(4, dtype=torch.float64).repeat(len(rows), 1, 1)
    count = rows.shape[1] // 4
    poses[:, :count] = torch.from_numpy(rows).reshape(-1, count, 4)
    return poses


def poses_from_quaternions(
    path: DataPath, position: NDArray[np.float64], xyzw: NDArray[np.float64]
) -> Float[Tensor, "n 4 4"]:
    """Poses of positions ``[n, 3]`` and unit quaternions ``[n, 4]``, x first as files have them.

    Raises FormatError where a quaternion is finite but not of length 1.
    """
    off = np.abs(np.linalg.norm(xyzw, axis=1) - 1)
    if (off > _UNIT_TOLERANCE).any():
        i = int(np.argmax(off > _UNIT_TOLERANCE))
        raise FormatError(path, f"pose {i}: {xyzw[i].tolist()} is no unit quaternion qx qy qz qw")
    poses = torch.eye(4, dtype=torch.float64).repeat(len(position), 1, 1)
    poses[:, :3, :3] = geometry.matrix_from_quaternion(torch.from_numpy(xyzw[:, [3, 0, 1, 2]]))
    poses[:, :3, 3] = torch.from_numpy(position)
    return poses


def tracked(
    path: DataPath, c2w: Float[Tensor, "n 4 4"], sources: Sequence[DataPath] | None = None
) -> tuple[Float[Tensor, "m 4 4"], NDArray[np.int64]]:
    """The poses that mean something, made exactly rigid, and the rows at which they stood.

    A pose that is not finite is a frame where tracking was lost: it is left out, with one warning that
    counts them. ``sources`` names each pose's own file where it has one.

    Raises FormatError where a finite pose is not rigid, or none is left.
    """
    finite = torch.isfinite(c2w).all(-1).all(-1)
    rows = np.flatnonzero(finite.numpy())
    if not len(rows):
        raise FormatError(path, f"none of its {len(c2w)} poses is finite")
    c2w = c2w[finite]
    off = geometry.rigid_error(c2w)
    if float(off.max()) > RIGID_TOLERANCE:
        worst = int((off > RIGID_TOLERANCE).long().argmax())
        row = int(rows[worst])
        turned = float(geometry.rigid_error(c2w[worst].mT)) <= RIGID_TOLERANCE
        hint = "it looks transposed" if turned else "a scale or a mirrored axis must be divided out"
        raise FormatError(
            path if sources is None else sources[row],
            f"pose {row} is not rigid (off by {float(off[worst]):.2g}, allowed {RIGID_TOLERANCE:g}): {hint}",
        )
    left_out(path, int((~finite).sum()), len(finite), "no finite pose (tracking lost)")
    clean = geometry.nearest_rotation(c2w)
    clean[:, 3] = torch.tensor([0.0, 0, 0, 1], dtype=clean.dtype)
    return clean, rows


def left_out(path: DataPath, count: int, total: int, why: str) -> None:
    """One warning that says how many frames are left out, if any."""
    if count:
        warnings.warn(f"{path}: {count} of {total} frames have {why}, left out", stacklevel=4)


def scaled(K: Any, size: tuple[int, int], width: int, height: int) -> Float[Tensor, "*b 3 3"]:
    """Intrinsics given in pixels of one image size (width, height), in those of another."""
    pixels: Tensor = torch.as_tensor(K, dtype=torch.float64)
    return (
        pixels * torch.tensor([width / size[0], height / size[1], 1.0], dtype=pixels.dtype)[:, None]
    )


def cameras_of(path: DataPath, K: Any, c2w: Any, width: int, height: int) -> Camera:
    """A Camera whose errors name the file that its numbers came from; of images within the limit of pixels."""
    if width * height > PIXELS:
        raise FormatError(path, f"has an image that {too_large(width, height)}")
    try:
        return Camera(K, c2w, width=width, height=height)
    except CameraError as error:
        raise FormatError(path, str(error)) from error
