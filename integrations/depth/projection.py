"""Depth of generated frames without a network: what memory knows, carried on."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.integrations.depth.alignment import align_depth
from spmem.integrations.depth.network import DepthAnything, DepthPro
from spmem.types import Projection

__all__ = [
    "DepthAnything",
    "DepthPro",
    "ProjectionDepth",
    "align_depth",
    "nearest_true",
]


class ProjectionDepth:
    """Depth without a network: the map's where it covers, and its surfaces carried on as planes elsewhere.

    An uncovered pixel takes the plane of the nearest covered pixel (point and normal as rendered) where its ray
    meets it at a depth within ``stretch`` times that pixel's, and that pixel's own depth otherwise. A frame that
    memory does not cover at all takes the median depth of the covered frames of its chunk, or none.

    It does not look at the colours, so it sees nothing new: walls and floors go on, things that come into view are
    painted on them, and what a foreground object uncovers may stick to the object. Good enough to turn a camera a
    little or to fill small holes; for more, take a network (:mod:`spmem.integrations.depth.network`).

    Args:
        stretch: How many times nearer or farther than the nearest covered pixel a carried-on plane may reach, > 1.
    """

    def __init__(self, *, stretch: float = 2.0) -> None:
        if not stretch > 1:
            raise InputError(f"stretch must be > 1, got {stretch}")
        self.stretch = stretch

    def __call__(
        self, rgb: Float[Tensor, "t h w 3"], cameras: Camera, known: Projection | None = None
    ) -> Float[Tensor, "t h w"]:
        """z-depth in world units, 0 = none; raises InputError without ``known``."""
        if known is None:
            raise InputError(
                "projection-depth carries on what memory renders, and got known=None; "
                "pass retrieval.projection, or take an estimator that looks at the pixels"
            )
        covered = known.mask & (known.depth > 0)
        at = nearest_true(covered)
        anchor = known.depth.flatten(1).gather(1, at.clamp(min=0).flatten(1)).view_as(at)
        plane = _plane_depth(known, at)
        kept = (plane > anchor / self.stretch) & (plane < anchor * self.stretch)
        filled = torch.where(covered, known.depth, torch.where(kept, plane, anchor))
        if covered.any():
            filled = torch.where(at >= 0, filled, known.depth[covered].median())
        else:
            filled = torch.zeros_like(filled)
        return filled


def nearest_true(mask: Bool[Tensor, "t h w"]) -> Int[Tensor, "t h w"]:
    """Flat index ``y * w + x`` of the True pixel nearest to each pixel, -1 in images without one.

    Jump flooding (Rong and Tan, I3D 2006, section 3) with a last round of step 1: nearest but for rare ties by a
    fraction of a pixel.

    Example:
        >>> nearest_true(torch.tensor([[[True, False, False, False, True]]]))
        tensor([[[0, 0, 0, 4, 4]]])
    """
    h, w = mask.shape[1:]
    here = torch.stack(
        torch.meshgrid(
            torch.arange(h, device=mask.device), torch.arange(w, device=mask.device), indexing="ij"
        )
    ).float()
    nowhere = torch.inf
    best = torch.where(
        mask[:, None], here, nowhere
    )  # [t, 2, h, w]: row and column of the nearest so far
    square = (best - here).square().sum(1)
    longest = 1 << max(max(h, w) - 1, 1).bit_length() - 1
    for step in [*(longest >> i for i in range(longest.bit_length())), 1]:
        around = torch.nn.functional.pad(best, (step, step, step, step), value=nowhere)
        for dy in (0, step, 2 * step):
            for dx in (0, step, 2 * step):
                other = around[..., dy : dy + h, dx : dx + w]
                distance = (other - here).square().sum(1)
                nearer = distance < square
                square = torch.where(nearer, distance, square)
                best = torch.where(nearer[:, None], other, best)
    found = square < nowhere
    return torch.where(found, best[:, 0] * w + best[:, 1], -1).long()


def _plane_depth(known: Projection, at: Int[Tensor, "t h w"]) -> Float[Tensor, "t h w"]:
    """Depth at which each pixel's ray meets the plane of the pixel ``at``; infinite where it runs along it."""
    index = at.clamp(min=0).flatten(1)[..., None].expand(-1, -1, 3)
    rays = known.cameras.rays()
    normal = known.normal.flatten(1, 2).gather(1, index).view_as(rays)
    anchor_ray = rays.flatten(1, 2).gather(1, index).view_as(rays)
    anchor = known.depth.flatten(1).gather(1, index[..., 0]).view_as(at)
    across, along = (normal * anchor_ray).sum(-1) * anchor, (normal * rays).sum(-1)
    return torch.where(along.abs() > 1e-6, across / along, torch.inf)
