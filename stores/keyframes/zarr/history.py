"""A repository that is open at one state of one branch, and what can be done with its history."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import icechunk
import zarr

from spmem.config import KeyframeConfig
from spmem.errors import (
    CorruptMemoryError,
    InputError,
    ReadOnlyError,
    SnapshotNotFoundError,
    StoreError,
)
from spmem.stores.keyframes.names import MAIN, checked_name
from spmem.stores.keyframes.zarr.background import BackgroundWriter
from spmem.stores.keyframes.zarr.branches import found, history, require_branch
from spmem.stores.keyframes.zarr.commits import Commits, WriterLock, locked
from spmem.stores.keyframes.zarr.errors import store_errors
from spmem.stores.keyframes.zarr.location import StoreLocation
from spmem.stores.keyframes.zarr.reader import ReaderAddress, reopened
from spmem.types import Snapshot

if TYPE_CHECKING:
    from typing import Self

_ROOM = 1 << 26


class Versions(ABC):
    """The part of a bank that knows commits, branches and tags, and nothing of keyframes."""

    def __init__(
        self,
        place: StoreLocation,
        repository: icechunk.Repository,
        config: KeyframeConfig,
        *,
        branch: str = MAIN,
        snapshot: str | None = None,
        fixed: bool = True,
        read_only: bool = False,
    ) -> None:
        self.branch = branch
        self._place, self._repository = place, repository
        self._read_only = read_only or snapshot is not None
        self._fixed = fixed and snapshot is not None  # else a reader may go on to the branch's last
        self._closed = False
        self._writer = BackgroundWriter(_ROOM)
        self.configure(config)
        self._writing = None if self._read_only else WriterLock(place)
        self._base = snapshot
        self._load()

    def configure(self, config: KeyframeConfig) -> None:
        """Encode and commit from now on as the configuration says."""
        self._config = config
        self._commits = Commits(self._place, forced=config.durability == "power")

    def snapshots(self) -> list[Snapshot]:
        """Committed states up to the one that is open, latest first."""
        self._require_open()
        self._writer.wait()
        return history(self._place, self._repository, self._tip)

    def branches(self) -> dict[str, str]:
        """The last snapshot of each branch."""
        with store_errors(self._place):
            names = sorted(self._repository.list_branches())
            return {name: self._repository.lookup_branch(name) for name in names}

    def tags(self) -> dict[str, str]:
        """The snapshots that have names."""
        with store_errors(self._place):
            names = sorted(self._repository.list_tags())
            return {name: self._repository.lookup_tag(name) for name in names}

    def tag(self, name: str) -> None:
        """Name the last commit. Raises InputError for a name that a tag has or had, or that is no name."""
        self._require_writable()
        self._writer.wait()
        if checked_name(name, "tag") in self.tags():
            raise InputError(f"the tag {name!r} is there already; tags do not move")
        with store_errors(self._place), locked(self._place):
            try:
                self._repository.create_tag(name, self._tip)
            except icechunk.IcechunkError as error:
                if "already exists" not in str(error):
                    raise
                raise InputError(
                    f"{self._place}: there was a tag {name!r}, and a dropped tag's name is not given again; "
                    "take another name"
                ) from error

    def at(self, snapshot: str) -> Self:
        """The bank as of a snapshot (its id), to read. Raises SnapshotNotFoundError."""
        self._require_open()
        return self._another(self.branch, found(self._place, self._repository, snapshot))

    def fork(self, name: str) -> Self:
        """The bank as it is now, on a new branch, with what was not committed here; nothing is copied but that.

        Raises:
            InputError: The name is taken, or no name.
            StoreError: The disk is full.
        """
        self._require_open()
        self._writer.wait()
        if checked_name(name, "branch") in self.branches():
            raise InputError(f"the branch {name!r} is there already; open it with branch={name!r}")
        with store_errors(self._place), locked(self._place):
            self._repository.create_branch(name, self._tip)
        forked = self._another(name)
        with store_errors(self._place):
            forked._take_over(self)
        return forked

    def refreshed(self) -> Self | None:
        """A reader of the branch's last commit; None if this one shows it already.

        Raises:
            StoreError: This bank is open for writing, or at a snapshot.
            SnapshotNotFoundError: The branch was dropped.
        """
        self._require_open()
        if not self._read_only or self._fixed:
            how = "at a snapshot, which stays as it is" if self._fixed else "for writing"
            raise StoreError(
                f'{self._place} is open {how}; refresh() is for a memory opened with mode="r"'
            )
        require_branch(self._place, self._repository, self.branch)
        with store_errors(self._place):
            if self._repository.lookup_branch(self.branch) == self._tip:
                return None
        kind = type(self)
        return kind(self._place, self._repository, self._config, branch=self.branch, read_only=True)

    def on(self, branch: str) -> Self:
        """The bank on another branch, as last committed there, for writing. Raises SnapshotNotFoundError."""
        self._require_open()
        require_branch(self._place, self._repository, branch)
        return self._another(branch)

    def rollback(self, snapshot: str) -> None:
        """Let the branch end at an earlier snapshot (its id); what came after it is gone from the branch.

        Raises:
            SnapshotNotFoundError: The branch has no such snapshot.
            ConflictError: Another writer committed to the branch meanwhile.
        """
        self._require_writable()
        id = found(self._place, self._repository, snapshot)
        if id not in {one.id for one in self.snapshots()}:
            raise SnapshotNotFoundError(
                f"{self._place}: the snapshot {snapshot!r} is not one of the branch {self.branch!r}"
            )
        with store_errors(self._place), locked(self._place):
            self._repository.reset_branch(self.branch, id, from_snapshot_id=self._tip)
        self._base = None
        self._load()

    def drop_tag(self, name: str) -> None:
        """Remove a tag. Raises SnapshotNotFoundError."""
        self._require_writable()
        with store_errors(self._place), locked(self._place):
            if name not in self._repository.list_tags():
                raise SnapshotNotFoundError(f"{self._place} has no tag {name!r}")
            self._repository.delete_tag(name)

    def drop_branch(self, name: str) -> None:
        """Remove a branch; not this bank's, not the main one. Raises SnapshotNotFoundError, InputError."""
        self._require_writable()
        if name in (self.branch, MAIN):
            raise InputError(f"the branch {name!r} stays: it is the main one, or open here")
        with store_errors(self._place), locked(self._place):
            if name not in self._repository.list_branches():
                raise SnapshotNotFoundError(f"{self._place} has no branch {name!r}")
            self._repository.delete_branch(name)

    def reclaim(self, keep: int | None = None) -> int:
        """Delete what nothing leads to any more; the bytes that were freed.

        Args:
            keep: Commits of this branch to keep; those before them end, on other branches too (but for the last ones,
                and tags). None ends none.

        Raises:
            StoreError: Something is not committed, or another bank has this memory open for writing.
        """
        self._require_writable()
        self._writer.wait()
        if self._uncommitted():
            raise StoreError(f"{self._place}: commit what is new, then reclaim")
        assert self._writing is not None
        with store_errors(self._place), self._writing.alone():
            kept = self.snapshots()[: None if keep is None else max(keep, 1)]
            if keep is not None and kept:
                oldest = datetime.fromtimestamp(kept[-1].time, UTC)
                self._repository.expire_snapshots(oldest - timedelta(milliseconds=1))
            freed = self._repository.garbage_collect(datetime.now(UTC) + timedelta(days=1))
            self._begin()
        return int(freed.bytes_deleted)

    def close(self) -> None:
        """Release the place; what was not committed is dropped."""
        if self._closed:
            return
        self._closed = True
        self._writer.stop()
        if self._writing is not None:
            self._writing.end()

    def __reduce__(self) -> tuple[object, ...]:
        """A reader travels to another process as its address. Raises StoreError if it is open for writing."""
        self._require_open()
        if not self._read_only:
            raise StoreError(
                f"{self._place} is open for writing, which stays in one process: commit, and send "
                'a reader, spmem.open(path, mode="r")'
            )
        where = (self._place, self.branch, self._tip, self._fixed, self._config)
        return reopened, (type(self), ReaderAddress(*where))

    # -- below ----------------------------------------------------------------------------------------

    @abstractmethod
    def _load(self) -> None:
        """Begin, and read what a bank holds in RAM."""

    @abstractmethod
    def _take_over(self, other: Self) -> None:
        """Write here what another bank, on the same snapshot, has not committed."""

    def _uncommitted(self) -> bool:
        return self._session.has_uncommitted_changes

    def _begin(self) -> None:
        """Open a session on the snapshot that the bank builds on, or on the branch's last where there is none yet."""
        if self._read_only:
            branch = None if self._base else self.branch
            self._session = self._repository.readonly_session(branch, snapshot_id=self._base)
        else:
            self._session = self._repository.writable_session(self.branch)
        self._base = self._base or self._session.snapshot_id
        found = self._repository.lookup_snapshot(self._base).id
        if found != self._base:  # Icechunk takes a file for what its name says
            raise CorruptMemoryError(
                f"{self._place}: what is stored as the snapshot {self._base} is another one, {found}"
            )
        self._root = zarr.open_group(
            self._session.store, mode="r" if self._read_only else "r+", zarr_format=3
        )

    @property
    def _tip(self) -> str:
        assert self._base is not None
        return self._base

    def _commit_session(self, message: str, keyframes: int, until: float | None) -> str:
        """Commit, and go on from this commit, and from no other."""
        if self._session.snapshot_id != self._base:  # somebody committed on top of the last one
            raise icechunk.ConflictError(self._tip, self._session.snapshot_id)
        with locked(self._place):
            # A change of some kind, without which Icechunk makes no snapshot.
            self._root.attrs["parent"] = self._session.snapshot_id
            metadata = {"keyframes": keyframes, "until": until}
            self._base = self._commits.commit(self._session, message, metadata)
            self._begin()
        return self._base

    def _another(self, branch: str, snapshot: str | None = None) -> Self:
        kind = type(self)
        return kind(self._place, self._repository, self._config, branch=branch, snapshot=snapshot)

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self._place}: this memory is closed; open it again")

    def _require_writable(self) -> None:
        self._require_open()
        if self._read_only:
            raise ReadOnlyError(
                f"{self._place} is open for reading (mode='r', or at a snapshot); open it with mode='a', or fork it"
            )
