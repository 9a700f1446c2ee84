"""Search by inner product in faiss: exact while the bank is small, along a graph once it is large."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem.errors import MissingExtraError
from spmem.retrieval.indices.flat import check

GRAPH_FROM = 4096
"""Descriptors from which the graph is walked: with fewer, comparing with all takes no longer and finds all
(``benchmarks/retrieval_speed.py --quick --only search`` compares both)."""

LINKS, BREADTH = 32, 128
"""Of the graph: links of a descriptor, and how many descriptors a search keeps in view at least."""

GPU_MAX_K = 2048
"""The longest answer that faiss gives on a GPU; longer ones are searched on the CPU."""


class FaissIndex:
    """Like :class:`spmem.retrieval.indices.flat.FlatIndex`, by faiss.

    On the CPU descriptors go into a graph (HNSW: Malkov, Yashunin 2018) as they come, so growing never stalls; it is
    walked from ``graph_from`` of them on, unless most are excluded. (IVF was tried and left: keyframes of many places are nearly
    orthogonal, so lists cut by k-means do not hold what belongs together; measured in ``benchmarks/retrieval_speed.py``.)
    What is removed is hidden, and let go of when it is half of all. Where faiss sees a GPU, all are compared there,
    exactly. (faiss-cpu and faiss-gpu are alternatives, never both in one environment.)

    Args:
        dim: Length of the descriptors.
        graph_from: See above.

    Raises:
        MissingExtraError: faiss is not installed.
    """

    def __init__(self, dim: int, graph_from: int = GRAPH_FROM) -> None:
        try:
            import faiss
        except ImportError as error:
            raise MissingExtraError("faiss", "cpu", "the faiss index") from error
        self._faiss: Any = faiss
        self._dim, self._graph_from = dim, graph_from
        self._resources = faiss.StandardGpuResources() if faiss.get_num_gpus() > 0 else None
        self._start()

    def _start(self) -> None:
        faiss = self._faiss
        self._graph: Any = None
        self._gpu: Any = None
        if self._resources is None:
            self._graph = faiss.IndexHNSWFlat(self._dim, LINKS, faiss.METRIC_INNER_PRODUCT)
            self._all = faiss.downcast_index(self._graph.storage)
        else:
            self._all = faiss.IndexFlatIP(self._dim)
        self._ids = np.zeros(0, np.int64)
        self._row: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._row)

    def add(self, ids: NDArray[np.int64], descriptors: NDArray[np.float32]) -> None:
        """Add ``[n]`` ids with descriptors ``[n, dim]``; an id that is there already is replaced, the last one wins.

        Raises:
            InputError: Shapes that do not fit.
        """
        check(ids, descriptors, self._dim)
        last = {id: i for i, id in enumerate(ids.tolist())}
        if not last:
            return
        self.remove(ids)
        first, new = int(self._all.ntotal), descriptors[list(last.values())]
        (self._all if self._graph is None else self._graph).add(
            np.ascontiguousarray(new, np.float32)
        )
        if self._gpu is not None:
            self._gpu.add(np.ascontiguousarray(new, np.float32))
        self._grow(first + len(last))
        self._ids[first : first + len(last)] = list(last)
        self._row |= {id: first + i for i, id in enumerate(last)}

    def _grow(self, n: int) -> None:
        if n > len(self._ids):
            self._ids = np.concatenate([self._ids, np.full(max(64, 2 * n) - len(self._ids), -1)])

    def search(
        self, queries: NDArray[np.float32], k: int, exclude: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and ids ``[q, k]`` of the k best of each query ``[q, dim]``, best first; -inf and -1 fill up.

        ``exclude`` are ids that are not answered.
        """
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        total = int(self._all.ntotal)
        if not (len(queries) and k and total):
            return scores, ids
        queries = np.ascontiguousarray(queries, np.float32)
        hidden = self._ids[:total] < 0
        if exclude is not None and len(exclude):
            hidden |= np.isin(self._ids[:total], exclude)
        n = min(k, total)
        found, rows = self._search(queries, n, hidden)
        scores[:, :n] = np.where(rows >= 0, found, -np.inf)
        ids[:, :n] = np.where(rows >= 0, self._ids[rows], -1)
        return scores, ids

    def _search(
        self, queries: NDArray[np.float32], k: int, hidden: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        faiss, spare = self._faiss, int(hidden.sum())
        if self._resources is not None and k + spare <= GPU_MAX_K:
            if self._gpu is None:
                self._gpu = faiss.index_cpu_to_gpu(self._resources, 0, self._all)
            scores, rows = self._gpu.search(queries, min(k + spare, len(hidden)))
            order = np.argsort(hidden[rows] | (rows < 0), axis=1, kind="stable")[:, :k]
            scores, rows = (np.take_along_axis(part, order, 1) for part in (scores, rows))
            return scores, np.where(hidden[rows], -1, rows)
        bits = np.packbits(~hidden, bitorder="little")
        shown = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits)) if spare else None
        if self._graph is None or len(hidden) < self._graph_from or 2 * spare > len(hidden):
            return self._all.search(queries, k, params=faiss.SearchParameters(sel=shown))  # type: ignore[no-any-return]
        walk = faiss.SearchParametersHNSW(sel=shown, efSearch=max(BREADTH, 2 * k))
        return self._graph.search(queries, k, params=walk)  # type: ignore[no-any-return]

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Forget ids; unknown ones are skipped."""
        for id in ids.tolist():
            if id in self._row:
                self._ids[self._row.pop(id)] = -1
        total = int(self._all.ntotal)
        if total > 64 and 2 * len(self) < total:
            live = self._ids[:total] >= 0
            kept, descriptors = self._ids[:total][live], self._all.reconstruct_n(0, total)[live]
            self._start()
            self.add(kept, descriptors)
