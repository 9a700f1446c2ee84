"""Helios: retrieved keyframes lie in the slots of its long history, the last frames in those of the short one."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from spmem.errors import InputError
from spmem.generating import FrameCount, GeneratorSpec
from spmem.integrations.diffusers.history import in_time, round_up_latents
from spmem.integrations.diffusers.latent_blend import encoded
from spmem.integrations.diffusers.pipeline import PipelineGenerator
from spmem.integrations.diffusers.pixels import tail
from spmem.types import Keyframe, Retrieval


class Helios(PipelineGenerator):
    """Memory for a ``diffusers.HeliosPipeline``, which generates a window at a time from a history of latents.

    Its history has long slots (16 latents, seen coarsely), middle ones (2) and a short one (1), and beside them the
    video's first frame, which it sees best (``history_sizes``, ``keep_first_frame``). The last frames fill the newest
    slots (``video_latents``). Of the retrieved keyframes the best takes the first frame's place (``image_latents``), the
    others lie in the long slots, oldest first, each held for the four latents that one token there stands for;
    what is left is empty, as at the beginning of a video. No noise is added to them. It has no slot for cameras and none
    for what memory renders; :class:`spmem.integrations.diffusers.LatentBlend` goes around it.

    Args:
        pipe: The pipeline.
        tail: Last frames, 4n + 1 of them.
        history_sizes: Slots in latents: long, middle, short.
        window: Latents that it generates at once; 9 are 33 frames. Take those for ``chunk`` too.
        keep: Keyframes whose latents are kept, so that they need not be encoded again in each chunk.
        settings: Keyword arguments for every pipeline call.
    """

    fills = frozenset(
        {"video", "video_latents", "add_noise_to_video_latents", "history_sizes"}
        | {"image", "image_latents", "fake_image_latents", "add_noise_to_image_latents"}
        | {"num_latent_frames_per_chunk", "keep_first_frame"}
    )
    expected_pipeline = "HeliosPipeline"

    def __init__(
        self,
        pipe: Any,
        *,
        tail: int = 9,
        history_sizes: Sequence[int] = (16, 2, 1),
        window: int = 9,
        keep: int = 64,
        **settings: Any,
    ) -> None:
        super().__init__(pipe, settings)
        time, space = pipe.vae_scale_factor_temporal, pipe.vae_scale_factor_spatial
        patch = pipe.transformer.config.patch_size
        self.history = HeliosHistory(tail, history_sizes, keep, stride=time, span=4 * patch[0])
        self.window = window
        self.spec = GeneratorSpec(
            frames=FrameCount.fixed(time * (window - 1) + 1),
            multiple=space * patch[1],
            layout="TCHW",
            history=tail,
            slots=frozenset({"references", "recent", "latents", "prompt"}),
            callback=True,
            latent_stride=(time, space, space),
        )

    def condition(self, context: Retrieval, prompt: str | None = None) -> dict[str, Any]:
        """``video_latents`` and ``image_latents`` of the call; None where memory has nothing yet."""
        image_latents, video_latents = self.history(self.pipe, context)
        return {
            **self.call(context, prompt, len(context.cameras)),
            "image_latents": image_latents,
            "video_latents": video_latents,
            "add_noise_to_image_latents": False,
            "add_noise_to_video_latents": False,
            "history_sizes": list(self.history.sizes),
            "num_latent_frames_per_chunk": self.window,
            "keep_first_frame": True,
        }


class HeliosHistory:
    """Lays keyframes and the last frames into the slots of Helios' history.

    Args:
        tail: Last frames.
        sizes: Slots in latents: long, middle, short.
        keep: Keyframes whose latents are kept.
        stride: Frames that a latent stands for.
        span: Latents that one token of the long slots stands for: its patch is four times as long as others.
    """

    def __init__(
        self, tail: int, sizes: Sequence[int], keep: int = 64, *, stride: int = 4, span: int = 4
    ) -> None:
        if tail < 0 or (tail and (tail - 1) % stride):
            raise InputError(f"tail must be {stride}n + 1 frames, or 0, got {tail}")
        self.sizes = sorted(sizes, reverse=True)
        newest = (tail + stride - 1) // stride
        if len(self.sizes) != 3 or sum(self.sizes) < newest:
            raise InputError(f"{tail} frames do not fit into three sizes of history {self.sizes}")
        self.tail, self.keep, self.stride, self.span = tail, keep, stride, span
        self.room = min(self.sizes[0], sum(self.sizes) - newest) // span
        self._stills: OrderedDict[bytes, Tensor] = OrderedDict()

    def __call__(
        self, pipe: Any, context: Retrieval
    ) -> tuple[Float[Tensor, "1 c 1 h w"] | None, Float[Tensor, "1 c t h w"] | None]:
        """The first frame's latent, and the whole history, oldest first, 0 where it is empty; None for nothing at all."""
        count = round_up_latents(min(len(context.recent), self.tail), self.stride)
        last = tail(context.recent, count, context.projection.rgb)
        anchor = [self.encode_still(pipe, keyframe) for keyframe in context.keyframes[:1]]
        shown = in_time(context.keyframes[1:], self.room)
        stills = [self.encode_still(pipe, keyframe) for keyframe in shown]
        newest = [encoded(pipe, last)] if len(last) else []
        if not (anchor or newest):
            return None, None
        like = (anchor or newest)[0]
        slots = like.new_zeros(1, like.shape[1], sum(self.sizes), *like.shape[-2:])
        for token, still in enumerate(stills, self.room - len(stills)):
            slots[:, :, token * self.span : (token + 1) * self.span] = still
        for latents in newest:
            slots[:, :, -latents.shape[2] :] = latents
        return (anchor[0] if anchor else None), slots

    def encode_still(self, pipe: Any, keyframe: Keyframe) -> Float[Tensor, "1 c 1 h w"]:
        """A keyframe's latent, encoded once; ids of two memories may be the same, so it is known by its pixels."""
        rgb = keyframe.frame.rgb_uint8().cpu().contiguous()
        name = hashlib.blake2b(
            rgb.numpy().tobytes(), person=str(tuple(rgb.shape)).encode()
        ).digest()
        if name not in self._stills:
            self._stills[name] = encoded(pipe, rgb[None].float() / 255)
        self._stills.move_to_end(name)
        while len(self._stills) > self.keep:
            self._stills.popitem(last=False)
        return self._stills[name]
