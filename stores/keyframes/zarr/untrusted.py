"""What is read of a memory is validated against its schema before any allocation, so that an untrusted folder cannot
exhaust memory.

Metadata says how large an array is, and a compressed chunk says how large it becomes; both can lie. Here each is
checked before memory is taken for it: the kinds of arrays and codecs that this package writes and no others, sizes
within limits, and chunks that unpack to exactly what their array's chunk holds. Zarr's own decoders are never used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs.blosc import Blosc  # type: ignore[import-untyped]
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, Endian, ZstdCodec

from spmem.errors import CameraError, CorruptMemoryError, FrameError
from spmem.stores.keyframes.frames import LATENT_BYTES
from spmem.stores.keyframes.zarr.record import FORMATS
from spmem.stores.keyframes.zarr.table import KeyframeTable
from spmem.types import Frame

CHUNK_BYTES = 1 << 28
"""Most that one chunk may unpack to."""
GROUP_BYTES, GROUP_RATIO = 1 << 30, 100
"""A group of arrays may unpack to the first, and where it is larger, to so many times what is stored of it."""
PIXELS = 1 << 27
"""Most pixels of a keyframe."""
EDGE = 65_500
"""Most pixels of a keyframe's width or height: JPEG's limit."""
CHANNELS = 1 << 14
"""Most channels of a keyframe's features."""
_IDS, _LONGEST, _NARROWEST = 1 << 32, 1 << 30, 1 << 12
MOST = _IDS * _LONGEST
"""Most bytes that all records may claim: they are read one at a time."""

_FAR, _SLACK = 1e30, 1e-2
"""Bounds of what a camera may hold: largest value, and how far from rigid a pose may be."""

_LATENT = list(FORMATS).index("latent")
_zstd, _blosc = Zstd(), Blosc()


