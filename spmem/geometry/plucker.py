"""Plücker rays: the camera conditioning that video generators take."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.geometry.projection import rays


def plucker_rays(
    K: Float[Tensor, "*b 3 3"], c2w: Float[Tensor, "*b 4 4"], width: int, height: int
) -> Float[Tensor, "*b h w 6"]:
    """Per pixel the ray as (direction, moment = position x direction), direction of unit length, world axes.

    The order is direction first, as Plücker's; LFN (arXiv 2106.02634, section 3.1) and CameraCtrl
    (arXiv 2404.02101, section 3.2) use the same six numbers, the latter with the moment first.
    """
    local = torch.nn.functional.normalize(rays(K, width, height), dim=-1)
    direction = local @ c2w[..., None, :3, :3].mT
    position = c2w[..., None, None, :3, 3].expand_as(direction)
    return torch.cat([direction, torch.linalg.cross(position, direction)], -1)
