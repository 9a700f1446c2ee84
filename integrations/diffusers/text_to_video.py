"""Any text-to-video pipeline; by itself it knows nothing of memory, :class:`LatentBlend` writes memory into it."""

from __future__ import annotations

from typing import Any

from spmem.errors import InputError
from spmem.generating import FrameCount, GeneratorSpec
from spmem.integrations.diffusers.pipeline import PipelineGenerator
from spmem.types import Retrieval


class TextToVideo(PipelineGenerator):
    """A pipeline that takes words, a size and a number of frames: Wan, LTX, CogVideoX and their like.

    Nothing carries over from chunk to chunk: what it makes fits neither what was there nor what came before, unless
    :class:`spmem.integrations.diffusers.LatentBlend` goes around it.

    Args:
        pipe: The pipeline, with a ``vae`` that makes ``stride * n`` latents of ``stride * n + 1`` frames.
        tail: Frames at the beginning that stand for the last ones there are; ``LatentBlend`` writes those there.
        settings: Keyword arguments for every pipeline call.

    Raises:
        InputError: The pipeline does not say how much its autoencoder shrinks time and space.
    """

    fills = frozenset()
    expected_pipeline = "WanPipeline, or any other with num_frames"

    def __init__(self, pipe: Any, *, tail: int = 0, **settings: Any) -> None:
        super().__init__(pipe, settings)
        time, space = strides(pipe)
        self.spec = GeneratorSpec(
            frames=FrameCount(time, 1),
            multiple=space * patch(pipe),
            layout="TCHW",
            history=tail,
            echoed=tail,
            echo_stride=time,
            slots=frozenset({"prompt"}),
            callback=True,
            latent_stride=(time, space, space),
        )

    def condition(self, context: Retrieval, prompt: str | None = None) -> dict[str, Any]:
        """Words, size and number of frames."""
        echoed = self.spec.echoes(len(context.recent))
        return self.call(context, prompt, echoed + len(context.cameras))


def strides(pipe: Any) -> tuple[int, int]:
    """Frames, and rows or columns, that one latent of a pipeline stands for.

    Raises:
        InputError: It says neither in the way of Wan nor in that of LTX.
    """
    for time, space in (
        ("vae_scale_factor_temporal", "vae_scale_factor_spatial"),
        ("vae_temporal_compression_ratio", "vae_spatial_compression_ratio"),
    ):
        if hasattr(pipe, time) and hasattr(pipe, space):
            return int(getattr(pipe, time)), int(getattr(pipe, space))
    raise InputError(
        f"{type(pipe).__name__} does not say the strides of its autoencoder: it has neither "
        "vae_scale_factor_temporal nor vae_temporal_compression_ratio"
    )


def patch(pipe: Any) -> int:
    """Rows or columns of latents that one token of the pipeline's transformer stands for."""
    model = (
        pipe.transformer if getattr(pipe, "transformer", None) is not None else pipe.transformer_2
    )
    size = getattr(model.config, "patch_size", 1)
    return int(size if isinstance(size, int) else size[-1])
