"""NumPy's files, held against their own size before memory is taken, and never unpickled."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from math import prod
from tokenize import TokenError
from typing import Any, BinaryIO, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from spmem.errors import FormatError
from spmem.integrations.readers.files import DataPath, size_of

_HEADER = 10_000
_WRONG_HEADER = (ValueError, SyntaxError, TokenError, RecursionError, MemoryError, TypeError)


class Header(NamedTuple):
    """What a .npy file says of its array, and the bytes before the array's own."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    length: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return prod(self.shape) * self.dtype.itemsize


def read_npy(file: DataPath) -> NDArray[Any]:
    """An array of numbers or truth values. Raises FormatError if it is missing, of another kind, or cut short."""
    with file.open() as opened:
        header = _header(file, opened)
        left = size_of(opened) - header.length
        if header.nbytes > left:
            raise FormatError(
                file, f"claims {header.nbytes:,} bytes of an array, of which {left:,} are there"
            )
        return _array(header, opened)


def read_npz(
    file: DataPath, shapes: Mapping[str, tuple[tuple[int, ...], ...]], why: str
) -> dict[str, NDArray[Any]]:
    """Those of the named arrays of an archive that are there.

    Args:
        file: As ``numpy.savez`` and ``savez_compressed`` write it.
        shapes: For each array the shapes that it may have: what is packed can be as large as it likes, so
            nothing else is unpacked.
        why: It must have one of them, for the error.

    Raises FormatError if the file is missing or broken, or an array is of another shape or of no numbers.
    """
    found: dict[str, NDArray[Any]] = {}
    with file.open() as opened:
        try:
            with ZipFile(opened) as archive:
                for name, allowed in shapes.items():
                    if f"{name}.npy" in archive.namelist():
                        found[name] = _unpacked(file, archive, name, allowed, why)
        except FormatError:
            raise
        except (OSError, ValueError, EOFError, BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:  # fmt: skip
            raise FormatError(file, f"is not a readable .npz of numbers: {error}") from error
    return found


def _unpacked(
    file: DataPath, archive: ZipFile, name: str, allowed: tuple[tuple[int, ...], ...], why: str
) -> NDArray[Any]:
    about = archive.getinfo(f"{name}.npy")
    if about.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise FormatError(file, f"{name} is packed in a way that NumPy does not use")
    with archive.open(about) as packed:
        header = _header(file, packed)
        if header.shape not in allowed:
            wanted = " or ".join(str(list(shape)) for shape in allowed)
            raise FormatError(
                file, f"{name} is {header.dtype} {list(header.shape)}; wanted {wanted}: {why}"
            )
        if header.nbytes != about.file_size - header.length:
            raise FormatError(file, f"{name} is not as long as its shape {list(header.shape)} says")
        return _array(header, packed)


def _header(file: DataPath, opened: Any) -> Header:
    """Read the header of a .npy file, and stand behind it."""
    start = io.BytesIO(opened.read(_HEADER))
    try:
        version = npy.read_magic(start)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of the format, which plain numbers do not need")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(start, max_header_size=_HEADER)
        if min(shape, default=0) < 0:
            raise ValueError(f"a shape of {shape}")
    except _WRONG_HEADER as error:
        raise FormatError(file, f"is not a readable array: {str(error)[:200]}") from error
    if dtype.kind not in "biuf":
        raise FormatError(file, f"is not a readable array: it holds {str(dtype)[:60]}, no numbers")
    opened.seek(start.tell())
    return Header(tuple(shape), bool(fortran), dtype, start.tell())


def _array(header: Header, opened: BinaryIO | Any) -> NDArray[Any]:
    values = np.frombuffer(opened.read(header.nbytes), header.dtype, prod(header.shape))
    return values.reshape(header.shape, order="F" if header.fortran else "C").copy()
