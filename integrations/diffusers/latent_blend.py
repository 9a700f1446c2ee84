"""Any diffusers pipeline: memory is written into the latents that it covers, at every step of denoising."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.generating import Generated
from spmem.integrations.diffusers.pipeline import PipelineGenerator, Watch
from spmem.integrations.diffusers.pixels import fill_unknown, tail
from spmem.types import Retrieval


@dataclass(frozen=True, eq=False)
class BlendCondition:
    """What the pipeline is called with, and the video that memory knows: ``[T, H, W, 3]``, where ``known`` ``[T, H, W]``."""

    call: dict[str, Any]
    rgb: Float[Tensor, "t h w 3"]
    known: Bool[Tensor, "t h w"]


class LatentBlend:
    """Goes around an adapter, and keeps what memory covers as it is rendered; nothing is trained.

    The rendered memory is encoded by the pipeline's own autoencoder. After each step of denoising the latents that memory
    covers are replaced by memory's, noised as the schedule has it then (RePaint, arXiv 2201.09865, section 3.1, in
    latents): they end equal to memory, and the model fits the rest to them. The last frames are kept whole.

    Args:
        generator: What it goes around: ``TextToVideo(pipe, tail=5)``, or an adapter with more conditioning.
        until: Share of the steps in which memory is written; below 1 the model goes over it in the last steps, which
            takes away seams and the render's roughness, and memory is kept less exactly.
        least: Share of a latent's pixels that memory must cover; the others are grey when they are encoded.

    Raises:
        InputError: No adapter, an adapter that calls nothing back, shares outside (0, 1]; when it generates: latents
            that are neither ``[B, C, T, H, W]`` nor ``[B, T, C, H, W]`` nor packed as in LTX.
    """

    def __init__(
        self, generator: PipelineGenerator, *, until: float = 1.0, least: float = 1.0
    ) -> None:
        if not isinstance(generator, PipelineGenerator) or not generator.spec.callback:
            raise InputError(
                "LatentBlend goes around an adapter that calls back, such as TextToVideo(pipe); "
                f"got {type(generator).__name__}"
            )
        if not (0 < until <= 1 and 0 < least <= 1):
            raise InputError(f"until and least are shares in (0, 1], got {until} and {least}")
        self.generator, self.until, self.least = generator, until, least
        slots = generator.spec.slots | {"projection", "recent", "latents"}
        self.spec = replace(generator.spec, slots=slots)

    def condition(self, context: Retrieval, prompt: str | None = None) -> BlendCondition:
        """What the adapter takes, and the last frames with the projection after them."""
        rgb = fill_unknown(context.projection)
        last = tail(context.recent, self.spec.echoes(len(context.recent)), rgb)
        kept = torch.ones(last.shape[:-1], dtype=torch.bool, device=last.device)
        known = torch.cat([kept, context.projection.mask])
        return BlendCondition(
            self.generator.condition(context, prompt), torch.cat([last, rgb]), known
        )

    def generate(
        self,
        conditioning: BlendCondition,
        cameras: Camera,
        *,
        seed: int = 0,
        callback: Watch | None = None,
    ) -> Tensor | Generated:
        """The adapter's frames; ``callback`` sees the latents with memory in them."""
        pipe = self.generator.pipe
        latents = encoded(pipe, conditioning.rgb)
        covered = covers(conditioning.known, self.spec.latent_stride, self.least)
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn(latents.shape, generator=draw).to(latents)
        covered = covered.expand_as(latents).to(latents)

        def blend(step: int, steps: int, made: Tensor) -> Tensor | None:
            if step < self.until * steps:
                noised = at_noise(pipe.scheduler, latents, noise, step, steps)
                made = mixed(pipe, made, noised, covered)
            if callback is None:
                return made
            other = callback(step, steps, made)
            return made if other is None else other

        return self.generator.generate(conditioning.call, cameras, seed=seed, callback=blend)


