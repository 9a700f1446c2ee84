"""The keyframes that are read again and again, decoded, in RAM within a budget.

Decoded, because decoding is most of a read: what is kept costs a copy of the pixels, while coded records, of which a budget
holds ten times as many, would save the fetching alone (``benchmarks/storage.py`` has all three). A frame is taken in when it is
read a second time, so that one look through a whole bank drives nothing out and copies nothing (as in 2Q: Johnson and
Shasha, VLDB 1994); the one that was not read for longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from spmem.stores.keyframes.frames import copied, size
from spmem.types import Frame

_REMEMBERED = 1024


class FrameCache:
    """Frames by id, within a budget in bytes. Cameras are not its business: a pose may be corrected meanwhile."""

    def __init__(self, budget: int) -> None:
        self.budget, self.taken = budget, 0
        self._frames: OrderedDict[int, Frame] = OrderedDict()  # the latest read last
        self._once: OrderedDict[int, None] = OrderedDict()  # read once, and not kept

    def __len__(self) -> int:
        return len(self._frames)

    def get(self, id: int) -> Frame | None:
        """A copy of the frame, where it is kept."""
        frame = self._frames.get(id)
        if frame is None:
            return None
        self._frames.move_to_end(id)
        return copied(frame)

    def offer(self, id: int, frame: Frame) -> None:
        """Tell that a frame was read and decoded; it is copied where it is kept from now on."""
        size_now = size(frame)
        if not 0 < size_now <= self.budget or id in self._frames:
            return
        if id not in self._once:
            self._once[id] = None
            if len(self._once) > _REMEMBERED:
                self._once.popitem(last=False)
            return
        del self._once[id]
        self._frames[id] = copied(frame)
        self.taken += size_now
        while self.taken > self.budget:
            self.taken -= size(self._frames.popitem(last=False)[1])

    def drop(self, ids: Iterable[int]) -> None:
        """Let frames go."""
        for id in ids:
            self._once.pop(id, None)
            frame = self._frames.pop(id, None)
            self.taken -= 0 if frame is None else size(frame)

    def clear(self) -> None:
        """Let all go."""
        self.drop(list(self._frames))
        self._once.clear()
