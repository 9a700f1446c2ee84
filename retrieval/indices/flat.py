"""Exact search by inner product, in torch: on the GPU where there is one."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray

from spmem.errors import InputError

LARGE = 50_000
"""Rows above which exact search on the CPU is worth a warning."""


class FlatIndex:
    """Compares a query with every descriptor: exact, nothing to install, time and memory grow with the bank.

    Args:
        dim: Length of the descriptors.
        device: Where they lie and are compared; None takes the GPU where there is one.
    """

    def __init__(self, dim: int, device: torch.device | str | None = None) -> None:
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._ids = np.zeros(0, np.int64)
        self._descriptors = torch.zeros(0, dim, device=self._device)
        self._row: dict[int, int] = {}
        self._warned = False

    def __len__(self) -> int:
        return len(self._row)

    def add(self, ids: NDArray[np.int64], descriptors: NDArray[np.float32]) -> None:
        """Add ``[n]`` ids with descriptors ``[n, dim]``; an id that is there already is replaced, the last one wins.

        Raises:
            InputError: Shapes that do not fit.
        """
        check(ids, descriptors, self._descriptors.shape[1])
        last = {id: i for i, id in enumerate(ids.tolist())}
        rows = [self._row.setdefault(id, len(self._row)) for id in last]
        if len(self) > len(self._ids):
            spare = max(64, 2 * len(self)) - len(self._ids)
            self._ids = np.pad(self._ids, (0, spare))
            self._descriptors = torch.nn.functional.pad(self._descriptors, (0, 0, 0, spare))
        self._ids[rows] = list(last)
        new = torch.from_numpy(descriptors[list(last.values())]).to(self._device)
        self._descriptors[rows] = new
        if len(self) > LARGE and self._device.type == "cpu" and not self._warned:
            self._warned = True
            warnings.warn(
                f'{len(self):,} keyframes are compared one by one; index="voxels" or "faiss" is faster',
                stacklevel=2,
            )

    def search(
        self, queries: NDArray[np.float32], k: int, exclude: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and ids ``[q, k]`` of the k best of each query ``[q, dim]``, best first; -inf and -1 fill up.

        ``exclude`` are ids that are not answered.
        """
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        found = min(k, len(self))
        if found and len(queries):
            product = torch.from_numpy(queries).to(self._device) @ self._descriptors[: len(self)].T
            if exclude is not None and len(exclude):
                hidden = np.isin(self._ids[: len(self)], exclude)
                product[:, torch.from_numpy(hidden).to(self._device)] = -torch.inf
            best, rows = (part.cpu().numpy() for part in product.topk(found, dim=1))
            scores[:, :found] = best
            ids[:, :found] = np.where(best > -np.inf, self._ids[rows], -1)
        return scores, ids

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Forget ids; unknown ones are skipped."""
        keep = ~np.isin(self._ids[: len(self)], ids)
        kept = torch.from_numpy(np.flatnonzero(keep)).to(self._device)
        self._ids, self._descriptors = self._ids[: len(keep)][keep], self._descriptors[kept]
        self._row = {id: row for row, id in enumerate(self._ids.tolist())}


def check(ids: NDArray[np.int64], descriptors: NDArray[np.float32], dim: int) -> None:
    """Raise InputError unless ids are ``[n]`` and descriptors ``[n, dim]``."""
    if ids.ndim != 1 or descriptors.shape != (len(ids), dim):
        raise InputError(
            f"an index of dim {dim} takes ids [n] and descriptors [n, {dim}], "
            f"got {list(ids.shape)} and {list(descriptors.shape)}"
        )
