"""Reading records and arrays: chunks are asked for together, and checked, unpacked and decoded in threads as they come.

Zarr's arrays read one selection after the other, and spend as long on each record as its JPEG takes to decode. So chunks
are read below them: they come from Zarr's store by their keys, and are checked and unpacked here. Checksums, digests and
decoders all leave Python's lock, so that many chunks take as long as their share of the cores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from math import ceil, prod
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray

from spmem.stores.keyframes.zarr.chunks import gather, read_chunk, run
from spmem.stores.keyframes.zarr.untrusted import unpack

T = TypeVar("T")
Record = NDArray[np.uint8]
_AT_ONCE = 32


def read_records(
    records: zarr.Array[Any],
    pending: Mapping[int, bytes],
    wanted: Sequence[tuple[int, int]],
    decode: Callable[[int, Record], T],
) -> list[T | Exception]:
    """Read and decode records.

    Args:
        records: The array that holds them, checked.
        pending: Records that are not written yet, by id.
        wanted: An id and a length in bytes each.
        decode: Called in a thread with the place in ``wanted`` and the record.

    Returns:
        What ``decode`` made of each, or what went wrong with it. Chunks that are not stored are zeros, as in Zarr.
    """
    width = records.chunks[1]

    def whole(number: int, length: int, chunks: Sequence[Record | None]) -> T:
        stored = np.empty(width * len(chunks), np.uint8)
        for n, chunk in enumerate(chunks):
            unpack(records, chunk, stored[n * width : (n + 1) * width])
        return decode(number, stored[:length])

    async def one(number: int, id: int, length: int) -> T:
        if id in pending:
            return await asyncio.to_thread(decode, number, np.frombuffer(pending[id], np.uint8))
        parts = (read_chunk(records, (id, n)) for n in range(ceil(length / width)))
        return await asyncio.to_thread(whole, number, length, await asyncio.gather(*parts))

    return run(gather([one(number, *each) for number, each in enumerate(wanted)]))


def read_arrays(
    arrays: Mapping[str, zarr.Array[Any]], check: Callable[[str, int, NDArray[Any]], None]
) -> dict[str, NDArray[Any]]:
    """Read whole arrays.

    Args:
        arrays: By name, checked; in chunks of whole rows.
        check: Called in a thread with the name, the chunk's number, and its rows; raises if they are not what was
            written.

    Raises:
        ValueError: An array in other chunks, or what ``check`` and the decoders raise.
    """
    read = {}
    reads: list[Coroutine[Any, Any, None]] = []
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str, number: int, part: NDArray[Any]) -> None:
        array = arrays[name]
        async with room:
            chunk = await read_chunk(array, (number, *(0,) * (array.ndim - 1))[: array.ndim])
            await asyncio.to_thread(_unpack_rows, array, chunk, part)
            await asyncio.to_thread(check, name, number, part)

    for name, array in arrays.items():
        rows, *others = array.chunks or (1,)
        if list(others) != [max(1, edge) for edge in array.shape[1:]]:
            raise ValueError(f"{array.path} is not in chunks of whole rows")
        read[name] = np.empty(array.shape, array.dtype)
        flat = read[name].reshape(array.shape or 1)
        if flat.size:
            parts = [flat[start : start + rows] for start in range(0, len(flat), rows)]
            reads += [one(name, number, part) for number, part in enumerate(parts)]
    for done in run(gather(reads)):
        if done is not None:
            raise done
    return read


def _unpack_rows(array: zarr.Array[Any], chunk: Record | None, part: NDArray[Any]) -> None:
    size = prod(array.chunks) * array.dtype.itemsize
    if part.nbytes == size:
        unpack(array, chunk, part.reshape(-1).view(np.uint8))
        return
    stored = np.empty(size, np.uint8)  # the last rows do not fill their chunk
    unpack(array, chunk, stored)
    part.reshape(-1).view(np.uint8)[:] = stored[: part.nbytes]
