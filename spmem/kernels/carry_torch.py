"""Surfaces carried on beyond where they are known, in torch: any device, one image at a time."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spmem import geometry

ALONG = 1e-6
"""A ray within this cosine of a plane does not meet it."""


def nearest(mask: Bool[Tensor, "h w"]) -> Int[Tensor, "h w"]:
    """Flat index ``y * w + x`` of the True pixel nearest to each pixel, -1 in an image without one.

    Jump flooding (Rong and Tan, I3D 2006, section 3) with a last round of step 1: nearest but for rare ties by a
    fraction of a pixel.
    """
    h, w = mask.shape
    rows = torch.arange(h, dtype=torch.float32, device=mask.device)
    columns = torch.arange(w, dtype=torch.float32, device=mask.device)
    here = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    nowhere = torch.inf
    best = torch.where(mask, here, nowhere)  # [2, h, w]: row and column of the nearest so far
    square = (best - here).square().sum(0)
    longest = 1 << max(max(h, w) - 1, 1).bit_length() - 1
    for step in [*(longest >> i for i in range(longest.bit_length())), 1]:
        around = torch.nn.functional.pad(best, (step, step, step, step), value=nowhere)
        for dy in (0, step, 2 * step):
            for dx in (0, step, 2 * step):
                other = around[:, dy : dy + h, dx : dx + w]
                distance = (other - here).square().sum(0)
                nearer = distance < square
                square = torch.where(nearer, distance, square)
                best = torch.where(nearer, other, best)
    return torch.where(square < nowhere, best[0] * w + best[1], -1).long()


def carry(
    mask: Bool[Tensor, "h w"],
    depth: Float[Tensor, "h w"],
    normal: Float[Tensor, "h w 3"],
    K: Float[Tensor, "3 3"],
    c2w: Float[Tensor, "4 4"],
    stretch: float,
) -> Float[Tensor, "h w"]:
    """Depth where it is known (``mask``), and elsewhere that of the plane of the nearest known pixel.

    The plane goes through that pixel's point, with its normal (world axes). A ray that meets it nearer or farther than
    ``stretch`` times that pixel's depth, or not at all, takes that pixel's depth. 0 in an image of which nothing is known.
    """
    at = nearest(mask)
    index = at.clamp(min=0).flatten()
    rays = geometry.rays(K, mask.shape[1], mask.shape[0]) @ c2w[:3, :3].mT
    own = normal.flatten(0, 1)[index].view_as(rays)
    anchor_ray = rays.flatten(0, 1)[index].view_as(rays)
    anchor = depth.flatten()[index].view_as(at)
    across, along = (own * anchor_ray).sum(-1) * anchor, (own * rays).sum(-1)
    plane = torch.where(along.abs() > ALONG, across / along, torch.inf)
    kept = (plane > anchor / stretch) & (plane < anchor * stretch)
    filled = torch.where(mask, depth, torch.where(kept, plane, anchor))
    return torch.where(at >= 0, filled, 0.0)
