"""Frames as diffusers takes them: one video tensor, or PIL images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from spmem.types import Frame, Projection


def tail(recent: Sequence[Frame], count: int, like: Tensor) -> Float[Tensor, "n h w 3"]:
    """The last ``count`` frames (fewer where there are fewer), of the device and dtype of ``like`` ``[T, H, W, 3]``."""
    last = [frame.rgb_float().to(like) for frame in recent[max(len(recent) - count, 0) :]]
    return torch.stack(last) if last else like[:0]


def fill_unknown(projection: Projection, fill: float = 0.5) -> Float[Tensor, "t h w 3"]:
    """What memory renders, and ``fill`` where it renders nothing."""
    return torch.where(projection.mask[..., None], projection.rgb, fill)


def video(frames: Float[Tensor, "t h w c"]) -> Float[Tensor, "1 t c h w"]:
    """A batch of one, channels first."""
    return frames.movedim(-1, 1)[None].contiguous()


def image(rgb: Float[Tensor, "h w 3"]) -> Image.Image:
    """Colours in [0, 1] as a PIL image."""
    return Image.fromarray((rgb * 255).round().to(torch.uint8).cpu().numpy())
