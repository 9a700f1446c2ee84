"""Where keyframes lie in a memory's Zarr hierarchy.

``keyframes/records`` is uint8 ``[ids, longest]``: row ``id`` is that keyframe's record, padded with zeros, in chunks of
its own that are written once. Where a keyframe was removed they are gone, and the row reads as zeros. The other arrays
of the group are the columns of :mod:`spmem.stores.keyframes.rows`, one row a keyframe that the bank holds, by ascending
id; ``bytes`` tells a record's parts, ``digest`` is the first 8 bytes of its SHA-256 as a little-endian number, ``c2w`` the
pose as it was last corrected. The group's attribute ``table`` is the SHA-256 of the columns, ordered by name. All use codecs of the Zarr v3 core
(Zstandard, crc32c), so any Zarr library reads them without spmem.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from spmem.stores.keyframes.groups import KEYFRAMES
from spmem.stores.keyframes.guard import (
    GROUP_BYTES,
    MOST,
    check_records,
    check_rows,
    guarded,
    require_room,
)
from spmem.stores.keyframes.reading import read_arrays
from spmem.stores.keyframes.record import FORMATS
from spmem.stores.keyframes.rows import COLUMNS, Rows, table_digest

TABLE = "table"
"""The attribute that holds the digest of the columns."""

_ROWS = 1024
_WIDTH = 1 << 18


def lay_out(root: zarr.Group) -> None:
    """Make the empty arrays."""
    group = root.create_group(KEYFRAMES, attributes={"records": FORMATS})
    _create(group, "records", (0, _WIDTH), (1, _WIDTH), np.uint8)
    for name, (dtype, shape) in COLUMNS.items():
        _create(group, name, (0, *shape), (_ROWS, *shape), dtype)


def load_rows(root: zarr.Group) -> Rows:
    """The table of keyframes; ValueError where its columns are not what they were written as, or do not fit."""
    there = root[KEYFRAMES]
    assert isinstance(there, zarr.Group)
    check_records(array(root, "records"))
    arrays = {name: array(root, name) for name in COLUMNS if name in there}
    require_room(KEYFRAMES, arrays.values())
    stored = read_arrays(arrays, lambda name, number, rows: None)
    columns = _present(stored)
    for name, (dtype, shape) in COLUMNS.items():
        if columns[name].dtype != dtype or columns[name].shape[1:] != shape:
            raise ValueError(f"column {name} holds {columns[name].dtype} {columns[name].shape[1:]}")
    ids = columns["id"]
    if {len(column) for column in columns.values()} != {len(ids)} or np.any(np.diff(ids) <= 0):
        raise ValueError("the columns of the keyframes differ in length, or the ids do not ascend")
    rows = Rows(columns)
    check_rows(rows)
    if TABLE in there.attrs and there.attrs[TABLE] != table_digest(stored):
        raise ValueError("the columns of the keyframes are not those that were written")
    return rows


def save_rows(root: zarr.Group, rows: Rows, saved: int) -> None:
    """Write the rows from ``saved`` on (from the start of its chunk, so that nothing is read back)."""
    start, group = saved - saved % _ROWS, root[KEYFRAMES]
    assert isinstance(group, zarr.Group)
    if group.attrs["records"] != FORMATS:
        group.attrs["records"] = FORMATS
    for name, (dtype, shape) in COLUMNS.items():
        if name not in group or array(root, name).shape[1:] != shape:  # of an older schema
            _create(group, name, (0, *shape), (_ROWS, *shape), dtype)
            start = 0
    group.attrs[TABLE] = table_digest(rows.columns())
    for name in COLUMNS:
        column = array(root, name)
        column.resize((len(rows), *column.shape[1:]))
        column[start:] = rows[name][start:]


def _present(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Columns of whatever schema as this one's."""
    lengths = columns["bytes"]
    if lengths.shape[1:] == (4,):  # until schema 2 there were no latents
        lengths = np.pad(lengths, ((0, 0), (0, 1)))
    digests = columns.get("digest", np.zeros(len(columns["id"]), np.uint64))  # schema 1 had none
    return {**columns, "bytes": lengths, "digest": digests}


def write_records(records: zarr.Array[Any], first: int, parts: Sequence[bytes]) -> None:
    """Write the records of consecutive ids from ``first`` on."""
    width = max(map(len, parts), default=0)
    width += -width % _WIDTH  # whole chunks: none is read to be written
    block = np.zeros((len(parts), width), np.uint8)
    for row, part in zip(block, parts, strict=True):
        row[: len(part)] = np.frombuffer(part, np.uint8)
    records.resize((first + len(parts), max(records.shape[1], width)))
    records[first:, :width] = block


def array(root: zarr.Group, name: str) -> zarr.Array[Any]:
    """An array of the group; ValueError where something else bears its name."""
    path, limit = f"{KEYFRAMES}/{name}", MOST if name == "records" else GROUP_BYTES
    return guarded(root[path], path, limit=limit)


def _create(
    group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any
) -> None:
    group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        overwrite=True,
    )
