"""Exact search by inner product, in numpy."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError

LARGE = 50_000
"""Rows above which exact search without faiss is worth a warning."""


class FlatIndex:
    """Compares a query with every descriptor: exact, nothing to install, time and memory grow with the bank.

    Args:
        dim: Length of the descriptors.
    """

    def __init__(self, dim: int) -> None:
        self._n = 0
        self._ids = np.zeros(0, np.int64)
        self._descriptors = np.zeros((0, dim), np.float32)
        self._row: dict[int, int] = {}
        self._warned = False

    def __len__(self) -> int:
        return self._n

    def add(self, ids: NDArray[np.int64], descriptors: NDArray[np.float32]) -> None:
        """Add ``[n]`` ids with descriptors ``[n, dim]``; an id that is there already is replaced, the last one wins.

        Raises:
            InputError: Shapes that do not fit.
        """
        check(ids, descriptors, self._descriptors.shape[1])
        for id in ids.tolist():
            self._row.setdefault(id, len(self._row))
        rows = np.array([self._row[id] for id in ids.tolist()], np.int64)
        self._n = len(self._row)
        if self._n > len(self._ids):
            spare = max(64, 2 * self._n) - len(self._ids)
            self._ids = np.pad(self._ids, (0, spare))
            self._descriptors = np.pad(self._descriptors, ((0, spare), (0, 0)))
        self._ids[rows] = ids
        self._descriptors[rows] = descriptors
        if self._n > LARGE and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._n:,} keyframes are searched one by one; faiss does it faster: pip install 'spmem[cpu]'",
                stacklevel=2,
            )

    def search(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and ids ``[q, k]`` of the k best of each query ``[q, dim]``, best first; -inf and -1 fill up."""
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        found = min(k, self._n)
        if found:
            product = queries @ self._descriptors[: self._n].T
            best = np.argpartition(product, self._n - found, axis=1)[:, self._n - found :]
            order = np.argsort(-np.take_along_axis(product, best, 1), axis=1, kind="stable")
            best = np.take_along_axis(best, order, 1)
            scores[:, :found] = np.take_along_axis(product, best, 1)
            ids[:, :found] = self._ids[best]
        return scores, ids

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Forget ids; unknown ones are skipped."""
        keep = ~np.isin(self._ids[: self._n], ids)
        self._ids = self._ids[: self._n][keep]
        self._descriptors = self._descriptors[: self._n][keep]
        self._n = len(self._ids)
        self._row = {id: row for row, id in enumerate(self._ids.tolist())}


def check(ids: NDArray[np.int64], descriptors: NDArray[np.float32], dim: int) -> None:
    """Raise InputError unless ids are ``[n]`` and descriptors ``[n, dim]``."""
    if ids.ndim != 1 or descriptors.shape != (len(ids), dim):
        raise InputError(
            f"an index of dim {dim} takes ids [n] and descriptors [n, {dim}], "
            f"got {list(ids.shape)} and {list(descriptors.shape)}"
        )
