"""WriterLock records and columns: chunks are packed in threads and handed to Zarr's store together.

The other side of :mod:`spmem.stores.keyframes.zarr.decode`. Zarr's arrays write one selection after the other, and spend
longer on the way to a chunk than packing it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from spmem.stores.keyframes.zarr.decode import chunk_key

LEVEL = 1
"""Of Zstandard, in all that is written."""

Chunk = tuple[tuple[int, ...], NDArray[np.uint8]]
"""A chunk's number in its array, and what it holds; a shorter one than the array's chunks ends in zeros."""


def write_records(records: zarr.Array[Any], first: int, parts: Sequence[bytes]) -> None:
    """Write the records of consecutive ids from ``first`` on, which have none yet; none is stored of an empty one."""
    width = records.chunks[1]
    longest = max(map(len, parts), default=0)
    shape = (first + len(parts), max(records.shape[1], longest + -longest % width))

    def chunks() -> Iterator[Chunk]:
        for id, part in enumerate(parts, first):
            record = np.frombuffer(part, np.uint8)
            for n, start in enumerate(range(0, len(record), width)):
                yield (id, n), record[start : start + width]

    sync(_write(records, shape, list(chunks())))


def write_columns(
    columns: Mapping[str, zarr.Array[Any]], values: Mapping[str, NDArray[Any]], saved: int
) -> None:
    """Make columns hold ``values``, of which the first ``saved`` rows are stored."""

    def chunks(name: str) -> Iterator[Chunk]:
        column, value = columns[name], values[name]
        rows, zeros = column.chunks[0], (0,) * (column.ndim - 1)
        for first in range(saved - saved % rows, len(value), rows):
            part = np.ascontiguousarray(value[first : first + rows], value.dtype.newbyteorder("<"))
            yield (first // rows, *zeros), part.reshape(-1).view(np.uint8)

    async def all_columns() -> None:
        writes = (
            _write(column, values[name].shape, list(chunks(name)))
            for name, column in columns.items()
        )
        await asyncio.gather(*writes)

    sync(all_columns())


async def _write(array: zarr.Array[Any], shape: tuple[int, ...], chunks: Sequence[Chunk]) -> None:
    if array.shape != shape:
        await array.async_array.resize(shape)
    await asyncio.gather(*(_put(array, *chunk) for chunk in chunks))


async def _put(array: zarr.Array[Any], number: tuple[int, ...], held: NDArray[np.uint8]) -> None:
    size = int(np.prod(array.chunks)) * array.dtype.itemsize
    packed = await asyncio.to_thread(_pack, held, size)
    buffer = default_buffer_prototype().buffer.from_bytes(packed)
    await array.store_path.store.set(chunk_key(array, number), buffer)


def _pack(held: NDArray[np.uint8], size: int) -> bytes:
    """As the codecs of the arrays do: Zstandard, then a CRC32C behind it."""
    whole = np.zeros(size, np.uint8)
    whole[: held.size] = held
    packed = bytes(Zstd(LEVEL).encode(whole))
    checksum: int = google_crc32c.value(packed)
    return packed + checksum.to_bytes(4, "little")
