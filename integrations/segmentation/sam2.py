"""What moves, followed by SAM 2 from where it was noticed (extra ``perception``).

Ravi et al., "SAM 2: Segment Anything in Images and Videos", arXiv 2408.00714: a video segmenter with a memory of past
frames, prompted by masks. :mod:`spmem.integrations.pretrained` says where weights come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spmem.errors import FrameError, InputError
from spmem.integrations.pretrained import IMAGENET, pretrained, scaled, transformers_package
from spmem.integrations.segmentation.depth_change import DepthChange
from spmem.protocols import DynamicSegmenter
from spmem.returned import moving_from
from spmem.types import Frame, Projection

NEW = 0.5
"""A patch that SAM 2 follows in less than this share is something new."""


class Sam2:
    """Follows with SAM 2 whatever another segmenter notices, also while that one misses it.

    ``noticed`` (a geometric rule, say) proposes pixels. Patches of them of at least ``smallest`` that are not followed
    yet become objects; SAM 2 carries each object's mask from frame to frame. An object that ``noticed`` has not confirmed
    for ``patience`` frames is given up, so that a mistake does not stay. What comes out is what is followed, and what was noticed.

    It remembers from one call to the next, for frames of one video in order: :meth:`reset` before another one. Memory is
    bounded: as many past frames as SAM 2 looks back at, and at most ``objects`` objects.

    Args:
        model: A folder or a name on the hub of a ``Sam2VideoModel``, or such a module.
        noticed: Any :class:`spmem.protocols.DynamicSegmenter`; None takes :class:`DepthChange`.
        objects: Objects followed at most; the largest patches come first.
        smallest: Share of the image.
        patience: Frames.
        device: Where the model is to run; None leaves it where it is (the CPU, if it is read here).

    Raises:
        MissingExtraError: transformers is not installed.
        OSError: No such model, or none in safetensors.
        InputError: A model of another kind, or parameters out of range.
    """

    def __init__(
        self,
        model: str | Path | torch.nn.Module = "facebook/sam2.1-hiera-tiny",
        *,
        noticed: DynamicSegmenter | None = None,
        objects: int = 4,
        smallest: float = 0.002,
        patience: int = 8,
        device: torch.device | str | None = None,
    ) -> None:
        if objects < 1 or patience < 1 or not 0 < smallest < 1:
            raise InputError(
                "sam2 wants objects >= 1, patience >= 1 and smallest in (0, 1), "
                f"got {objects}, {patience} and {smallest}"
            )
        self.model = pretrained(model, "Sam2VideoModel", "sam2", device)
        self.noticed: DynamicSegmenter = DepthChange() if noticed is None else noticed
        self.objects, self.smallest, self.patience = objects, smallest, patience
        self.reset()

    def reset(self) -> None:
        """Forget what is followed: another video comes."""
        self._session: Any = None
        self._doubt: list[int] = []  # of each object followed, the frames since it was confirmed
        self._count = 0

    @property
    def following(self) -> int:
        """Objects that are followed at present."""
        return len(self._doubt)

    @property
    def remembered(self) -> int:
        """Frames that the session holds anything of."""
        if self._session is None:
            return 0
        kept = [set(self._session.processed_frames or {})]
        for outputs in self._session.output_dict_per_obj.values():
            kept += [set(part) for part in outputs.values()]
        return len(set.union(*kept))

    @torch.no_grad()
    def __call__(
        self, frames: Sequence[Frame], known: Projection | None = None
    ) -> Bool[Tensor, "t h w"]:
        """True where something moves; raises FrameError where frames differ in size, and what ``noticed`` raises."""
        if len({frame.rgb.shape for frame in frames}) > 1:
            raise FrameError("sam2 follows frames of one size; call it once for each size")
        proposed = moving_from(self.noticed, frames, known)
        return torch.stack(
            [self._step_frame(frame, seen) for frame, seen in zip(frames, proposed, strict=True)]
        )

    def _step_frame(self, frame: Frame, noticed: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
        edge = int(self.model.image_size)
        pixels = scaled(frame.rgb_float()[None], (edge, edge), IMAGENET, "bilinear")
        pixels = pixels.to(self.model.device, self.model.dtype)
        masks = self._follow_objects(pixels, noticed)
        self._doubt = [
            0 if bool((mask & noticed).any()) else doubt + 1
            for mask, doubt in zip(masks, self._doubt, strict=True)
        ]
        kept = [i for i, doubt in enumerate(self._doubt) if doubt < self.patience]
        followed = torch.zeros_like(noticed)
        for i in kept:
            followed |= masks[i]
        fresh = self._find_new_objects(noticed, followed, self.objects - len(kept))
        if fresh or len(kept) < len(masks):
            self._doubt = [self._doubt[i] for i in kept] + [0] * len(fresh)
            self._begin_session(pixels, [masks[i] for i in kept] + fresh)
        return followed | noticed

    def _follow_objects(
        self, pixels: Float[Tensor, "1 3 e e"], noticed: Bool[Tensor, "h w"]
    ) -> list[Bool[Tensor, "h w"]]:
        """The mask of each object in the next frame."""
        if self._session is None:
            return []
        self._count += 1
        found = self.model(inference_session=self._session, frame=pixels, frame_idx=self._count)
        self._drop_old_frames()
        masks = torch.nn.functional.interpolate(
            found.pred_masks.float(), tuple(noticed.shape), mode="bilinear"
        )
        return [mask.to(noticed.device) > 0 for mask in masks[:, 0]]

    def _find_new_objects(
        self, noticed: Bool[Tensor, "h w"], followed: Bool[Tensor, "h w"], room: int
    ) -> list[Bool[Tensor, "h w"]]:
        """The largest patches that are noticed and not followed."""
        least = self.smallest * noticed.numel()
        found = [
            patch
            for patch in patches(noticed)
            if int(patch.sum()) >= least and int((patch & followed).sum()) < NEW * int(patch.sum())
        ]
        return sorted(found, key=lambda patch: -int(patch.sum()))[: max(room, 0)]

    def _begin_session(
        self, pixels: Float[Tensor, "1 3 e e"], masks: list[Bool[Tensor, "h w"]]
    ) -> None:
        """Start a new session from this frame on, with these masks."""
        self._session, self._count = None, 0
        if not masks:
            return
        height, width = masks[0].shape
        model = transformers_package("sam2").models.sam2_video
        session = model.modeling_sam2_video.Sam2VideoInferenceSession(
            video_height=height,
            video_width=width,
            inference_device=self.model.device,
            inference_state_device=self.model.device,
            video_storage_device=self.model.device,
            dtype=self.model.dtype,
        )
        edge = pixels.shape[-1]
        for name, mask in enumerate(masks):
            number = session.obj_id_to_idx(name)
            prompt = torch.nn.functional.interpolate(
                mask[None, None].float(), (edge, edge), mode="bilinear", antialias=True
            )
            session.add_mask_inputs(number, 0, (prompt > 0.5).float())
            session.obj_with_new_inputs.append(name)
        self.model(inference_session=session, frame=pixels, frame_idx=0)
        self._session = session

    def _drop_old_frames(self) -> None:
        """Drop what SAM 2 does not look back at any more; the frame of the prompts stays."""
        session, config = self._session, self.model.config
        reach = max(int(config.num_maskmem), int(config.max_object_pointers_in_encoder))
        old = self._count - reach
        for frame in [i for i in session.processed_frames if i < self._count]:
            del session.processed_frames[frame]
        for number, outputs in session.output_dict_per_obj.items():
            for frame in [i for i in outputs["non_cond_frame_outputs"] if i <= old]:
                del outputs["non_cond_frame_outputs"][frame]
            tracked = session.frames_tracked_per_obj[number]
            for frame in [i for i in tracked if i <= old]:
                del tracked[frame]
            session.mask_inputs_per_obj[number].clear()


def patches(mask: Bool[Tensor, "h w"]) -> list[Bool[Tensor, "h w"]]:
    """The connected patches of a mask; pixels that touch at a corner are connected.

    Example:
        >>> corner = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1]]).bool()
        >>> [patch.int().tolist() for patch in patches(corner)]
        [[[1, 0, 0, 0], [0, 1, 0, 0]], [[0, 0, 0, 1], [0, 0, 0, 1]]]
    """
    h, w = mask.shape
    label = (torch.arange(h * w, device=mask.device).view(h, w) + 1) * mask
    while True:
        spread = torch.nn.functional.max_pool2d(label[None, None].double(), 3, 1, 1)[0, 0].long()
        spread = spread * mask
        # Each label points at a pixel; taking that pixel's own label doubles the stride each round.
        jumped = spread.flatten()[(spread.flatten() - 1).clamp(min=0)].view(h, w) * mask
        grown = torch.maximum(spread, jumped)
        if torch.equal(grown, label):
            break
        label = grown
    names = label[mask].unique()
    by_first = sorted(
        names.tolist(), key=lambda name: int((label == name).flatten().float().argmax())
    )
    return [label == name for name in by_first]
