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
from spmem.stores.keyframes.frames import require_complete
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


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
