"""Writing records and arrays: chunks are packed in threads and handed to Zarr's store together.

The other side of :mod:`spmem.stores.keyframes.zarr.decode`. Zarr's arrays write one selection after the other, and spend
longer on the way to a chunk than packing it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from math import ceil, prod
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs.blosc import Blosc  # type: ignore[import-untyped]
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from spmem.stores.keyframes.zarr.chunks import delete_chunk, run, write_chunk

LEVEL = 1
"""Zstandard's level in all that is written."""

Chunk = tuple[tuple[int, ...], NDArray[Any]]
"""A chunk's number in its array, and its values; fewer than the array's chunks hold end in zeros."""


def write_records(records: zarr.Array[Any], parts: Mapping[int, bytes]) -> None:
    """Write records by id, which have none yet; nothing is stored for an empty one."""
    width = records.chunks[1]
    longest = max(map(len, parts.values()), default=0)
    shape = (
        max(records.shape[0], 1 + max(parts, default=-1)),
        max(records.shape[1], longest + -longest % width),
    )

    def chunks() -> Iterator[Chunk]:
        for id, part in parts.items():
            record = np.frombuffer(part, np.uint8)
            for n, start in enumerate(range(0, len(record), width)):
                yield (id, n), record[start : start + width]

    _resize(records, shape)
    run(_write(records, list(chunks())))


def delete_records(records: zarr.Array[Any], lengths: Mapping[int, int]) -> None:
    """Delete the records of ids, of these lengths in bytes."""
    width = records.chunks[1]

    async def delete() -> None:
        numbers = [(id, n) for id, length in lengths.items() for n in range(ceil(length / width))]
        await asyncio.gather(*(delete_chunk(records, number) for number in numbers))

    run(delete())


def write_columns(
    columns: Mapping[str, zarr.Array[Any]], values: Mapping[str, NDArray[Any]], saved: int
) -> None:
    """Make columns hold ``values``, of which the first ``saved`` rows are stored."""

    def chunks(name: str, rows: int) -> list[Chunk]:
        numbers = range(saved // rows, ceil(len(values[name]) / rows))
        return list(_row_chunks(values[name], rows, numbers))

    async def all_columns() -> None:
        writes = (_write(one, chunks(name, one.chunks[0])) for name, one in columns.items())
        await asyncio.gather(*writes)

    for name, column in columns.items():
        _resize(column, values[name].shape)
    run(all_columns())


def write_rows(array: zarr.Array[Any], values: NDArray[Any], numbers: Iterable[int]) -> None:
    """Make an array hold ``values``, of which only the chunks of rows of these numbers are not stored."""
    chunks = _row_chunks(np.atleast_1d(values), (array.chunks or (1,))[0], numbers)
    _resize(array, values.shape)
    run(_write(array, [(number[: array.ndim], part) for number, part in chunks]))


def _row_chunks(values: NDArray[Any], rows: int, numbers: Iterable[int]) -> Iterator[Chunk]:
    for number in numbers:
        yield (number, *(0,) * (values.ndim - 1)), values[number * rows : (number + 1) * rows]


def _resize(array: zarr.Array[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        array.resize(shape)


async def _write(array: zarr.Array[Any], chunks: list[Chunk]) -> None:
    await asyncio.gather(
        *(write_chunk(array, number, partial(_pack, array, part)) for number, part in chunks)
    )


def _pack(array: zarr.Array[Any], part: NDArray[Any]) -> bytes:
    """A chunk as the codecs of the array encode it: Zstandard or Blosc, then a CRC32C behind it."""
    whole = np.zeros(prod(array.chunks), array.dtype.newbyteorder("<"))
    whole[: part.size] = part.reshape(-1)
    codec = array.compressors[0]
    if isinstance(codec, BloscCodec):
        blosc = Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE)
        packed = bytes(blosc.encode(whole))
    else:
        packed = bytes(Zstd(LEVEL).encode(whole))
    checksum: int = google_crc32c.value(packed)
    return packed + checksum.to_bytes(4, "little")
