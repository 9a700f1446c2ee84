"""Readers of a bank that is on disk: how one travels to another process, as an address and no bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spmem.stores.keyframes.zarr.layout import lay_out
from spmem.stores.keyframes.zarr.repository import open_repository

if TYPE_CHECKING:
    from spmem.config import KeyframeConfig
    from spmem.stores.keyframes.zarr.bank import ZarrKeyframes
    from spmem.stores.keyframes.zarr.location import StoreLocation


@dataclass(frozen=True)
class ReaderAddress:
    """Where a reader is open: a place, a branch, and the snapshot that it shows.

    fixed: The reader stays at the snapshot; otherwise it follows the branch when it is refreshed.
    """

    place: StoreLocation
    branch: str
    snapshot: str
    fixed: bool
    config: KeyframeConfig


def reopened(kind: type[ZarrKeyframes], address: ReaderAddress) -> ZarrKeyframes:
    """The reader that is open at an address.

    Raises:
        NotAMemoryError: No memory is there any more.
        StoreError: The snapshot was reclaimed, or another memory is there now.
    """
    return kind(
        address.place,
        open_repository(address.place, "r", lay_out),
        address.config,
        branch=address.branch,
        snapshot=address.snapshot,
        fixed=address.fixed,
        read_only=True,
    )
