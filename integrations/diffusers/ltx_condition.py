"""LTX with conditions: the last frames as a clip at the beginning, keyframes where the camera passes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError
from spmem.generating import FrameCount, GeneratorSpec
from spmem.integrations.diffusers.pipeline import PipelineGenerator
from spmem.integrations.diffusers.pixels import fill_unknown, image, tail, video
from spmem.integrations.diffusers.text_to_video import strides
from spmem.retrieval.rules.pose_nearest import turns
from spmem.types import Retrieval


class LtxCondition(PipelineGenerator):
    """Memory for a ``diffusers.LTXConditionPipeline`` (LTX-Video, arXiv 2501.00103; conditions of version 0.9.5).

    The last frames are a clip at frame 0 that is kept. Each keyframe that was retrieved is a still at the frame whose
    camera is nearest to its own, if that is near at all; where several fall on one frame, the best one is taken.

    Args:
        pipe: The pipeline.
        tail: Last frames to go on from, 8n + 1 of them.
        strength: Strength of the stills, in (0, 1]; 1 asks for exactly their pixels.
        reach: How far a keyframe's camera may be from the frame's: ``shift / depth + turn``, with the median depth of
            what memory renders and the turn in radians.
        settings: Keyword arguments for every pipeline call.
    """

    fills = frozenset({"image", "video", "frame_index", "strength", "conditions"})
    expected_pipeline = "LTXConditionPipeline"

    def __init__(
        self,
        pipe: Any,
        *,
        tail: int = 9,
        strength: float = 0.6,
        reach: float = 0.3,
        **settings: Any,
    ) -> None:
        super().__init__(pipe, settings)
        if not 0 < strength <= 1:
            raise InputError(f"strength lies in (0, 1], got {strength}")
        if reach < 0:
            raise InputError(f"reach must be >= 0, got {reach}")
        self.strength, self.reach = strength, reach
        time, space = strides(pipe)
        self.spec = GeneratorSpec(
            frames=FrameCount(time, 1),
            multiple=space * pipe.transformer_spatial_patch_size,
            layout="TCHW",
            history=tail,
            echoed=tail,
            echo_stride=time,
            slots=frozenset({"projection", "references", "recent", "prompt"}),
            callback=True,
            latent_stride=(time, space, space),
        )

    def condition(self, context: Retrieval, prompt: str | None = None) -> dict[str, Any]:
        """``video`` and ``image`` with their ``frame_index`` and ``strength``."""
        known = fill_unknown(context.projection)
        last = tail(context.recent, self.spec.echoes(len(context.recent)), known)
        call = self.call(context, prompt, len(last) + len(known))
        placed = frame_slots(context, self.reach)
        stills = [image(context.keyframes[row].frame.rgb_float()) for row in placed.values()]
        clips = [video(last)] if len(last) else []
        if not clips and not stills:
            return call
        return {
            **call,
            "video": [*clips, *(None for _ in stills)],
            "image": [*(None for _ in clips), *stills],
            "frame_index": [0 for _ in clips] + [len(last) + frame for frame in placed],
            "strength": [1.0 for _ in clips] + [self.strength for _ in stills],
        }


def frame_slots(context: Retrieval, reach: float) -> dict[int, int]:
    """Frames of the chunk at which a keyframe's camera is within reach, in order, each with the best keyframe's row."""
    if not context.keyframes:
        return {}
    cameras = context.cameras.c2w.cpu().numpy()
    depth = context.projection.depth[context.projection.mask]
    scale = float(depth.median()) if len(depth) else 1.0
    places: dict[int, int] = {}
    for row, keyframe in enumerate(context.keyframes):
        c2w: NDArray[np.float32] = keyframe.camera.c2w.cpu().numpy()
        shift = np.linalg.norm(cameras[:, :3, 3] - c2w[:3, 3], axis=-1) / scale
        distance = shift + turns(c2w[None], cameras)[0]
        frame = int(distance.argmin())
        if distance[frame] <= reach:
            places.setdefault(frame, row)  # best first
    return dict(sorted(places.items()))
