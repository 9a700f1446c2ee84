"""What the adapters share: a diffusers pipeline as a generator."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.generating import GeneratorSpec
from spmem.types import Retrieval

Watch = Callable[[int, int, Tensor], Tensor | None]
"""``callback(step, steps, latents)``, as :func:`spmem.rollout` takes it."""

OURS = frozenset(
    {"prompt", "height", "width", "num_frames", "generator", "output_type", "return_dict"}
    | {"callback_on_step_end", "callback_on_step_end_tensor_inputs"}
)
"""Arguments of a pipeline's call that every adapter fills."""


class PipelineGenerator(ABC):
    """A diffusers video pipeline behind ``condition`` and ``generate``; a subclass says what memory fills in.

    The pipeline is yours: load it, quantise it, offload it as you are used to. Nothing is resized: sizes and numbers of
    frames that it cannot make are refused or made up by ``spec``, as in :func:`spmem.rollout`.

    Args:
        pipe: The loaded pipeline.
        settings: Further arguments of every call: ``num_inference_steps``, ``guidance_scale``, ``negative_prompt``,
            ``prompt_embeds`` in place of a prompt, …

    Raises:
        InputError: A pipeline whose call lacks an argument that memory fills; a setting that it does not know, or that
            the adapter fills itself.
    """

    fills: ClassVar[frozenset[str]]
    """Arguments of the pipeline's call that memory fills."""
    expected_pipeline: ClassVar[str]
    """The pipeline class that it was written for."""
    spec: GeneratorSpec

    def __init__(self, pipe: Any, settings: Mapping[str, Any]) -> None:
        takes = set(inspect.signature(type(pipe).__call__).parameters)
        who = type(self).__name__
        if missing := self.fills - takes:
            raise InputError(
                f"{who} wants a diffusers.{self.expected_pipeline}, got {type(pipe).__name__}, which takes no {sorted(missing)}"
            )
        if filled := (self.fills | OURS) & set(settings):
            raise InputError(
                f"{who} fills {sorted(filled)} itself; the prompt and a callback go to rollout()"
            )
        if unknown := set(settings) - takes:
            raise InputError(f"{type(pipe).__name__} takes no {sorted(unknown)}")
        self.pipe: Any = pipe
        self.settings = dict(settings)

    @abstractmethod
    def condition(self, context: Retrieval, prompt: str | None = None) -> dict[str, Any]:
        """What memory says, as arguments of the pipeline's call."""

    def generate(
        self,
        conditioning: Mapping[str, Any],
        cameras: Camera,
        *,
        seed: int = 0,
        callback: Watch | None = None,
    ) -> Tensor:
        """The pipeline's frames ``[T, 3, H, W]`` in [0, 1] on the cameras' device, echoed ones first.

        What the pipeline draws from torch's own random state depends on the seed too, and that state is put back.
        """
        device = torch.device(getattr(self.pipe, "_execution_device", "cpu"))
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            made: Any = self.pipeline(conditioning)(
                **self.settings,
                **conditioning,
                **self._callback_arguments(callback),
                generator=torch.Generator().manual_seed(seed),
                output_type="pt",
            )
        return self.new_frames(made.frames).to(cameras.device, torch.float32)

    def pipeline(self, conditioning: Mapping[str, Any]) -> Any:
        """The pipeline to call with this conditioning."""
        return self.pipe

    def new_frames(self, frames: Tensor) -> Tensor:
        """The frames ``[T, 3, H, W]`` that ``spec`` describes, from what the pipeline returned."""
        return frames[0]

    def call(self, context: Retrieval, prompt: str | None, frames: int) -> dict[str, Any]:
        """The arguments that every pipeline takes: words, size, number of frames."""
        words = {} if "prompt_embeds" in self.settings else {"prompt": prompt or ""}
        if prompt is not None and not words:
            raise InputError("both a prompt and prompt_embeds are given; leave one of them out")
        cameras = context.cameras
        return {
            **words,
            "height": cameras.height,
            "width": cameras.width,
            "num_frames": frames,
        }

    def _callback_arguments(self, callback: Watch | None) -> dict[str, Any]:
        if callback is None:
            return {}

        def at_end(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            latents = callback(step, pipe.num_timesteps, tensors["latents"])
            return tensors if latents is None else {**tensors, "latents": latents}

        return {
            "callback_on_step_end": at_end,
            "callback_on_step_end_tensor_inputs": ["latents"],
        }
