"""Journeys through held-out houses: frames that a generator is given, and cameras that it generates afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from spmem.camera import Camera
from spmem.evaluation.sight import Sight, seen_masks
from spmem.types import Frame
from spmem.worlds import House, loop, reverse, rotate_and_return

CHUNK = 4
"""Frames generated at once."""


@dataclass(frozen=True, eq=False)
class Journey:
    """The truth along a way, of which the first ``given`` frames are handed over and the others are to be generated.

    revisited ``[A, H, W]``: pixels of the A cameras ahead that a given frame saw. beyond ``[A, H, W]``: those of them
    that no frame of the context window (the ``window`` frames before the chunk) sees. movers ``[N, H, W]``: what moves,
    in all frames, and the pixel around it. covered ``[A, H, W]``: pixels that a given frame would have seen, had nothing
    that moves stood before them.
    """

    family: str
    seed: int
    frames: tuple[Frame, ...]
    given: int
    revisited: Bool[Tensor, "a h w"]
    beyond: Bool[Tensor, "a h w"]
    movers: Bool[Tensor, "n h w"]
    covered: Bool[Tensor, "a h w"]

    @property
    def static(self) -> Bool[Tensor, "a h w"]:
        """The revisited pixels that nothing which moves covers, neither now nor when they were given."""
        return self.revisited & ~self.movers[self.given :] & ~self.covered

    @property
    def vacated(self) -> Bool[Tensor, "a h w"]:
        """The revisited pixels that something covered in a given frame, and nothing covers now."""
        return self.revisited & ~self.movers[self.given :] & self.covered

    @property
    def ahead(self) -> Camera:
        """Cameras to generate, in whole chunks."""
        return Camera.stack([frame.camera for frame in self.frames[self.given :]])


def journey(
    family: str, seed: int, *, chunks: int = 12, size: int = 64, window: int = 2, moving: int = 0
) -> Journey:
    """A journey of a family, see :data:`FAMILIES`, through the house of a seed, with some things that move."""
    house, way, given = FAMILIES[family](seed, chunks * CHUNK, size, moving)
    view = house.render(way, samples=3)
    frames = tuple(
        Frame(view.rgb[i], view.depth[i], way[i], i / 10, validate=False) for i in range(len(way))
    )
    sight = Sight(way, view.depth, view.normal)
    ahead = sight.part(slice(given, None))
    revisited = seen_masks(ahead, sight.part(slice(given))).any(1)
    beyond = revisited.clone()
    for start in range(0, len(ahead), CHUNK):
        some = slice(start, start + CHUNK)
        recent = sight.part(slice(given + start - window, given + start))
        beyond[some] &= ~seen_masks(ahead.part(some), recent).any(1)
    moves = torch.isin(view.instance, torch.tensor(list(house.movers), dtype=torch.int32))
    movers = F.max_pool2d(moves.float()[:, None], 3, 1, 1)[:, 0] > 0
    covered = torch.zeros_like(revisited)
    if moving:
        still = house.hide(house.movers).render(way[:given])
        shown = Sight(way[:given], view.depth[:given] * ~movers[:given])
        covered = (
            seen_masks(ahead, Sight(way[:given], still.depth)) & ~seen_masks(ahead, shown)
        ).any(1)
    return Journey(family, seed, frames, given, revisited, beyond, movers, covered)


def _turn_back_and_forth(
    seed: int, ahead: int, size: int, moving: int
) -> tuple[House, Camera, int]:
    """``rotate-and-return``: the turn away is given; back, away again and so on is generated."""
    house, rng = House(seed=seed, rooms=2, moving=moving), np.random.default_rng([seed, 21])
    angle = float(rng.uniform(math.pi / 2, math.pi) * rng.choice([-1, 1]))
    both = rotate_and_return(house, 48, angle=angle, seed=seed, width=size, height=size)
    return house, _repeat_cycle(both, 24, ahead), 24


def _back_and_forth(seed: int, ahead: int, size: int, moving: int) -> tuple[House, Camera, int]:
    """``reverse``: the way to another room is given; backwards, there again and so on is generated."""
    house = House(seed=seed, rooms=3, moving=moving)
    both = reverse(house, 48, turn=False, seed=seed, width=size, height=size)
    return house, _repeat_cycle(both, 24, ahead), 24


def _walk_laps(seed: int, ahead: int, size: int, moving: int) -> tuple[House, Camera, int]:
    """``loop``: a lap through three rooms is given, the next ones are generated."""
    house = House(seed=seed, rooms=3, moving=moving)
    lap = loop(house, 49, seed=seed, width=size, height=size)[:48]
    return house, _repeat_cycle(lap, 48, ahead), 48


def _walk_closed_loop(seed: int, ahead: int, size: int, moving: int) -> tuple[House, Camera, int]:
    """``closed-loop``: four frames are given, and a whole lap is generated until the first camera comes again."""
    house = House(seed=seed, rooms=3, moving=moving)
    return house, loop(house, 4 + ahead, seed=seed, width=size, height=size), 4


FAMILIES: dict[str, Callable[[int, int, int, int], tuple[House, Camera, int]]] = {
    "rotate-and-return": _turn_back_and_forth,
    "reverse": _back_and_forth,
    "loop": _walk_laps,
    "closed-loop": _walk_closed_loop,
}


def _repeat_cycle(cycle: Camera, given: int, ahead: int) -> Camera:
    """The cycle over and over, ``given + ahead`` cameras of it."""
    return cycle[torch.arange(given + ahead) % len(cycle)]
