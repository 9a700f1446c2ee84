"""Surfels as a PLY point cloud (Turk, "The PLY Polygon File Format", 1994), binary little endian."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spmem.errors import FormatError
from spmem.integrations.writers.placing import new_file
from spmem.types import Surfels

_FIELDS = (
    *((name, "float") for name in ("x", "y", "z", "nx", "ny", "nz")),
    *((name, "uchar") for name in ("red", "green", "blue")),
    *((name, "float") for name in ("radius", "confidence")),
)
_TYPES = {
    "char": "i1", "uchar": "u1", "short": "<i2", "ushort": "<u2", "int": "<i4", "uint": "<u4",
    "float": "<f4", "double": "<f8", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2",
    "int32": "<i4", "uint32": "<u4", "float32": "<f4", "float64": "<f8",
}  # fmt: skip
_HEADER_END = b"end_header\n"
_HEADER_LIMIT = 1 << 16


def write_ply(path: str | Path, surfels: Surfels, *, overwrite: bool = False) -> None:
    """Write surfels as PLY vertices: x y z nx ny nz red green blue radius confidence.

    World units; colours are rounded to 8 bits; ids, times and features are left out. The file is renamed
    into place once it is whole.

    Raises FormatError where the file exists and ``overwrite`` is False.
    """
    with new_file(Path(path), overwrite=overwrite) as file:
        file.write(_format_header(len(surfels)).encode())
        file.write(_make_table(surfels).tobytes())


def read_ply(path: str | Path) -> Surfels:
    """Read surfels that :func:`write_ply` wrote: ids count from 0, times are 0, no features.

    Other properties of the vertices, in any order, are passed over; so are elements after them.

    Raises FormatError where the file is missing, cut short, no binary little-endian PLY, or lacks a property.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            count, fields = _read_header(path, file)
            body = file.read()
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror}") from error
    if len(body) < count * fields.itemsize:
        raise FormatError(
            path,
            f"breaks off: {count} vertices of {fields.itemsize} bytes wanted, {len(body)} there",
        )
    table = np.frombuffer(body, fields, count)
    lacking = [name for name, _ in _FIELDS if name not in (table.dtype.names or ())]
    if lacking:
        raise FormatError(path, f"its vertices lack {', '.join(lacking)}")
    return Surfels(
        ids=torch.arange(count),
        position=_read_columns(table, "x", "y", "z"),
        normal=_read_columns(table, "nx", "ny", "nz"),
        radius=_read_columns(table, "radius")[:, 0],
        colour=_read_columns(table, "red", "green", "blue") / 255,
        confidence=_read_columns(table, "confidence")[:, 0],
        first_seen=torch.zeros(count),
        last_seen=torch.zeros(count),
    )


def _format_header(count: int) -> str:
    fields = "".join(f"property {kind} {name}\n" for name, kind in _FIELDS)
    return (
        "ply\nformat binary_little_endian 1.0\ncomment surfels by spmem: discs of radius around x y z\n"
        f"element vertex {count}\n{fields}end_header\n"
    )


def _make_table(surfels: Surfels) -> NDArray[np.void]:
    table = np.empty(len(surfels), [(name, _TYPES[kind]) for name, kind in _FIELDS])
    columns = torch.cat(
        [
            surfels.position,
            surfels.normal,
            (surfels.colour * 255).round().clamp(0, 255),
            surfels.radius[:, None],
            surfels.confidence[:, None],
        ],
        dim=1,
    )
    for (name, _), column in zip(_FIELDS, columns.detach().cpu().numpy().T, strict=True):
        table[name] = column
    return table


def _read_columns(table: NDArray[np.void], *names: str) -> Tensor:
    return torch.from_numpy(np.stack([table[name].astype(np.float32) for name in names], axis=1))


def _read_header(path: Path, file: BinaryIO) -> tuple[int, np.dtype[np.void]]:
    lines: list[list[str]] = []
    while file.tell() < _HEADER_LIMIT:
        line = file.readline(1024)
        if line.replace(b"\r", b"") == _HEADER_END:
            break
        lines.append(line.decode("latin-1").split())
        if not line:
            break
    else:
        lines = []
    if lines[:1] != [["ply"]] or [] in lines[-1:]:
        raise FormatError(path, "is not a PLY file")
    if ["format", "binary_little_endian", "1.0"] not in lines:
        raise FormatError(path, "is not binary_little_endian 1.0, which is what spmem reads")
    elements = [i for i, words in enumerate(lines) if words[:1] == ["element"]]
    if not elements or lines[elements[0]][1:2] != ["vertex"]:
        raise FormatError(path, "does not start with vertices")
    last = elements[1] if len(elements) > 1 else len(lines)
    properties = [w for w in lines[elements[0] + 1 : last] if w[:1] == ["property"]]
    try:
        count = int(lines[elements[0]][2])
        if count < 0:
            raise ValueError(f"{count} vertices")
        return count, np.dtype([(name, _TYPES[kind]) for _, kind, name in properties])
    except (IndexError, ValueError, KeyError) as error:
        raise FormatError(path, f"has a vertex element that cannot be read: {error}") from error
