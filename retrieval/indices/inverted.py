"""The inverted index from voxels to the views that saw them: what a search costs is set by the place, not by the bank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem.arrays import ArraySchema, require
from spmem.retrieval.indices.postings import (
    arrays_of,
    lists,
    lists_of,
    post,
    vote,
    with_room,
    without,
)
from spmem.retrieval.indices.voxels import GRIDS, VoxelSets

BUDGET = 200_000
"""Postings read for one search at most."""

LEAST = 1 / 1024
"""Voxels that take less of a view's pixels are not posted: they are many and say little."""

STEPS = 255
"""Square roots of shares are kept in so many steps."""

SCHEMA = {"ids": ArraySchema("int64", "slots", least=-1)}
"""The ids of slots, -1 = removed; the chains have a schema of their own."""

I64 = NDArray[np.int64]


class VoxelIndex:
    """Postings of voxels, answered by Bhattacharyya's coefficient of voxel sets (:mod:`spmem.retrieval.indices.voxels`).

    A search reads the postings of the query's voxels alone; nothing is trained, adding takes microseconds, and what is
    removed is gone at once. Against comparing with every set, only the rounding of weights and the smallest voxels are
    lost, until a search would read more than ``budget`` postings: then it reads those of the voxels that take most of
    the query, in each the latest first.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._ids = np.zeros(64, np.int64)
        self._votes = np.zeros(64, np.int32)
        self._slots = 0
        self._slot: dict[int, int] = {}
        self._lists = lists()

    def __len__(self) -> int:
        return len(self._slot)

    @property
    def ids(self) -> I64:
        """Of what it holds, ascending."""
        return np.sort(np.fromiter(self._slot, np.int64, len(self._slot)))

    @property
    def nbytes(self) -> int:
        """Bytes in use, without the room to grow."""
        return self._lists.nbytes + 12 * self._slots

    def add(self, ids: I64, sets: VoxelSets) -> None:
        """Add ``[n]`` ids with their sets; an id that is there already is replaced, the last one wins."""
        self.remove(ids)
        if self._slots + len(ids) > len(self._ids):
            room = max(2 * len(self._ids), self._slots + len(ids))
            self._ids, self._votes = np.resize(self._ids, room), np.zeros(room, np.int32)
        slots = np.arange(self._slots, self._slots + len(ids), dtype=np.int32)
        self._slots += len(ids)
        for id, slot in zip(ids.tolist(), slots.tolist(), strict=True):
            self._ids[self._slot.get(id, slot)] = -1
            self._ids[slot], self._slot[id] = id, slot
        of_set, kept = np.repeat(slots, np.diff(sets.offsets)), sets.share >= LEAST
        self._lists = with_room(self._lists, int(kept.sum()))
        post(self._lists, sets.key[kept], of_set[kept], _steps(sets.share[kept]).astype(np.uint8))

    def search(
        self, sets: VoxelSets, k: int, exclude: I64 | None = None
    ) -> tuple[NDArray[np.float32], I64]:
        """Scores and ids ``[q, k]`` of the k best for each set, best first; -inf and -1 fill up.

        ``exclude`` are ids that are not answered; nor are views that share no voxel with the query.
        """
        scores = np.full((len(sets), k), -np.inf, np.float32)
        ids = np.full((len(sets), k), -1, np.int64)
        steps = _steps(sets.share)
        for i in range(len(sets) if k else 0):
            of = slice(*sets.offsets[i : i + 2])
            order = np.argsort(steps[of], kind="stable")[::-1]
            slots = vote(self._lists, sets.key[of][order], steps[of][order], self._votes, self._budget)  # fmt: skip
            votes = self._votes[slots]
            self._votes[slots] = 0
            found = self._ids[slots]
            votes[found < 0] = 0
            if exclude is not None and len(exclude):
                votes[np.isin(found, exclude)] = 0
            n = min(k, int((votes > 0).sum()))
            best = np.argpartition(votes, len(votes) - n)[len(votes) - n :] if n else found[:0]
            best = best[np.lexsort((found[best], votes[best]))[::-1]]
            ids[i, :n] = found[best]
            scores[i, :n] = votes[best] / (GRIDS * STEPS**2)
        return scores, ids

    def remove(self, ids: I64) -> None:
        """Forget ids; unknown ones are skipped."""
        for id in ids.tolist():
            if id in self._slot:
                self._ids[self._slot.pop(id)] = -1
        if self._slots > 64 and 2 * len(self._slot) < self._slots:
            self._compact()

    def _compact(self) -> None:
        """Let go of the postings of removed views."""
        live = self._ids[: self._slots] >= 0
        renamed = np.where(live, np.cumsum(live) - 1, -1).astype(np.int32)
        self._lists = without(self._lists, renamed)
        self._slots = int(live.sum())
        self._ids[: self._slots] = self._ids[: len(live)][live]
        self._slot = {id: slot for slot, id in enumerate(self._ids[: self._slots].tolist())}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The index, for a cache."""
        return {"ids": self._ids[: self._slots], **arrays_of(self._lists)}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], budget: int = BUDGET) -> VoxelIndex:
        """Inverse of :meth:`arrays`.

        Raises:
            ValueError: Arrays that no index gives.
        """
        require(arrays, SCHEMA)
        index, ids = cls(budget), arrays["ids"]
        index._slot = {id: slot for slot, id in enumerate(ids.tolist()) if id >= 0}
        if len(index._slot) != (ids >= 0).sum():
            raise ValueError("the cached index has an id twice")
        index._lists = lists_of(arrays, len(ids))
        index._ids, index._slots = np.concatenate([ids, np.zeros(64, np.int64)]), len(ids)
        index._votes = np.zeros(len(index._ids), np.int32)
        return index


def _steps(share: NDArray[np.float32]) -> NDArray[np.int32]:
    steps: NDArray[np.int32] = np.rint(np.sqrt(share) * STEPS).clip(1, STEPS).astype(np.int32)
    return steps
