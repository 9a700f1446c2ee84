"""The indices that find candidates, by name."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spmem.config import RetrievalConfig
from spmem.protocols import ViewIndex
from spmem.registry import find
from spmem.retrieval.indices.inverted import VoxelIndex
from spmem.retrieval.indices.sketch import sketch
from spmem.retrieval.indices.voxels import VoxelSets


class PlaceIndex(Protocol):
    """Finds the views that saw most of the same voxels."""

    def add(self, ids: NDArray[np.int64], sets: VoxelSets) -> None:
        """Add ``[n]`` ids with their sets; an id that is there already is replaced."""
        ...

    def search(
        self, sets: VoxelSets, k: int, exclude: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and ids ``[q, k]`` of the k best for each set, best first; -inf and -1 fill up."""
        ...

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Forget ids; unknown ones are skipped."""
        ...

    def __len__(self) -> int: ...


class SketchIndex:
    """Any index of vectors as an index of places: each voxel set goes in as its sketch."""

    def __init__(self, index: ViewIndex, dim: int) -> None:
        self._index, self._dim = index, dim

    def __len__(self) -> int:
        return len(self._index)

    def add(self, ids: NDArray[np.int64], sets: VoxelSets) -> None:
        """See :class:`PlaceIndex`."""
        self._index.add(ids, sketch(sets, self._dim))

    def search(
        self, sets: VoxelSets, k: int, exclude: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See :class:`PlaceIndex`."""
        return self._index.search(sketch(sets, self._dim), k, exclude)

    def remove(self, ids: NDArray[np.int64]) -> None:
        """See :class:`PlaceIndex`."""
        self._index.remove(ids)


def place_index(config: RetrievalConfig) -> PlaceIndex:
    """A new, empty index as the configuration names it.

    ``voxels`` is the inverted index, exact and as fast for a million keyframes as for a thousand. Every other name is
    an index of vectors (:func:`make_index`), which holds descriptors of ``config.dim`` entries.

    Raises:
        UnknownNameError: No index goes by this name.
        MissingExtraError: ``faiss`` is asked for and not installed.
    """
    if config.index == "voxels":
        return VoxelIndex()
    return SketchIndex(make_index(config.index, config.dim), config.dim)


def make_index(name: str, dim: int) -> ViewIndex:
    """A new, empty index of vectors ``[dim]``: ``faiss``, ``flat``, or one of an installed package.

    Packages register theirs as entry points of the group ``spmem.view_index``, called with ``dim``.

    Raises:
        UnknownNameError: No index goes by this name.
        MissingExtraError: ``faiss`` is asked for and not installed.

    Example:
        >>> len(make_index("flat", 8))
        0
    """
    index: ViewIndex = find("view_index", name)(dim)
    return index
