"""Depth of generated frames: what memory knows, carried on, and estimators' depth brought to its scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import FrameError, InputError
from spmem.types import Projection


class ProjectionDepth:
    """Depth without a network: the map's where it covers, and its surfaces carried on as planes elsewhere.

    An uncovered pixel takes the plane of the nearest covered pixel (point and normal as rendered) where its ray
    meets it at a depth within ``stretch`` times that pixel's, and that pixel's own depth otherwise. A frame that
    memory does not cover at all takes the median depth of the covered frames of its chunk, or none.

    It does not look at the colours, so it sees nothing new: walls and floors go on, things that come into view are
    painted on them, and what a foreground object uncovers may stick to the object. Good enough to turn a camera a
    little or to fill small holes; for more, hand a depth network's result to :func:`align_depth`.

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


def align_depth(
    depth: Float[Tensor, "t h w"], known: Projection, *, rounds: int = 5
) -> Float[Tensor, "t h w"]:
    """An estimator's depth brought to the scale of the map: ``scale * depth + shift`` of each frame.

    Least squares of the relative error ``(scale * depth + shift) / known - 1`` over the pixels that memory covers
    (the alignment of MiDaS, arXiv 1907.01341, section 5, on depth instead of disparity), started from medians as
    there, and reweighted ``rounds`` times by Geman and McClure's function so that wrong pixels drop out. A frame
    that memory covers in fewer than 1 % of its pixels takes the fit over all frames.

    Args:
        depth: ``[T, H, W]`` z-depth up to scale and shift, 0 = none. Take the reciprocal of a disparity first.
        known: What memory renders along the same cameras.
        rounds: Reweightings.

    Returns:
        ``[T, H, W]``; 0 where ``depth`` is, or where the fit gives no positive depth.

    Raises:
        FrameError: The shapes differ.
        InputError: Memory covers less than 1 % of all these pixels: there is no scale to take.
    """
    if depth.shape != known.depth.shape:
        raise FrameError(
            f"depth is {list(depth.shape)}, the projection {list(known.depth.shape)}; estimate at the cameras' size"
        )
    both = known.mask & (known.depth > 0) & (depth > 0)
    share = both.float().mean((-2, -1))
    if not bool(share.mean() >= 0.01):
        raise InputError(
            "memory covers less than 1 % of these frames, which gives no scale; "
            "store a posed frame with depth first, or estimate metric depth"
        )
    together = _fit(depth[None], known.depth[None], both[None], rounds)
    alone = _fit(depth, known.depth, both, rounds)
    scale, shift = torch.where(share[:, None] >= 0.01, alone, together).unbind(-1)
    aligned = scale[:, None, None] * depth + shift[:, None, None]
    return torch.where((depth > 0) & (aligned > 0), aligned, torch.zeros_like(aligned))


DEPTH_ESTIMATORS: Mapping[str, Callable[..., Any]] = {"projection-depth": ProjectionDepth}
"""The shipped depth estimators by name; installed packages add theirs (:mod:`spmem.plugins`)."""


def _plane_depth(known: Projection, at: Int[Tensor, "t h w"]) -> Float[Tensor, "t h w"]:
    """Depth at which each pixel's ray meets the plane of the pixel ``at``; infinite where it runs along it."""
    index = at.clamp(min=0).flatten(1)[..., None].expand(-1, -1, 3)
    rays = known.cameras.rays()
    normal = known.normal.flatten(1, 2).gather(1, index).view_as(rays)
    anchor_ray = rays.flatten(1, 2).gather(1, index).view_as(rays)
    anchor = known.depth.flatten(1).gather(1, index[..., 0]).view_as(at)
    across, along = (normal * anchor_ray).sum(-1) * anchor, (normal * rays).sum(-1)
    return torch.where(along.abs() > 1e-6, across / along, torch.inf)


def _fit(
    depth: Float[Tensor, "t ..."],
    known: Float[Tensor, "t ..."],
    both: Bool[Tensor, "t ..."],
    rounds: int,
) -> Float[Tensor, "t 2"]:
    """Scale and shift ``[T, 2]`` of each row; no shift where the depth is constant and leaves it open."""
    x, z, inside = depth.flatten(1).double(), known.flatten(1).double(), both.flatten(1)
    x_mid, x_spread = _middle(x, inside)
    z_mid, z_spread = _middle(z, inside)
    scale = torch.where(x_spread > 1e-6 * x_mid, z_spread / x_spread, z_mid / x_mid)
    fit = torch.stack([scale, z_mid - scale * x_mid], -1)
    rows = (
        torch.stack([x, torch.ones_like(x)], -1) / z.clamp(min=1e-12)[..., None]
    )  # rows @ fit = 1
    for _ in range(rounds):
        residual = ((rows @ fit[..., None])[..., 0] - 1).abs()
        typical = residual.masked_fill(~inside, torch.nan).nanmedian(-1, keepdim=True).values
        weight = inside / (1 + (residual / (2 * typical + 1e-3)) ** 2) ** 2
        normal = (rows * weight[..., None]).mT @ rows
        normal[:, 1, 1] += 1e-6 * normal.diagonal(dim1=-2, dim2=-1).sum(-1) + 1e-30
        normal[:, 0, 0] += 1e-30
        fit = torch.linalg.solve(normal, (rows * weight[..., None]).sum(1))
    return fit.to(depth.dtype)


def _middle(values: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Median of each row's values and the median distance from it."""
    kept = values.masked_fill(~inside, torch.nan)
    middle = kept.nanmedian(-1).values
    return middle, (kept - middle[:, None]).abs().nanmedian(-1).values
