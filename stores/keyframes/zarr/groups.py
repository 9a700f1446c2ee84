"""Named groups of arrays beside the keyframes: map checkpoints, index caches, configuration.

A group is written again and again while it changes little, so only the chunks that changed are written: each array's
attribute ``digests`` holds one SHA-256 a chunk (its first 16 hexadecimal digits), of the rows that the chunk holds, as
little-endian C-ordered bytes. A chunk is a power of two of whole rows. The digests also tell a reader that what it
read is what was written.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from spmem.stores.keyframes.groups import KEYFRAMES, NAME, Group, chunk_shape, digest, digests
from spmem.stores.keyframes.zarr.decode import read_arrays
from spmem.stores.keyframes.zarr.untrusted import guarded, require_room

DIGESTS = "digests"


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
    if name == KEYFRAMES or not NAME.fullmatch(name) or name not in root:
        return None
    node = root[name]
    if not isinstance(node, zarr.Group):
        return None
    known = {key: guarded(array, f"{name}/{key}") for key, array in sorted(node.arrays())}
    require_room(name, known.values())
    told: dict[str, Any] = {key: array.attrs.get(DIGESTS) for key, array in known.items()}
    for key, array in known.items():
        count = -(-array.shape[0] // array.chunks[0]) if array.ndim else 1
        fits = isinstance(told[key], list) and len(told[key]) == count
        if told[key] is not None and not fits:
            raise ValueError(f"{array.path} does not hold what was written")

    def check(key: str, number: int, rows: NDArray[Any]) -> None:
        if told[key] is not None and told[key][number] != digest(rows):
            raise ValueError(f"{known[key].path} does not hold what was written")

    return read_arrays(known, check), dict(node.attrs)


def _write(node: zarr.Group, key: str, array: NDArray[Any], old: zarr.Array[Any] | None) -> None:
    chunks = chunk_shape(array)
    new = digests(array, chunks[0] if chunks else 1)
    if (
        old is None
        or DIGESTS not in old.attrs
        or (old.dtype, old.chunks, old.shape[1:]) != (array.dtype, chunks, array.shape[1:])
    ):
        node.create_array(
            key,
            data=array,
            chunks=chunks,
            compressors=[
                BloscCodec(cname="zstd", clevel=1, typesize=array.itemsize),
                Crc32cCodec(),
            ],
            attributes={DIGESTS: new},
            overwrite=old is not None,
        )
        return
    known = old.attrs[DIGESTS]
    if known == new and old.shape == array.shape:
        return
    if old.shape != array.shape:
        old.resize(array.shape)
    assert isinstance(known, list)
    for start, stop in _runs([known[i : i + 1] != [own] for i, own in enumerate(new)]):
        rows = slice(start * chunks[0], min(stop * chunks[0], len(array)))
        old[rows] = array[rows]
    old.attrs[DIGESTS] = new


def _runs(changed: list[bool]) -> list[tuple[int, int]]:
    """Where runs of True begin and end."""
    edges = np.flatnonzero(np.diff(np.array([False, *changed, False], np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
