"""From noise to frames: Euler's method along the flow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.integrations.reference.model import Conditions, WorldModel


@torch.inference_mode()
def sample(
    model: WorldModel,
    video: Float[Tensor, "b f c h w"],
    given: Conditions,
    *,
    steps: int,
    seed: int = 0,
    missing: int = 0,
    state: list[Tensor] | None = None,
    callback: Callable[[int, int, Tensor], Tensor | None] | None = None,
) -> tuple[Float[Tensor, "b t c h w"], list[Tensor]]:
    """The new frames of clips, in -1..1.

    Args:
        model: The network.
        video: Clips; the recent frames are read, the new ones are not.
        given: Rays and memory.
        steps: From noise to frames.
        seed: Seed of the noise.
        missing: Recent frames, at the beginning, that are not there: noise takes their place, and says so.
        state: What the scans kept of earlier frames; None for the attention backbone.
        callback: ``callback(step, steps, frames)``; what it returns takes the frames' place.

    Returns:
        The frames, and what the scans keep of the frames that the next clip no longer holds (nothing without scans).
    """
    history, draw = model.config.history, torch.Generator().manual_seed(seed)
    noise = torch.randn(video.shape, generator=draw).to(video)
    before, x = video[:, :history].clone(), noise[:, history:]
    before[:, :missing] = noise[:, :missing]
    level = video.new_zeros(video.shape[:2])
    level[:, :missing] = 1.0
    for i, (now, after) in enumerate(pairwise(torch.linspace(1, 0, steps + 1).tolist())):
        level[:, history:] = now
        clean = model(torch.cat([before, x], 1), level, given, state)[0][:, history:].clamp(-1, 1)
        x = clean + (after / now) * (x - clean)
        changed = None if callback is None else callback(i, steps, x)
        x = x if changed is None else changed
    if model.config.backbone != "state-space":
        return x, []
    level[:, history:] = 0.0
    return x, model(torch.cat([before, x], 1), level, given, state, x.shape[1])[1]
