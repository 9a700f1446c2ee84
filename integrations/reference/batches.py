"""What a training step sees, as a function of the seed and the step: so that a run that was stopped goes on exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.errors import InputError
from spmem.integrations.reference.conditioning import Clip, conditions, frames_in
from spmem.integrations.reference.config import ModelConfig
from spmem.integrations.reference.episodes import CHUNK, TrainingEpisode
from spmem.integrations.reference.model import Conditions

FORGET = 0.15
"""How often each form of memory is left out, by itself."""
NOTHING = 0.1
"""How often all memory is."""
WRONG = 0.03
"""How often memory is another clip's."""


class Batch(NamedTuple):
    """Noisy frames, their levels and the clean ones ``[B, F, C, H, W]``, the conditions, which depths are known, and the
    clips' scale.
    """

    noisy: Float[Tensor, "b f c h w"]
    level: Float[Tensor, "b f"]
    clean: Float[Tensor, "b f c h w"]
    given: Conditions
    measured: Float[Tensor, "b f h w"]
    scale: Float[Tensor, " b"]

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        noisy, level, clean, given, measured, scale = self
        return Batch(
            noisy.to(device),
            level.to(device),
            clean.to(device),
            given.to(device),
            measured.to(device),
            scale.to(device),
        )


class Look(NamedTuple):
    """How a clip is changed: left and right exchanged or not, and its colours' order."""

    mirrored: bool = False
    colours: tuple[int, int, int] = (0, 1, 2)

    @staticmethod
    def drawn(rng: np.random.Generator) -> Look:
        """Any of the twelve."""
        mirrored = bool(rng.random() < 0.5)
        first, second, third = rng.permutation(3).tolist()
        return Look(mirrored, (first, second, third))


AS_IT_IS = Look()


def batches(
    episodes: Sequence[TrainingEpisode],
    config: ModelConfig,
    size: int,
    *,
    seed: int,
    step: int,
    rank: int = 0,
    chunks: int = 1,
    augment: bool = True,
) -> list[Batch]:
    """Clips drawn from episodes, ``chunks`` in a row of each, and noise on frames and on memory.

    With ``augment`` clips are mirrored and their colours exchanged at random; a scene of one's own is learned better as it is.

    Raises:
        InputError: The model's chunks are not the episodes', or these have not so many.
    """
    rng = np.random.default_rng([seed, step, rank] if rank else [seed, step])
    clips: list[list[Clip]] = []
    for _ in range(size):
        episode = episodes[int(rng.integers(len(episodes)))]
        check_chunks(episode, chunks)
        first = int(rng.integers(len(episode.keyframes) - chunks + 1))
        look = Look.drawn(rng) if augment else AS_IT_IS
        clips.append([cut(episode, first + i, config, look) for i in range(chunks)])
    return [_add_noise(stacked(row), config, rng) for row in zip(*clips, strict=True)]


def check_chunks(episode: TrainingEpisode, chunks: int) -> None:
    """So many in a row are there.

    Raises:
        InputError: They are not.
    """
    if chunks > len(episode.keyframes):
        raise InputError(
            f"{chunks} chunks in a row were asked for; episodes have {len(episode.keyframes)} after the first: "
            "write longer ones, or shorten the stages"
        )


def _add_noise(clip: Clip, config: ModelConfig, rng: np.random.Generator) -> Batch:
    """Clips at drawn noise levels, with a memory that errs."""
    size, scale = len(clip.rgb), clip.scale()
    draw = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
    clean = frames_in(clip, scale)[:, :, : config.channels]
    level = _draw_noise_levels(config, size, rng)
    noise = torch.randn(clean.shape, generator=draw)
    share = level[:, :, None, None, None]
    given = _corrupt_conditions(conditions(clip, scale), rng, draw)
    noisy = (1 - share) * clean + share * noise
    return Batch(noisy, level, clean, given, (clip.depth > 0).float(), scale)


