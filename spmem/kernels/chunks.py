"""Chunks: runs of rows that lie together in space, so that a view can leave whole runs aside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.arrays import ArraySchema, require
from spmem.kernels.hashing import FREE, U64, find, scattered
from spmem.kernels.jit import njit

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

CHUNK = 128
"""Rows in a chunk."""
BLOCK_BITS = 5
"""A block of space is 2^5 voxels wide; a chunk holds surfels of one block."""
LOOSE = np.int64(-1)
"""Block of the surfels whose voxel is not known."""

SCHEMA = {
    "chunk_fill": ArraySchema("int32", "chunks", least=0, most=CHUNK, optional=True),
    "chunk_block": ArraySchema("int64", "chunks", optional=True),
}


@njit()
def key_of_block(block: int) -> np.uint64:
    """A block in the hash table; :data:`LOOSE` too."""
    return np.uint64(block) + np.uint64(2)


@njit()
def allot(block: I64, keys: U64, chunk: I32, fill: I32, n: int) -> tuple[I64, int, int]:
    """Rows for surfels of blocks, the chunks there are then, and how many blocks are new.

    keys, chunk: A hash table from block to the chunk that is being filled, with room for all.
    """
    rows, fresh = np.empty(len(block), np.int64), 0
    for s in range(len(block)):
        key = key_of_block(block[s])
        at = find(keys, key, scattered(key), 1)
        if keys[at] == FREE or fill[chunk[at]] == CHUNK:
            fresh += keys[at] == FREE
            keys[at], chunk[at], fill[n] = key, n, 0
            n += 1
        rows[s] = np.int64(chunk[at]) * CHUNK + fill[chunk[at]]
        fill[chunk[at]] += 1
    return rows, n, fresh


@njit()
def widen(rows: I64, position: F32, radius: F32, low: F32, high: F32) -> None:
    """Let bounds [chunks, 3] hold the discs of rows."""
    for row in rows:
        for k in range(3):
            c, at, r = row // CHUNK, position[row, k], radius[row]
            low[c, k], high[c, k] = min(low[c, k], at - r), max(high[c, k], at + r)


class Chunks:
    """Bounds and filling of n chunks, and for each block of space the chunk that takes its next surfel.

    A chunk costs 36 bytes, and what is free in the last chunk of each block.
    """

    def __init__(self) -> None:
        self.n = 0
        self._low, self._high = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)
        self._fill, self._block = np.zeros(0, np.int32), np.zeros(0, np.int64)
        self._keys, self._chunk = np.zeros(256, np.uint64), np.zeros(256, np.int32)
        self._blocks = 0

    @property
    def low(self) -> F32:
        """[n, 3] least coordinates of any disc, world units; never too large."""
        return self._low[: self.n]

    @property
    def high(self) -> F32:
        """[n, 3] largest coordinates of any disc, world units; never too small."""
        return self._high[: self.n]

    def take(self, count: int, cell: NDArray[np.int64] | None) -> I64:
        """Rows for so many surfels, of voxels [count, 3] where known."""
        block = np.full(count, LOOSE) if cell is None else blocks(cell)
        self._reserve(count)
        rows, n, fresh = allot(block, self._keys, self._chunk, self._fill, self.n)
        new = rows // CHUNK >= self.n
        self._block[rows[new] // CHUNK] = block[new]
        self._blocks += fresh
        self.n = n
        return rows

    def widen(self, rows: I64, position: F32, radius: F32) -> None:
        """Let the bounds hold the discs of rows."""
        widen(rows, position, radius, self._low, self._high)

    def took(self, rows: I64) -> bool:
        """Whether all of these rows were given to surfels."""
        return bool((rows % CHUNK < self._fill[rows // CHUNK]).all())

    def _reserve(self, count: int) -> None:
        room = self.n + count
        if room > len(self._fill):
            more = max(room, len(self._fill) * 3 // 2) - len(self._fill)
            infinite = np.full((more, 3), np.inf, np.float32)
            self._low = np.concatenate([self._low, infinite])
            self._high = np.concatenate([self._high, -infinite])
            self._fill = np.concatenate([self._fill, np.zeros(more, np.int32)])
            self._block = np.concatenate([self._block, np.zeros(more, np.int64)])
        if 2 * (self._blocks + count) > len(self._keys):
            self._table(4 * (self._blocks + count))

    def _table(self, places: int) -> None:
        """Build the hash table afresh: the last chunk of each block is the one that is being filled."""
        size = 1 << max(8, (places - 1).bit_length())
        block, last = np.unique(self._block[: self.n][::-1], return_index=True)
        self._keys, self._chunk = np.zeros(size, np.uint64), np.zeros(size, np.int32)
        self._blocks = len(block)
        place(block, (self.n - 1 - last).astype(np.int32), self._keys, self._chunk)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint; bounds follow from the surfels."""
        return {"chunk_fill": self._fill[: self.n], "chunk_block": self._block[: self.n]}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], rows: int) -> Chunks:
        """Inverse of :meth:`arrays`; rows that came without chunks fill them one after the other.

        Raises:
            ValueError: Arrays that no chunks of so many rows give.
        """
        chunks = cls()
        n = -(-rows // CHUNK)
        require(arrays, SCHEMA, chunks=n)
        chunks._reserve(n)
        chunks.n = n
        full = np.minimum(rows - np.arange(n) * CHUNK, CHUNK).astype(np.int32)
        chunks._fill[:n] = arrays.get("chunk_fill", full)
        chunks._block[:n] = arrays.get("chunk_block", np.full(n, LOOSE))
        chunks._table(4 * n)
        return chunks


def blocks(cell: NDArray[np.int64]) -> I64:
    """The block of each voxel [m, 3], as one number."""
    x, y, z = (cell >> BLOCK_BITS).T & 0xFFFFF
    named: I64 = x << 40 | y << 20 | z
    return named


@njit()
def place(block: I64, of: I32, keys: U64, chunk: I32) -> None:
    """Put blocks and their chunks into an empty table."""
    for s in range(len(block)):
        key = key_of_block(block[s])
        at = find(keys, key, scattered(key), 1)
        keys[at], chunk[at] = key, of[s]


def curve(cell: Int[Tensor, "m 3"]) -> Int[Tensor, " m"]:
    """Where voxels lie along a curve that keeps near what is near (Morton 1966): their bits, interleaved."""
    along = torch.zeros_like(cell[:, 0])
    low = cell - cell.amin(0).clamp(max=0)
    for bit in range(20):
        for axis in range(3):
            along |= (low[:, axis] >> bit & 1) << (3 * bit + axis)
    return along
