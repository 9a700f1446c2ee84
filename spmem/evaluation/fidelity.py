"""How near frames come to the truth, pixel by pixel and by structure."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

LEAST = 0.02
"""Share of a frame's pixels that a set must have to be measured, where no other is said."""
SCALES = (0.0448, 0.2856, 0.3001)
"""Weights of MS-SSIM's three finest scales (Wang et al., 2003, section 3.2); its other two want 176 pixels a side."""
WINDOW = 11


def psnr(error: Float[Tensor, "t h w"], mask: Bool[Tensor, "t h w"], least: float = LEAST) -> float:
    """dB, the mean over frames that have at least this share of their pixels in the mask; NaN where none has."""
    count = mask.flatten(1).sum(1)
    mean = (error * mask).flatten(1).sum(1) / count.clamp(min=1)
    told = (-10 * torch.log10(mean.clamp(min=1e-6)))[count >= least * mask[0].numel()]
    return float(told.mean()) if len(told) else float("nan")


def ssim(a: Float[Tensor, "t h w 3"], b: Float[Tensor, "t h w 3"]) -> Float[Tensor, ""]:
    """Structural similarity, the mean over frames (Wang et al., 2004: Gaussian window of 11 pixels, sigma 1.5).

    Example:
        >>> a = torch.rand(1, 16, 16, 3)
        >>> float(ssim(a, a))
        1.0
    """
    light, structure = _similar(a.movedim(-1, 1), b.movedim(-1, 1))
    return (light * structure).mean()


def ms_ssim(a: Float[Tensor, "t h w 3"], b: Float[Tensor, "t h w 3"]) -> Float[Tensor, ""]:
    """Structural similarity at three scales, the mean over frames; NaN for frames under 44 pixels a side.

    Wang, Simoncelli, Bovik, *Multiscale structural similarity for image quality assessment*, Asilomar 2003, with the
    three finest of its five scales, their weights brought to a sum of 1. Frames are halved by means of 2x2 pixels;
    structure counts at every scale, light at the coarsest, and negative similarity as none.

    Example:
        >>> a = torch.rand(1, 64, 64, 3)
        >>> float(ms_ssim(a, a))
        1.0
    """
    p, q = a.movedim(-1, 1), b.movedim(-1, 1)
    if min(p.shape[-2:]) < WINDOW * 2 ** (len(SCALES) - 1):
        return torch.tensor(float("nan"))
    total = torch.ones(len(p))
    for scale, weight in enumerate(SCALES):
        if scale:
            p, q = F.avg_pool2d(p, 2), F.avg_pool2d(q, 2)
        light, structure = _similar(p, q)
        told = light * structure if scale == len(SCALES) - 1 else structure
        total = total * told.mean((1, 2, 3)).clamp(min=0) ** (weight / sum(SCALES))
    return total.mean()


def _similar(p: Float[Tensor, "t 3 h w"], q: Float[Tensor, "t 3 h w"]) -> tuple[Tensor, Tensor]:
    """Similarity of light, and of contrast and structure, where the window fits."""
    x = torch.arange(float(WINDOW)) - WINDOW // 2
    bell = torch.exp(-(x**2) / (2 * 1.5**2))
    bell = bell / bell.sum()
    window = (bell[:, None] * bell).expand(3, 1, WINDOW, WINDOW)

    def mean(t: Tensor) -> Tensor:
        return F.conv2d(t, window, groups=3)

    mp, mq = mean(p), mean(q)
    vp, vq, c = mean(p * p) - mp**2, mean(q * q) - mq**2, mean(p * q) - mp * mq
    light = (2 * mp * mq + 0.01**2) / (mp**2 + mq**2 + 0.01**2)
    return light, (2 * c + 0.03**2) / (vp + vq + 0.03**2)
