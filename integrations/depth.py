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
    (the alignment of MiDaS, arXiv 1907.01341, section 5, on depth instead of disparity), started from the least
    median of errors (Rousseeuw 1984) and reweighted ``rounds`` times by Geman and McClure's function, so that wrong
    pixels drop out while they are fewer than half. A frame that memory covers in fewer than 1 % of its pixels takes
    the fit over all frames.

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
    common = _fit(depth[both], known.depth[both], rounds)
    fits = [
        _fit(x[inside], z[inside], rounds) if float(enough) >= 0.01 else common
        for x, z, inside, enough in zip(depth, known.depth, both, share, strict=True)
    ]
    scale, shift = torch.stack(fits).unbind(-1)
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


def _fit(x: Float[Tensor, " n"], z: Float[Tensor, " n"], rounds: int) -> Float[Tensor, "2"]:
    """Scale and shift that take x to z; no shift where x is constant and leaves it open."""
    rows = torch.stack([x, torch.ones_like(x)], -1).double() / z[:, None]  # rows @ fit = 1
    fit = _start(x.double(), z.double())
    for _ in range(rounds):
        residual = (rows @ fit - 1).abs()
        weight = 1 / (1 + (residual / (2 * residual.median() + 1e-3)) ** 2) ** 2
        normal = (rows * weight[:, None]).mT @ rows
        normal[1, 1] += 1e-10 * normal.trace()
        fit = torch.linalg.solve(normal, (rows * weight[:, None]).sum(0))
    return fit.to(x.dtype)


def _start(x: Float[Tensor, " n"], z: Float[Tensor, " n"]) -> Float[Tensor, "2"]:
    """Of 128 lines through two random points each, and one without shift, that of the least median error."""
    draw = torch.Generator().manual_seed(0)
    first, second, judges = torch.randint(len(x), (3, 128), generator=draw).to(x.device)
    apart = x[first] - x[second]
    usable = apart.abs() > 1e-3 * x[judges].median()
    scale = (z[first] - z[second])[usable] / apart[usable]
    lines = torch.stack([scale, z[first][usable] - scale * x[first][usable]], -1)
    plain = torch.stack([(z[judges] / x[judges]).median(), torch.zeros_like(x[0])])
    lines = torch.cat([plain[None], lines])
    error = (lines[:, :1] * x[judges] + lines[:, 1:]) / z[judges] - 1
    best: Tensor = lines[error.abs().median(-1).values.argmin()]
    return best
