"""Readers of a bank that is on disk: how one travels to another process, as an address and no bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spmem.stores.keyframes.zarr.layout import lay_out
from spmem.stores.keyframes.zarr.repository import open_repository
from spmem.stores.keyframes.zarr.session import Session

if TYPE_CHECKING:
    from spmem.config import KeyframeConfig
    from spmem.stores.keyframes.zarr.bank import ZarrKeyframes
    from spmem.stores.keyframes.zarr.location import StoreLocation


@dataclass(frozen=True)
class ReaderAddress:
    """Where a reader is open: a location, a branch, and the snapshot that it shows.

    follows: The reader goes on to the branch's last commit when it is refreshed; otherwise it stays at the snapshot.
    """

    location: StoreLocation
    branch: str
    snapshot: str
    follows: bool
    config: KeyframeConfig


def reopened(kind: type[ZarrKeyframes], address: ReaderAddress) -> ZarrKeyframes:
    """The reader that is open at an address.

    Raises:
        NotAMemoryError: No memory is there any more.
        StoreError: The snapshot was reclaimed, or another memory is there now.
    """
    session = Session(
        address.location,
        open_repository(address.location, "r", lay_out),
        branch=address.branch,
        snapshot=address.snapshot,
        follows=address.follows,
    )
    return kind(session, address.config)
