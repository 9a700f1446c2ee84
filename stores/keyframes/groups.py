"""Named groups of arrays beside the keyframes: map checkpoints, index caches, configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from spmem.errors import InputError
from spmem.protocols import Arrays

KEYFRAMES = "keyframes"
"""The group that keyframes themselves live in."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class Group:
    """A group's own copies of its arrays, and its attributes as JSON."""

    arrays: dict[str, NDArray[Any]]
    attributes: str

    def unpacked(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and attributes that the caller may change."""
        return {name: a.copy() for name, a in self.arrays.items()}, json.loads(self.attributes)


def checked_group(group: str, arrays: Arrays, attributes: Mapping[str, Any]) -> Group:
    """A group that any store can keep.

    Raises:
        InputError: A name that is no path segment, an array that does not hold numbers, attributes that JSON
            does not know.
    """
    for name in (group, *arrays):
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} names no array or group: letters, digits and _ . - are")
    if group == KEYFRAMES:
        raise InputError(f"the group {KEYFRAMES!r} belongs to the bank; take another name")
    copies = {name: np.array(array, order="C") for name, array in arrays.items()}
    for name, array in copies.items():
        if array.dtype.kind not in "biufc":
            raise InputError(f"{group}/{name} must hold numbers, got dtype {array.dtype}")
    try:
        return Group(copies, json.dumps(dict(attributes), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"attributes of {group!r} must be JSON values: {error}") from error


def write_group(root: zarr.Group, name: str, group: Group) -> None:
    """Write a group below ``root``, in place of the one there."""
    if name in root:
        del root[name]
    node = root.create_group(name, attributes=json.loads(group.attributes))
    for key, array in group.arrays.items():
        node.create_array(
            key,
            data=array,
            chunks=_chunks(array),
            compressors=[
                BloscCodec(cname="zstd", clevel=1, typesize=array.itemsize),
                Crc32cCodec(),
            ],
        )


def read_group(
    root: zarr.Group, name: str
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """The arrays and attributes of a group below ``root``, or None."""
    if name == KEYFRAMES or not _NAME.fullmatch(name) or name not in root:
        return None
    node = root[name]
    if not isinstance(node, zarr.Group):
        return None
    arrays = {key: np.asarray(array[...]) for key, array in sorted(node.arrays())}
    return arrays, dict(node.attrs)


def _chunks(array: NDArray[Any]) -> tuple[int, ...]:
    # Whole rows, some megabytes a chunk; Zarr wants no edge below 1.
    if array.ndim == 0:
        return ()
    row_bytes = array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    rows = min(max(1, _CHUNK_BYTES // max(1, row_bytes)), max(1, len(array)))
    return (rows, *(max(1, size) for size in array.shape[1:]))
