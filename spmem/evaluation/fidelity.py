"""How near frames come to the truth, pixel by pixel and by structure."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spmem.errors import MissingExtraError

LEAST = 0.02
"""Share of a frame's pixels that a set must have to be measured, where no other is said."""
SCALES = (0.0448, 0.2856, 0.3001)
"""Weights of MS-SSIM's three finest scales (Wang et al., 2003, section 3.2); its other two want 176 pixels a side."""
WINDOW = 11


def psnr(error: Float[Tensor, "t h w"], mask: Bool[Tensor, "t h w"], least: float = LEAST) -> float:
    """dB, the mean over frames that have at least this share of their pixels in the mask; NaN where none has."""
    count = mask.flatten(1).sum(1)
    mean = (error * mask).flatten(1).sum(1) / count.clamp(min=1)
    decibels = (-10 * torch.log10(mean.clamp(min=1e-6)))[count >= least * mask[0].numel()]
    return float(decibels.mean()) if len(decibels) else float("nan")


def ssim(a: Float[Tensor, "t h w 3"], b: Float[Tensor, "t h w 3"]) -> Float[Tensor, ""]:
    """Structural similarity, the mean over frames and the pixels where the window fits.

    Wang et al. 2004, a Gaussian window of 11 pixels with sigma 1.5, by torchmetrics (extra ``bench``).

    Args:
        a: Frames ``[T, H, W, 3]`` in [0, 1], at least 11 pixels a side.
        b: Frames to compare them with.

    Raises:
        MissingExtraError: torchmetrics is not installed.

    Example:
        >>> a = torch.rand(1, 16, 16, 3)
        >>> round(float(ssim(a, a)), 6)
        1.0
    """
    similarity = _import_torchmetrics().structural_similarity_index_measure
    _, each = similarity(a.movedim(-1, 1), b.movedim(-1, 1), data_range=1.0, return_full_image=True)
    border = WINDOW // 2  # torchmetrics reflects the picture there
    inner: Tensor = each[..., border:-border, border:-border].mean()
    return inner


def ms_ssim(a: Float[Tensor, "t h w 3"], b: Float[Tensor, "t h w 3"]) -> Float[Tensor, ""]:
    """Structural similarity at three scales, the mean over frames; NaN for frames under 44 pixels a side.

    Wang, Simoncelli, Bovik, *Multiscale structural similarity for image quality assessment*, Asilomar 2003, with the
    three finest of its five scales, their weights brought to a sum of 1, by torchmetrics (extra ``bench``). Frames are
    halved by means of 2x2 pixels; structure counts at every scale, light at the coarsest, and negative similarity as
    none.

    Args:
        a: Frames ``[T, H, W, 3]`` in [0, 1].
        b: Frames to compare them with.

    Raises:
        MissingExtraError: torchmetrics is not installed.

    Example:
        >>> a = torch.rand(1, 64, 64, 3)
        >>> round(float(ms_ssim(a, a)), 6)
        1.0
    """
    if min(a.shape[1:3]) < WINDOW * 2 ** (len(SCALES) - 1):
        return torch.tensor(float("nan"))
    similarity = _import_torchmetrics().multiscale_structural_similarity_index_measure
    weights = tuple(weight / sum(SCALES) for weight in SCALES)
    total: Tensor = similarity(
        a.movedim(-1, 1), b.movedim(-1, 1), data_range=1.0, betas=weights, normalize="relu"
    )
    return total


def _import_torchmetrics() -> Any:
    try:
        from torchmetrics.functional import image
    except ImportError as error:
        raise MissingExtraError("torchmetrics", "bench", "structural similarity") from error
    return image
