"""An episode: frames to store, and cameras to ask about afterwards that come back to what the frames saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spmem.camera import Camera
from spmem.evaluation.sight import Sight, seen_masks, warp_colours
from spmem.types import Frame
from spmem.worlds.house import FRAME_RATE

REVISIT = 0.3
"""Share of a target's pixels that stored frames must have seen for it to be a revisit."""
OVERLAP = 0.25
"""A frame saw a target where it saw this share of the target's revisitable pixels."""
THIN = 2
"""The truth takes every so-many-th pixel of every so-many-th row, in frames of full size."""
LONG = 4
"""Cameras of every second target; the others are single."""


@dataclass(frozen=True)
class Size:
    """How large the episodes are; smaller ones are for a look, and for tests.

    frames: Stored.
    targets: At most.
    width: Width of the images, in pixels.
    height: Height of the images, in pixels.
    """

    frames: int = 120
    targets: int = 12
    width: int = 128
    height: int = 96


@dataclass(frozen=True, eq=False)
class Target:
    """Cameras ``[T]`` about to be generated.

    sight: What they will see, thinned by ``THIN``.
    saw: ``[N, P]``, which of the target's P revisitable pixels each of the episode's N frames truly saw.
    revisitable: ``[T * H * W]``, which of all pixels of ``sight`` those are.
    time: Seconds of the first camera.
    gap: Frames since one last saw the place.
    """

    cameras: Camera
    sight: Sight
    saw: Bool[Tensor, "n p"]
    revisitable: Bool[Tensor, " q"]
    time: float
    gap: int

    def known(self, mask: Bool[Tensor, "t h w"]) -> tuple[float, float]:
        """Shares of its pixels with depth: claimed by a mask of its cameras' images, and seen by some frame."""
        claimed, has = mask[:, THIN // 2 :: THIN, THIN // 2 :: THIN], self.sight.depth > 0
        seen = self.revisitable.view_as(has)[has]
        return float(claimed[has].float().mean()), float(seen.float().mean())

    @property
    def rgb(self) -> Float[Tensor, "p 3"]:
        """The revisitable pixels' colours, 0..1."""
        if self.sight.rgb is None:
            raise ValueError("the episode has no colours")
        return self.sight.rgb.flatten(0, 2)[self.revisitable]

    def colours(self, sight: Sight, rows: Sequence[int]) -> dict[int, Float[Tensor, "p 3"]]:
        """The revisitable pixels' colours as some rows of ``sight``, of the stored frames, have them; 0..1."""
        shown = (
            warp_colours(self.sight, sight.part(rows))
            .movedim(1, 0)
            .flatten(1, 3)[:, self.revisitable]
        )
        return dict(zip(rows, shown, strict=True))


@dataclass(frozen=True, eq=False)
class BenchEpisode:
    """Frames in the order of time, ten a second; what they truly see; and targets that come after them."""

    family: str
    seed: int
    frames: tuple[Frame, ...]
    sight: Sight
    targets: tuple[Target, ...]

    @property
    def scale(self) -> float:
        """The scene's, in world units: the median depth of all frames."""
        return float(self.sight.depth[self.sight.depth > 0].median())


def episode(
    family: str, seed: int, frames: tuple[Frame, ...], sight: Sight, later: Sight, count: int
) -> BenchEpisode:
    """Choose as targets what comes back among the ``later`` cameras, spread evenly over their time.

    Single cameras and runs of :data:`LONG` take turns.
    """
    thin = later.thinned(THIN)
    saw, valid = seen_masks(thin, sight).flatten(2), (thin.depth > 0).flatten(1)
    revisitable = saw.any(1)
    share = revisitable.sum(1) / valid.sum(1).clamp(min=1)
    targets: list[Target] = []
    starts = torch.nonzero(share >= REVISIT)[:, 0].tolist()
    picked = np.linspace(0, len(starts), count, endpoint=False).astype(int).tolist()
    for start in dict.fromkeys(starts[i] for i in picked if starts):
        length = LONG if len(targets) % 2 else 1
        run = torch.arange(start, min(start + length, len(later)))
        there = torch.cat([saw[i][:, revisitable[i]] for i in run.tolist()], 1)
        when = len(frames) + start
        targets.append(
            Target(
                later.cameras[run],
                thin.part(run),
                there,
                revisitable[run].flatten(),
                when / FRAME_RATE,
                when - _find_last_visit(there),
            )
        )
    return BenchEpisode(family, seed, frames, sight, tuple(targets))


def _find_last_visit(saw: Bool[Tensor, "n p"]) -> int:
    """The last frame that saw the target, or else the one that saw most."""
    share = saw.float().mean(1)
    met = torch.nonzero(share >= OVERLAP)[:, 0]
    return int(met[-1]) if len(met) else int(share.argmax())
