"""The history of a repository: snapshots, tags and branches, by name."""

from __future__ import annotations

import icechunk

from spmem.errors import SnapshotNotFoundError
from spmem.stores.keyframes.zarr.errors import store_errors
from spmem.stores.keyframes.zarr.location import StoreLocation
from spmem.types import Snapshot


def history(place: StoreLocation, repository: icechunk.Repository, tip: str) -> list[Snapshot]:
    """The commits of a memory up to a snapshot, latest first."""
    with store_errors(place):
        ancestry = list(repository.ancestry(snapshot_id=tip))
    return [_snapshot(one) for one in ancestry if "keyframes" in one.metadata]


def found(place: StoreLocation, repository: icechunk.Repository, name: str) -> str:
    """The snapshot of this id. Raises SnapshotNotFoundError."""
    try:
        return repository.lookup_snapshot(name).id
    except (icechunk.IcechunkError, ValueError, TypeError) as error:
        raise SnapshotNotFoundError(
            f"{place} has no snapshot {name!r}; snapshots() lists ids"
        ) from error


def require_branch(place: StoreLocation, repository: icechunk.Repository, branch: str) -> None:
    """Raise SnapshotNotFoundError where there is no such branch."""
    with store_errors(place):
        branches = repository.list_branches()
    if branch not in branches:
        raise SnapshotNotFoundError(
            f"{place} has no branch {branch!r}, but {', '.join(sorted(branches))}; fork(name) makes one"
        )


def _snapshot(info: icechunk.SnapshotInfo) -> Snapshot:
    keyframes, until = info.metadata["keyframes"], info.metadata.get("until")
    return Snapshot(info.id, info.message, info.written_at.timestamp(), keyframes, until)
