"""Columns of parquet files: what a file claims is held against its size before it is unpacked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem.errors import FormatError, MissingExtraError
from spmem.integrations.readers.files import DataPath, size_of

UNPACKED_BYTES, UNPACKED_RATIO = 1 << 30, 100
"""Columns may unpack to the first, and if they are larger, to so many times the file."""

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_LEVELS = 4  # bytes a value that say how lists are nested
_INDEX = 4  # bytes of a word's number in the dictionary of words


def read_parquet(file: DataPath, wanted: Callable[[str], bool], *, words: str | None = None) -> Any:
    """A pyarrow table of those columns that hold numbers, truth values, or lists of them.

    Args:
        file: To be read.
        wanted: Whether a column of this name is.
        words: A column of lists of words to be read too, if it is there; it stays packed as a dictionary.

    Raises:
        FormatError: The file is missing or broken, or claims far more than it holds.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "formats", "reading a LeRobot data set") from error
    with file.open() as opened:
        try:
            metadata = parquet.ParquetFile(opened).metadata
            leaves = (metadata.schema.column(i) for i in range(metadata.num_columns))
            kinds = {leaf.path: leaf.physical_type for leaf in leaves}
            packed = [path for path in kinds if _name(path) == words]
            plain = [path for path in kinds if kinds[path] in _WIDTHS and wanted(_name(path))]
            columns = [*plain, *packed]
            _require_room(file, metadata, kinds, set(columns), size_of(opened))
            source = parquet.ParquetFile(opened, metadata=metadata, read_dictionary=packed)
            return source.read(columns=columns, use_threads=False)
        except FormatError:
            raise
        except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
            raise FormatError(file, f"is not a readable parquet file: {error}") from error


def numbers(column: Any) -> NDArray[Any] | None:
    """``[n]`` or ``[n, c]``, or None for what holds no numbers of one length."""
    array = column.combine_chunks()
    if hasattr(array, "chunks"):
        array = array.chunk(0)
    rows = len(array)
    while True:
        array = getattr(array, "storage", array)
        if array.null_count:
            return None
        kind = str(array.type)
        if not kind.startswith(("fixed_size_list", "list", "large_list")):
            break
        lengths = array.value_lengths().to_numpy(zero_copy_only=False) if not kind.startswith("fixed") else None  # fmt: skip
        if lengths is not None and len(lengths) and (lengths != lengths[0]).any():
            return None
        array = array.flatten()
    if not kind.startswith(("int", "uint", "float", "double", "bool", "halffloat")):
        return None
    values = np.asarray(array.to_numpy(zero_copy_only=False))
    if len(values) == rows:
        return values
    return values.reshape(rows, -1) if rows and values.size else None


def _name(path: str) -> str:
    """Of the column that a leaf of the schema belongs to."""
    for ending in (".list.element", ".list.item", ".bag.array_element", ".array"):
        while path.endswith(ending):
            path = path.removesuffix(ending)
    return path


def _require_room(
    file: DataPath, metadata: Any, kinds: dict[str, str], columns: set[str], size: int
) -> None:
    claimed = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in range(row_group.num_columns):
            chunk = row_group.column(index)
            if chunk.path_in_schema not in columns:
                continue
            width = _WIDTHS.get(kinds[chunk.path_in_schema], _INDEX) + _LEVELS
            values = max(chunk.num_values, row_group.num_rows)
            claimed += max(values * width, chunk.total_uncompressed_size)
    most = max(UNPACKED_BYTES, UNPACKED_RATIO * size)
    if claimed > most:
        raise FormatError(
            file,
            f"claims {claimed:,} bytes of columns, of which {size:,} are stored; the limit is {most:,}",
        )
