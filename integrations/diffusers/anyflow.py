"""AnyFlow FAR: keyframes, then the last frames, are the context that it goes on from, chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.generating import FrameCount, GeneratorSpec
from spmem.integrations.diffusers.history import history, in_time
from spmem.integrations.diffusers.pipeline import PipelineGenerator, Watch
from spmem.integrations.diffusers.pixels import fill_unknown, tail, video
from spmem.types import Retrieval


class AnyFlow(PipelineGenerator):
    """Memory for a ``diffusers.AnyFlowFARPipeline`` (AnyFlow, arXiv 2605.13724; FAR, arXiv 2503.19325).

    A causal model: chunks of latents attend to those before, the last ones in full, older ones compressed. The context
    (``video``) begins with the retrieved keyframes, oldest first, a latent each, and ends with the last frames, so that
    keyframes lie where the model keeps its compressed past. It was trained on videos without such cuts. It has no slot
    for what memory renders, and none for cameras.

    The pipeline calls back within each of its chunks, with that chunk's latents alone; that is not passed on.

    Args:
        pipe: The pipeline.
        tail: Last frames to go on from, 4n + 1 of them; 13 fill the chunks that a released model sees in full.
        keyframes: Retrieved ones to show before them.
        settings: Keyword arguments for every pipeline call. ``use_kv_cache=False`` fails in diffusers 0.42.
    """

    fills = frozenset({"video", "video_latents", "chunk_partition"})
    expected_pipeline = "AnyFlowFARPipeline"

    def __init__(self, pipe: Any, *, tail: int = 13, keyframes: int = 3, **settings: Any) -> None:
        super().__init__(pipe, settings)
        if tail < 1 or keyframes < 0:
            raise InputError(f"tail must be >= 1, keyframes >= 0, got {tail} and {keyframes}")
        self.keyframes, self.most = keyframes, max(pipe.transformer.config.chunk_partition)
        time, space = pipe.vae_scale_factor_temporal, pipe.vae_scale_factor_spatial
        slots = {"recent", "prompt"} | ({"references"} if keyframes else set())
        self.spec = GeneratorSpec(
            frames=FrameCount(time, 1),
            multiple=space * pipe.transformer.config.compressed_patch_size[-1],
            layout="TCHW",
            history=tail,
            echoed=tail,
            echo_stride=time,
            slots=frozenset(slots),
            latent_stride=(time, space, space),
        )

    def condition(self, context: Retrieval, prompt: str | None = None) -> dict[str, Any]:
        """``video`` and ``chunk_partition`` of the call; ``before``: frames that stand before the last ones."""
        known, stride = fill_unknown(context.projection), self.spec.frames.stride
        last = tail(context.recent, self.spec.echoes(len(context.recent)), known)
        if not len(last):
            latents = (len(known) - 1) // stride
            call = self.call(context, prompt, len(known))
            return {
                **call,
                "video": None,
                "chunk_partition": [1, *self._chunk_sizes(latents)],
                "before": 0,
            }
        shown = in_time(context.keyframes, self.keyframes)
        stills = [keyframe.frame.rgb_float().to(known) for keyframe in shown]
        seen = history(last, stills, stride=stride)
        past = self._chunk_sizes((len(seen) - 1) // stride)[::-1]  # the newest are whole
        return {
            **self.call(context, prompt, len(seen) + len(known)),
            "video": video(seen),
            "chunk_partition": [1, *past, *self._chunk_sizes(len(known) // stride)],
            "before": len(seen) - len(last),
        }

    def generate(
        self,
        conditioning: Mapping[str, Any],
        cameras: Camera,
        *,
        seed: int = 0,
        callback: Watch | None = None,
    ) -> Tensor:
        """Frames ``[T, 3, H, W]`` in [0, 1]: the last ones as they are decoded, then new ones."""
        call = dict(conditioning)
        before = call.pop("before")
        return super().generate(call, cameras, seed=seed, callback=callback)[before:]

    def _chunk_sizes(self, latents: int) -> list[int]:
        """So many latents in chunks, all but the last of the size that the model was trained with."""
        whole, rest = divmod(latents, self.most)
        return [self.most] * whole + [rest] * (rest > 0)
