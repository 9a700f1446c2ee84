"""What a memory does with its own history: commits, branches, and going back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, Any

from spmem.corrections import mark
from spmem.errors import (
    ConflictError,
    InputError,
    ReadOnlyError,
    SnapshotNotFoundError,
    StoreError,
)
from spmem.stores.keyframes.names import checked_name
from spmem.types import Snapshot

if TYPE_CHECKING:
    from typing import Self

    from spmem.protocols import KeyframeStore
    from spmem.types import Frame


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

    # -- history ------------------------------------------------------------------------------------

    def at(self, snapshot: str | Snapshot | None = None, *, time: float | None = None) -> Self:
        """The memory as it was, to read; it answers the same for ever, bit for bit.

        Args:
            snapshot: One of :meth:`snapshots`, its id, or the name of a tag or a branch (its last commit).
            time: Seconds in the memory's own time: the last commit that holds no keyframe after it.

        Raises:
            SnapshotNotFoundError: There is none.
            InputError: Both are given, or neither.
        """
        self._require_open()
        if (snapshot is None) == (time is None):
            raise InputError("at() takes a snapshot or a time")
        if time is not None:
            commits = self.snapshots()
            past = [one for one in commits if one.keyframes == 0 or _until(one) <= time]
            if not past:
                raise SnapshotNotFoundError(
                    f"no commit holds keyframes up to {time} s only; the earliest of {len(commits)} goes further"
                )
            snapshot = past[0]
        name = snapshot.id if isinstance(snapshot, Snapshot) else snapshot
        return self._opened(self._bank.at(str(name)), writable=False)

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

    def rollback(self, steps: int | str | Snapshot = 1) -> None:
        """Go back to an earlier commit of this branch; what came after it is gone, here and on the branch.

        Args:
            steps: How many commits back from the last one (0 drops what was not committed), or a snapshot, its id, or
                a tag.

        Raises:
            SnapshotNotFoundError: The branch does not go back so far.
            ConflictError: Another writer committed to this branch.
            ReadOnlyError: The memory was opened to read.
        """
        self._require_writable()
        if isinstance(steps, int):
            commits = self.snapshots()
            if not 0 <= steps < len(commits):
                raise SnapshotNotFoundError(
                    f"rollback({steps}): there are {len(commits)} commits, so 0 to {len(commits) - 1} is wanted"
                )
            steps = commits[steps]
        self._bank.rollback(steps.id if isinstance(steps, Snapshot) else steps)
        self._begin_again()

    def branches(self) -> list[str]:
        """The names of all branches; ``main`` is the one that opens by itself."""
        self._require_open()
        return self._bank.branches()

    def tags(self) -> dict[str, str]:
        """The snapshots that have names."""
        self._require_open()
        return self._bank.tags()

    def tag(self, name: str) -> None:
        """Commit, and name the commit for ever (until it is dropped).

        Raises:
            InputError: The name is taken, or is no name.
        """
        self._require_writable()
        if checked_name(name, "tag") in self._bank.tags():
            raise InputError(f"the tag {name!r} is there already; tags do not move")
        self.commit(name)
        self._bank.tag(name)

    def drop(self, name: str) -> None:
        """Remove a branch (not this one, not ``main``) or a tag; :meth:`reclaim` frees what only it led to.

        Raises:
            SnapshotNotFoundError: There is none of this name.
        """
        self._require_writable()
        self._bank.drop(name)

    def reclaim(self, keep: int | None = None) -> int:
        """Commit, then delete from the disk what no commit, branch or tag leads to; the bytes that were freed.

        Args:
            keep: Commits of this branch to keep. Earlier ones end, those of other branches from before that time too,
                but for each branch's last and for tags. None ends none.

        Raises:
            StoreError: The memory is open for writing elsewhere, a fork of this one included.
        """
        self._require_writable()
        if keep is not None and keep < 1:
            raise InputError(f"reclaim keeps at least 1 commit, got {keep}")
        self.commit("reclaimed")
        return self._bank.reclaim(keep)

    def merge(self, branch: str | Snapshot) -> dict[int, int]:
        """Store the keyframes that another branch has, and had not when the two parted.

        They are fused and kept in their order, under new ids. What the other branch saw in frames that did not become
        keyframes is not taken.

        Args:
            branch: Its name (as of its last commit), a tag or a snapshot.

        Returns:
            New ids by the ids that the other branch knows them by.

        Raises:
            SnapshotNotFoundError: There is none of this name.
            ConflictError: The two have no commit in common, or the other one moved or removed keyframes from before
                they parted: whose poses hold is not for a merge to say.
        """
        self._require_writable()
        name = branch.id if isinstance(branch, Snapshot) else branch
        with closing(self._bank.at(name)) as other:
            return {id: self._take(other.read(id)) for id in self._new_in(other, name)}

    def _new_in(self, other: KeyframeStore, name: str) -> list[int]:
        """The keyframes that another state of the bank has, and had not when the two parted."""
        here = {one.id for one in self._bank.snapshots()}
        common = next((one.id for one in other.snapshots() if one.id in here), None)
        before: set[tuple[int, float, bytes]] = set()  # as where both began empty
        if common is not None:
            with closing(self._bank.at(common)) as base:
                before = set(_marks(base))
        elif set(_marks(self._bank)) & set(_marks(other)):
            raise ConflictError(
                f"{name!r} and {self.branch!r} have keyframes in common and no commit: it was reclaimed, so that nobody "
                "knows what changed since; store its frames by hand"
            )
        theirs = _marks(other)
        if before - set(theirs):
            raise ConflictError(
                f"{name!r} moved or removed keyframes from before it left {self.branch!r}; store its frames by hand, "
                "or go on there"
            )
        return [one[0] for one in theirs if one not in before]

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
    def _take(self, frame: Frame) -> int:
        """Fuse a frame and keep it, whatever it shows."""

    def _begin_again(self) -> None:
        """Read all parts from the bank, as on opening, in place of this memory's own."""
        vars(self).update(vars(self._opened(self._bank, writable=True)))

    def _opened(self, bank: Any, *, writable: bool) -> Self:
        if self._again is None:
            raise StoreError(
                "this memory was put together by hand; open it with spmem.open for its history"
            )
        opened: Self = self._again(bank, writable)
        return opened

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError("the memory is closed; spmem.open it again")

    def _require_writable(self) -> None:
        self._require_open()
        if not self._writable:
            raise ReadOnlyError(
                'the memory was opened to read (mode="r", or at a snapshot); open it with mode="a" to change it, or fork'
            )


def _marks(bank: KeyframeStore) -> list[tuple[int, float, bytes]]:
    """The id, time and pose of each keyframe, by ascending id."""
    marks = map(mark, bank.times().tolist(), bank.cameras())
    return [(id, *one) for id, one in zip(bank.ids().tolist(), marks, strict=True)]


def _until(snapshot: Snapshot) -> float:
    return float("inf") if snapshot.until is None else snapshot.until
