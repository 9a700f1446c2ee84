"""Chunks of Zarr's arrays by their keys, many at once: the only file that uses what Zarr keeps private.

That is ``zarr.core.sync.sync``, which runs a coroutine on the loop that Zarr's stores live on; everything else is Zarr's
public API. ``tests/stores/keyframes/zarr/test_zarr_versions.py`` names the versions that this was run with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr import AsyncArray
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.errors import ArrayNotFoundError

T = TypeVar("T")
Number = tuple[int, ...]
"""Which chunk of an array."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that reads or writes chunks."""
    return sync(work)


async def gather(work: Sequence[Coroutine[Any, Any, T]]) -> list[T | Exception]:
    """The results of coroutines that run together, and the exceptions of those that failed."""
    found: list[T | Exception] = []
    for one in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(one, BaseException) and not isinstance(one, Exception):
            raise one
        found.append(one)
    return found


async def read_chunk(array: zarr.Array[Any], number: Number) -> NDArray[np.uint8] | None:
    """The bytes of a chunk as they are stored, or None."""
    key, prototype = _key(array, number), default_buffer_prototype()
    found = await array.store_path.store.get(key, prototype)
    return None if found is None else found.as_numpy_array()


async def write_chunk(array: zarr.Array[Any], number: Number, pack: Callable[[], bytes]) -> None:
    """Store what ``pack``, called in a thread, returns as a chunk."""
    packed = await asyncio.to_thread(pack)
    buffer = default_buffer_prototype().buffer.from_bytes(packed)
    await array.store_path.store.set(_key(array, number), buffer)


async def delete_chunk(array: zarr.Array[Any], number: Number) -> None:
    """Delete a chunk; it reads as zeros then."""
    await array.store_path.store.delete(_key(array, number))


def open_arrays(group: zarr.Group, names: Sequence[str]) -> dict[str, zarr.Array[Any]]:
    """The arrays of a group that are there, by name, opened together."""

    async def look() -> list[Any]:
        return await gather([AsyncArray.open(group.store_path / name) for name in names])

    arrays: dict[str, zarr.Array[Any]] = {}
    for name, found in zip(names, run(look()), strict=True):
        if isinstance(found, ArrayNotFoundError):
            continue
        if isinstance(found, Exception):
            raise found
        arrays[name] = zarr.Array(found)
    return arrays


def _key(array: zarr.Array[Any], number: Number) -> str:
    return f"{array.store_path.path}/{array.metadata.encode_chunk_key(number)}"
