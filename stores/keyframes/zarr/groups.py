"""Named groups of arrays beside the keyframes: map checkpoints, index caches, configuration.

A group is written again and again while it changes little, so only the chunks that changed are written: each array's
attribute ``digests`` holds one SHA-256 a chunk (its first 16 hexadecimal digits), of the rows that the chunk holds, as
little-endian C-ordered bytes. A chunk is a power of two of whole rows. The digests also tell a reader that what it
read is what was written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from spmem.errors import InputError
from spmem.protocols import Arrays
from spmem.stores.keyframes.zarr.decode import read_arrays
from spmem.stores.keyframes.zarr.encode import write_rows
from spmem.stores.keyframes.zarr.untrusted import checked_array, require_room

KEYFRAMES = "keyframes"
"""The group that keyframes themselves live in."""
DIGESTS = "digests"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Group:
    """A group's arrays, and its attributes as JSON."""

    arrays: dict[str, NDArray[Any]]
    attributes: str


@dataclass(frozen=True)
class ChunkedGroup:
    """A group in RAM, its arrays in chunks that are never changed, so that several may share them."""

    arrays: dict[str, tuple[tuple[int, ...], list[str], list[NDArray[Any]]]]
    """Shape, digests and chunks of each."""
    attributes: str

    @classmethod
    def of(cls, group: Group, old: ChunkedGroup | None) -> ChunkedGroup:
        """The group; chunks that ``old`` has too are taken from there, the others copied."""
        arrays = {}
        for name, array in group.arrays.items():
            chunks = _chunks(array)
            rows = chunks[0] if chunks else 1
            new = digests(array, rows)
            shape, known, parts = (old.arrays if old else {}).get(name, ((), [], []))
            fits = bool(parts) and (parts[0].dtype, shape[1:]) == (array.dtype, array.shape[1:])
            flat = np.atleast_1d(array)
            arrays[name] = (
                array.shape,
                new,
                [
                    parts[i]
                    if fits and known[i : i + 1] == [digest]
                    else flat[i * rows : (i + 1) * rows].copy()
                    for i, digest in enumerate(new)
                ],
            )
            if not new:
                arrays[name] = (array.shape, new, [flat.copy()])
        return cls(arrays, group.attributes)

    def whole(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and attributes that the caller may change."""
        arrays = {
            name: np.concatenate(parts).reshape(shape)
            for name, (shape, _, parts) in self.arrays.items()
        }
        return arrays, json.loads(self.attributes)


def checked_group(group: str, arrays: Arrays, attributes: Mapping[str, Any]) -> Group:
    """A group that any store can keep; its arrays are the given ones where these are C-ordered.

    Raises:
        InputError: A name that is no path segment, an array that does not hold numbers, attributes that JSON
            does not know.
    """
    for name in (group, *arrays):
        if not _NAME.fullmatch(name):
            raise InputError(
                f"invalid array or group name {name!r}: use letters, digits, '_', '.', '-'"
            )
    if group == KEYFRAMES:
        raise InputError(f"the group {KEYFRAMES!r} belongs to the bank; take another name")
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in ordered.items():
        if array.dtype.kind not in "biufc":
            raise InputError(f"{group}/{name} must hold numbers, got dtype {array.dtype}")
    try:
        return Group(ordered, json.dumps(dict(attributes), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"attributes of {group!r} must be JSON values: {error}") from error


def write_group(root: zarr.Group, name: str, group: Group) -> None:
    """Make the group below ``root`` the given one; chunks that are there already are not written again."""
    attributes = json.loads(group.attributes)
    found = root.get(name)
    if not isinstance(found, zarr.Group):
        node = root.create_group(name, attributes=attributes, overwrite=found is not None)
    else:
        node = found
        if dict(node.attrs) != attributes:
            node.attrs.put(attributes)
    known = dict(node.arrays())
    for stale in known.keys() - group.arrays.keys():
        del node[stale]
    for key, array in group.arrays.items():
        _write(node, key, array, known.get(key))


def read_group(
    root: zarr.Group, name: str
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """The arrays and attributes of a group below ``root``, or None; ValueError where chunks are not those written."""
    if name == KEYFRAMES or not _NAME.fullmatch(name) or name not in root:
        return None
    node = root[name]
    if not isinstance(node, zarr.Group):
        return None
    known = {key: checked_array(array, f"{name}/{key}") for key, array in sorted(node.arrays())}
    require_room(name, known.values())
    known_digests: dict[str, Any] = {key: array.attrs.get(DIGESTS) for key, array in known.items()}
    for key, array in known.items():
        count = -(-array.shape[0] // array.chunks[0]) if array.ndim else 1
        fits = isinstance(known_digests[key], list) and len(known_digests[key]) == count
        if known_digests[key] is not None and not fits:
            raise ValueError(f"{array.path} does not hold what was written")

    def check(key: str, number: int, rows: NDArray[Any]) -> None:
        if known_digests[key] is not None and known_digests[key][number] != _digest(rows):
            raise ValueError(f"{known[key].path} does not hold what was written")

    return read_arrays(known, check), dict(node.attrs)


def digests(array: NDArray[Any], rows: int) -> list[str]:
    """One digest for every ``rows`` rows."""
    values = np.atleast_1d(np.ascontiguousarray(array, array.dtype.newbyteorder("<")))
    parts = [values[start : start + rows] for start in range(0, len(values), rows)]
    with ThreadPoolExecutor(2) as pool:  # hashing leaves Python's lock
        return list(pool.map(_digest, parts))


def _digest(part: NDArray[Any]) -> str:
    return sha256(part.reshape(-1).view(np.uint8).data).hexdigest()[:16]


def _write(node: zarr.Group, key: str, array: NDArray[Any], old: zarr.Array[Any] | None) -> None:
    chunks = _chunks(array)
    new = digests(array, chunks[0] if chunks else 1)
    known: Any = None if old is None else old.attrs.get(DIGESTS)
    like = (array.dtype, chunks, array.shape[1:])
    if old is None or known is None or (old.dtype, old.chunks, old.shape[1:]) != like:
        known, old = (
            [],
            node.create_array(
                key,
                shape=array.shape,
                dtype=array.dtype,
                chunks=chunks,
                compressors=[
                    BloscCodec(cname="zstd", clevel=1, typesize=array.itemsize, shuffle="shuffle"),
                    Crc32cCodec(),
                ],
                overwrite=old is not None,
            ),
        )
    if known == new and old.shape == array.shape:
        return
    write_rows(old, array, [i for i, digest in enumerate(new) if known[i : i + 1] != [digest]])
    old.attrs[DIGESTS] = new


def _chunks(array: NDArray[Any]) -> tuple[int, ...]:
    # Of a size that does not depend on the array's length, so that it stays when the array grows;
    # Zarr wants no edge below 1.
    if array.ndim == 0:
        return ()
    row_bytes = array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    rows = 1 << max(0, (_CHUNK_BYTES // max(1, row_bytes)).bit_length() - 1)
    return (rows, *(max(1, size) for size in array.shape[1:]))
