"""A memory that knows an analytic room exactly: for parts that read from one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from spmem.camera import Camera
from spmem.testing.box import BoxRoom
from spmem.types import Frame, Keyframe, Projection, Retrieval


@dataclass
class RoomMemory:
    """Answers with the room as it is, and with what was stored as its keyframes, latest first; frames without a time are counted.

    unknown: Share of each image, from its left edge, that this memory does not cover.

    Example:
        >>> room = BoxRoom()
        >>> context = RoomMemory(room, unknown=0.25).retrieve(room.walk(3, width=64, height=48))
        >>> context.coverage
        tensor([0.7500, 0.7500, 0.7500])
    """

    room: BoxRoom = field(default_factory=BoxRoom)
    unknown: float = 0.0
    stored: list[Frame] = field(default_factory=list)

    def store(self, frame: Frame) -> int:
        """Keeps every frame; its number is its id."""
        self.stored.append(frame)
        return len(self.stored) - 1

    def look(self, cameras: Camera) -> RoomMemory:
        """Store the room as cameras ``[T]`` see it; the memory itself."""
        for frame in self.room.frames(cameras):
            self.store(frame)
        return self

    def retrieve(self, cameras: Camera, *, k: int = 4, method: str | None = None) -> Retrieval:
        """The room rendered, but for the unknown share, and the last k frames stored."""
        ids = range(len(self.stored))[::-1][:k]
        return Retrieval(
            cameras=cameras,
            projection=self._render_masked(cameras),
            keyframes=tuple(
                Keyframe(i, self.stored[i].camera, float(i), self._dated_frame) for i in ids
            ),
            scores=torch.linspace(1, 0.5, len(ids)),
            recent=tuple(map(self._dated_frame, range(len(self.stored))[-2:])),
            method=method or "latest",
            _explain=list,
        )

    def _dated_frame(self, i: int) -> Frame:
        """As every memory hands frames out: with a time, its number where it has none of its own."""
        frame = self.stored[i]
        return frame if frame.time is not None else frame.replace(time=float(i))

    def _render_masked(self, cameras: Camera) -> Projection:
        seen = self.room.render(cameras)
        columns = torch.arange(cameras.width, device=cameras.device) / cameras.width
        mask = (columns >= self.unknown).expand_as(seen.mask)
        return replace(
            seen,
            rgb=seen.rgb * mask[..., None],
            depth=seen.depth * mask,
            normal=seen.normal * mask[..., None],
            mask=mask,
            surfel_ids=torch.where(mask, seen.surfel_ids, -1),
        )
