"""What every keyframe store does with frames: refuse those that lack a part, copy them, count their bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from spmem.errors import FrameError
from spmem.types import Frame

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


def _copy(tensor: Tensor) -> Tensor:
    """A copy on the CPU, by numpy: it copies on this thread alone, torch wakes all."""
    if not tensor.numel():
        return tensor.detach().cpu().clone()
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return torch.from_numpy(flat.numpy().copy()).view(tensor.dtype).reshape(tensor.shape)
