"""What is read of a memory is held to its schema first, so that a stranger's folder cannot eat the machine.

Metadata says how large an array is, and a compressed chunk says how large it becomes; both can lie. Here each is
checked before memory is taken for it: the kinds of arrays and codecs that this package writes and no others, sizes
within limits, and chunks that unpack to exactly what their array's chunk holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs.blosc import Blosc  # type: ignore[import-untyped]
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray
from zarr.abc.codec import Codec
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, Endian, ZstdCodec
from zarr.core.array import AsyncArray
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer
from zarr.core.metadata.v3 import ArrayV3Metadata

from spmem.errors import CorruptMemoryError
from spmem.stores.keyframes.frames import LATENT_BYTES
from spmem.stores.keyframes.zarr.record import FORMATS
from spmem.stores.keyframes.zarr.table import KeyframeTable

CHUNK_BYTES = 1 << 28
"""Most that one chunk may unpack to."""
GROUP_BYTES, GROUP_RATIO = 1 << 30, 100
"""A group of arrays may unpack to the first, and where it is larger, to so many times what is stored of it."""
PIXELS = 1 << 27
"""Most pixels of a keyframe."""
CHANNELS = 1 << 14
"""Most channels of a keyframe's features."""
_IDS, _LONGEST, _NARROWEST = 1 << 32, 1 << 30, 1 << 12
MOST = _IDS * _LONGEST
"""Most bytes that all records may claim: they are read one at a time."""

_LATENT = list(FORMATS).index("latent")
_zstd, _blosc = Zstd(), Blosc()


def links(folder: Path) -> None:
    """Raise CorruptMemoryError where a memory's folder holds anything but folders and files, such as links out of it.

    Links would be followed: a stranger's could read, write or delete elsewhere, and special files never end.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                links(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False):
                raise CorruptMemoryError(
                    f"{entry.path} is a link or a special file; a memory holds folders and files only (where they are "
                    "your own links, copy the folder with cp -rL)"
                )


def guarded(
    node: zarr.Array[Any] | zarr.Group, name: str, *, limit: int = GROUP_BYTES
) -> zarr.Array[Any]:
    """The array, with decoders that refuse chunks which unpack to another size than the array's chunk.

    Args:
        node: What bears the name in the hierarchy.
        name: For errors.
        limit: Most bytes of the whole array; larger ones only where enough of it is stored.

    Raises:
        ValueError: No array of numbers, or of codecs or sizes that this package does not write.
    """
    if isinstance(node, zarr.Group):
        raise ValueError(f"{name} is no array")
    metadata = node.metadata
    if not isinstance(metadata, ArrayV3Metadata):
        raise ValueError(f"{name} is no array of Zarr v3")
    dtype = node.dtype
    if dtype.kind not in "biufc":
        raise ValueError(f"{name} holds {dtype}, wanted numbers")
    codecs = metadata.codecs
    kinds = [type(codec) for codec in codecs]
    packed = {(BytesCodec, ZstdCodec, Crc32cCodec), (BytesCodec, BloscCodec, Crc32cCodec)}
    if tuple(kinds) not in packed:
        raise ValueError(
            f"{name} has the codecs {', '.join(kind.__name__ for kind in kinds)}, which no memory uses"
        )
    if isinstance(codecs[0], BytesCodec) and codecs[0].endian not in (None, Endian.little):
        raise ValueError(f"{name} is big-endian, which no memory is")
    chunk = prod(node.chunks) * dtype.itemsize
    if chunk > CHUNK_BYTES:
        raise ValueError(f"{name} has chunks of {chunk:,} bytes, the limit is {CHUNK_BYTES:,}")
    size = prod(node.shape) * dtype.itemsize
    if size > limit:
        _require_stored(name, size, [node])
    bounded = tuple(_bounded(codec) for codec in codecs)
    return zarr.Array(AsyncArray(replace(metadata, codecs=bounded), node.store_path))


def require_room(name: str, arrays: Iterable[zarr.Array[Any]]) -> None:
    """Raise ValueError where arrays together claim far more than is stored of them."""
    arrays = list(arrays)
    size = sum(prod(array.shape) * array.dtype.itemsize for array in arrays)
    if size > GROUP_BYTES:
        _require_stored(name, size, arrays)


def check_records(records: zarr.Array[Any]) -> None:
    """Raise ValueError where this is no array of records."""
    ids, longest = records.shape if records.ndim == 2 else (-1, -1)
    if (
        records.dtype != "uint8"
        or not 0 <= ids <= _IDS
        or not 0 <= longest <= _LONGEST
        or records.chunks[0] != 1
        or records.chunks[1] < _NARROWEST
        or not any(isinstance(codec, _Zstd) for codec in records.compressors)
    ):
        raise ValueError(
            f"records are {records.dtype} {records.shape} in chunks of {records.chunks}, wanted uint8 [ids, longest] in "
            f"Zstandard chunks of one and {_NARROWEST:,} bytes or more, up to {_LONGEST:,} bytes each"
        )


def unpack(array: zarr.Array[Any], chunk: NDArray[np.uint8] | None, out: NDArray[np.uint8]) -> None:
    """Fill ``out`` with a stored chunk of a guarded array, whole; zeros where none is stored.

    Raises:
        ValueError: The chunk's checksum does not fit, or it unpacks to another size.
        RuntimeError: It does not unpack.
    """
    if chunk is None:
        out[:] = 0
        return
    body, told = chunk[:-4], chunk[-4:].tobytes()
    if google_crc32c.value(body) != int.from_bytes(told, "little"):
        raise ValueError("the checksum of a chunk does not fit")
    zstd = isinstance(array.compressors[0], ZstdCodec)
    _require_size((_zstd_size if zstd else _blosc_size)(body), out.nbytes)
    (_zstd if zstd else _blosc).decode(body, out)


def check_rows(rows: KeyframeTable) -> None:
    """Raise ValueError where the table names images, records or cameras that none can be."""
    size = rows["size"].astype("int64")
    pixels = size.prod(1)
    channels = rows["channels"].astype("int64")
    lengths = rows["bytes"]
    # Compressed parts can be a little longer than what they hold, never much.
    pixel_bytes = 3 + 4 + 4 + 4 * channels.clip(0, CHANNELS)
    most = np.repeat(2 * (pixels * pixel_bytes)[:, None] + (1 << 16), lengths.shape[1], 1)
    most[:, _LATENT] = LATENT_BYTES + (1 << 16)
    absurd = {
        f"an image that is not of 1 to {PIXELS:,} pixels": (size < 1).any(1) | (pixels > PIXELS),
        f"features of more than {CHANNELS:,} channels": (channels < 0) | (channels > CHANNELS),
        "a record longer than its pixels and a latent": (lengths < 0).any(1)
        | (lengths > most).any(1),
        "an id below 0": rows["id"] < 0,
        "a camera or a time that is no number": ~_finite(rows),
    }
    for what, where in absurd.items():
        if where.any():
            id = int(rows["id"][where.argmax()])
            raise ValueError(f"keyframe {id} claims {what}")
    if len(set(rows.uids())) != len(rows):
        raise ValueError("two keyframes have the same uid")


@dataclass(frozen=True)
class _Zstd(ZstdCodec):
    """Zstandard that unpacks to what its array's chunk holds, or not at all."""

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        _require_size(_zstd_size(chunk_bytes.as_numpy_array()), _due(chunk_spec))
        return await super()._decode_single(chunk_bytes, chunk_spec)


