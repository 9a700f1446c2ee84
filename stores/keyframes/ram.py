"""The keyframe bank in RAM: exact, gone when the process ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.errors import KeyframeNotFoundError, StoreError
from spmem.protocols import Arrays
from spmem.stores.keyframes.groups import Group, checked_group
from spmem.stores.keyframes.record import require_complete
from spmem.types import Frame, Snapshot


class RamKeyframes:
    """Keyframes kept as they came, on the CPU; a snapshot is a record that a commit took place.

    A :class:`spmem.protocols.KeyframeStore`. Frames are copied in and out, so that changing one changes no other.
    """

    def __init__(self) -> None:
        self._frames: dict[int, Frame] = {}
        self._next = 0
        self._groups: dict[str, Group] = {}
        self._snapshots: list[Snapshot] = []
        self._closed = False

    def __len__(self) -> int:
        return len(self._frames)

    def append(self, frame: Frame) -> int:
        """Keep a frame; returns its id. Raises FrameError where depth or time is missing."""
        self._require_open()
        require_complete(frame)
        id, self._next = self._next, self._next + 1
        self._frames[id] = _copy(frame.to("cpu"))
        return id

    def read(self, id: int) -> Frame:
        """The frame that was appended under this id. Raises KeyframeNotFoundError."""
        self._require_open()
        frame = self._frames.get(int(id))
        if frame is None:
            raise KeyframeNotFoundError(f"no keyframe {id}; the bank holds {len(self)}")
        return _copy(frame)

    def stored_depth(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """The depth itself."""
        return depth

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        return np.fromiter(self._frames, np.int64, len(self._frames))

    def times(self) -> NDArray[np.float64]:
        """Seconds, in the order of ids."""
        return np.array([frame.time for frame in self._frames.values()], np.float64)

    def cameras(self) -> Sequence[Camera]:
        """Cameras, in the order of ids."""
        return [frame.camera for frame in self._frames.values()]

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Give keyframes other poses [n, 4, 4]. Raises KeyframeNotFoundError where one is not there; none moves then."""
        self._require_all(ids)
        for id, pose in zip(ids.tolist(), c2w, strict=True):
            self._frames[id] = self._frames[id].moved(np.array(pose))

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Drop keyframes. Raises KeyframeNotFoundError where one is not there; none goes then."""
        self._require_all(ids)
        for id in ids.tolist():
            self._frames.pop(id, None)

    def write_arrays(self, group: str, arrays: Arrays, attributes: Mapping[str, Any]) -> None:
        """Replace a group of arrays. Raises InputError for names or values that no store can keep."""
        self._require_open()
        self._groups[group] = checked_group(group, arrays, attributes)

    def read_arrays(self, group: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """A group (copies) and its attributes, or None."""
        self._require_open()
        return self._groups[group].unpacked() if group in self._groups else None

    def commit(self, message: str) -> str:
        """Record a snapshot; returns its id."""
        self._require_open()
        id = f"ram-{len(self._snapshots)}"
        self._snapshots.append(Snapshot(id, message, time(), len(self)))
        return id

    def snapshots(self) -> list[Snapshot]:
        """What was recorded, latest first."""
        return self._snapshots[::-1]

    def close(self) -> None:
        """Let go of all frames; the bank takes and gives nothing more."""
        self._closed = True
        self._frames.clear()
        self._groups.clear()

    def _require_all(self, ids: NDArray[np.int64]) -> None:
        self._require_open()
        for id in ids.tolist():
            if id not in self._frames:
                raise KeyframeNotFoundError(f"no keyframe {id}; the bank holds {len(self)}")

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError("this memory is closed; open another one")


def _copy(frame: Frame) -> Frame:
    tensors = {n: getattr(frame, n) for n in ("rgb", "depth", "confidence", "features")}
    return frame.replace(
        **{n: None if t is None else t.detach().clone() for n, t in tensors.items()}
    )
