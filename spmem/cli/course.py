"""What the demo walks: frames in the order of time, of a drawn house or of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.integrations.readers import open_walk
from spmem.types import Frame
from spmem.worlds import House, loop
from spmem.worlds.house import FRAME_RATE

ROOMS = 3
HELD = 10
"""Every tenth frame of the way out is held back, to be asked about."""
OUT = 0.6
"""Share of a data set that is the way out."""


@dataclass(frozen=True)
class Course:
    """Frames, read when asked for; those before ``turn`` are the way out, the others come afterwards."""

    name: str
    frames: Sequence[Frame]
    turn: int

    @property
    def stored(self) -> list[int]:
        """Rows of the frames to remember."""
        return [i for i in range(self.turn) if i % HELD != HELD // 2]

    @property
    def held_back(self) -> list[int]:
        """Rows of the way out that are held back."""
        return list(range(HELD // 2, self.turn, HELD))

    @property
    def later(self) -> list[int]:
        """Rows that come after the way out."""
        return list(range(self.turn, len(self.frames)))


@dataclass(frozen=True)
class HouseWalk(Sequence[Frame]):
    """A house along cameras, ten frames a second."""

    house: House
    cameras: Camera

    def __len__(self) -> int:
        return len(self.cameras)

    def __getitem__(self, index: int) -> Frame:  # type: ignore[override]
        i = range(len(self))[index]
        return next(self.house.frames(self.cameras[i][None], [i / FRAME_RATE]))


def house_course(seed: int, frames: int, width: int, height: int) -> Course:
    """Once round through a house's rooms, and half as long again by another way."""
    house = House(seed=seed, rooms=ROOMS)
    out = loop(house, frames, seed=seed, width=width, height=height)
    back = loop(house, max(frames // 2, 2), seed=seed + 1, width=width, height=height)
    cameras = Camera.stack([*out, *back])
    return Course(f"a house of {ROOMS} rooms (seed {seed})", HouseWalk(house, cameras), frames)


def walk_course(path: Path, format: str | None, limit: int | None, most: int | None) -> Course:
    """A data set, of which the first part is the way out; every n-th frame where ``most`` are wanted at most."""
    walk = open_walk(path, format)[:limit]
    if most is not None:
        walk = walk[:: -(-len(walk) // most)]
    turn = int(np.ceil(OUT * len(walk)))
    if turn < HELD:
        raise InputError(f"{path} has {len(walk)} frames; the demo needs at least {2 * HELD}")
    return Course(path.resolve().name, walk, turn)
