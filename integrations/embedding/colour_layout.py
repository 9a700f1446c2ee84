"""Image descriptors that need no weights."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.errors import FrameError

GRID, BINS, LOW = 4, 8, 5


class ColourLayout:
    """Where which colours lie and which way edges run: unit vectors of ``dim`` 203.

    The first half is MPEG-7's Colour Layout Descriptor (Manjunath et al., IEEE TCSVT 2001, section III-E): the image
    averaged to 8x8, in YCbCr, its lowest 5x5 cosine coefficients of each channel. The second half is a 4x4 grid of
    gradient orientation histograms, 8 bins over half a turn, weighted by gradient length (as HOG, Dalal and Triggs,
    CVPR 2005). Each half has equal weight.

    It distinguishes one room from another and finds near-identical views; it knows nothing of meaning, and a large change
    of viewpoint or light defeats it.

    Example:
        >>> descriptors = ColourLayout()(torch.rand(3, 48, 64, 3))
        >>> descriptors.shape, bool((descriptors.norm(dim=-1) - 1).abs().max() < 1e-5)
        (torch.Size([3, 203]), True)
    """

    dim = 3 * LOW * LOW + GRID * GRID * BINS

    def __call__(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n dim"]:
        """Descriptors ``[n, dim]`` float32 of images ``[n, H, W, 3]`` in [0, 1]; raises FrameError for another shape."""
        if rgb.ndim != 4 or rgb.shape[-1] != 3 or not rgb.is_floating_point():
            raise FrameError(
                f"colour-layout wants float [n, H, W, 3], got {rgb.dtype} {list(rgb.shape)}"
            )
        ycbcr = _rgb_to_ycbcr(rgb.float()).movedim(-1, 1)
        halves = [_colour_coefficients(ycbcr), _edge_histograms(ycbcr[:, 0])]
        return torch.cat([_normalize_half(half) for half in halves], -1) / math.sqrt(2)


def _rgb_to_ycbcr(rgb: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """ITU-R BT.601; Y in [0, 1], Cb and Cr in [-0.5, 0.5]."""
    y = rgb @ rgb.new_tensor([0.299, 0.587, 0.114])
    return torch.stack([y, (rgb[..., 2] - y) / 1.772, (rgb[..., 0] - y) / 1.402], -1)


def _colour_coefficients(ycbcr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
    small = torch.nn.functional.adaptive_avg_pool2d(ycbcr, 8)
    i = torch.arange(8, device=small.device)
    dct = torch.cos(torch.pi / 8 * (i + 0.5) * i[:LOW, None]) / 2  # type II
    dct[0] /= math.sqrt(2)
    return (dct @ small @ dct.mT).flatten(1)


def _edge_histograms(y: Float[Tensor, "n h w"]) -> Float[Tensor, "n c"]:
    y = torch.nn.functional.interpolate(y[:, None], (48, 64), mode="area")[:, 0]
    dx = y[:, 1:-1, 2:] - y[:, 1:-1, :-2]
    dy = y[:, 2:, 1:-1] - y[:, :-2, 1:-1]
    turn = (torch.atan2(dy, dx) / torch.pi % 1) * BINS  # opposite directions are one edge
    near = turn.floor()
    share, length = turn - near, (dx.square() + dy.square()).sqrt()
    planes = torch.zeros(len(y), BINS, *dx.shape[1:], device=y.device)
    planes.scatter_add_(1, (near.long() % BINS)[:, None], (length * (1 - share))[:, None])
    planes.scatter_add_(1, ((near.long() + 1) % BINS)[:, None], (length * share)[:, None])
    return torch.nn.functional.adaptive_avg_pool2d(planes, GRID).flatten(1)


def _normalize_half(half: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    """Unit length; an image without colour or edges gets the constant vector."""
    length = half.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-6, half / length.clamp(min=1e-6), 1 / math.sqrt(half.shape[-1]))
