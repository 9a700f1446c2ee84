"""The history of a repository: snapshots, tags and branches, by name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import icechunk

from spmem.errors import (
    ConflictError,
    CorruptMemoryError,
    InputError,
    SnapshotNotFoundError,
)
from spmem.names import MAIN, checked_name
from spmem.stores.keyframes.zarr.commits import locked
from spmem.stores.keyframes.zarr.errors import store_errors
from spmem.stores.keyframes.zarr.location import StoreLocation
from spmem.types import Snapshot


@dataclass(frozen=True)
class History:
    """What a repository remembers; it knows nothing of keyframes.

    location: Where the repository lies.
    repository: Icechunk's.
    """

    location: StoreLocation
    repository: icechunk.Repository

    def snapshots(self, last: str) -> list[Snapshot]:
        """The commits of a memory up to a snapshot, latest first."""
        with store_errors(self.location):
            ancestry = list(self.repository.ancestry(snapshot_id=last))
        return [self._snapshot(one) for one in ancestry if "keyframes" in one.metadata]

    def snapshot_id(self, name: str) -> str:
        """The id of a snapshot, if there is one of this id. Raises SnapshotNotFoundError."""
        try:
            return str(self.repository.lookup_snapshot(name).id)
        except (icechunk.IcechunkError, ValueError, TypeError) as error:
            raise SnapshotNotFoundError(
                f"{self.location} has no snapshot {name!r}; snapshots() lists ids"
            ) from error

    def branches(self) -> dict[str, str]:
        """The last snapshot of each branch."""
        with store_errors(self.location):
            names = sorted(self.repository.list_branches())
            return {name: self.repository.lookup_branch(name) for name in names}

    def tags(self) -> dict[str, str]:
        """The snapshots that have names."""
        with store_errors(self.location):
            names = sorted(self.repository.list_tags())
            return {name: self.repository.lookup_tag(name) for name in names}

    def tag(self, name: str, snapshot: str) -> None:
        """Name a snapshot. Raises InputError for a name that a tag has or had, or that is no name."""
        if checked_name(name, "tag") in self.tags():
            raise InputError(f"the tag {name!r} is there already; tags do not move")
        with store_errors(self.location), locked(self.location):
            try:
                self.repository.create_tag(name, snapshot)
            except icechunk.IcechunkError as error:
                if "already exists" not in str(error):
                    raise
                raise InputError(
                    f"{self.location}: there was a tag {name!r}, and a dropped tag's name is not given again; "
                    "take another name"
                ) from error

    def drop_tag(self, name: str) -> None:
        """Remove a tag. Raises SnapshotNotFoundError."""
        with store_errors(self.location), locked(self.location):
            if name not in self.repository.list_tags():
                raise SnapshotNotFoundError(f"{self.location} has no tag {name!r}")
            self.repository.delete_tag(name)

    def require_branch(self, name: str) -> None:
        """Raise SnapshotNotFoundError if there is no such branch."""
        with store_errors(self.location):
            branches = self.repository.list_branches()
        if name not in branches:
            raise SnapshotNotFoundError(
                f"{self.location} has no branch {name!r}, but {', '.join(sorted(branches))}; fork(name) makes one"
            )

    def make_branch(self, name: str, snapshot: str) -> None:
        """Begin a branch at a snapshot. Raises InputError for a name that is taken, or no name."""
        if checked_name(name, "branch") in self.branches():
            raise InputError(f"the branch {name!r} is there already; open it with branch={name!r}")
        with store_errors(self.location), locked(self.location):
            self.repository.create_branch(name, snapshot)

    def reset_branch(self, name: str, snapshot: str, *, last: str) -> None:
        """Let a branch end at a snapshot. Raises ConflictError if its last is not ``last``."""
        with store_errors(self.location), locked(self.location):
            found = self.repository.lookup_branch(name)
            if found != last:
                raise ConflictError(
                    f"{self.location}: another writer has committed to the branch {name!r}; open the memory again to "
                    "go back from there"
                )
            if snapshot != last:
                self.repository.reset_branch(name, snapshot, from_snapshot_id=last)

    def drop_branch(self, name: str, *, opened: str) -> None:
        """Remove a branch; not the opened one, not the main one. Raises SnapshotNotFoundError, InputError."""
        if name in (opened, MAIN):
            raise InputError(f"the branch {name!r} stays: it is the main one, or open here")
        with store_errors(self.location), locked(self.location):
            if name not in self.repository.list_branches():
                raise SnapshotNotFoundError(f"{self.location} has no branch {name!r}")
            self.repository.delete_branch(name)

    def reclaim(self, last: str, keep: int | None) -> int:
        """Delete what nothing leads to, and commits before the last ``keep`` up to a snapshot; the bytes freed.

        Nobody else may write meanwhile.
        """
        kept = self.snapshots(last)[: None if keep is None else max(keep, 1)]
        with store_errors(self.location):
            if keep is not None and kept:
                oldest = datetime.fromtimestamp(kept[-1].time, UTC)
                self.repository.expire_snapshots(oldest - timedelta(milliseconds=1))
            freed = self.repository.garbage_collect(datetime.now(UTC) + timedelta(days=1))
        return int(freed.bytes_deleted)

    def _snapshot(self, info: icechunk.SnapshotInfo) -> Snapshot:
        keyframes, until = info.metadata["keyframes"], info.metadata.get("until")
        if not isinstance(keyframes, int) or not isinstance(until, float | int | None):
            raise CorruptMemoryError(
                f"{self.location}: the snapshot {info.id} claims {keyframes!r} keyframes until {until!r}"
            )
        return Snapshot(info.id, info.message, info.written_at.timestamp(), keyframes, until)
