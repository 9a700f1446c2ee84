"""Estimated depth brought to the scale of the map, with a measure of how well it fits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spmem.errors import FrameError, InputError
from spmem.types import Projection

ENOUGH = 0.01
"""Share of a frame's pixels that memory must cover to take a scale from."""


class DepthMisfitError(InputError):
    """The estimate and the map do not show the same shapes: no scale and shift brings one to the other."""


class Alignment(NamedTuple):
    """Estimates in the scale of the map.

    depth: ``[T, H, W]`` z-depth, 0 = none.
    scale, shift: ``[T]``: ``1 / depth = scale * inverse + shift``.
    error: ``[T]`` median of |depth / map's - 1| over the pixels that memory covers; NaN in a frame with too few of them,
        which took the fit over all frames.
    agreement: ``[T]`` share of these pixels where that is within the tolerance; NaN likewise.
    """

    depth: Float[Tensor, "t h w"]
    scale: Float[Tensor, " t"]
    shift: Float[Tensor, " t"]
    error: Float[Tensor, " t"]
    agreement: Float[Tensor, " t"]


def align_inverse(
    inverse: Float[Tensor, "t h w"],
    known: Projection,
    *,
    tolerance: float = 0.1,
    agreement: float = 0.5,
    rounds: int = 5,
) -> Alignment:
    """Inverse depth up to scale and shift, as networks give it, fitted to what memory renders.

    ``1 / depth = scale * inverse + shift`` for each frame, by least squares of the relative error over the pixels that
    memory covers (the alignment of MiDaS, arXiv 1907.01341, section 5), started from the least median of errors
    (Rousseeuw 1984) and reweighted by Geman and McClure's function: pixels that are wrong, or show what memory knows as
    it was, drop out while they are fewer than half. A frame that memory covers in fewer than 1 % of its pixels takes
    the fit over all frames.

    Args:
        inverse: ``[T, H, W]``, larger is nearer; 0 is far away, or unknown to a network that says so. Of metric depth take
            the reciprocal.
        known: What memory renders along the same cameras.
        tolerance: Relative error of depth within which a pixel agrees.
        agreement: Share of the covered pixels that must agree, in each frame that has enough of them.
        rounds: Reweightings.

    Raises:
        FrameError: The shapes differ, or values are not finite.
        DepthMisfitError: A frame fits the map in less than ``agreement`` of the covered pixels, or only upside down.
        InputError: Memory covers less than 1 % of all these pixels: there is no scale to take.
    """
    if not 0 < agreement <= 1 or not tolerance > 0:
        raise InputError(
            f"wanted agreement in (0, 1] and tolerance > 0, got {agreement} and {tolerance}"
        )
    both, share = _shared_pixels(inverse, known)
    target = 1 / torch.where(both, known.depth, 1)
    fits = _fit_frames(inverse, target, both, share, rounds)
    scale, shift = fits.unbind(-1)
    there = scale[:, None, None] * inverse + shift[:, None, None]
    depth = torch.where(there > 0, 1 / there.clamp(min=1e-12), 0.0)
    off = (depth / torch.where(both, known.depth, 1) - 1).abs()
    error, agreed = torch.full_like(scale, torch.nan), torch.full_like(scale, torch.nan)
    for i in torch.nonzero(share >= ENOUGH).flatten().tolist():
        error[i] = off[i][both[i]].median()
        agreed[i] = (off[i][both[i]] <= tolerance).float().mean()
        if not float(agreed[i]) >= agreement or not float(scale[i]) > 0:
            why = "nearer and farther are swapped" if float(scale[i]) <= 0 else "the shapes differ"
            raise DepthMisfitError(
                f"estimated depth of frame {i} does not fit the map: {100 * float(agreed[i]):.0f} % of the covered pixels "
                f"agree within {100 * tolerance:g} % (wanted {100 * agreement:g} %), {why}; look at the camera's pose, "
                "whether this is inverse depth, and whether the estimator suits these images"
            )
    return Alignment(depth, scale, shift, error, agreed)


def align_depth(
    depth: Float[Tensor, "t h w"], known: Projection, *, rounds: int = 5
) -> Float[Tensor, "t h w"]:
    """An estimator's depth brought to the scale of the map: ``scale * depth + shift`` of each frame.

    Least squares of the relative error ``(scale * depth + shift) / known - 1`` over the pixels that memory covers
    (the alignment of MiDaS, arXiv 1907.01341, section 5, on depth instead of disparity, which :func:`align_inverse` takes), started from the least
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
    both, share = _shared_pixels(depth, known)
    fits = _fit_frames(depth, known.depth, both, share, rounds)
    scale, shift = fits.unbind(-1)
    aligned = scale[:, None, None] * depth + shift[:, None, None]
    return torch.where((depth > 0) & (aligned > 0), aligned, torch.zeros_like(aligned))


def _shared_pixels(
    estimate: Float[Tensor, "t h w"], known: Projection
) -> tuple[Bool[Tensor, "t h w"], Float[Tensor, " t"]]:
    """Pixels that both show, and their share of each frame."""
    if estimate.shape != known.depth.shape:
        raise FrameError(
            f"depth is {list(estimate.shape)}, the projection {list(known.depth.shape)}; estimate at the cameras' size"
        )
    if not bool(torch.isfinite(estimate).all()):
        raise FrameError("estimated depth has NaN or infinite values")
    both = known.mask & (known.depth > 0) & (estimate > 0)
    share = both.float().mean((-2, -1))
    if not bool(share.mean() >= ENOUGH):
        raise InputError(
            "memory covers less than 1 % of these frames, which gives no scale; "
            "store a posed frame with depth first, or estimate metric depth"
        )
    return both, share


def _fit_frames(
    x: Float[Tensor, "t h w"],
    z: Float[Tensor, "t h w"],
    both: Bool[Tensor, "t h w"],
    share: Float[Tensor, " t"],
    rounds: int,
) -> Float[Tensor, "t 2"]:
    """Scale and shift of each frame; those of all together where it shares too little."""
    common = _fit_line(x[both], z[both], rounds)
    return torch.stack(
        [
            _fit_line(xs[inside], zs[inside], rounds) if float(enough) >= ENOUGH else common
            for xs, zs, inside, enough in zip(x, z, both, share, strict=True)
        ]
    )


def _fit_line(x: Float[Tensor, " n"], z: Float[Tensor, " n"], rounds: int) -> Float[Tensor, "2"]:
    """Scale and shift that take x to z; no shift where x is constant and leaves it open."""
    rows = torch.stack([x, torch.ones_like(x)], -1).double() / z[:, None]  # rows @ fit = 1
    fit = _initial_line(x.double(), z.double())
    for _ in range(rounds):
        residual = (rows @ fit - 1).abs()
        weight = 1 / (1 + (residual / (2 * residual.median() + 1e-3)) ** 2) ** 2
        normal = (rows * weight[:, None]).mT @ rows
        normal[1, 1] += 1e-10 * normal.trace()
        fit = torch.linalg.solve(normal, (rows * weight[:, None]).sum(0))
    return fit.to(x.dtype)


def _initial_line(x: Float[Tensor, " n"], z: Float[Tensor, " n"]) -> Float[Tensor, "2"]:
    """The line of least median error, of 128 through two random points each and one without shift."""
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