def cut(episode: TrainingEpisode, chunk: int, config: ModelConfig, look: Look = AS_IT_IS) -> Clip:
    """One clip ``[1, F, ...]`` of an episode: its ``chunk``-th chunk after the first, and the frames just before it."""
    if config.chunk != CHUNK or config.history > CHUNK or config.size != episode.rgb.shape[1]:
        raise InputError(
            f"episodes are chunks of {CHUNK} frames of {episode.rgb.shape[1]} pixels, with up to {CHUNK} before; "
            f"the model takes {config.history} + {config.chunk} of {config.size}"
        )
    start = CHUNK * (chunk + 1)
    rows = np.arange(start - config.history, start + CHUNK)
    keyframes = episode.keyframes[chunk, : config.keyframes].astype(int)
    before = ((config.history, 0),)

    def padded(projected: NDArray[Any]) -> NDArray[Any]:
        return np.pad(projected, before + ((0, 0),) * (projected.ndim - 1))

    arrays = [
        episode.rgb[rows],
        episode.depth[rows],
        episode.K[rows],
        episode.c2w[rows],
        padded(episode.projected_rgb[chunk]),
        padded(episode.projected_depth[chunk]),
        padded(episode.projected_mask[chunk]),
        episode.rgb[keyframes],
        episode.depth[keyframes],
        episode.K[keyframes],
        episode.c2w[keyframes],
        keyframes >= 0,
    ]
    if look.mirrored:
        arrays = _mirror_arrays(arrays, config.size)
    for i in (0, 4, 7):
        arrays[i] = arrays[i][..., list(look.colours)]
    tensors = [torch.from_numpy(np.ascontiguousarray(array))[None] for array in arrays]
    for i in (0, 4, 7):
        tensors[i] = tensors[i].float() / 255
    for i in (1, 5, 8):
        tensors[i] = tensors[i].float()
    return _make_clip(tensors, config.history)


def stacked(clips: Sequence[Clip]) -> Clip:
    """Clips of the same shape as one batch."""
    columns = zip(*(clip[:-1] for clip in clips), strict=True)
    return _make_clip([torch.cat(column) for column in columns], clips[0].first)


def _make_clip(tensors: list[Tensor], first: int) -> Clip:
    return Clip(**dict(zip(Clip._fields, tensors, strict=False)), first=first)


def _mirror_arrays(arrays: list[NDArray[Any]], size: int) -> list[NDArray[Any]]:
    """Left and right exchanged, in the pictures and in the world."""
    flip, turned = np.diag([-1.0, 1, 1, 1]).astype(np.float32), list(arrays)
    for i in (0, 4, 7):
        turned[i] = arrays[i][..., ::-1, :]
    for i in (1, 5, 6, 8):
        turned[i] = arrays[i][..., ::-1]
    for i in (3, 10):
        turned[i] = flip @ arrays[i] @ flip
    for i in (2, 9):
        turned[i] = arrays[i].copy()
        turned[i][..., 0, 2] = size - arrays[i][..., 0, 2]
    return turned


def _draw_noise_levels(config: ModelConfig, size: int, rng: np.random.Generator) -> Tensor:
    """Noise levels ``[B, F]``, independent for each frame (Diffusion Forcing), as often as a rollout's.

    In three of four clips the recent frames are nearly clean, and in half of them the new frames have one level.
    Recent frames that are left out are noise through and through.
    """
    level = 1 / (1 + np.exp(-rng.normal(0.6, 1.2, (size, config.frames))))
    same = rng.random(size) < 0.5
    level[same, config.history :] = level[same, config.history :][:, :1]
    level[rng.random(size) < 0.15, config.history :] = 1.0
    recent = rng.random(size) < 0.75
    level[recent, : config.history] = np.clip(rng.normal(0, 0.05, (recent.sum(), 1)), 0, 1)
    gone = rng.random(size) < FORGET
    if not config.recent:
        gone[:] = True
    level[gone, : config.history] = 1.0
    return torch.from_numpy(level).float()


def _corrupt_conditions(
    given: Conditions, rng: np.random.Generator, draw: torch.Generator
) -> Conditions:
    """Memory that is left out, is another clip's, is noisy, or has holes."""
    size = len(given.rays)
    nothing = rng.random(size) < NOTHING
    kept = [torch.from_numpy(~(nothing | (rng.random(size) < FORGET))) for _ in range(3)]
    order = torch.arange(size)
    wrong = torch.from_numpy(rng.random(size) < WRONG)
    order[wrong] = order.roll(1)[wrong]
    forms = []
    for form, keep in zip(given[1:], kept, strict=True):
        seen = form[order] * keep[:, None, None, None, None]
        forms.append(seen)
    projection, references, warped = forms
    height, width = projection.shape[-2:]
    holes = torch.nn.functional.interpolate(
        torch.rand(size, 1, 5, 5, generator=draw), (height, width), mode="bicubic"
    )
    rare = torch.from_numpy(rng.random(size) < 0.3)[:, None, None, None]
    solid = ((holes > 0.3) | ~rare)[:, None].float()
    loud = torch.from_numpy(0.1 * rng.random(size) * (rng.random(size) < 0.4)).float()
    noise = torch.randn(projection[:, :, :3].shape, generator=draw)
    projection = projection * solid
    warped = warped * solid
    projection[:, :, :3] += noise * loud[:, None, None, None, None] * projection[:, :, -1:]
    return Conditions(given.rays, projection, references, warped)
