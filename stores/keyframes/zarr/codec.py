"""Keyframes as bytes: colour as JPEG, depth and confidence and features rounded and compressed.

Depth keeps 9 bits of float32's mantissa: the error is at most 2**-10 (0.098 %) of each value at any scale, 0 stays 0,
and no arithmetic is involved that could differ between machines. A value's code is its bit pattern, rounded, without
the 14 lowest bits. Along the image's rows each code is replaced by its difference from the last one that is not 0,
folded to an unsigned number (0, -1, 1, -2, … become 1, 2, 3, 4, …; 0 stays for "none"), and the differences are
compressed with Blosc (byte shuffle, Zstandard).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import simplejpeg
from numcodecs.blosc import Blosc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from spmem.kernels.jit import njit

DEPTH_ERROR = 2.0**-10
"""Largest relative error of a stored depth, confidence or feature."""

_DROPPED = 14
_HALF = 1 << (_DROPPED - 1)
_LARGEST = 0x7F7FFFFF >> _DROPPED
_ONE = 0x3F800000 >> _DROPPED
_MAGNITUDE = 0x7FFFFFFF

# Blocks as large as an image's codes: half the time of the blocks that Blosc would choose, and a little smaller.
_blosc = Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE, blocksize=1 << 20)


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values to 9 bits of mantissa, half away from zero: within ``DEPTH_ERROR`` of each, 0 to 0.

    The bound holds for normal float32 numbers (above 1.2e-38); what would round to infinity stays finite.

    >>> rounded(np.array([0.0, 1.0, 1.0011, -3.14159], np.float32)).tolist()
    [0.0, 1.0, 1.001953125, -3.140625]
    """
    values = np.ascontiguousarray(values, np.float32)
    out = np.empty_like(values)
    _round(values.reshape(-1).view(np.int32), out.reshape(-1).view(np.int32))
    return out


def rounded_depth(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """What :func:`decode_depth` gives after :func:`encode_depth`, bit for bit."""
    out = rounded(depth)
    return np.abs(out, out=out)


def encode_depth(depth: NDArray[np.float32]) -> bytes:
    """Values >= 0 ``[h, w]`` as bytes; see the module's text for the format."""
    bits = np.ascontiguousarray(depth, np.float32).reshape(-1).view(np.int32)
    narrow = np.empty(bits.size, np.uint16)
    if _fold(bits, narrow, 0xFFFF):
        return bytes(_blosc.encode(narrow))
    wide = np.empty(bits.size, np.uint32)  # neighbours more than 2**63 apart
    _fold(bits, wide, 0xFFFFFFFF)
    return bytes(_blosc.encode(wide))


def decode_depth(encoded: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Inverse of :func:`encode_depth` up to the rounding."""
    folded = _decompress(encoded, shape[0] * shape[1], {2: np.uint16, 4: np.uint32})
    out = np.empty(shape, np.float32)
    _unfold(folded, out.reshape(-1).view(np.int32))
    return out


def encode_features(features: NDArray[np.float32]) -> bytes:
    """Values of any sign ``[h, w, c]``, rounded as depth is, as bytes."""
    return bytes(_blosc.encode(rounded(features)))


def decode_features(encoded: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Inverse of :func:`encode_features` up to the rounding."""
    return _decompress(encoded, shape[0] * shape[1] * shape[2], {4: np.float32}).reshape(shape)


def encode_colour(rgb: NDArray[np.uint8], quality: int) -> bytes:
    """``[h, w, 3]`` as JPEG, chroma at full resolution (4:4:4)."""
    return bytes(
        simplejpeg.encode_jpeg(rgb, quality=quality, colorsubsampling="444", fastdct=False)
    )


def decode_colour(encoded: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """JPEG to ``[h, w, 3]``; ValueError where the image is not an RGB one of this size."""
    height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
    if (height, width) != shape or colours not in ("YCbCr", "RGB"):
        raise ValueError(f"the image is {height}x{width} {colours}, wanted {shape} in colour")
    rgb: NDArray[np.uint8] = simplejpeg.decode_jpeg(encoded, fastdct=False, fastupsample=False)
    return rgb


def _decompress(encoded: NDArray[np.uint8], size: int, dtypes: dict[int, Any]) -> NDArray[Any]:
    # Byte 3 of a Blosc buffer is its item size; decoding into an array of the size that is due
    # keeps a damaged header from asking for memory.
    if len(encoded) < 16 or encoded[3] not in dtypes:
        raise ValueError("not a Blosc buffer of the item size wanted")
    out = np.empty(size, dtypes[int(encoded[3])])
    if int.from_bytes(encoded[4:8].tobytes(), "little") != out.nbytes:
        raise ValueError(f"the Blosc buffer does not hold {out.nbytes} bytes")
    _blosc.decode(encoded, out)
    return out


@njit()
def _code(bits: int) -> int:
    return min(((bits & _MAGNITUDE) + _HALF) >> _DROPPED, _LARGEST)


@njit()
def _round(bits: NDArray[np.int32], out: NDArray[np.int32]) -> None:
    for i in range(bits.size):
        out[i] = (bits[i] & ~_MAGNITUDE) | (_code(bits[i]) << _DROPPED)


@njit()
def _fold(bits: NDArray[np.int32], out: NDArray[Any], largest: int) -> bool:
    last = _ONE
    for i in range(bits.size):
        code = _code(bits[i])
        if code == 0:
            out[i] = 0
            continue
        step = code - last
        folded = ((step << 1) ^ (step >> 63)) + 1
        if folded > largest:
            return False
        out[i] = folded
        last = code
    return True


@njit()
def _unfold(folded: NDArray[Any], out: NDArray[np.int32]) -> None:
    last = _ONE
    for i in range(folded.size):
        if folded[i] == 0:
            out[i] = 0
            continue
        step = int(folded[i]) - 1
        last += (step >> 1) ^ -(step & 1)
        out[i] = last << _DROPPED