class _Blosc(BloscCodec):
    """Blosc that unpacks to what its array's chunk holds, or not at all."""

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        _require_size(_blosc_size(chunk_bytes.as_numpy_array()), _due(chunk_spec))
        return await super()._decode_single(chunk_bytes, chunk_spec)


def _bounded(codec: Codec) -> Codec:
    if isinstance(codec, ZstdCodec):
        return _Zstd(level=codec.level, checksum=codec.checksum)
    if isinstance(codec, BloscCodec):
        return _Blosc(
            typesize=codec.typesize,
            cname=codec.cname,
            clevel=codec.clevel,
            shuffle=codec.shuffle,
            blocksize=codec.blocksize,
        )
    return codec


def _due(spec: ArraySpec) -> int:
    return prod(spec.shape) * spec.dtype.to_native_dtype().itemsize


def _require_size(claimed: int | None, due: int) -> None:
    if claimed != due:
        told = "no size" if claimed is None else f"{claimed:,} bytes"
        raise ValueError(f"a compressed chunk claims {told}, its array's chunks hold {due:,}")


def _blosc_size(packed: NDArray[np.uint8]) -> int:
    """What a Blosc buffer says it unpacks to."""
    head = packed[:16].tobytes()
    if len(head) < 16 or int.from_bytes(head[12:16], "little") != packed.nbytes:
        raise ValueError("a chunk is no Blosc buffer of its length")
    return int.from_bytes(head[4:8], "little")


def _zstd_size(packed: NDArray[np.uint8]) -> int | None:
    """What a Zstandard frame says it unpacks to (RFC 8878, section 3.1.1.1); None where it does not say."""
    head = packed[:18].tobytes()
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        raise ValueError("a chunk is no Zstandard frame")
    kind, single = head[4] >> 6, head[4] >> 5 & 1
    start = 5 + (1 - single) + (0, 1, 2, 4)[head[4] & 3]
    length = (single, 2, 4, 8)[kind]
    if not length:
        return None
    return int.from_bytes(head[start : start + length], "little") + (256 if length == 2 else 0)


def _require_stored(name: str, size: int, arrays: list[zarr.Array[Any]]) -> None:
    stored = sum(array.nbytes_stored() for array in arrays)
    most = GROUP_BYTES + GROUP_RATIO * stored
    if size > most:
        raise ValueError(
            f"{name} claims {size:,} bytes, of which {stored:,} are stored; the limit is {most:,}"
        )


def _finite(rows: KeyframeTable) -> NDArray[np.bool_]:
    finite = np.ones(len(rows), np.bool_)
    for name in ("c2w", "K", "time"):
        column = np.isfinite(rows[name])
        finite &= column.all(axis=tuple(range(1, column.ndim)))
    return finite
