"""What a memory does with its own history: commits, branches, and going back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from spmem.arguments import seconds, whole
from spmem.errors import (
    ConflictError,
    CorruptMemoryError,
    InputError,
    ReadOnlyError,
    SnapshotNotFoundError,
    StoreError,
)
from spmem.protocols import RefreshableStore
from spmem.stores.keyframes.names import checked_name
from spmem.types import Snapshot

if TYPE_CHECKING:
    from typing import Self

    from spmem.protocols import KeyframeStore
    from spmem.types import Frame

MERGED = "merged"
"""The group that holds the uids of merged keyframes, uint8 ``[n, 16]``."""


class Lifecycle(ABC):
    """The part of a memory that knows commits; a subclass says what it holds (:meth:`_save`, :meth:`_adopt`).

    A context manager: leaving it commits and closes.
    """

    _again: Callable[[KeyframeStore, bool], Any] | None
    """Opens a memory like this one on another state of the bank, to write or not."""

    def __init__(self, bank: KeyframeStore, *, writable: bool) -> None:
        self._bank, self._writable = bank, writable
        self._changed = self._corrected = self._closed = False

    @property
    def branch(self) -> str:
        """The line of history that is open."""
        return self._bank.branch

    # -- commits ------------------------------------------------------------------------------------

    def commit(self, message: str = "") -> str | None:
        """Make everything durable in one step; the snapshot's id, or None where nothing changed.

        Raises:
            ConflictError: Another writer committed to this branch; :meth:`fork` keeps what this memory holds.
            StoreError: The disk is full: the last commit is intact, commit again once there is space.
            ReadOnlyError: The memory was opened to read.
        """
        self._require_writable()
        if not self._changed:
            return None
        self._corrected = (
            True  # so that, where this fails, the next automatic commit is a whole one
        )
        self._save()
        snapshot = self._bank.commit(message)
        self._changed = self._corrected = False
        self._tidy()
        return snapshot

    def flush(self) -> None:
        """Wait until what was stored, and the automatic commits so far, are written.

        Raises:
            StoreError: Something could not be written in the background.
        """
        self._require_open()
        self._bank.flush()

    def snapshots(self) -> list[Snapshot]:
        """Committed states of this branch, latest first."""
        self._require_open()
        return self._bank.snapshots()

    # -- readers ------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Go on to the last commit of the branch: a memory opened with ``mode="r"`` shows one commit until then.

        What was handed out before (retrievals, keyframes) stays as it is. If the new commit cannot be read, the memory
        stays where it was.

        Returns:
            True if there was a new commit, False if the memory shows the last one already.

        Raises:
            StoreError: The memory is open for writing, at a snapshot, or in RAM.
            SnapshotNotFoundError: The branch was dropped.
            CorruptMemoryError: The new commit is damaged.
        """
        self._require_open()
        if not isinstance(self._bank, RefreshableStore):
            raise StoreError('refresh() is for a memory on disk that was opened with mode="r"')
        bank = self._bank.refreshed()
        if bank is None:
            return False
        try:
            opened = self._opened(bank, writable=False)
        except BaseException:
            bank.close()
            raise
        vars(self).update(vars(opened))
        return True

    def __reduce__(self) -> tuple[object, ...]:
        """A memory that is open to read travels to another process as its address, and opens there at the same commit.

        Raises:
            StoreError: The memory is open for writing, or in RAM.
        """
        self._require_open()
        if self._writable:
            raise StoreError(
                "a memory that is open for writing stays in its process: commit, and send a reader, "
                'spmem.open(path, mode="r"); of a memory in RAM send what retrieve() returns'
            )
        return self._opener(), (self._bank, False)

    # -- history ------------------------------------------------------------------------------------

    def at(
        self,
        snapshot: str | Snapshot | None = None,
        *,
        tag: str | None = None,
        branch: str | None = None,
        time: float | None = None,
    ) -> Self:
        """The memory as it was, to read; its answers never change, bit for bit.

        Args:
            snapshot: One of :meth:`snapshots`, or its id.
            tag: The name of a tag.
            branch: The name of a branch: its last commit.
            time: Seconds in the memory's own time: the last commit that holds no keyframe after it.

        Raises:
            SnapshotNotFoundError: There is none.
            InputError: Not exactly one of them is given.
        """
        self._require_open()
        _require_one("at", snapshot=snapshot, tag=tag, branch=branch, time=time)
        if time is not None:
            time, commits = seconds(time, "time"), self.snapshots()
            past = [one for one in commits if one.keyframes == 0 or _until(one) <= time]
            if not past:
                raise SnapshotNotFoundError(
                    f"no commit holds keyframes up to {time:g} s only; the earliest of {len(commits)} goes further"
                )
            snapshot = past[0]
        found = self._snapshot_id(snapshot=snapshot, tag=tag, branch=branch)
        return self._opened(self._bank.at(found), writable=False)

    def fork(self, name: str) -> Self:
        """A memory that goes on from here on a branch of its own ("what if the camera turned left").

        It shares all that is stored. What is not committed here goes along, so that it also saves the work of a memory
        whose commit was refused. A memory :meth:`at` a snapshot forks from there. Open it again with
        ``spmem.open(path, branch=name)``.

        Raises:
            InputError: The name is taken, or is no name.
        """
        self._require_open()
        if self._writable and self._changed:
            self._save()
        forked = self._opened(self._bank.fork(name), writable=True)
        forked._changed = self._writable and self._changed
        return forked

    def rollback(
        self,
        steps: int | None = None,
        *,
        snapshot: str | Snapshot | None = None,
        tag: str | None = None,
    ) -> None:
        """Go back to an earlier commit of this branch; what came after it is gone, here and on the branch.

        Args:
            steps: Commits to go back from the last one; 0 drops what was not committed. 1 if nothing is given.
            snapshot: One of :meth:`snapshots`, or its id.
            tag: The name of a tag.

        Raises:
            SnapshotNotFoundError: The branch does not go back so far, or has no such snapshot.
            ConflictError: Another writer committed to this branch.
            InputError: More than one of them is given, or ``steps`` is no whole number.
            ReadOnlyError: The memory was opened to read.
        """
        self._require_writable()
        if steps is None and snapshot is None and tag is None:
            steps = 1
        _require_one("rollback", steps=steps, snapshot=snapshot, tag=tag)
        if steps is not None:
            if not isinstance(steps, int):
                raise InputError(
                    f"rollback() takes a number of commits, got {steps!r}; name a snapshot with "
                    "rollback(snapshot=…), a tag with rollback(tag=…)"
                )
            commits = self.snapshots()
            if not 0 <= steps < len(commits):
                raise SnapshotNotFoundError(
                    f"rollback({steps}): there are {len(commits)} commits, so 0 to {len(commits) - 1} is wanted"
                )
            snapshot = commits[steps]
        self._bank.rollback(self._snapshot_id(snapshot=snapshot, tag=tag))
        self._begin_again()

    def branches(self) -> list[str]:
        """The names of all branches; ``main`` is the one that opens by itself."""
        self._require_open()
        return list(self._bank.branches())

    def tags(self) -> dict[str, str]:
        """The snapshots that have names."""
        self._require_open()
        return self._bank.tags()

    def tag(self, name: str) -> None:
        """Commit, and name the commit. A tag may bear a branch's name; the two are apart.

        Raises:
            InputError: Another tag has the name, or had it (a tag never names another commit); or it is no name.
        """
        self._require_writable()
        if checked_name(name, "tag") in self._bank.tags():
            raise InputError(f"the tag {name!r} is there already; tags do not move")
        self.commit(name)
        self._bank.tag(name)

    def drop(self, *, branch: str | None = None, tag: str | None = None) -> None:
        """Remove a branch (not this one, not ``main``) or a tag; :meth:`reclaim` then frees what only it led to.

        Raises:
            SnapshotNotFoundError: There is none of this name.
            InputError: Not exactly one of the two is given, or the branch has to stay.
        """
        self._require_writable()
        _require_one("drop", branch=branch, tag=tag)
        if branch is not None:
            self._bank.drop_branch(branch)
        if tag is not None:
            self._bank.drop_tag(tag)

    def reclaim(self, keep: int | None = None) -> int:
        """Commit, then delete from the disk what no commit, branch or tag leads to; the bytes that were freed.

        Args:
            keep: Commits of this branch to keep. Earlier ones end, those of other branches from before that time too,
                but for each branch's last and for tags. None ends none.

        Raises:
            StoreError: The memory is open for writing elsewhere, a fork of this one included.
        """
        self._require_writable()
        keep = None if keep is None else whole(keep, "reclaim's keep", 1)
        self.commit("reclaimed")
        return self._bank.reclaim(keep)

    def merge(
        self,
        branch: str | None = None,
        *,
        tag: str | None = None,
        snapshot: str | Snapshot | None = None,
    ) -> dict[int, int]:
        """Store the keyframes that another branch has, and had not when the two parted.

        They are fused and kept in their order, under new ids. What the other branch saw in frames that did not become
        keyframes is not taken. Keyframes that were merged before are not taken again, even if they were removed here
        since: a keyframe keeps its identity on every branch.

        Args:
            branch: The name of a branch: as of its last commit.
            tag: The name of a tag.
            snapshot: A snapshot, or its id.

        Returns:
            New ids by the ids that the other branch knows them by.

        Raises:
            InputError: Not exactly one of them is given.
            SnapshotNotFoundError: There is none of this name.
            ConflictError: The two have keyframes in common and no commit, or the other one moved or removed keyframes
                from before they parted: a merge cannot decide which poses are right.
        """
        self._require_writable()
        _require_one("merge", branch=branch, tag=tag, snapshot=snapshot)
        name = str(snapshot.id if isinstance(snapshot, Snapshot) else branch or tag or snapshot)
        found = self._snapshot_id(snapshot=snapshot, tag=tag, branch=branch)
        with closing(self._bank.at(found)) as other:
            new = self._new_in(other, name)
            uids = dict(zip(other.ids().tolist(), other.uids(), strict=True))
            merged = {id: self._take(other.read(id), uids[id]) for id in new}
        if merged:
            note_merged(self._bank, [uids[id] for id in merged])
        return merged

    def _new_in(self, other: KeyframeStore, name: str) -> list[int]:
        """The keyframes that another state of the bank has, and had not when the two parted."""
        merged = merged_uids(self._bank)
        here, there = _keyframe_poses(self._bank), _keyframe_poses(other)
        commits = {one.id for one in self._bank.snapshots()}
        common = next((one.id for one in other.snapshots() if one.id in commits), None)
        before: dict[bytes, tuple[int, bytes]] = {}  # if both began empty
        if common is not None:
            with closing(self._bank.at(common)) as base:
                before = _keyframe_poses(base)
        elif (here.keys() & there.keys()) - merged - merged_uids(other):
            raise ConflictError(
                f"{name!r} and {self.branch!r} have keyframes in common and no commit: it was reclaimed, so that nobody "
                "knows what changed since; store its frames by hand"
            )
        if any(there.get(uid) != pose for uid, pose in before.items()):
            raise ConflictError(
                f"{name!r} moved or removed keyframes from before it left {self.branch!r}; store its frames by hand, "
                "or go on there"
            )
        known = merged | here.keys() | before.keys()
        return [id for uid, (id, _) in there.items() if uid not in known]

    # -- closing ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Commit what is not yet durable and release the storage; closing twice is fine."""
        if self._closed:
            return
        if self._writable and self._changed:
            self.commit("closed")
        self._bank.close()
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    # -- below --------------------------------------------------------------------------------------

    @abstractmethod
    def _save(self) -> None:
        """Hand all that is not a keyframe to the bank."""

    @abstractmethod
    def _tidy(self) -> None:
        """Free what a commit made free."""

    @abstractmethod
    def _take(self, frame: Frame, uid: bytes) -> int:
        """Fuse a frame and keep it under a uid, whatever it shows."""

    def _snapshot_id(
        self,
        *,
        snapshot: str | Snapshot | None = None,
        tag: str | None = None,
        branch: str | None = None,
    ) -> str:
        """The id of the snapshot that one of these names. Raises SnapshotNotFoundError."""
        for what, name, known in (
            ("tag", tag, self._bank.tags),
            ("branch", branch, self._bank.branches),
        ):
            if name is not None:
                found = known()
                if not isinstance(name, str) or name not in found:
                    raise SnapshotNotFoundError(
                        f"there is no {what} {name!r} (there are: {', '.join(found) or 'none'})"
                    )
                return found[name]
        return snapshot.id if isinstance(snapshot, Snapshot) else str(snapshot)

    def _begin_again(self) -> None:
        """Read all parts from the bank, as on opening, in place of this memory's own."""
        vars(self).update(vars(self._opened(self._bank, writable=True)))

    def _opened(self, bank: Any, *, writable: bool) -> Self:
        opened: Self = self._opener()(bank, writable)
        return opened

    def _opener(self) -> Callable[[KeyframeStore, bool], Any]:
        if self._again is None:
            raise StoreError(
                "this memory was put together by hand; open it with spmem.open for its history"
            )
        return self._again

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError("the memory is closed; spmem.open it again")

    def _require_writable(self) -> None:
        self._require_open()
        if not self._writable:
            raise ReadOnlyError(
                'the memory was opened to read (mode="r", or at a snapshot); open it with mode="a" to change it, or fork'
            )


