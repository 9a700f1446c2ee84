"""What training minimises: the error of one clip, and of clips in a row that each go on from what the model made of the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spmem.integrations.reference.batches import Batch
from spmem.integrations.reference.conditioning import rescaled
from spmem.integrations.reference.config import ModelConfig

WEIGHT_FLOOR = 0.3
"""Errors at noise level s weigh 1 / max(s, this)^2: flow matching's, without its pole."""
DEPTH_WEIGHT = 0.5
"""Weight of the depth error; colour's is 1."""


def loss(drawn: Float[Tensor, "b f c h w"], one: Batch) -> Float[Tensor, ""]:
    """Mean squared error of the clean frames, weighed by each frame's noise level; frames without noise do not count."""
    error = (drawn - one.clean) ** 2
    colour, depth = error[:, :, :3].mean((2, 3, 4)), error[:, :, 3:]
    if depth.shape[2]:
        known = one.measured[:, :, None]
        colour = colour + DEPTH_WEIGHT * (depth * known).mean((2, 3, 4))
    weight = one.level.clamp(min=WEIGHT_FLOOR) ** -2 * (one.level > 0)
    mean: Tensor = (colour * weight).sum() / weight.sum().clamp(min=1.0)
    return mean


class Handover(NamedTuple):
    """What goes from a chunk to the next: its frames ``[B, F, C, H, W]`` as the model made them, in units of its clips' scale
    ``[B]``, and what the scans keep of those that the next clip no longer holds.
    """

    frames: Float[Tensor, "b f c h w"]
    scale: Float[Tensor, " b"]
    state: list[Tensor]


def descend(
    model: nn.Module,
    config: ModelConfig,
    chunks: Sequence[Batch],
    *,
    through: int = 1,
    bf16: bool = False,
) -> float:
    """Add the gradients of the mean loss over chunks in a row to a model's; returns that loss.

    The recent frames of every chunk but the first are the model's own answers to the chunk before, and the scans of a
    state-space model go on from what they kept of those answers: as in a rollout, where nothing else is there. (Self
    Forcing, arXiv 2506.08009, rolls out whole videos for this; here an answer is that of one noise level.) Targets stay
    the truth, and what memory says is what it said of the true frames.

    Backpropagation through time is truncated: after ``through`` chunks gradients are taken, and what is handed on carries
    none. So the activations of ``through`` chunks are kept at most, however many there are in a row.

    Args:
        model: The network, or what wraps it.
        config: Configuration of the network.
        chunks: Batches of the same clips, each a chunk further on.
        through: Chunks in a row that gradients pass through.
        bf16: Autocast forward passes to bfloat16.
    """
    total, handed = 0.0, None
    for first in range(0, len(chunks), through):
        part, stop = chunks[0].clean.new_zeros(()), min(first + through, len(chunks))
        for i in range(first, stop):
            one = chunks[i] if handed is None else going_on(chunks[i], handed, config.history)
            with torch.autocast(one.clean.device.type, torch.bfloat16, enabled=bf16):
                drawn, _ = model(one.noisy, one.level, one.given, handed and handed.state)
                part = part + loss(drawn, one) / len(chunks)
                if i + 1 < len(chunks):
                    with torch.set_grad_enabled(i + 1 < stop):
                        handed = hand_on(model, config, one, drawn, handed and handed.state)
        torch.autograd.backward(part)
        total += float(part.detach())
    return total


def going_on(one: Batch, handed: Handover, history: int) -> Batch:
    """A batch whose recent frames are those that were handed on, as noisy as its own were."""
    last = handed.frames[:, handed.frames.shape[1] - history :]
    own = rescaled(last, handed.scale, one.scale)
    share = 1 - one.level[:, :history, None, None, None]
    recent = one.noisy[:, :history] + share * (own - one.clean[:, :history])
    return one._replace(noisy=torch.cat([recent, one.noisy[:, history:]], 1))


def hand_on(
    model: nn.Module,
    config: ModelConfig,
    one: Batch,
    drawn: Float[Tensor, "b f c h w"],
    state: list[Tensor] | None,
) -> Handover:
    """What the next chunk goes on from: the answers, with memory's depth where it has any, as the generator returns them."""
    history, chunk = config.history, config.chunk
    frames, state_after = drawn.clamp(-1, 1), list[Tensor]()
    if config.backbone == "state-space":
        video = torch.cat([one.noisy[:, :history], frames[:, history:]], 1)
        level = torch.cat([one.level[:, :history], torch.zeros_like(one.level[:, history:])], 1)
        state_after = model(video, level, one.given, state, chunk)[1]
    if config.depth:
        depth, there = one.given.projection[:, :, 3:4], one.given.projection[:, :, 4:] > 0
        frames = torch.cat([frames[:, :, :3], torch.where(there, depth, frames[:, :, 3:])], 2)
    return Handover(frames, one.scale, state_after)
