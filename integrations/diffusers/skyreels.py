"""SkyReels-V2 with diffusion forcing: goes on from the last frames, and from keyframes shown before them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.generating import FrameCount, GeneratorSpec
from spmem.integrations.diffusers.history import history, in_time
from spmem.integrations.diffusers.pipeline import PipelineGenerator, Watch
from spmem.integrations.diffusers.pixels import fill_unknown, tail, video
from spmem.types import Retrieval


class SkyReels(PipelineGenerator):
    """Memory for a ``diffusers.SkyReelsV2DiffusionForcingVideoToVideoPipeline`` (SkyReels-V2, arXiv 2504.13074).

    The last frames are the clean beginning of the video that is denoised (``video``, ``overlap_history``); where there
    are none yet, the same model begins without, as ``SkyReelsV2DiffusionForcingPipeline``. It has no slot for cameras and
    none for what memory renders: :class:`spmem.integrations.diffusers.LatentBlend` around it, without keyframes, writes
    that into the latents.

    Args:
        pipe: The pipeline.
        tail: Last frames to go on from, 4n + 1 of them; the model's authors recommend 17 or 37.
        keyframes: Retrieved ones to show before them, a latent each, as if the video had begun with them. The model
            attends to them as to all history, but it was trained on videos without such cuts.
        settings: Keyword arguments for every pipeline call: ``addnoise_condition`` (20 is
            recommended), ``ar_step``, ``causal_block_size``, ``fps``, ….
    """

    fills = frozenset({"video", "overlap_history", "base_num_frames"})
    expected_pipeline = "SkyReelsV2DiffusionForcingVideoToVideoPipeline"

    def __init__(self, pipe: Any, *, tail: int = 17, keyframes: int = 0, **settings: Any) -> None:
        super().__init__(pipe, settings)
        if tail < 1 or keyframes < 0:
            raise InputError(f"tail must be >= 1, keyframes >= 0, got {tail} and {keyframes}")
        self.keyframes = keyframes
        self.block: int = (
            settings.get("causal_block_size") or pipe.transformer.config.num_frame_per_block
        )
        self._starting: Any = None
        time, space = pipe.vae_scale_factor_temporal, pipe.vae_scale_factor_spatial
        slots = {"recent", "prompt"} | ({"references"} if keyframes else set())
        self.spec = GeneratorSpec(
            frames=FrameCount(time, 1),
            multiple=space * pipe.transformer.config.patch_size[1],
            layout="TCHW",
            history=tail,
            echoed=tail,
            echo_stride=time,
            slots=frozenset(slots),
            callback=True,
            latent_stride=(time, space, space),
        )

    def condition(self, context: Retrieval, prompt: str | None = None) -> dict[str, Any]:
        """``video`` and ``overlap_history`` of the call; ``kept``: which of the frames it returns are ours."""
        known = fill_unknown(context.projection)
        last = tail(context.recent, self.spec.echoes(len(context.recent)), known)
        visible = len(last) + len(known)
        if not len(last):
            count = self._round_up_frames(visible)
            call = self.call(context, prompt, count)
            return {**call, "base_num_frames": count, "kept": (0, visible)}
        shown = in_time(context.keyframes, self.keyframes)
        stills = [keyframe.frame.rgb_float().to(known) for keyframe in shown]
        seen = history(last, stills, stride=self.spec.frames.stride, block=self.block)
        count = self._round_up_frames(len(seen) + len(known))
        start = 2 * len(seen) - len(last)  # it returns the video, then what it decodes of it
        return {
            **self.call(context, prompt, count),
            "video": video(seen),
            "overlap_history": len(seen),
            "base_num_frames": count,  # one pass of the model
            "kept": (start, start + visible),
        }

    def generate(
        self,
        conditioning: Mapping[str, Any],
        cameras: Camera,
        *,
        seed: int = 0,
        callback: Watch | None = None,
    ) -> Tensor:
        """Frames ``[T, 3, H, W]`` in [0, 1]: the last ones as the model decodes them, then new ones."""
        call = dict(conditioning)
        start, stop = call.pop("kept")
        return super().generate(call, cameras, seed=seed, callback=callback)[start:stop]

    def pipeline(self, conditioning: Mapping[str, Any]) -> Any:
        """The pipeline; where there is no history, one of the same parts that wants none."""
        if "video" in conditioning:
            return self.pipe
        if self._starting is None:
            kind = import_module("diffusers").SkyReelsV2DiffusionForcingPipeline
            self._starting = kind(**self.pipe.components)
            self._starting.set_progress_bar_config(**getattr(self.pipe, "_progress_bar_config", {}))
        return self._starting

    def _round_up_frames(self, frames: int) -> int:
        """As many frames, or a few more, as make whole blocks of latents."""
        stride = self.spec.frames.stride
        latents = (frames - 1) // stride + 1
        return (latents + -latents % self.block - 1) * stride + 1
