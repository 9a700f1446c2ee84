"""Surface normals from a depth image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.geometry.projection import rays


def normals_from_depth(
    depth: Float[Tensor, "*b h w"], K: Float[Tensor, "*b 3 3"], *, edge: float = 0.05
) -> Float[Tensor, "*b h w 3"]:
    """Unit normals in camera axes, towards the camera; 0 0 0 where depth is none or breaks off.

    Each of the two image directions takes the neighbour difference (forward, backward, or both) that
    does not jump by more than ``edge`` times the depth.
    """
    h, w = depth.shape[-2:]
    points = rays(K, w, h) * depth[..., None]
    x = _difference(points, depth, -1, edge)
    y = _difference(points, depth, -2, edge)
    normal = torch.linalg.cross(y, x)
    length = normal.norm(dim=-1, keepdim=True)
    normal = torch.where(length > 0, normal / length.clamp(min=1e-20), torch.zeros_like(normal))
    away = (normal * points).sum(-1, keepdim=True) > 0
    return torch.where(away, -normal, normal)


def _difference(points: Tensor, depth: Tensor, dim: int, edge: float) -> Tensor:
    n = depth.shape[dim]
    here, there = depth.narrow(dim, 0, n - 1), depth.narrow(dim, 1, n - 1)
    joined = (here > 0) & (there > 0) & ((here - there).abs() <= edge * torch.minimum(here, there))
    step = points.narrow(dim - 1, 1, n - 1) - points.narrow(dim - 1, 0, n - 1)
    step = torch.where(joined[..., None], step, torch.zeros_like(step))
    total = torch.zeros_like(points)
    total.narrow(dim - 1, 0, n - 1).add_(step)
    total.narrow(dim - 1, 1, n - 1).add_(step)
    return total
