"""Colour and depth of frames as PNG files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from spmem.errors import InputError
from spmem.types import Frame, Keyframe

LAST_STEP = 65535


def frames_of(frames: Iterable[Frame | Keyframe]) -> Iterator[Frame]:
    """Frames, with each keyframe's pixels read only when it is its turn."""
    for frame in frames:
        yield frame.frame if isinstance(frame, Keyframe) else frame


def rgb_of(frame: Frame) -> NDArray[np.uint8]:
    """The frame's colour as an image ``[H, W, 3]``."""
    image: NDArray[np.uint8] = frame.rgb_uint8().cpu().numpy()
    return image


def write_rgb(path: Path, frame: Frame) -> None:
    """The frame's colour as an 8-bit PNG."""
    Image.fromarray(rgb_of(frame)).save(path)


def write_depth(path: Path, depth: Float[Tensor, "h w"], scale: float) -> None:
    """z-depth as a 16-bit PNG of steps of ``scale`` world units, 0 = none.

    Rounded to the nearest step, so off by at most half a step; depth of less than half a step, which would
    become none, is written as one step.

    Raises InputError where the depth reaches beyond 65535 steps.
    """
    deepest = float(depth.max())
    if deepest > LAST_STEP * scale:
        raise InputError(
            f"depth reaches {deepest:g} world units; 16 bits in steps of {scale:g} end at "
            f"{LAST_STEP * scale:g}: pass depth_scale={_choose_depth_scale(deepest):g} or larger"
        )
    steps = (depth.double() / scale).round().clamp(max=LAST_STEP)
    steps = torch.where(depth > 0, steps.clamp(min=1), steps)
    Image.fromarray(steps.cpu().numpy().astype(np.uint16)).save(path)


def check_scale(scale: float) -> None:
    """Raises InputError unless a step is a positive number of world units."""
    if not 0 < scale < float("inf"):
        raise InputError(f"depth_scale is the world units of one step, > 0; got {scale}")


def _choose_depth_scale(deepest: float) -> float:
    least = deepest / LAST_STEP
    digits: float = 10.0 ** math.floor(math.log10(least))
    return math.ceil(least / digits) * digits