def reject_links(folder: Path) -> None:
    """Raise CorruptMemoryError where a memory's folder holds anything but folders and files, such as links out of it.

    Links would be followed: a stranger's could read, write or delete elsewhere, and special files never end.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                reject_links(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False):
                raise CorruptMemoryError(
                    f"{entry.path} is a link or a special file; a memory holds folders and files only (where they are "
                    "your own links, copy the folder with cp -rL)"
                )


def checked_array(
    node: zarr.Array[Any] | zarr.Group, name: str, *, limit: int = GROUP_BYTES
) -> zarr.Array[Any]:
    """The array, if it is one that this package writes; :func:`unpack` reads its chunks.

    Args:
        node: What bears the name in the hierarchy.
        name: For errors.
        limit: Most bytes of the whole array; larger ones only where enough of it is stored.

    Raises:
        ValueError: No array of numbers, or of codecs or sizes that this package does not write.
    """
    if isinstance(node, zarr.Group):
        raise ValueError(f"{name} is no array")
    metadata: Any = node.metadata
    if metadata.zarr_format != 3:
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
    return node


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
        or not any(isinstance(codec, ZstdCodec) for codec in records.compressors)
    ):
        raise ValueError(
            f"records are {records.dtype} {records.shape} in chunks of {records.chunks}, wanted uint8 [ids, longest] in "
            f"Zstandard chunks of one and {_NARROWEST:,} bytes or more, up to {_LONGEST:,} bytes each"
        )


def unpack(array: zarr.Array[Any], chunk: NDArray[np.uint8] | None, out: NDArray[np.uint8]) -> None:
    """Fill ``out`` with a stored chunk of a checked array, whole; zeros where none is stored.

    Raises:
        ValueError: The chunk's checksum does not fit, or it unpacks to another size.
        RuntimeError: It does not unpack.
    """
    if chunk is None:
        out[:] = 0
        return
    body, checksum = chunk[:-4], int.from_bytes(chunk[-4:].tobytes(), "little")
    if google_crc32c.value(body) != checksum:
        raise ValueError("the checksum of a chunk does not fit")
    zstd = isinstance(array.compressors[0], ZstdCodec)
    _require_size((_zstd_size if zstd else _blosc_size)(body), out.nbytes)
    (_zstd if zstd else _blosc).decode(body, out)


def check_rows(rows: KeyframeTable, ids: int) -> None:
    """Raise ValueError if the table names images, records or cameras that cannot be.

    Args:
        rows: The table.
        ids: How many ids were given so far.
    """
    problems = _image_problems(rows["size"], rows["channels"]) | _record_problems(rows)
    problems["an id that was never given"] = (rows["id"] < 0) | (rows["id"] >= ids)
    problems["a time that is no number"] = ~np.isfinite(rows["time"])
    problems["a pose that is not rigid"] = ~_rigid(rows["c2w"])
    problems["a camera that cannot be"] = ~_intrinsic(rows["K"])
    for what, where in problems.items():
        if where.any():
            id = int(rows["id"][where.argmax()])
            raise ValueError(f"keyframe {id} claims {what}")
    if len(set(rows.uids())) != len(rows):
        raise ValueError("two keyframes have the same uid")


def check_frame(frame: Frame) -> None:
    """Raise FrameError for a complete frame that :func:`check_rows` would refuse once it is stored."""
    camera, features = frame.camera, frame.features
    size = np.array([[camera.width, camera.height]])
    channels = np.array([0 if features is None else features.shape[-1]])
    problems = _image_problems(size, channels)
    problems["a time that is no number"] = np.array([not np.isfinite(frame.time or 0.0)])
    problems["a pose that is not rigid"] = ~_rigid(camera.c2w.detach().cpu().numpy()[None])
    problems["a camera that cannot be"] = ~_intrinsic(camera.K.detach().cpu().numpy()[None])
    for what, where in problems.items():
        if where.any():
            raise FrameError(f"the frame has {what}, and cannot be stored")


def check_poses(c2w: NDArray[np.float32]) -> None:
    """Raise CameraError for poses ``[n, 4, 4]`` that :func:`check_rows` would refuse once they are stored."""
    if c2w.shape[1:] != (4, 4) or not _rigid(c2w).all():
        raise CameraError("a pose is not rigid, and cannot be stored")


def _image_problems(size: NDArray[Any], channels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    edges = size.astype(np.float64)  # so that products do not overflow
    absurd: NDArray[np.bool_] = (size < 1).any(1) | (size > EDGE).any(1) | (edges.prod(1) > PIXELS)
    many: NDArray[np.bool_] = (channels < 0) | (channels > CHANNELS)
    return {
        f"an image that is not of 1 to {PIXELS:,} pixels, at most {EDGE:,} a side": absurd,
        f"features of more than {CHANNELS:,} channels": many,
    }


def _record_problems(rows: KeyframeTable) -> dict[str, NDArray[Any]]:
    lengths = rows["bytes"]
    pixels = rows["size"].astype(np.float64).prod(1).clip(0, PIXELS)
    pixel_bytes = 3 + 4 + 4 + 4.0 * rows["channels"].clip(0, CHANNELS)
    # Compressed parts can be a little longer than what they hold, never much.
    most = np.repeat(2 * (pixels * pixel_bytes)[:, None] + (1 << 16), lengths.shape[1], 1)
    most[:, _LATENT] = LATENT_BYTES + (1 << 16)
    too_long = np.asarray(((lengths < 0) | (lengths > most)).any(1))
    return {"a record longer than its pixels and a latent": too_long}


def _rigid(c2w: NDArray[Any]) -> NDArray[np.bool_]:
    """Which matrices ``[n, 4, 4]`` are poses: never stricter than :class:`spmem.Camera`."""
    bounded = (np.abs(c2w) < _FAR).all((1, 2))  # False for NaN, too
    c2w = np.where(bounded[:, None, None], c2w, 0).astype(np.float64)
    R = c2w[:, :3, :3]
    skew = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max((1, 2), initial=0)
    last = np.abs(c2w[:, 3] - [0, 0, 0, 1]).max(1, initial=0)
    rigid: NDArray[np.bool_] = (
        bounded & (skew <= _SLACK) & (last <= _SLACK) & (np.linalg.det(R) > 0)
    )
    return rigid


def _intrinsic(K: NDArray[Any]) -> NDArray[np.bool_]:
    """Which matrices ``[n, 3, 3]`` are intrinsics: never stricter than :class:`spmem.Camera`."""
    bounded = (np.abs(K) < _FAR).all((1, 2))
    focal = np.minimum(K[:, 0, 0], K[:, 1, 1])
    rest = np.abs(K - np.eye(3))[:, [0, 1, 2, 2, 2], [1, 0, 0, 1, 2]].max(1, initial=0)
    straight = rest <= _SLACK * np.maximum(K[:, 0, 0], 1)
    intrinsic: NDArray[np.bool_] = bounded & (focal > 0) & straight
    return intrinsic


def _require_size(claimed: int | None, due: int) -> None:
    if claimed != due:
        size = "no size" if claimed is None else f"{claimed:,} bytes"
        raise ValueError(f"a compressed chunk claims {size}, its array's chunks hold {due:,}")


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
