"""One keyframe as one run of bytes: colour, depth, confidence, features and latent, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import FrameError
from spmem.stores.keyframes.zarr.codec import (
    decode_colour,
    decode_depth,
    decode_features,
    encode_colour,
    encode_depth,
    encode_features,
)
from spmem.types import Frame

FORMATS = {
    "colour": "JPEG 4:4:4",
    "depth": (
        "Blosc (Zstandard, byte shuffle) of one uint16 (or uint32) a pixel, row by row: 0 = none, else "
        "1 + zigzag(code - last), where last is the previous code that is not none (at first 65024) and "
        "float32 depth has the bit pattern code << 14"
    ),
    "confidence": "as depth",
    "features": "Blosc (Zstandard, byte shuffle) of float32 [height, width, channels]",
    "latent": "a safetensors file with one tensor of floats, named latent",
}
"""The parts of a record in their order, and how to read each; kept with the memory for other readers."""

LATENT_BYTES = 1 << 28
"""Most bytes of a keyframe's latent."""


def require_complete(frame: Frame) -> None:
    """Raise FrameError where a frame lacks what every keyframe has (depth and time), or has a latent too large to keep."""
    if frame.latent is not None and frame.latent.nbytes >= LATENT_BYTES:
        raise FrameError(
            f"a keyframe's latent is smaller than {LATENT_BYTES:,} bytes, got {list(frame.latent.shape)}"
        )
    for name in ("depth", "time"):
        if getattr(frame, name) is None:
            raise FrameError(f"a keyframe needs a {name}: frame.replace({name}=…)")


def copied(frame: Frame) -> Frame:
    """The frame on the CPU, with tensors of its own."""
    tensors = {name: _copy(tensor) for name, tensor in frame.tensors().items()}
    return frame.replace(camera=frame.camera.to("cpu"), **tensors)


def size(frame: Frame) -> int:
    """Bytes of a frame's tensors."""
    return sum(tensor.nbytes for tensor in frame.tensors().values())


def encode(frame: Frame, quality: int) -> tuple[bytes, ...]:
    """The parts of a frame's record, in the order of ``FORMATS``; empty where the frame has none."""
    require_complete(frame)
    depth, confidence, features = frame.depth, frame.confidence, frame.features
    return (
        encode_colour(_numpy(frame.rgb_uint8()), quality),
        b"" if depth is None else encode_depth(_numpy(depth)),
        b"" if confidence is None else encode_depth(_numpy(confidence)),
        b"" if features is None else encode_features(_numpy(features)),
        b"" if frame.latent is None else save({"latent": frame.latent.detach().cpu().contiguous()}),
    )


def digest(record: bytes | memoryview) -> int:
    """The first 8 bytes of the record's SHA-256."""
    return int.from_bytes(sha256(record).digest()[:8], "little")


def decode(
    record: NDArray[np.uint8], lengths: Sequence[int], camera: Camera, time: float, channels: int
) -> Frame:
    """The frame of a record whose parts have these lengths; what the decoders raise where bytes are damaged."""
    if sum(lengths) != len(record):
        raise ValueError(f"the record has {len(record)} bytes, its parts {sum(lengths)}")
    colour, depth, confidence, features, latent = np.split(record, np.cumsum(lengths)[:-1])
    shape = (camera.height, camera.width)
    return Frame(
        torch.from_numpy(decode_colour(colour, shape)),
        torch.from_numpy(decode_depth(depth, shape)),
        camera,
        time,
        confidence=torch.from_numpy(decode_depth(confidence, shape)) if len(confidence) else None,
        features=torch.from_numpy(decode_features(features, (*shape, channels)))
        if len(features)
        else None,
        latent=load(latent.tobytes())["latent"] if len(latent) else None,
        validate=False,
    )


def _copy(tensor: Tensor) -> Tensor:
    """A copy on the CPU, by numpy: it copies on this thread alone, torch wakes all."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return torch.from_numpy(flat.numpy().copy()).view(tensor.dtype).reshape(tensor.shape)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
