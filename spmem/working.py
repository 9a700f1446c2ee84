"""Working memory: the last frames, each with the identity of the keyframe that it became."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import overload

from jaxtyping import Float
from torch import Tensor

from spmem.types import Frame


class WorkingMemory(Sequence[Frame]):
    """The latest frames, oldest first, at most ``capacity`` of them.

    Args:
        capacity: Most frames to hold; the oldest goes for a new one.
        frames: Frames to begin with.
        uids: The uid of the keyframe that each became, None if it became none; none became one by default.
    """

    def __init__(
        self,
        capacity: int,
        frames: Iterable[Frame] = (),
        uids: Iterable[bytes | None] | None = None,
    ) -> None:
        frames = list(frames)
        uids = [None] * len(frames) if uids is None else uids
        self._held = deque(zip(frames, uids, strict=True), maxlen=capacity)

    def __len__(self) -> int:
        return len(self._held)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        return list(self)[index] if isinstance(index, slice) else self._held[index][0]

    def __iter__(self) -> Iterator[Frame]:
        return (frame for frame, _ in self._held)

    @property
    def uids(self) -> list[bytes | None]:
        """The uid of the keyframe that each frame became, None if it became none."""
        return [uid for _, uid in self._held]

    def append(self, frame: Frame, uid: bytes | None = None) -> None:
        """Hold a frame, and the uid of the keyframe that it became."""
        self._held.append((frame, uid))

    def move(self, poses: Mapping[bytes | None, Float[Tensor, "4 4"]]) -> None:
        """Give the frames that became these keyframes other poses."""
        self.edit(lambda frame, uid: frame.moved(poses[uid]) if uid in poses else frame)

    def edit(self, change: Callable[[Frame, bytes | None], Frame | None]) -> None:
        """Replace each frame by what ``change(frame, uid)`` returns; None drops it."""
        changed = [(change(frame, uid), uid) for frame, uid in self._held]
        kept = [(frame, uid) for frame, uid in changed if frame is not None]
        self._held = deque(kept, maxlen=self._held.maxlen)
