"""The pinhole camera: OpenCV axes, K in pixels, pixel centres at +0.5, depth along z."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.geometry.se3 import inverse, transform


def intrinsics_from_fov(fov_x: float, width: int, height: int) -> Float[Tensor, "3 3"]:
    """K of a camera with square pixels, its centre in the middle, ``fov_x`` radians wide."""
    focal = width / (2 * math.tan(fov_x / 2))
    rows = [[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]]
    return torch.tensor(rows, dtype=torch.float32)


def pixel_centres(
    width: int, height: int, device: torch.device | None = None
) -> Float[Tensor, "h w 2"]:
    """(x, y) of every pixel's centre, in pixels."""
    rows = torch.arange(height, dtype=torch.float32, device=device) + 0.5
    columns = torch.arange(width, dtype=torch.float32, device=device) + 0.5
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], -1)


def rays(K: Float[Tensor, "*b 3 3"], width: int, height: int) -> Float[Tensor, "*b h w 3"]:
    """Viewing rays in camera axes with z = 1, so that ``depth * ray`` is the point seen."""
    uv = pixel_centres(width, height, K.device).to(K.dtype)
    focal = torch.stack([K[..., 0, 0], K[..., 1, 1]], -1)[..., None, None, :]
    centre = K[..., :2, 2][..., None, None, :]
    xy = (uv - centre) / focal
    return torch.cat([xy, torch.ones_like(xy[..., :1])], -1)


def unproject(
    depth: Float[Tensor, "*b h w"], K: Float[Tensor, "*b 3 3"], c2w: Float[Tensor, "*b 4 4"]
) -> Float[Tensor, "*b h w 3"]:
    """World points that the pixels see; where depth is 0 that is the camera's own position."""
    h, w = depth.shape[-2:]
    local = rays(K, w, h) * depth[..., None]
    return transform(c2w, local.flatten(-3, -2)).reshape(local.shape)


def project(
    points: Float[Tensor, "*b n 3"], K: Float[Tensor, "*b 3 3"], c2w: Float[Tensor, "*b 4 4"]
) -> tuple[Float[Tensor, "*b n 2"], Float[Tensor, "*b n"]]:
    """Pixel coordinates (x, y) and z-depth of world points; depth <= 0 is behind the camera.

    Pixel coordinates of points at or behind the camera are finite but mean nothing: test the depth.
    """
    local = transform(inverse(c2w), points)
    z = local[..., 2]
    safe = torch.where(z.abs() < 1e-9, torch.full_like(z, 1e-9), z)
    focal = torch.stack([K[..., 0, 0], K[..., 1, 1]], -1)[..., None, :]
    return local[..., :2] / safe[..., None] * focal + K[..., None, :2, 2], z
