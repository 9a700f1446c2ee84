"""Frame: what it takes, and what it refuses with which words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spmem import Camera, Frame
from spmem.errors import DTypeError, FrameError, SpmemError

CAMERA = Camera.look_at([0.0, 0, 0], [0.0, 0, 1], width=8, height=6)
RGB = torch.zeros(6, 8, 3)
DEPTH = torch.ones(6, 8)


def test_colours_convert_both_ways() -> None:
    frame = Frame(np.full((6, 8, 3), 128, np.uint8), DEPTH, CAMERA)
    assert frame.rgb_float().max() == pytest.approx(128 / 255)
    assert frame.replace(rgb=frame.rgb_float()).rgb_uint8().max() == 128


def test_float64_depth_becomes_float32() -> None:
    assert Frame(RGB, DEPTH.double(), CAMERA).depth.dtype == torch.float32  # type: ignore[union-attr]


def test_replace_keeps_the_rest() -> None:
    frame = Frame(RGB, DEPTH, CAMERA, time=3.0, confidence=DEPTH)
    other = frame.replace(time=4.0)
    assert (other.time, frame.time) == (4.0, 3.0)
    assert other.depth is frame.depth


def with_value(value: float) -> torch.Tensor:
    depth = DEPTH.clone()
    depth[2, 3] = value
    return depth


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"depth": with_value(math.nan)}, FrameError, "nan_to_num"),
        ({"depth": with_value(math.inf)}, FrameError, "infinite"),
        ({"depth": with_value(-1.0)}, FrameError, "negative"),
        ({"depth": np.ones((6, 8), np.uint16)}, DTypeError, "scale is unknown"),
        ({"depth": torch.ones(8, 6)}, FrameError, "height, width"),
        ({"depth": torch.ones(6, 8, 1)}, FrameError, "squeeze"),
        ({"depth": torch.ones(3, 4)}, FrameError, "as the camera"),
        ({"rgb": torch.zeros(3, 6, 8)}, FrameError, "permute"),
        ({"rgb": torch.zeros(6, 8, 4)}, FrameError, "alpha"),
        ({"rgb": torch.zeros(6, 8)}, FrameError, r"\[H, W, 3\]"),
        ({"rgb": torch.zeros(5, 8, 3)}, FrameError, "resize"),
        ({"rgb": torch.full((6, 8, 3), 255.0)}, FrameError, "divide by 255"),
        ({"rgb": torch.full((6, 8, 3), -1.0)}, FrameError, r"\[-1, 1\]"),
        ({"rgb": torch.full((6, 8, 3), math.nan)}, FrameError, "must lie"),
        ({"rgb": torch.zeros(6, 8, 3, dtype=torch.int32)}, DTypeError, "uint8 or float"),
        ({"rgb": "image.png"}, FrameError, "tensor or an array"),
        ({"camera": CAMERA[None]}, FrameError, "single camera"),
        ({"camera": torch.eye(4)}, FrameError, "spmem.Camera"),
        ({"time": math.nan}, FrameError, "finite"),
        ({"confidence": -DEPTH}, FrameError, ">= 0"),
        ({"confidence": torch.ones(2, 2)}, FrameError, "as the depth"),
        ({"features": torch.ones(6, 8)}, FrameError, "6, 8, C"),
        ({"features": torch.full((6, 8, 2), math.nan)}, FrameError, "finite"),
        ({"latent": torch.zeros(4, 3, 2, dtype=torch.int8)}, DTypeError, "of floats"),
        ({"latent": "latent.pt"}, FrameError, "tensor or an array"),
    ],
)
def test_refuses(arguments: dict[str, object], error: type[SpmemError], says: str) -> None:
    values = {"rgb": RGB, "depth": DEPTH, "camera": CAMERA} | arguments
    with pytest.raises(error, match=says):
        Frame(**values)  # type: ignore[arg-type]
