"""Groups of arrays in a Zarr hierarchy: only the chunks that changed are written.

Each array's attribute ``digests`` holds one digest a chunk (:mod:`spmem.stores.keyframes.groups`). They also show a reader
that what it read is what was written.
"""

from __future__ import annotations

import json
from typing import Any

import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from spmem.stores.keyframes.groups import (
    KEYFRAMES,
    Group,
    chunk_shape,
    digests,
    is_group_name,
    rows_digest,
)
from spmem.stores.keyframes.zarr.decode import read_arrays
from spmem.stores.keyframes.zarr.encode import write_rows
from spmem.stores.keyframes.zarr.untrusted import checked_array, require_room

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
    if name == KEYFRAMES or not is_group_name(name) or name not in root:
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
        if known_digests[key] is not None and known_digests[key][number] != rows_digest(rows):
            raise ValueError(f"{known[key].path} does not hold what was written")

    return read_arrays(known, check), dict(node.attrs)


def _write(node: zarr.Group, key: str, array: NDArray[Any], old: zarr.Array[Any] | None) -> None:
    chunks = chunk_shape(array)
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
