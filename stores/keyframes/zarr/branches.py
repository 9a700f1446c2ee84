"""The history of a repository: snapshots, tags and branches, by name."""

from __future__ import annotations

import icechunk

from spmem.errors import InputError, SnapshotNotFoundError
from spmem.stores.keyframes.zarr.errors import store_errors
from spmem.stores.keyframes.zarr.location import StoreLocation
from spmem.types import Snapshot


def history(place: StoreLocation, repository: icechunk.Repository, tip: str) -> list[Snapshot]:
    """The commits of a memory up to a snapshot, latest first."""
    with store_errors(place):
        ancestry = list(repository.ancestry(snapshot_id=tip))
    return [_snapshot(one) for one in ancestry if "keyframes" in one.metadata]


def found(place: StoreLocation, repository: icechunk.Repository, name: str) -> str:
    """The snapshot that its id, a tag or a branch (its last) names. Raises SnapshotNotFoundError."""
    if not isinstance(name, str):
        raise InputError(f"a snapshot is named by its id or a tag, got {name!r}")
    with store_errors(place):
        tags = repository.list_tags()
        if name in tags:
            return repository.lookup_tag(name)
        if name in repository.list_branches():
            return repository.lookup_branch(name)
    try:
        return repository.lookup_snapshot(name).id
    except (icechunk.IcechunkError, ValueError) as error:
        known = f"; tags are {', '.join(sorted(tags))}" if tags else ""
        raise SnapshotNotFoundError(
            f"{place} has no snapshot {name!r}{known}; snapshots() lists ids"
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
