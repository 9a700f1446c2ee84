"""The keyframe bank in RAM: exact, with history, gone when the process ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from os import PathLike, fspath
from time import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.config import KeyframeConfig
from spmem.errors import (
    InputError,
    KeyframeNotFoundError,
    ReadOnlyError,
    SnapshotNotFoundError,
    StoreError,
)
from spmem.names import MAIN, checked_name, checked_uid
from spmem.protocols import Arrays
from spmem.stores.keyframes.frames import copied, require_complete, size
from spmem.stores.keyframes.groups import ChunkedGroup, checked_group
from spmem.types import Frame, Snapshot


@dataclass(frozen=True)
class _State:
    """What a snapshot holds: frames and chunks are shared between states, and never changed."""

    frames: Mapping[int, Frame]
    uids: Mapping[int, bytes]
    next: int
    groups: Mapping[str, ChunkedGroup]
    snapshots: tuple[Snapshot, ...]  # latest first


_EMPTY = "ram-0"
"""The state in which every bank begins; no commit."""


@dataclass
class _Named:
    """What the forks of a bank have in common."""

    branches: dict[str, str] = field(default_factory=lambda: {MAIN: _EMPTY})  # and their last
    tags: dict[str, str] = field(default_factory=dict)
    used_tags: set[str] = field(default_factory=set)  # dropped ones, too
    states: dict[str, _State] = field(default_factory=lambda: {_EMPTY: _State({}, {}, 0, {}, ())})
    numbers: Iterator[int] = field(default_factory=lambda: count(1))  # of states, each given once


class RamKeyframes:
    """Keyframes kept as they came, on the CPU.

    A :class:`spmem.protocols.VersionedStore`. Frames are copied in and out, so that changing one changes no other. A
    snapshot shares all that did not change with the ones before it.
    """

    _frames: dict[int, Frame]
    _uids: dict[int, bytes]
    _next: int
    _groups: dict[str, ChunkedGroup]
    _snapshots: tuple[Snapshot, ...]

    def __init__(self) -> None:
        self._branch = MAIN
        self._named, self._read_only, self._closed = _Named(), False, False
        self._take(self._named.states[_EMPTY])

    @classmethod
    def open(
        cls,
        path: str | PathLike[str] = "",
        mode: str = "a",
        config: KeyframeConfig | None = None,
        *,
        branch: str = MAIN,
        options: Mapping[str, Any] | None = None,
    ) -> RamKeyframes:
        """A new, empty bank. Raises InputError for what only a stored memory has: a path, a reader, a branch, options."""
        if fspath(path) not in ("", "memory://") or mode == "r" or branch != MAIN or options:
            raise InputError(
                'a memory in RAM starts empty; a path, mode="r", a branch and storage_options are for stored ones'
            )
        return cls()

    @property
    def branch(self) -> str:
        """The branch that is open."""
        return self._branch

    def __len__(self) -> int:
        return len(self._frames)

    # -- keyframes ----------------------------------------------------------------------------------

    def append(self, frame: Frame, uid: bytes | None = None) -> int:
        """Keep a frame under a uid, new if None; returns its id.

        Raises FrameError if depth or time is missing, InputError for a uid that is not 16 bytes or is in the bank.
        """
        self._require_writable()
        require_complete(frame)
        uid = checked_uid(uid)
        if uid in self._uids.values():
            raise InputError(f"the bank holds the keyframe {uid.hex()} already")
        id, self._next = self._next, self._next + 1
        self._frames[id], self._uids[id] = copied(frame), uid
        return id

    def read(self, id: int) -> Frame:
        """The frame that was appended under this id. Raises KeyframeNotFoundError."""
        self._require_open()
        frame = self._frames.get(int(id))
        if frame is None:
            raise KeyframeNotFoundError(f"no keyframe {id}; the bank holds {len(self)}")
        return copied(frame)

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        return np.fromiter(self._frames, np.int64, len(self._frames))

    def uids(self) -> list[bytes]:
        """The identity of each keyframe, in the order of ids."""
        return list(self._uids.values())

    def times(self) -> NDArray[np.float64]:
        """Seconds, in the order of ids."""
        return np.array([frame.time for frame in self._frames.values()], np.float64)

    def cameras(self) -> Sequence[Camera]:
        """Cameras, in the order of ids."""
        return [frame.camera for frame in self._frames.values()]

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each keyframe's pixels, in the order of ids."""
        return np.array([size(frame) for frame in self._frames.values()], np.int64)

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
            self._uids.pop(id, None)

    # -- groups of arrays ---------------------------------------------------------------------------

    def write_arrays(self, group: str, arrays: Arrays, attributes: Mapping[str, Any]) -> None:
        """Replace a group of arrays. Raises InputError for names or values that no store can keep."""
        self._require_writable()
        checked = checked_group(group, arrays, attributes)
        self._groups[group] = ChunkedGroup.of(checked, self._groups.get(group))

    def read_arrays(self, group: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """A group (copies) and its attributes, or None."""
        self._require_open()
        return self._groups[group].whole() if group in self._groups else None

    # -- history ------------------------------------------------------------------------------------

    def commit(self, message: str, *, wait: bool = True) -> str:
        """Record a snapshot; returns its id."""
        self._require_writable()
        id, times = f"ram-{next(self._named.numbers)}", self.times()
        snapshot = Snapshot(
            id, message, time(), len(self), float(times.max()) if len(times) else None
        )
        self._snapshots = (snapshot, *self._snapshots)
        self._named.states[id] = self._state()
        self._named.branches[self._branch] = id
        return id

    def snapshots(self) -> list[Snapshot]:
        """What was recorded, latest first, without what :meth:`reclaim` ended."""
        return [one for one in self._snapshots if one.id in self._named.states]

    def branches(self) -> dict[str, str]:
        """The last snapshot of each branch."""
        return dict(sorted(self._named.branches.items()))

    def tags(self) -> dict[str, str]:
        """The snapshots that have names."""
        return dict(sorted(self._named.tags.items()))

    def tag(self, name: str) -> None:
        """Name the last commit. Raises InputError for a name that a tag has or had, or if there is no commit."""
        self._require_writable()
        if checked_name(name, "tag") in self._named.used_tags or not self._snapshots:
            raise InputError(
                f"there is or was a tag {name!r}, and tags do not move; or nothing was committed yet"
            )
        self._named.used_tags.add(name)
        self._named.tags[name] = self._snapshots[0].id

    def at(self, snapshot: str) -> RamKeyframes:
        """The bank as of a snapshot (its id), to read. Raises SnapshotNotFoundError."""
        self._require_open()
        return self._another(self._found(snapshot), self._branch, read_only=True)

    def fork(self, name: str) -> RamKeyframes:
        """The bank as it is now, on a branch of its own. Raises InputError where the name is taken."""
        self._require_open()
        if checked_name(name, "branch") in self._named.branches:
            raise InputError(f"the branch {name!r} is there already; take another name")
        self._named.branches[name] = self._snapshots[0].id if self._snapshots else _EMPTY
        return self._another(self._state(), name, read_only=False)

    def on(self, branch: str) -> RamKeyframes:
        """The bank on another branch, as last committed there. Raises SnapshotNotFoundError."""
        self._require_open()
        if branch not in self._named.branches:
            raise SnapshotNotFoundError(f"there is no branch {branch!r}")
        state = self._named.states[self._named.branches[branch]]
        return self._another(state, branch, read_only=False)

    def rollback(self, snapshot: str) -> None:
        """Go back to an earlier snapshot of the branch. Raises SnapshotNotFoundError."""
        self._require_writable()
        state = self._found(snapshot)
        if not set(state.snapshots[:1]) & set(self._snapshots):
            raise SnapshotNotFoundError(f"the snapshot {snapshot!r} is not one of this branch")
        self._take(state)
        self._named.branches[self._branch] = state.snapshots[0].id

    def drop_tag(self, name: str) -> None:
        """Remove a tag. Raises SnapshotNotFoundError."""
        self._require_writable()
        if name not in self._named.tags:
            raise SnapshotNotFoundError(f"there is no tag {name!r}")
        del self._named.tags[name]

    def drop_branch(self, name: str) -> None:
        """Remove a branch; not this bank's, not the main one. Raises SnapshotNotFoundError, InputError."""
        self._require_writable()
        if name in (self._branch, MAIN):
            raise InputError(f"the branch {name!r} stays: it is the main one, or open here")
        if name not in self._named.branches:
            raise SnapshotNotFoundError(f"there is no branch {name!r}")
        del self._named.branches[name]

    def reclaim(self, keep: int | None = None) -> int:
        """Forget the states before the last ``keep`` commits (None: of none), but for tags; 0, as nothing is on disk."""
        self._require_writable()
        if keep is not None:
            self._snapshots = self._snapshots[: max(keep, 1)]
            named = self._named
            kept = {
                _EMPTY,
                *named.tags.values(),
                *named.branches.values(),
                *(one.id for one in self._snapshots),
            }
            states = self._named.states
            self._named.states = {id: states[id] for id in states if id in kept}
        return 0

    def __reduce__(self) -> tuple[object, ...]:
        """Raises StoreError: what is in RAM is in one process."""
        raise StoreError(
            "a memory in RAM stays in its process: store it at a path and send a reader, "
            'spmem.open(path, mode="r"), or send what retrieve() returns'
        )

    def close(self) -> None:
        """Let go of all frames; the bank takes and gives nothing more."""
        self._closed = True
        self._frames, self._uids, self._groups = {}, {}, {}

    # -- below ----------------------------------------------------------------------------------------

    def _state(self) -> _State:
        return _State(
            dict(self._frames), dict(self._uids), self._next, dict(self._groups), self._snapshots
        )

    def _take(self, state: _State) -> None:
        self._frames, self._uids = dict(state.frames), dict(state.uids)
        self._groups = dict(state.groups)
        self._next = state.next
        self._snapshots = state.snapshots

    def _another(self, state: _State, branch: str, *, read_only: bool) -> RamKeyframes:
        bank = type(self)()
        bank._branch, bank._named, bank._read_only = branch, self._named, read_only
        bank._take(replace(state))
        return bank

    def _found(self, snapshot: str) -> _State:
        state = self._named.states.get(snapshot)
        if state is None:
            raise SnapshotNotFoundError(f"no snapshot {snapshot!r}; snapshots() lists ids")
        return state

    def _require_all(self, ids: NDArray[np.int64]) -> None:
        self._require_writable()
        for id in ids.tolist():
            if id not in self._frames:
                raise KeyframeNotFoundError(f"no keyframe {id}; the bank holds {len(self)}")

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError("this memory is closed; open another one")

    def _require_writable(self) -> None:
        self._require_open()
        if self._read_only:
            raise ReadOnlyError(
                "this memory is open at a snapshot, to read; fork it to go on from there"
            )
