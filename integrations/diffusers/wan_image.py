"""Wan image-to-video: goes on from the last frame, towards what memory renders for the last camera."""

from __future__ import annotations

from typing import Any

from spmem.errors import InputError
from spmem.generating import FrameCount, GeneratorSpec
from spmem.integrations.diffusers.pipeline import PipelineGenerator
from spmem.integrations.diffusers.pixels import fill_unknown, image, tail
from spmem.integrations.diffusers.text_to_video import patch, strides
from spmem.types import Retrieval


class WanImage(PipelineGenerator):
    """Memory for a ``diffusers.WanImageToVideoPipeline`` (Wan, arXiv 2503.20314, section 5.1).

    ``image`` is the last frame; where there is none, what memory renders for the first camera. ``last_image`` is what
    memory renders for the last camera, if it knows nearly all of it. The frames between follow no camera of ours: put
    :class:`spmem.integrations.diffusers.LatentBlend` around it to hold them to what memory knows.

    Args:
        pipe: The pipeline. Wan 2.2 5B (``expand_timesteps``) takes no last image, and is given none.
        least: Share of the last camera's pixels that memory must cover to show it as ``last_image``.
        settings: Keyword arguments for every pipeline call.
    """

    fills = frozenset({"image", "last_image"})
    expected_pipeline = "WanImageToVideoPipeline"

    def __init__(self, pipe: Any, *, least: float = 0.95, **settings: Any) -> None:
        super().__init__(pipe, settings)
        if not 0 < least <= 1:
            raise InputError(f"least is a share in (0, 1], got {least}")
        self.least = least
        time, space = strides(pipe)
        self.spec = GeneratorSpec(
            frames=FrameCount(time, 1, least=time + 1),
            multiple=space * patch(pipe),
            layout="TCHW",
            history=1,
            echoed=1,
            slots=frozenset({"projection", "recent", "prompt"}),
            callback=True,
            latent_stride=(time, space, space),
        )

    def condition(self, context: Retrieval, prompt: str | None = None) -> dict[str, Any]:
        """``image`` and ``last_image`` of the call."""
        known = fill_unknown(context.projection)
        last = tail(context.recent, 1, known)
        first = last[0] if len(last) else known[0]
        enough = bool(context.coverage[-1] >= self.least)
        ends = enough and not self.pipe.config.expand_timesteps
        return {
            **self.call(context, prompt, len(last) + len(known)),
            "image": image(first),
            "last_image": image(known[-1]) if ends else None,
        }
