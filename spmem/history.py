"""The history of a memory: commits, branches, going back. It has the state that is open, and replaces it as a whole."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from spmem.arguments import seconds, whole
from spmem.checkpoint import MERGED
from spmem.errors import (
    ConflictError,
    CorruptMemoryError,
    InputError,
    ReadOnlyError,
    SnapshotNotFoundError,
    StoreError,
)
from spmem.keyframes import committing, versioned
from spmem.names import checked_name
from spmem.protocols import BackgroundStore, KeyframeStore, RefreshableStore, VersionedStore
from spmem.state import State
from spmem.types import Snapshot


class History:
    """What :class:`spmem.SpatialMemory` does with its history; the methods are described there.

    state: What is open now.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._closed = False

    # -- commits ------------------------------------------------------------------------------------

    def commit(self, message: str = "") -> str | None:
        """Make everything durable in one step; None if nothing changed."""
        self.require_writable()
        if not isinstance(message, str) or "\0" in message:
            raise InputError(f"a commit's message is text without NUL, got {message!r:.80}")
        committing(self.state.bank, "commit()")
        return self.state.commit(message) if self.state.changed else None

    def flush(self) -> None:
        """Wait for what is written in the background."""
        self.require_open()
        if isinstance(self.state.bank, BackgroundStore):
            self.state.bank.flush()

    def snapshots(self) -> list[Snapshot]:
        """Committed states, latest first."""
        self.require_open()
        return self.versioned("snapshots()").snapshots()

    def refresh(self) -> bool:
        """Let a reader go on to the last commit of its branch; whether there was a new one."""
        self.require_open()
        bank = self.state.bank
        if not isinstance(bank, RefreshableStore):
            raise StoreError('refresh() is for a memory on disk that was opened with mode="r"')
        latest = bank.refreshed()
        if latest is None:
            return False
        try:
            self.state = self.state.on(latest, writable=False)
        except BaseException:
            latest.close()
            raise
        return True

    # -- other states -------------------------------------------------------------------------------

    def at(
        self,
        snapshot: str | Snapshot | None = None,
        *,
        tag: str | None = None,
        branch: str | None = None,
        time: float | None = None,
    ) -> State:
        """The state as it was, to read."""
        self.require_open()
        _require_one("at", snapshot=snapshot, tag=tag, branch=branch, time=time)
        if time is not None:
            time, commits = seconds(time, "time"), self.snapshots()
            past = [one for one in commits if one.keyframes == 0 or _until(one) <= time]
            if not past:
                raise SnapshotNotFoundError(
                    f"no commit holds keyframes up to {time} s only; the earliest of {len(commits)} goes further"
                )
            snapshot = past[0]
        found = self._snapshot_id(snapshot=snapshot, tag=tag, branch=branch)
        return self.state.on(self.versioned("at()").at(found), writable=False)

    def fork(self, name: str) -> State:
        """The state as it is, on a new branch."""
        self.require_open()
        state, bank = self.state, self.versioned("fork()")
        if state.writable and state.changed:
            state.save()
        forked = state.on(bank.fork(name))
        forked.changed = state.writable and state.changed
        return forked

    def rollback(
        self,
        steps: int | None = None,
        *,
        snapshot: str | Snapshot | None = None,
        tag: str | None = None,
    ) -> None:
        """Let the branch end at an earlier commit, and go on from there."""
        self.require_writable()
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
        self.versioned("rollback()").rollback(self._snapshot_id(snapshot=snapshot, tag=tag))
        self.state = self.state.on(self.state.bank)

    def merge(
        self,
        branch: str | None = None,
        *,
        tag: str | None = None,
        snapshot: str | Snapshot | None = None,
    ) -> dict[int, int]:
        """Take the keyframes that another branch has, and did not have when the two parted."""
        self.require_writable()
        _require_one("merge", branch=branch, tag=tag, snapshot=snapshot)
        name = str(snapshot.id if isinstance(snapshot, Snapshot) else branch or tag or snapshot)
        found = self._snapshot_id(snapshot=snapshot, tag=tag, branch=branch)
        with closing(self.versioned("merge()").at(found)) as other:
            new = self._new_in(other, name)
            uids = dict(zip(other.ids().tolist(), other.uids(), strict=True))
            taken = {id: self.state.merge(other.read(id), uids[id]) for id in new}
        if taken:
            note_merged(self.state.bank, [uids[id] for id in taken])
        return {there: here for there, here in taken.items() if here is not None}

    def _new_in(self, other: VersionedStore, name: str) -> list[int]:
        """The keyframes that another state of the bank has, and did not have when the two parted."""
        bank = self.versioned("merge()")
        merged = merged_uids(bank)
        here, there = _keyframe_poses(bank), _keyframe_poses(other)
        commits = {one.id for one in bank.snapshots()}
        common = next((one.id for one in other.snapshots() if one.id in commits), None)
        before: dict[bytes, tuple[int, bytes]] = {}  # if both began empty
        if common is not None:
            with closing(bank.at(common)) as base:
                before = _keyframe_poses(base)
        elif (here.keys() & there.keys()) - merged - merged_uids(other):
            raise ConflictError(
                f"{name!r} and {bank.branch!r} have keyframes in common and no commit: it was reclaimed, so that nobody "
                "knows what changed since; store its frames by hand"
            )
        if any(there.get(uid) != pose for uid, pose in before.items()):
            raise ConflictError(
                f"{name!r} moved or removed keyframes from before it left {bank.branch!r}; store its frames by hand, "
                "or go on there"
            )
        known = merged | here.keys() | before.keys()
        return [id for uid, (id, _) in there.items() if uid not in known]

    # -- names --------------------------------------------------------------------------------------

    def branches(self) -> list[str]:
        """The names of all branches."""
        self.require_open()
        return list(self.versioned("branches()").branches())

    def tags(self) -> dict[str, str]:
        """The snapshots that have names."""
        self.require_open()
        return self.versioned("tags()").tags()

    def tag(self, name: str) -> None:
        """Commit, and name the commit."""
        self.require_writable()
        bank = self.versioned("tag()")
        if checked_name(name, "tag") in bank.tags():
            raise InputError(f"the tag {name!r} is there already; tags do not move")
        self.commit(name)
        bank.tag(name)

    def drop(self, *, branch: str | None = None, tag: str | None = None) -> None:
        """Remove a branch or a tag."""
        self.require_writable()
        _require_one("drop", branch=branch, tag=tag)
        if branch is not None:
            self.versioned("drop()").drop_branch(branch)
        if tag is not None:
            self.versioned("drop()").drop_tag(tag)

    def reclaim(self, keep: int | None = None) -> int:
        """Commit, then delete what nothing leads to; the bytes that were freed."""
        self.require_writable()
        keep = None if keep is None else whole(keep, "reclaim's keep", 1)
        bank = self.versioned("reclaim()")
        self.commit("reclaimed")
        return bank.reclaim(keep)

    # -- closing ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Commit what is not durable yet and release the storage; closing twice is fine."""
        if self._closed:
            return
        try:
            if self.state.writable and self.state.changed:
                self.state.commit("closed")
        finally:
            self._closed = True
            self.state.bank.close()

    def _snapshot_id(
        self,
        *,
        snapshot: str | Snapshot | None = None,
        tag: str | None = None,
        branch: str | None = None,
    ) -> str:
        """The id of the snapshot that one of these names. Raises SnapshotNotFoundError."""
        bank = self.versioned("history")
        for what, name, known in (("tag", tag, bank.tags), ("branch", branch, bank.branches)):
            if name is not None:
                found = known()
                if not isinstance(name, str) or name not in found:
                    raise SnapshotNotFoundError(
                        f"there is no {what} {name!r} (there are: {', '.join(found) or 'none'})"
                    )
                return found[name]
        return snapshot.id if isinstance(snapshot, Snapshot) else str(snapshot)

    def versioned(self, call: str) -> VersionedStore:
        """The bank, if it has a history. Raises StoreError, which names the call, if it has none."""
        return versioned(self.state.bank, call)

    def require_open(self) -> None:
        """Raise StoreError if the memory is closed."""
        if self._closed:
            raise StoreError("the memory is closed; spmem.open it again")

    def require_writable(self) -> None:
        """Raise StoreError if the memory is closed, ReadOnlyError if it was opened to read."""
        self.require_open()
        if not self.state.writable:
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