def merged_uids(bank: KeyframeStore) -> set[bytes]:
    """The uids of the keyframes that merges brought here, those removed since included."""
    stored = bank.read_arrays(MERGED)
    column = np.zeros((0, 16), np.uint8) if stored is None else stored[0].get("uid")
    if column is None or column.dtype != np.uint8 or column.shape[1:] != (16,):
        raise CorruptMemoryError(f"the group {MERGED!r} does not hold uids, uint8 [n, 16]")
    return {uid.tobytes() for uid in column}


def note_merged(bank: KeyframeStore, uids: list[bytes]) -> None:
    """Note with the bank's next commit that a merge brought these keyframes."""
    every = sorted({*merged_uids(bank), *uids})
    column = np.frombuffer(b"".join(every), np.uint8).reshape(-1, 16)
    bank.write_arrays(MERGED, {"uid": column}, {})


def _keyframe_poses(bank: KeyframeStore) -> dict[bytes, tuple[int, bytes]]:
    """The id and the pose of each keyframe by its uid, by ascending id."""
    poses = [camera.c2w.cpu().numpy().tobytes() for camera in bank.cameras()]
    return dict(zip(bank.uids(), zip(bank.ids().tolist(), poses, strict=True), strict=True))


def _require_one(call: str, **given: object) -> None:
    """Raise InputError unless exactly one of these is given."""
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise InputError(
            f"{call}() takes one of {', '.join(f'{name}=' for name in given)}, got "
            f"{' and '.join(f'{name}=' for name in named) or 'none'}"
        )


def _until(snapshot: Snapshot) -> float:
    return float("inf") if snapshot.until is None else snapshot.until
