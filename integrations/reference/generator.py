"""The bundled model as a generator: conditioned on a retrieval, sampled by flow matching, with its own depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.generating import FrameCount, Generated, GeneratorSpec
from spmem.integrations.reference.conditioning import Clip, conditions, frames_in, frames_out
from spmem.integrations.reference.model import Conditions, WorldModel
from spmem.integrations.reference.sampling import sample
from spmem.integrations.reference.weights import load, save, upload
from spmem.types import Frame, Retrieval

FORMS = ("projection", "references", "recent", "warp")
"""The forms in which memory enters: (a) to (d) of :class:`~spmem.integrations.reference.model.Conditions`."""


class Conditioning(NamedTuple):
    """One clip and what memory says about it: recent frames (noise where there are none), and what they condition."""

    video: Float[Tensor, "1 f c h w"]
    missing: int
    """Recent frames that are not there, at the beginning."""
    given: Conditions
    scale: Float[Tensor, "1"]
    known: Float[Tensor, "t h w"]
    """Depth as memory renders it at the new cameras, 0 = none: the frames' own depth does not override it."""


class ReferenceGenerator:
    """The bundled generator.

    Args:
        model: The network; put into evaluation mode.
        steps: Steps of Euler's method from noise to frames.
        forms: Forms of memory that it takes, of :data:`FORMS`; others are left out, as in the controls of the benchmark.

    Raises:
        InputError: No steps, or an unknown form.

    Example:
        >>> from spmem.integrations.reference.config import NANO
        >>> generator = ReferenceGenerator(WorldModel(NANO), steps=2)
        >>> generator.spec.size, generator.spec.frames.most
        ((64, 64), 4)
    """

    def __init__(self, model: WorldModel, *, steps: int = 6, forms: Sequence[str] = FORMS) -> None:
        if steps < 1:
            raise InputError(f"steps must be at least 1, got {steps}")
        if unknown := set(forms) - set(FORMS):
            raise InputError(f"forms are {', '.join(FORMS)}; there is no {sorted(unknown)}")
        self.model, self.steps, self.forms = model.eval(), steps, frozenset(forms)
        config = model.config
        self.spec = GeneratorSpec(
            frames=FrameCount(most=config.chunk),
            size=(config.size, config.size),
            history=config.history * ("recent" in self.forms),
            slots=frozenset({"cameras", *self.forms}),
            state=config.backbone == "state-space",
            callback=True,
        )

    @classmethod
    def from_pretrained(cls, name: str | Path = "nano", **options: Any) -> ReferenceGenerator:
        """The weights of a folder, or those that come with the package by name (``nano``); nothing is downloaded.

        Args:
            name: A folder with ``model.safetensors`` and ``config.json``, or a name.
            options: Those of the constructor.

        Raises:
            FormatError: Weights that are damaged, or of another model than the configuration says.
            UnknownNameError: Neither a folder nor a name.
        """
        return cls(load(name), **options)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``model.safetensors`` and ``config.json`` (with its hash), as float16."""
        return save(self.model, folder)

    def push_to_hub(self, repository: str, **options: Any) -> str:
        """Upload what :meth:`save_pretrained` writes to the Hugging Face Hub; needs ``huggingface_hub`` and a login."""
        return upload(self.model, repository, **options)

    def condition(self, context: Retrieval, prompt: str | None = None) -> Conditioning:
        """What the network takes of a retrieval; the prompt is not read.

        Raises:
            InputError: Cameras of another size than the network's.
        """
        self.spec.check_size(context.cameras)
        config = self.model.config
        recent = list(context.recent)[-config.history :] if "recent" in self.forms else []
        missing = config.history - len(recent)
        cameras, seen = context.cameras, context.projection
        device = seen.depth.device
        before = [*[cameras[0]] * missing, *(frame.camera for frame in recent)]
        track = Camera.stack([*before, *cameras])
        shown = "projection" in self.forms or "warp" in self.forms
        mask = seen.mask if shown else torch.zeros_like(seen.mask)
        clip = Clip(
            rgb=_prepend_history(
                [frame.rgb_float() for frame in recent], seen.rgb, config.history, blank=True
            ),
            depth=_prepend_history(
                [_depth_or_zeros(frame) for frame in recent], seen.depth, config.history, blank=True
            ),
            K=track.K[None],
            c2w=track.c2w[None],
            projected_rgb=_prepend_history([], seen.rgb, config.history),
            projected_depth=_prepend_history([], seen.depth, config.history),
            projected_mask=_prepend_history([], mask, config.history),
            **self._encode_keyframes(context, device),
            first=config.history,
        )
        scale = clip.scale()
        given = conditions(clip, scale)
        off = {
            name: torch.zeros_like(getattr(given, field))
            for name, field in (("projection",) * 2, ("references",) * 2, ("warp", "warped"))
            if name not in self.forms
        }
        given = given._replace(**{"warped" if name == "warp" else name: off[name] for name in off})
        video = frames_in(clip, scale)[:, :, : config.channels]
        return Conditioning(video, missing, given, scale, seen.depth * mask)

    def _encode_keyframes(self, context: Retrieval, device: torch.device) -> dict[str, Tensor]:
        """The first few keyframes; black ones where there are fewer."""
        used_forms = {"references", "warp"} & self.forms
        frames = [frame.to(device) for frame in context.frames()] if used_forms else []
        count, size = self.model.config.keyframes, self.model.config.size
        frames = [frame for frame in frames if frame.camera.width == frame.camera.height == size]
        frames = frames[:count]
        rgb = torch.zeros(count, size, size, 3, device=device)
        depth = torch.zeros(count, size, size, device=device)
        K = context.cameras.K[:1].expand(count, 3, 3).clone()
        c2w = context.cameras.c2w[:1].expand(count, 4, 4).clone()
        for i, frame in enumerate(frames):
            rgb[i], depth[i] = frame.rgb_float(), frame.believed_depth()
            K[i], c2w[i] = frame.camera.K, frame.camera.c2w
        known = torch.arange(count, device=device) < len(frames)
        names = ("reference_rgb", "reference_depth", "reference_K", "reference_c2w", "known")
        return {
            name: tensor[None]
            for name, tensor in zip(names, (rgb, depth, K, c2w, known), strict=True)
        }

    def generate(
        self,
        conditioning: Conditioning,
        cameras: Camera,
        *,
        seed: int = 0,
        state: list[Tensor] | None = None,
        callback: Callable[[int, int, Tensor], Tensor | None] | None = None,
    ) -> Generated:
        """Frames and depth along cameras ``[T]``, T at most the model's chunk.

        Args:
            conditioning: What :meth:`condition` gave for the same cameras.
            cameras: ``[T]``.
            seed: Seed of the noise.
            state: What the chunk before returned, for a model that scans.
            callback: ``callback(step, steps, frames)`` with the frames as they are ``[1, T, C, H, W]`` in -1..1; what
                it returns takes their place.
        """
        video, missing, given, scale, known = conditioning
        fresh = video.shape[1] - self.model.config.history
        if fresh != len(cameras):
            raise InputError(f"conditioned on {fresh} cameras, asked for {len(cameras)}")
        x, kept = sample(
            self.model,
            video,
            given,
            steps=self.steps,
            seed=seed,
            missing=missing,
            state=state,
            callback=callback,
        )
        rgb, depth = frames_out(x, scale)
        if depth is None:
            return Generated(rgb[0], None, kept or None)
        return Generated(rgb[0], torch.where(known > 0, known, depth[0]), kept or None)


def _depth_or_zeros(frame: Frame) -> Tensor:
    if frame.depth is None:
        return torch.zeros(frame.camera.height, frame.camera.width, device=frame.camera.device)
    return frame.depth


def _prepend_history(
    before: list[Tensor], like: Tensor, history: int, *, blank: bool = False
) -> Tensor:
    """``[1, history + T, ...]``: nothing, then ``before``, then ``like``, or nothing in its place."""
    led = like.new_zeros(history + len(like), *like.shape[1:])
    for i, one in enumerate(before):
        led[history - len(before) + i] = one
    if not blank:
        led[history:] = like
    return led[None]
