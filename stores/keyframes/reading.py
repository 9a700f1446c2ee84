"""Reading records, several at once: their chunks are asked for together, and decoded in threads as they come.

Zarr's arrays read one selection after the other, and spend as long on each record as its JPEG takes to decode. So records
are read below them: chunks come from the store by their keys, and are checked and unpacked here. Decoders, checksums
and digests all leave Python's lock, so that a batch takes as long as its share of the cores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from spmem.stores.keyframes.guard import unpacked

T = TypeVar("T")
Record = NDArray[np.uint8]


def read_records(
    records: zarr.Array[Any],
    pending: Mapping[int, bytes],
    wanted: Sequence[tuple[int, int]],
    decode: Callable[[int, Record], T],
) -> list[T | Exception]:
    """Read and decode records.

    Args:
        records: The array that holds them, guarded.
        pending: Records that are not written yet, by id.
        wanted: An id and a length in bytes each.
        decode: Called in a thread with the place in ``wanted`` and the record.

    Returns:
        What ``decode`` made of each, or what went wrong with it. Chunks that are not stored are zeros, as in Zarr.
    """

    async def one(number: int, id: int, length: int) -> T:
        if id in pending:
            return await asyncio.to_thread(decode, number, np.frombuffer(pending[id], np.uint8))
        width = records.chunks[1]
        chunks = await asyncio.gather(*(_chunk(records, id, n) for n in range(-(-length // width))))
        return await asyncio.to_thread(lambda: decode(number, _whole(chunks, width)[:length]))

    async def all() -> list[T | BaseException]:
        reads = [one(number, *each) for number, each in enumerate(wanted)]
        return await asyncio.gather(*reads, return_exceptions=True)

    return [_told(one) for one in sync(all())]


def _told(found: T | BaseException) -> T | Exception:
    if isinstance(found, BaseException) and not isinstance(found, Exception):
        raise found
    return found


async def _chunk(records: zarr.Array[Any], id: int, number: int) -> Record | None:
    where = records.store_path
    key = f"{where.path}/{records.metadata.encode_chunk_key((id, number))}"
    found = await where.store.get(key, default_buffer_prototype())
    return None if found is None else found.as_numpy_array()


def _whole(chunks: Sequence[Record | None], width: int) -> Record:
    parts = [np.zeros(width, np.uint8) if one is None else unpacked(one, width) for one in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.uint8), *parts])
