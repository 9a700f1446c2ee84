"""SANA-WM: goes on from the last frame along the cameras themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.generating import FrameCount, GeneratorSpec
from spmem.integrations.diffusers.pipeline import PipelineGenerator
from spmem.integrations.diffusers.pixels import fill_unknown, image, tail
from spmem.types import Retrieval


class SanaWm(PipelineGenerator):
    """Memory for a ``diffusers.SanaWMPipeline``, a world model that takes cameras (``c2w``, ``intrinsics``).

    ``image`` is the last frame, and the trajectory begins with its camera; where there is none, the image is what memory
    renders for the first camera. Poses go in as they are, in OpenCV axes: the pipeline makes them relative to the
    first. Intrinsics are in pixels of the image. Beyond the last frame it has no slot for what memory knows;
    :class:`spmem.integrations.diffusers.LatentBlend` goes around it.

    Args:
        pipe: The pipeline.
        scale: What one unit of the world is in units of the model; in those, its authors' walking pace is 0.05 a frame.
        settings: Keyword arguments for every pipeline call: ``num_inference_steps``, ``negative_prompt``, ….
    """

    fills = frozenset({"image", "c2w", "action", "intrinsics"})
    expected_pipeline = "SanaWMPipeline"

    def __init__(self, pipe: Any, *, scale: float = 1.0, **settings: Any) -> None:
        super().__init__(pipe, settings)
        if not scale > 0:
            raise InputError(f"scale must be > 0, got {scale}")
        self.scale = scale
        time, space = pipe.vae_temporal_compression_ratio, pipe.vae_spatial_compression_ratio
        self.spec = GeneratorSpec(
            frames=FrameCount(time, 1),
            multiple=space * pipe.transformer.config.patch_size[-1],
            layout="TCHW",
            history=1,
            echoed=1,
            slots=frozenset({"cameras", "recent", "prompt"}),
            callback=True,
            latent_stride=(time, space, space),
        )

    def condition(self, context: Retrieval, prompt: str | None = None) -> dict[str, Any]:
        """``image``, ``c2w`` and ``intrinsics`` of the call, a camera for each frame, the image's included."""
        cameras, known = context.cameras, fill_unknown(context.projection)
        first = tail(context.recent, 1, known)
        if len(first):
            last = context.recent[-1].camera.to(cameras.device)
            cameras = Camera.stack([last, *cameras])
        poses = cameras.c2w.clone()
        poses[:, :3, 3] *= self.scale
        return {
            "prompt": "",  # it has no default
            **self.call(context, prompt, len(cameras)),
            "image": image(first[0] if len(first) else known[0]),
            "c2w": poses.cpu().numpy(),
            "intrinsics": cameras.K.cpu().numpy(),
        }

    def new_frames(self, frames: Tensor) -> Tensor:
        """All: this pipeline returns no batch."""
        return torch.as_tensor(frames)
