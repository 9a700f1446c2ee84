"""Wan VACE: the rendered memory as control video, what it does not know as mask, keyframes as reference images."""

from __future__ import annotations

from typing import Any

import torch

from spmem.generating import FrameCount, GeneratorSpec
from spmem.integrations.diffusers.pipeline import PipelineGenerator
from spmem.integrations.diffusers.pixels import fill_unknown, image, tail, video
from spmem.types import Retrieval


class WanVace(PipelineGenerator):
    """Memory for a ``diffusers.WanVACEPipeline`` (VACE, arXiv 2503.07598, section 3.1: video, mask, references).

    The control video is the last frames, then the projection, grey where memory knows nothing; the mask keeps the last
    frames and what memory covers, and has the rest generated. The keyframes that were retrieved are the reference
    images, at most one for each frame of latents: diffusers 0.42 pads the mask for no more.

    Args:
        pipe: The pipeline.
        tail: Last frames to go on from, 4n + 1 of them, so that the latents of what is kept hold nothing else.
        settings: Keyword arguments for every pipeline call: ``conditioning_scale``,
            ``num_inference_steps``, ``guidance_scale``, ….
    """

    fills = frozenset({"video", "mask", "reference_images"})
    expected_pipeline = "WanVACEPipeline"

    def __init__(self, pipe: Any, *, tail: int = 5, **settings: Any) -> None:
        super().__init__(pipe, settings)
        time, space = pipe.vae_scale_factor_temporal, pipe.vae_scale_factor_spatial
        model = pipe.transformer if pipe.transformer is not None else pipe.transformer_2
        self.spec = GeneratorSpec(
            frames=FrameCount(time, 1),
            multiple=space * model.config.patch_size[1],
            layout="TCHW",
            history=tail,
            echoed=tail,
            echo_stride=time,
            slots=frozenset({"projection", "references", "recent", "prompt"}),
            callback=True,
            latent_stride=(time, space, space),
        )

    def condition(self, context: Retrieval, prompt: str | None = None) -> dict[str, Any]:
        """``video``, ``mask`` (1 = generate) and ``reference_images`` of the call."""
        echoed = self.spec.echoes(len(context.recent))
        return {
            **self.call(context, prompt, echoed + len(context.cameras)),
            **controls(context, echoed, self.spec.frames.stride),
        }


def controls(context: Retrieval, echoed: int, stride: int) -> dict[str, Any]:
    """What VACE takes of a retrieval: ``video``, ``mask`` (1 = generate) and ``reference_images``.

    Args:
        context: For the cameras to generate.
        echoed: Number of the last frames to keep before them.
        stride: Frames that one latent stands for.
    """
    known = fill_unknown(context.projection)
    last = tail(context.recent, echoed, known)
    references = context.keyframes[: -(-(len(last) + len(known)) // stride)]
    unknown = context.projection.uncovered()[..., None].expand_as(known).to(known)
    return {
        "video": video(torch.cat([last, known])),
        "mask": video(torch.cat([torch.zeros_like(last), unknown])),
        "reference_images": [image(keyframe.frame.rgb_float()) for keyframe in references] or None,
    }
