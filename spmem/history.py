"""The history of a memory: commits, branches, going back. It has the state that is open, and replaces it as a whole."""

from __future__ import annotations

from contextlib import closing

from spmem.corrections import frame_key
from spmem.errors import (
    ConflictError,
    InputError,
    ReadOnlyError,
    SnapshotNotFoundError,
    StoreError,
)
from spmem.protocols import KeyframeStore, RefreshableStore
from spmem.state import State
from spmem.stores.keyframes.names import checked_name
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
        return self.state.commit(message) if self.state.changed else None

    def flush(self) -> None:
        """Wait for what is written in the background."""
        self.require_open()
        self.state.bank.flush()

    def snapshots(self) -> list[Snapshot]:
        """Committed states, latest first."""
        self.require_open()
        return self.state.bank.snapshots()

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

    def at(self, snapshot: str | Snapshot | None = None, *, time: float | None = None) -> State:
        """The state as it was, to read."""
        self.require_open()
        if (snapshot is None) == (time is None):
            raise InputError("at() takes a snapshot or a time")
        if time is not None:
            commits = self.snapshots()
            past = [one for one in commits if one.keyframes == 0 or _until(one) <= time]
            if not past:
                raise SnapshotNotFoundError(
                    f"no commit holds keyframes up to {time:g} s only; the earliest of {len(commits)} goes further"
                )
            snapshot = past[0]
        name = snapshot.id if isinstance(snapshot, Snapshot) else str(snapshot)
        return self.state.on(self.state.bank.at(name), writable=False)

    def fork(self, name: str) -> State:
        """The state as it is, on a new branch."""
        self.require_open()
        state = self.state
        if state.writable and state.changed:
            state.save()
        forked = state.on(state.bank.fork(name))
        forked.changed = state.writable and state.changed
        return forked

    def rollback(self, steps: int | str | Snapshot = 1) -> None:
        """Let the branch end at an earlier commit, and go on from there."""
        self.require_writable()
        if isinstance(steps, int):
            commits = self.snapshots()
            if not 0 <= steps < len(commits):
                raise SnapshotNotFoundError(
                    f"rollback({steps}): there are {len(commits)} commits, so 0 to {len(commits) - 1} is wanted"
                )
            steps = commits[steps]
        self.state.bank.rollback(steps.id if isinstance(steps, Snapshot) else steps)
        self.state = self.state.on(self.state.bank)

    def merge(self, branch: str | Snapshot) -> dict[int, int]:
        """Take the keyframes that another branch has, and did not have when the two parted."""
        self.require_writable()
        name = branch.id if isinstance(branch, Snapshot) else branch
        state = self.state
        with closing(state.bank.at(name)) as other:
            return {id: state.merge(other.read(id)) for id in self._new_in(other, name)}

    def _new_in(self, other: KeyframeStore, name: str) -> list[int]:
        """The keyframes that another state of the bank has, and did not have when the two parted."""
        bank = self.state.bank
        here = {one.id for one in bank.snapshots()}
        common = next((one.id for one in other.snapshots() if one.id in here), None)
        before: set[tuple[int, float, bytes]] = set()  # as if both began empty
        if common is not None:
            with closing(bank.at(common)) as base:
                before = set(_keys(base))
        elif set(_keys(bank)) & set(_keys(other)):
            raise ConflictError(
                f"{name!r} and {bank.branch!r} have keyframes in common and no commit: it was reclaimed, so that nobody "
                "knows what changed since; store its frames by hand"
            )
        theirs = _keys(other)
        if before - set(theirs):
            raise ConflictError(
                f"{name!r} moved or removed keyframes from before it left {bank.branch!r}; store its frames by hand, "
                "or go on there"
            )
        return [one[0] for one in theirs if one not in before]

    # -- names --------------------------------------------------------------------------------------

    def branches(self) -> list[str]:
        """The names of all branches."""
        self.require_open()
        return self.state.bank.branches()

    def tags(self) -> dict[str, str]:
        """The snapshots that have names."""
        self.require_open()
        return self.state.bank.tags()

    def tag(self, name: str) -> None:
        """Commit, and name the commit."""
        self.require_writable()
        if checked_name(name, "tag") in self.state.bank.tags():
            raise InputError(f"the tag {name!r} is there already; tags do not move")
        self.commit(name)
        self.state.bank.tag(name)

    def drop(self, name: str) -> None:
        """Remove a branch or a tag."""
        self.require_writable()
        self.state.bank.drop(name)

    def reclaim(self, keep: int | None = None) -> int:
        """Commit, then delete what nothing leads to; the bytes that were freed."""
        self.require_writable()
        if keep is not None and keep < 1:
            raise InputError(f"reclaim keeps at least 1 commit, got {keep}")
        self.commit("reclaimed")
        return self.state.bank.reclaim(keep)

    # -- closing ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Commit what is not durable yet and release the storage; closing twice is fine."""
        if self._closed:
            return
        if self.state.writable:
            self.commit("closed")
        self.state.bank.close()
        self._closed = True

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


def _keys(bank: KeyframeStore) -> list[tuple[int, float, bytes]]:
    """The id, time and pose of each keyframe, by ascending id."""
    keys = map(frame_key, bank.times().tolist(), bank.cameras())
    return [(id, *one) for id, one in zip(bank.ids().tolist(), keys, strict=True)]


def _until(snapshot: Snapshot) -> float:
    return float("inf") if snapshot.until is None else snapshot.until
