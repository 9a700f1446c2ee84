"""A branch or a snapshot of a repository, open to write or to read: one transaction after another."""

from __future__ import annotations

import os

import icechunk
import zarr

from spmem.errors import CorruptMemoryError, SnapshotNotFoundError, StoreError
from spmem.names import MAIN
from spmem.stores.keyframes.zarr.commits import Commits, WriterLock, locked
from spmem.stores.keyframes.zarr.errors import store_errors
from spmem.stores.keyframes.zarr.location import StoreLocation


class Session:
    """What is read and written at one state of a repository, and committed to its branch.

    Args:
        location: Where the repository lies.
        repository: Icechunk's.
        branch: Branch to commit to.
        snapshot: Id of the snapshot to read; None opens the branch's last.
        read_only: Whether nothing is written; always so at a snapshot.
        follows: Whether a reader may go on to the branch's last commit.
        forced: Whether commits are on the disk before they return.
    """

    def __init__(
        self,
        location: StoreLocation,
        repository: icechunk.Repository,
        *,
        branch: str = MAIN,
        snapshot: str | None = None,
        read_only: bool = False,
        follows: bool = False,
        forced: bool = False,
    ) -> None:
        self.location, self.repository, self.branch = location, repository, branch
        self.read_only = read_only or snapshot is not None
        self.follows = follows
        self._base = snapshot
        self._commits = Commits(location, forced=forced)
        self._lock = None if self.read_only else WriterLock(location)
        try:
            with store_errors(location):
                self.begin()
        except BaseException:
            self.close()
            raise

    @property
    def base(self) -> str:
        """Id of the snapshot that this builds on."""
        assert self._base is not None
        return self._base

    @property
    def root(self) -> zarr.Group:
        """The root group, with what is not committed."""
        return self._root

    def force(self, forced: bool) -> None:
        """Let commits be on the disk before they return, or not."""
        self._commits = Commits(self.location, forced=forced)

    def begin(self) -> None:
        """Open a transaction on the base, or on the branch's last commit if there is no base yet."""
        if self.read_only:
            branch = None if self._base else self.branch
            self._session = self.repository.readonly_session(branch, snapshot_id=self._base)
        else:
            self._session = self.repository.writable_session(self.branch)
        self._base = self._base or self._session.snapshot_id
        found = self.repository.lookup_snapshot(self._base).id
        if found != self._base:  # Icechunk takes a file for what its name says
            raise CorruptMemoryError(
                f"{self.location}: what is stored as the snapshot {self._base} is another one, {found}"
            )
        self._root = zarr.open_group(
            self._session.store, mode="r" if self.read_only else "r+", zarr_format=3
        )

    def begin_on_last(self) -> None:
        """Drop what is not committed, and go on from the branch's last commit."""
        self._base = None
        self.begin()

    def commit(self, message: str, keyframes: int, until: float | None) -> str:
        """Commit, and go on from this commit, and from no other; its id.

        Raises:
            icechunk.ConflictError: Somebody else has committed to the branch.
            StoreError: The folder is gone.
        """
        self.require_there()
        if self._session.snapshot_id != self._base:  # somebody committed on top of the last one
            raise icechunk.ConflictError(self.base, self._session.snapshot_id)
        with locked(self.location):
            # A change of some kind, without which Icechunk makes no snapshot.
            self._root.attrs["parent"] = self._session.snapshot_id
            metadata = {"keyframes": keyframes, "until": until}
            self._base = self._commits.commit(self._session, message, metadata)
            self.begin()
        return self._base

    def changed(self) -> bool:
        """Whether something is written and not committed."""
        return bool(self._session.has_uncommitted_changes)

    def require_there(self) -> None:
        """Raise StoreError if the folder was deleted, moved or replaced since it was opened: Icechunk would make it again."""
        folder = self.location.folder
        if folder is None or self._lock is None:
            return
        try:
            there = os.stat(folder / "refs").st_ino
        except OSError:
            there = None
        if self._lock.inode not in (None, there):
            raise StoreError(
                f"{self.location}: the folder was deleted, moved or replaced since it was opened; nothing was written"
            )

    def require_snapshot(self) -> None:
        """Raise SnapshotNotFoundError if the snapshot that this builds on was deleted, as another process does that
        forgets or reclaims.
        """
        folder = self.location.folder
        if folder is not None:
            there = (folder / "snapshots" / self.base).exists()
        else:
            try:
                there = self.repository.lookup_snapshot(self.base).id == self.base
            except icechunk.IcechunkError:
                there = False
        if not there:
            raise SnapshotNotFoundError(
                f"{self.location}: the snapshot {self.base}, which is open here, was deleted meanwhile (forget and reclaim "
                "do so); refresh() a reader, or open the memory again"
            )

    def lock(self) -> WriterLock:
        """The mark of a writer."""
        assert self._lock is not None
        return self._lock

    def close(self) -> None:
        """Take the mark of a writer away."""
        if self._lock is not None:
            self._lock.end()
