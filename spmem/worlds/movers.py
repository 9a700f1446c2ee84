"""Things that move: what they are, where they have room, and where they are at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError
from spmem.worlds.floorplan import FloorPlan
from spmem.worlds.furnishing import PlacedPiece, Rect, fits
from spmem.worlds.materials import (
    CHARCOAL,
    CREAM,
    DOTS,
    GLOW,
    PLAIN,
    STRIPES,
    WHITE,
    Material,
    Palette,
    draw_seed,
)
from spmem.worlds.shapes import Piece, ball, box, cylinder

REACH = 0.3
"""Every mover fits into an upright cylinder of this radius."""


class Orbits(NamedTuple):
    """Ellipses on the floor, walked at a steady pace: one row a mover.

    centre ``[M, 2]`` and half axes ``[M, 2]`` along x and z, period ``[M]`` seconds (negative: the other way
    round), phase ``[M]`` radians.
    """

    centre: NDArray[np.float64]
    half: NDArray[np.float64]
    period: NDArray[np.float64]
    phase: NDArray[np.float64]

    def poses(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """``[T, M, 5]`` x, y, z, cos yaw, sin yaw at times ``[T]``; movers look where they go."""
        angle = 2 * np.pi * times[:, None] / self.period + self.phase
        sin, cos, way = np.sin(angle), np.cos(angle), np.sign(self.period)
        x = self.centre[:, 0] + self.half[:, 0] * sin
        z = self.centre[:, 1] + self.half[:, 1] * cos
        yaw = np.arctan2(way * self.half[:, 0] * cos, -way * self.half[:, 1] * sin)
        return np.stack([x, np.zeros_like(x), z, np.cos(yaw), np.sin(yaw)], -1)


def draw_movers(
    rng: np.random.Generator,
    plan: FloorPlan,
    palettes: list[Palette],
    taken: list[list[Rect]],
    number: int,
) -> tuple[list[PlacedPiece], Orbits]:
    """Movers in different rooms as far as there are; their paths count as furniture to walkers.

    Raises:
        InputError: The house has no room for so many.
    """
    placed: list[PlacedPiece] = []
    rows: list[tuple[float, ...]] = []
    taken = [list(rects) for rects in taken]
    order = rng.permutation(len(plan.rooms))
    for i in range(number):
        for room in np.roll(order, -i):
            path = _find_orbit(rng, plan, int(room), taken[room])
            if path is not None:
                break
        else:
            raise InputError(
                f"this house has room for {i} moving things, {number} were wanted: ask for fewer, or for larger rooms"
            )
        x, z, a, b = path
        piece = (toy_ball, robot, cart)[i % 3](rng, palettes[int(room)])
        placed.append(PlacedPiece(piece, int(room), x, z, 0.0))
        taken[room].append(_swept_rect(x, z, a, b))
        period = rng.choice([-1, 1]) * rng.uniform(1.0, 1.6) * 2 * math.pi * max(a, b) / 0.5
        rows.append((x, z, a, b, float(period), rng.uniform(0, 2 * math.pi)))
    table = np.array(rows, np.float64).reshape(-1, 6)
    return placed, Orbits(table[:, :2], table[:, 2:4], table[:, 4], table[:, 5])


def swept(orbits: Orbits) -> list[Rect]:
    """The floor that each mover crosses."""
    return [
        _swept_rect(*map(float, (*c, *h))) for c, h in zip(orbits.centre, orbits.half, strict=True)
    ]


def _swept_rect(x: float, z: float, a: float, b: float) -> Rect:
    return x - a - REACH, z - b - REACH, x + a + REACH, z + b + REACH


def _find_orbit(
    rng: np.random.Generator, plan: FloorPlan, room: int, taken: list[Rect]
) -> tuple[float, float, float, float] | None:
    """Middle and half axes of an ellipse over free floor: the first that fits, large ones tried first."""
    x0, z0, x1, z1 = plan.rooms[room]
    for size in np.repeat([0.8, 0.6, 0.4, 0.25, 0.12, 0.06], [8, 8, 8, 12, 20, 60]):
        a, b = (size, size * rng.uniform(0.2, 0.6))[:: rng.choice([-1, 1])]
        x = rng.uniform(min(x0 + a + REACH, (x0 + x1) / 2), max(x1 - a - REACH, (x0 + x1) / 2))
        z = rng.uniform(min(z0 + b + REACH, (z0 + z1) / 2), max(z1 - b - REACH, (z0 + z1) / 2))
        if fits(plan, room, _swept_rect(x, z, a, b), taken):
            return float(x), float(z), float(a), float(b)
    return None


def toy_ball(rng: np.random.Generator, p: Palette) -> Piece:
    """A striped ball."""
    skin = Material(STRIPES, p.accent, WHITE, p.second, 0.35, draw_seed(rng))
    return Piece("ball", (ball(skin, rng.uniform(0.18, 0.28)),))


def robot(rng: np.random.Generator, p: Palette) -> Piece:
    """A small one, of cylinders and a head with eyes."""
    shell = Material(PLAIN, WHITE, p.wall, WHITE, 0.3, draw_seed(rng))
    trim = Material(PLAIN, p.accent, p.second, CREAM, 0.2, draw_seed(rng))
    eye, dark = (
        Material(GLOW, (0.5, 0.9, 1.0), WHITE, WHITE),
        Material(PLAIN, CHARCOAL, CHARCOAL, CHARCOAL),
    )
    return Piece(
        "robot",
        (
            cylinder(dark, 0.22, 0.1),
            cylinder(shell, 0.2, 0.4, h=0.1),
            cylinder(trim, 0.21, 0.08, h=0.3),
            ball(shell, 0.17, h=0.48),
            *(ball(eye, 0.04, x=s * 0.07, h=0.62, z=0.14) for s in (-1, 1)),
            cylinder(trim, 0.015, 0.14, h=0.8),
            *(ball(trim, 0.07, x=s * 0.21, h=0.32) for s in (-1, 1)),
        ),
    )


def cart(rng: np.random.Generator, p: Palette) -> Piece:
    """A box on wheels with a load."""
    side = Material(DOTS, p.second, CREAM, p.accent, 0.12, draw_seed(rng))
    load = Material(PLAIN, p.green, p.accent, CREAM, 0.2, draw_seed(rng))
    dark = Material(PLAIN, CHARCOAL, CHARCOAL, CHARCOAL)
    wheels = [
        ball(dark, (0.03, 0.06, 0.06), x=s * 0.17, z=t * 0.15) for s in (-1, 1) for t in (-1, 1)
    ]
    return Piece(
        "cart",
        (
            *wheels,
            box(side, (0.34, 0.26, 0.44), h=0.07),
            ball(load, 0.1, h=0.31, z=0.08),
            box(load, (0.16, 0.16, 0.14), h=0.33, z=-0.12),
        ),
    )
