"""How well a projection agrees with what was really there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.errors import InputError
from spmem.types import Frame, Projection


class Agreement(NamedTuple):
    """Per camera ``[T]``, on the pixels that memory covers; NaN where there are none to compare.

    coverage: Share of all pixels that memory covers.
    depth_error: Median of |depth - true depth| / true depth, where there is a true depth.
    psnr: PSNR of the colour, in dB; 99 if it is exact.
    """

    coverage: Float[Tensor, " t"]
    depth_error: Float[Tensor, " t"]
    psnr: Float[Tensor, " t"]


def agreement(projection: Projection, truth: Sequence[Frame]) -> Agreement:
    """Compare a projection with the true frames of its cameras.

    Raises:
        InputError: Not one frame a camera, or frames of another size.
    """
    if len(truth) != len(projection.cameras):
        raise InputError(
            f"truth is one frame a camera: {len(projection.cameras)} wanted, got {len(truth)}"
        )
    rows = [_compare_frame(projection, t, frame) for t, frame in enumerate(truth)]
    depth_error, psnr = torch.tensor(rows).reshape(-1, 2).unbind(1)
    return Agreement(projection.coverage.cpu(), depth_error, psnr)


def depth_error(projection: Projection, t: int, frame: Frame) -> Float[Tensor, "h w"]:
    """Relative error of each pixel's depth; NaN where memory covers nothing, or there is no true depth."""
    size = projection.mask.shape[1:]
    if frame.rgb.shape[:2] != size:
        raise InputError(
            f"truth is {list(frame.rgb.shape[:2])} (height, width), the projection {list(size)}"
        )
    nan = torch.full(size, torch.nan)
    if frame.depth is None:
        return nan
    true = frame.depth.cpu()
    error = (projection.depth[t].cpu() - true).abs() / true
    return torch.where(projection.mask[t].cpu() & (true > 0), error, nan)


def _compare_frame(projection: Projection, t: int, frame: Frame) -> tuple[float, float]:
    depth = depth_error(projection, t, frame).nanmedian()
    mask = projection.mask[t].cpu()
    difference = projection.rgb[t].cpu()[mask] - frame.rgb_float().cpu()[mask]
    psnr = -10 * difference.square().mean().clamp(min=10**-9.9).log10()
    return float(depth), float(psnr)
