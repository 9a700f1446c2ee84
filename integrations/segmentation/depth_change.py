"""What moves by itself: pixels that contradict the static map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from spmem.errors import FrameError, InputError
from spmem.types import Frame, Projection

SPREAD = 8
"""Pixels that a moving region spreads over what stands in front of the map."""


class DepthChange:
    """Moving is what stands in front of the map and looks different from it.

    A pixel counts where its depth is nearer than the map's by more than ``tolerance`` times the map's depth and its
    colour differs by more than ``residual``; then the majority of each pixel's 3x3 neighbourhood decides. From there the
    region spreads over what stands in front of the map too, whatever its colour (thin parts, and those of the map's own
    colour), and then by ``grow`` pixels more, because the edge of a moving thing is blurred.

    Needs a map that shows the place without the thing: where memory does not cover, and for what lies behind the
    map or has the map's own colour, it says False. ``residual=0`` lets depth decide alone, at the price of noise.

    Args:
        tolerance: Share of the map's depth.
        residual: Largest difference of the three colour channels, in 0..1.
        grow: Pixels.
    """

    def __init__(self, *, tolerance: float = 0.05, residual: float = 0.08, grow: int = 1) -> None:
        if not tolerance > 0 or not 0 <= residual < 1 or grow < 0:
            raise InputError(
                "depth-change wants tolerance > 0, residual in [0, 1) and grow >= 0, "
                f"got {tolerance}, {residual} and {grow}"
            )
        self.tolerance = tolerance
        self.residual = residual
        self.grow = grow

    def __call__(
        self, frames: Sequence[Frame], known: Projection | None = None
    ) -> Bool[Tensor, "t h w"]:
        """True where something moves; all False without ``known``. Raises FrameError where a frame has no depth."""
        depth = torch.stack([_require_compared_depth(frame, i) for i, frame in enumerate(frames)])
        if known is None:
            return torch.zeros_like(depth, dtype=torch.bool)
        if known.depth.shape != depth.shape:
            raise FrameError(
                f"the frames are {list(depth.shape)}, the projection {list(known.depth.shape)}; "
                "retrieve with the frames' own cameras"
            )
        rgb = torch.stack([frame.rgb_float() for frame in frames])
        nearer = known.mask & (depth > 0) & (depth < known.depth * (1 - self.tolerance))
        other = (rgb - known.rgb).abs().amax(-1) > self.residual if self.residual else nearer
        moving = (nearer & other).float()[:, None]
        moving = (torch.nn.functional.avg_pool2d(moving, 3, 1, 1) > 0.5).float()
        front = nearer.float()[:, None]
        for _ in range(SPREAD):
            moving = torch.maximum(moving, torch.nn.functional.max_pool2d(moving, 3, 1, 1) * front)
        size = 2 * self.grow + 1
        return torch.nn.functional.max_pool2d(moving, size, 1, self.grow)[:, 0] > 0


def _require_compared_depth(frame: Frame, i: int) -> Tensor:
    if frame.depth is None:
        raise FrameError(f"depth-change compares depth, and frame {i} has none; estimate it first")
    return frame.depth