@torch.no_grad()
def encoded(pipe: Any, rgb: Float[Tensor, "t h w 3"]) -> Float[Tensor, "1 c t h w"]:
    """A video in [0, 1] as the latents that a pipeline denoises, normalised as its autoencoder says; float32."""
    vae = pipe.vae
    pixels = (2 * rgb - 1).movedim(-1, 0)[None]
    latents: Tensor = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode().float()

    def fact(name: str, otherwise: float) -> Tensor:
        value = vae.config.get(name)
        value = vars(vae).get("_buffers", {}).get(name) if value is None else value  # LTX's
        value = otherwise if value is None else value
        return torch.as_tensor(value, dtype=torch.float32, device=latents.device).reshape(
            1, -1, 1, 1, 1
        )

    scale = fact("scaling_factor", 1.0) / fact("latents_std", 1.0)
    return (latents - fact("latents_mean", 0.0)) * scale


def covers(
    known: Bool[Tensor, "t h w"], stride: tuple[int, int, int], least: float
) -> Bool[Tensor, "1 1 t2 h2 w2"]:
    """Latents of a causal autoencoder at least a share of whose pixels is known: the first stands for one frame.

    Example:
        >>> known = torch.tensor([True, True, True, True, False]).reshape(5, 1, 1)
        >>> covers(known, (4, 1, 1), 1.0).flatten().tolist(), covers(known, (4, 1, 1), 0.75).flatten().tolist()
        ([True, False], [True, True])
    """
    time, rows, columns = stride
    pixels = known.float()[None, None]
    first = functional.avg_pool3d(pixels[:, :, :1], (1, rows, columns))
    share = [first]
    if len(known) > 1:
        share.append(functional.avg_pool3d(pixels[:, :, 1:], (time, rows, columns)))
    return torch.cat(share, 2) >= least - 1e-6


def at_noise(scheduler: Any, latents: Tensor, noise: Tensor, step: int, steps: int) -> Tensor:
    """Latents as noisy as the schedule has them after a step: clean after the last one."""
    if step == steps - 1:
        return latents
    config = scheduler.config
    flow = (
        "FlowMatch" in type(scheduler).__name__
        or config.get("use_flow_sigmas")
        or config.get("prediction_type") == "flow_prediction"
    )
    if flow:
        sigma: Tensor = scheduler.sigmas[len(scheduler.sigmas) - steps + step].to(latents)
        return (1 - sigma) * latents + sigma * noise
    time = scheduler.timesteps[len(scheduler.timesteps) - steps + step + 1]
    noised: Tensor = scheduler.add_noise(latents, noise, time.reshape(1))
    return noised


def mixed(pipe: Any, made: Tensor, latents: Tensor, covered: Tensor) -> Tensor:
    """``latents`` where ``covered``, what was made elsewhere; both ``[1, C, T, H, W]``, brought to the layout of ``made``."""
    latents, covered = latents.to(made), covered.to(made)
    swapped = latents.transpose(1, 2)
    if made.ndim == 5 and made.shape[1:] == latents.shape[1:]:
        return torch.lerp(made, latents, covered)
    if made.ndim == 5 and made.shape[1:] == swapped.shape[1:]:
        return torch.lerp(made, swapped, covered.transpose(1, 2))
    if made.ndim == 3 and hasattr(pipe, "_pack_latents"):
        size = (pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size)
        latents, covered = (pipe._pack_latents(one, *size) for one in (latents, covered))
        before = made.shape[1] - latents.shape[1]  # tokens of conditions come first
        return torch.cat([made[:, :before], torch.lerp(made[:, before:], latents, covered)], 1)
    raise InputError(
        f"{type(pipe).__name__} denoises latents {list(made.shape)}; memory's are {list(latents.shape)}: "
        "LatentBlend knows [B, C, T, H, W], [B, T, C, H, W] and LTX's tokens"
    )
