"""A video of what the model has seen: keyframes held still, then the last frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.types import Keyframe


def in_time(keyframes: Sequence[Keyframe], count: int) -> list[Keyframe]:
    """The best ``count`` keyframes (they come best first), oldest first."""
    return sorted(keyframes[:count], key=lambda keyframe: keyframe.time)


def round_up_latents(frames: int, stride: int) -> int:
    """The most frames, not more than these, that fill latents of a causal video autoencoder: ``stride * n + 1``, or 0.

    Example:
        >>> [round_up_latents(frames, 4) for frames in (0, 1, 4, 5, 8)]
        [0, 1, 1, 5, 5]
    """
    return frames - (frames - 1) % stride if frames else 0


def history(
    tail: Float[Tensor, "n h w 3"],
    stills: Sequence[Float[Tensor, "h w 3"]] = (),
    *,
    stride: int,
    block: int = 1,
) -> Float[Tensor, "t h w 3"]:
    """Stills, then the last frames, so that no latent of a causal video autoencoder holds two scenes.

    Such an autoencoder makes one latent of the first frame and one of every further ``stride`` frames. Each still is
    held for a latent, then the first of the last frames; the others follow as they are. Where the number of
    latents has to be a multiple of ``block``, what comes first is held longer.

    Args:
        tail: The last frames, ``stride * n + 1`` of them.
        stills: Images of the same size.
        stride: Frames a latent stands for.
        block: Latents that the model takes at once.

    Returns:
        ``stride * n + 1`` frames, those of ``tail`` last.

    Example:
        >>> tail = torch.arange(5.0).view(5, 1, 1, 1)
        >>> history(tail, [torch.tensor([[[9.0]]])], stride=4).flatten().int().tolist()
        [9, 0, 0, 0, 0, 1, 2, 3, 4]
    """
    shown = [*stills, tail[0]]
    latents = len(shown) + (len(tail) - 1) // stride
    shown = [shown[0]] * (-latents % block) + shown
    first = [shown[0], *(frame for frame in shown[1:] for _ in range(stride))]
    return torch.cat([torch.stack(first), tail[1:]])
