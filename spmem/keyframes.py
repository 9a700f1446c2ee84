"""The episodic bank as a mapping: keyframes by id, pixels read when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from spmem.arguments import keyframe_ids
from spmem.errors import KeyframeNotFoundError, StoreError
from spmem.protocols import BatchReadingStore, CommittingStore, KeyframeStore, VersionedStore
from spmem.types import Keyframe

if TYPE_CHECKING:
    from spmem.types import Frame


def committing(store: KeyframeStore, call: str) -> CommittingStore:
    """The store, if it commits. Raises StoreError, which names the call, if it does not."""
    if not isinstance(store, CommittingStore):
        raise _lacking(store, CommittingStore, call)
    return store


def versioned(store: KeyframeStore, call: str) -> VersionedStore:
    """The store, if it has a history. Raises StoreError, which names the call, if it has none."""
    if not isinstance(store, VersionedStore):
        raise _lacking(store, VersionedStore, call)
    return store


def _lacking(store: KeyframeStore, kind: type, call: str) -> StoreError:
    return StoreError(
        f"{call} needs a keyframe store with the capability {kind.__name__} (spmem.protocols), and a "
        f"{type(store).__name__} lacks it"
    )


class Keyframes(Mapping[int, Keyframe]):
    """Read-only, lazy: cameras and times come from memory, ``keyframe.frame`` from storage."""

    def __init__(self, store: KeyframeStore) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def __iter__(self) -> Iterator[int]:
        return iter(self._store.ids().tolist())

    def __getitem__(self, id: int) -> Keyframe:
        ids = self._store.ids()
        row = int(np.searchsorted(ids, id))
        if row == len(ids) or ids[row] != id:
            raise KeyframeNotFoundError(f"no keyframe has the id {id}; there are {len(ids)}")
        camera, time = self._store.cameras()[row], float(self._store.times()[row])
        return Keyframe(int(id), camera, time, self._store.read)

    def frames(self, ids: Iterable[int]) -> list[Frame]:
        """The frames of several keyframes, read together: faster than ``keyframe.frame`` of one after the other.

        Raises KeyframeNotFoundError, CorruptMemoryError.
        """
        wanted = keyframe_ids(ids).tolist()
        if isinstance(self._store, BatchReadingStore):
            return self._store.read_many(wanted)
        return [self._store.read(id) for id in wanted]

    def __repr__(self) -> str:
        return f"Keyframes({len(self)})"


def new_uid() -> bytes:
    """A keyframe's identity, the same on every branch and whatever is done to it: 16 random bytes."""
    return uuid4().bytes
