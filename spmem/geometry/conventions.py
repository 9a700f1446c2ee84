"""Cameras of other libraries, converted once and by name.

spmem's own: OpenCV axes (+x right, +y down, +z forward), camera-to-world, K in pixels, pixel centres at +0.5.
"""

from __future__ import annotations

from typing import TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.geometry.se3 import inverse, matrix_from_quaternion, quaternion_from_matrix


class Pytorch3dCamera(TypedDict):
    """Keyword arguments of ``pytorch3d.renderer.PerspectiveCameras`` (its NDC convention)."""

    R: Float[Tensor, "*b 3 3"]
    T: Float[Tensor, "*b 3"]
    focal_length: Float[Tensor, "*b 2"]
    principal_point: Float[Tensor, "*b 2"]
    image_size: Float[Tensor, "*b 2"]


class GsplatCamera(TypedDict):
    """Keyword arguments of ``gsplat.rasterization`` that say where to look from."""

    viewmats: Float[Tensor, "*b 4 4"]
    Ks: Float[Tensor, "*b 3 3"]
    width: int
    height: int


class ColmapCamera(TypedDict):
    """A PINHOLE camera and its image pose, as COLMAP's ``cameras.txt`` and ``images.txt`` write them."""

    params: Float[Tensor, "*b 4"]
    qvec: Float[Tensor, "*b 4"]
    tvec: Float[Tensor, "*b 3"]
    width: int
    height: int


def opencv_from_opengl(c2w: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Camera axes +x right, +y up, +z backward (OpenGL, Blender, nerfstudio) to OpenCV's."""
    return c2w * torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=c2w.dtype, device=c2w.device)


def opengl_from_opencv(c2w: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Inverse of :func:`opencv_from_opengl` (the change of axes is its own inverse)."""
    return opencv_from_opengl(c2w)


def pytorch3d_from_opencv(
    K: Float[Tensor, "*b 3 3"], c2w: Float[Tensor, "*b 4 4"], width: int, height: int
) -> Pytorch3dCamera:
    """PyTorch3D: row vectors (x R + T), axes +x left, +y up, +z forward, NDC by the shorter side."""
    w2c = inverse(c2w)
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=c2w.dtype, device=c2w.device)
    size = torch.tensor([width, height], dtype=K.dtype, device=K.device)
    scale = min(width, height) / 2
    return {
        "R": w2c[..., :3, :3].mT * flip,
        "T": w2c[..., :3, 3] * flip,
        "focal_length": torch.stack([K[..., 0, 0], K[..., 1, 1]], -1) / scale,
        "principal_point": (size / 2 - K[..., :2, 2]) / scale,
        "image_size": size.flip(0).expand(*K.shape[:-2], 2),
    }


def opencv_from_pytorch3d(
    R: Float[Tensor, "*b 3 3"],
    T: Float[Tensor, "*b 3"],
    focal_length: Float[Tensor, "*b 2"],
    principal_point: Float[Tensor, "*b 2"],
    width: int,
    height: int,
) -> tuple[Float[Tensor, "*b 3 3"], Float[Tensor, "*b 4 4"]]:
    """K and c2w of a PyTorch3D ``PerspectiveCameras`` given in NDC."""
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=R.dtype, device=R.device)
    w2c = _pose((R * flip).mT, T * flip)
    size = torch.tensor([width, height], dtype=R.dtype, device=R.device)
    scale = min(width, height) / 2
    return _intrinsics(focal_length * scale, size / 2 - principal_point * scale), inverse(w2c)


def gsplat_from_opencv(
    K: Float[Tensor, "*b 3 3"], c2w: Float[Tensor, "*b 4 4"], width: int, height: int
) -> GsplatCamera:
    """gsplat: the same axes and pixels, world-to-camera."""
    return {"viewmats": inverse(c2w), "Ks": K, "width": width, "height": height}


def opencv_from_gsplat(viewmats: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Camera-to-world of gsplat's view matrices."""
    return inverse(viewmats)


def colmap_from_opencv(
    K: Float[Tensor, "*b 3 3"], c2w: Float[Tensor, "*b 4 4"], width: int, height: int
) -> ColmapCamera:
    """COLMAP: the same axes and pixels; world-to-camera as quaternion (w first) and translation."""
    w2c = inverse(c2w)
    params = torch.stack([K[..., 0, 0], K[..., 1, 1], K[..., 0, 2], K[..., 1, 2]], -1)
    q = quaternion_from_matrix(w2c[..., :3, :3])
    return {"params": params, "qvec": q, "tvec": w2c[..., :3, 3], "width": width, "height": height}


def opencv_from_colmap(
    params: Float[Tensor, "*b 4"], qvec: Float[Tensor, "*b 4"], tvec: Float[Tensor, "*b 3"]
) -> tuple[Float[Tensor, "*b 3 3"], Float[Tensor, "*b 4 4"]]:
    """K and c2w of a COLMAP PINHOLE camera (fx, fy, cx, cy) and image pose."""
    K = _intrinsics(params[..., :2], params[..., 2:])
    return K, inverse(_pose(matrix_from_quaternion(qvec), tvec))


def _pose(R: Tensor, t: Tensor) -> Tensor:
    T = torch.zeros(*t.shape[:-1], 4, 4, dtype=t.dtype, device=t.device)
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = R, t, 1
    return T


def _intrinsics(focal: Tensor, centre: Tensor) -> Tensor:
    K = torch.zeros(*focal.shape[:-1], 3, 3, dtype=focal.dtype, device=focal.device)
    K[..., 0, 0], K[..., 1, 1], K[..., :2, 2], K[..., 2, 2] = (
        focal[..., 0],
        focal[..., 1],
        centre,
        1,
    )
    return K
