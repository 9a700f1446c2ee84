"""Where keyframes lie in a memory's Zarr hierarchy.

``keyframes/records`` is uint8 ``[ids, longest]``: row ``id`` is that keyframe's record, padded with zeros, in chunks of
its own that are written once. Where a keyframe was removed they are gone, and the row reads as zeros. The other arrays
of the group are the columns of :mod:`spmem.stores.keyframes.zarr.table`, one row a keyframe that the bank holds, by ascending
id; ``bytes`` holds the lengths of a record's parts, ``digest`` is the first 8 bytes of its SHA-256 as a little-endian number, ``c2w`` the
pose as it was last corrected. The group's attribute ``table`` is the SHA-256 of the columns, ordered by name. All use codecs of the Zarr v3 core
(Zstandard, crc32c), so any Zarr library reads them without spmem.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from spmem.stores.keyframes.groups import KEYFRAMES
from spmem.stores.keyframes.zarr.chunks import open_arrays
from spmem.stores.keyframes.zarr.decode import read_arrays
from spmem.stores.keyframes.zarr.encode import LEVEL, write_columns
from spmem.stores.keyframes.zarr.record import FORMATS
from spmem.stores.keyframes.zarr.schema import migrated_columns
from spmem.stores.keyframes.zarr.table import COLUMNS, KeyframeTable, table_digest
from spmem.stores.keyframes.zarr.untrusted import (
    GROUP_BYTES,
    MOST,
    check_records,
    check_rows,
    checked_array,
    require_room,
)

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


def load_rows(root: zarr.Group, schema: int) -> KeyframeTable:
    """The table of keyframes; ValueError if its columns are not what they were written as, or do not fit."""
    group, records = _group(root), array(root, "records")
    check_records(records)
    arrays = _columns(group, [name for name in group.array_keys() if name != "records"])
    require_room(KEYFRAMES, arrays.values())
    stored = read_arrays(arrays, lambda name, number, rows: None)
    if TABLE in group.attrs and group.attrs[TABLE] != table_digest(stored):
        raise ValueError("the columns of the keyframes are not those that were written")
    columns = migrated_columns(stored, schema)
    for name, (dtype, shape) in COLUMNS.items():
        if columns[name].dtype != dtype or columns[name].shape[1:] != shape:
            raise ValueError(f"column {name} holds {columns[name].dtype} {columns[name].shape[1:]}")
    ids = columns["id"]
    if {len(column) for column in columns.values()} != {len(ids)} or np.any(np.diff(ids) <= 0):
        raise ValueError("the columns of the keyframes differ in length, or the ids do not ascend")
    rows = KeyframeTable({name: columns[name] for name in COLUMNS})
    check_rows(rows, records.shape[0])
    return rows


def save_rows(root: zarr.Group, rows: KeyframeTable, saved: int) -> None:
    """Write the rows from ``saved`` on (from the start of its chunk, so that nothing is read back)."""
    group = _group(root)
    if group.attrs.get("records") != FORMATS:
        group.attrs["records"] = FORMATS
    columns = _columns(group, list(COLUMNS))
    for name, (dtype, shape) in COLUMNS.items():
        # A column that is not of our making is written again.
        if not _writable(columns.get(name), (_ROWS, *shape), dtype):
            columns[name] = _create(group, name, (0, *shape), (_ROWS, *shape), dtype)
            saved = 0
    group.attrs[TABLE] = table_digest(rows.columns())
    write_columns(columns, rows.columns(), saved)


def array(root: zarr.Group, name: str) -> zarr.Array[Any]:
    """An array of the group; ValueError where something else bears its name."""
    path, limit = f"{KEYFRAMES}/{name}", MOST if name == "records" else GROUP_BYTES
    return checked_array(root[path], path, limit=limit)


def _group(root: zarr.Group) -> zarr.Group:
    there = root[KEYFRAMES]
    if not isinstance(there, zarr.Group):
        raise ValueError(f"{KEYFRAMES} is no group")
    return there


def _columns(group: zarr.Group, names: list[str]) -> dict[str, zarr.Array[Any]]:
    """The columns that are there, by name; ValueError if something else bears the name of one."""
    found = open_arrays(group, names)
    return {name: checked_array(array, f"{KEYFRAMES}/{name}") for name, array in found.items()}


def _writable(column: zarr.Array[Any] | None, chunks: tuple[int, ...], dtype: Any) -> bool:
    return (
        column is not None
        and column.chunks == chunks
        and column.dtype == dtype
        and isinstance(column.compressors[0], ZstdCodec)
    )


def _create(
    group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any
) -> zarr.Array[Any]:
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        compressors=[ZstdCodec(level=LEVEL), Crc32cCodec()],
        overwrite=True,
    )
