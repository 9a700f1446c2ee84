"""Sample sheets: what a model makes of clips, with memory and without, beside the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.integrations.reference.batches import cut, stacked
from spmem.integrations.reference.conditioning import conditions, frames_in, frames_out
from spmem.integrations.reference.episodes import TrainingEpisode
from spmem.integrations.reference.model import Conditions, WorldModel
from spmem.integrations.reference.sampling import sample


def sheet(
    model: WorldModel, episodes: Sequence[TrainingEpisode], *, steps: int = 4, clips: int = 4
) -> tuple[NDArray[np.uint8], dict[str, float]]:
    """Clips of episodes as the model makes them.

    Args:
        model: In evaluation mode.
        episodes: From which the clips are taken, evenly.
        steps: Sampling steps.
        clips: How many.

    Returns:
        An image ``[clips * H, 3 * T * W, 3]``: the new frames as they truly are, with memory, and without; and PSNR in
        dB of the last two, on the pixels that memory covers.
    """
    config, some = model.config, []
    each = -(-clips // len(episodes))  # clips of an episode, spread evenly
    for i in range(clips):
        episode = episodes[i % len(episodes)]
        chunk = (2 * (i // len(episodes)) + 1) * len(episode.keyframes) // (2 * each)
        some.append(cut(episode, chunk, config))
    clip = stacked(some)
    scale = clip.scale()
    given, video = conditions(clip, scale), frames_in(clip, scale)[:, :, : config.channels]
    nothing = Conditions(given.rays, *(torch.zeros_like(form) for form in given[1:]))
    truth = clip.rgb[:, config.history :]
    covered = clip.projected_mask[:, config.history :]
    rows, psnr = [truth], {}
    for name, memory in (("with memory", given), ("without", nothing)):
        rgb = frames_out(sample(model, video, memory, steps=steps)[0], scale)[0]
        error = ((rgb - truth) ** 2).mean(-1)[covered]
        psnr[name] = float(-10 * torch.log10(error.mean().clamp(min=1e-6)))
        rows.append(rgb)
    return np.concatenate([_tile_clips(row) for row in rows], 1), psnr


def _tile_clips(rgb: Float[Tensor, "b t h w 3"]) -> NDArray[np.uint8]:
    """Frames side by side, clips one below the other."""
    side = rgb.permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)
    image: NDArray[np.uint8] = (side.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return image
