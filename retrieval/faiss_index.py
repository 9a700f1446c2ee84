"""Exact search by inner product, in faiss."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem.errors import MissingExtraError
from spmem.retrieval.flat import check

GPU_MAX_K = 2048
"""The longest answer that faiss gives on a GPU; longer ones are searched on the CPU."""


class FaissIndex:
    """Like :class:`spmem.retrieval.flat.FlatIndex`, by faiss (``IndexIDMap2`` over ``IndexFlatIP``).

    Where faiss sees a GPU, a copy of the descriptors is kept on the first one and searched there; the index in RAM
    stays what counts. (faiss-cpu and faiss-gpu are alternatives, never both in one environment.)

    Args:
        dim: Length of the descriptors.

    Raises:
        MissingExtraError: faiss is not installed.
    """

    def __init__(self, dim: int) -> None:
        try:
            import faiss
        except ImportError as error:
            raise MissingExtraError("faiss", "cpu", "the faiss index") from error
        self._faiss: Any = faiss
        self._dim = dim
        self._flat: Any = faiss.IndexFlatIP(dim)
        self._index: Any = faiss.IndexIDMap2(self._flat)
        self._resources = faiss.StandardGpuResources() if faiss.get_num_gpus() > 0 else None
        self._gpu: Any = None

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, ids: NDArray[np.int64], descriptors: NDArray[np.float32]) -> None:
        """Add ``[n]`` ids with descriptors ``[n, dim]``; an id that is there already is replaced, the last one wins.

        Raises:
            InputError: Shapes that do not fit.
        """
        check(ids, descriptors, self._dim)
        if not len(ids):
            return
        self.remove(ids)
        _, last = np.unique(ids[::-1], return_index=True)
        rows = np.sort(len(ids) - 1 - last)
        new = np.ascontiguousarray(descriptors[rows], np.float32)
        self._index.add_with_ids(new, np.ascontiguousarray(ids[rows], np.int64))
        if self._gpu is not None:
            self._gpu.add(new)

    def search(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and ids ``[q, k]`` of the k best of each query ``[q, dim]``, best first; -inf and -1 fill up."""
        if not len(queries) or not k:
            return np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int64)
        queries = np.ascontiguousarray(queries, np.float32)
        if self._resources is not None and k <= GPU_MAX_K and len(self):
            if self._gpu is None:
                self._gpu = self._faiss.index_cpu_to_gpu(self._resources, 0, self._flat)
            scores, rows = self._gpu.search(queries, k)
            known = self._faiss.vector_to_array(self._index.id_map)
            ids = np.where(rows >= 0, known[rows], -1)
        else:
            scores, ids = self._index.search(queries, k)
        return np.where(ids >= 0, scores, -np.inf).astype(np.float32), ids.astype(np.int64)

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Forget ids; unknown ones are skipped."""
        if self._index.remove_ids(np.ascontiguousarray(ids, np.int64)):
            self._gpu = None  # rows moved
