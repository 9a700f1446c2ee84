"""Named groups of arrays beside the keyframes: map checkpoints, index caches, configuration.

A group is written again and again while it changes little, so only the chunks that changed are kept again. A chunk is a
power of two of whole rows, and its digest is the first 16 hexadecimal digits of the SHA-256 of its rows as little-endian
C-ordered bytes.
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
from numpy.typing import NDArray

from spmem.errors import InputError
from spmem.protocols import Arrays

KEYFRAMES = "keyframes"
"""The name that no group may have: keyframes themselves live there."""

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
            chunks = chunk_shape(array)
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


def is_group_name(name: str) -> bool:
    """Whether a group or an array may have this name."""
    return bool(_NAME.fullmatch(name))


def checked_group(group: str, arrays: Arrays, attributes: Mapping[str, Any]) -> Group:
    """A group that any store can keep; its arrays are the given ones where these are C-ordered.

    Raises:
        InputError: A name that is no path segment, an array that does not hold numbers, attributes that JSON
            does not know.
    """
    for name in (group, *arrays):
        if not is_group_name(name):
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


def digests(array: NDArray[Any], rows: int) -> list[str]:
    """One digest for every ``rows`` rows."""
    values = np.atleast_1d(np.ascontiguousarray(array, array.dtype.newbyteorder("<")))
    parts = [values[start : start + rows] for start in range(0, len(values), rows)]
    with ThreadPoolExecutor(2) as pool:  # hashing leaves Python's lock
        return list(pool.map(rows_digest, parts))


def rows_digest(part: NDArray[Any]) -> str:
    """The digest of a chunk's rows."""
    return sha256(part.reshape(-1).view(np.uint8).data).hexdigest()[:16]


def chunk_shape(array: NDArray[Any]) -> tuple[int, ...]:
    """The shape of an array's chunks: whole rows, about a mebibyte."""
    # Of a size that does not depend on the array's length, so that it stays when the array grows;
    # Zarr wants no edge below 1.
    if array.ndim == 0:
        return ()
    row_bytes = array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    rows = 1 << max(0, (_CHUNK_BYTES // max(1, row_bytes)).bit_length() - 1)
    return (rows, *(max(1, size) for size in array.shape[1:]))
