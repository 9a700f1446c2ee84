"""The catalogue of lamps, plants, pictures and small things: every function draws one in a room's colours."""

from __future__ import annotations

import numpy as np

from spmem.worlds.materials import (
    BRASS,
    CHARCOAL,
    CREAM,
    DOTS,
    GLOW,
    LEAVES,
    MARBLE,
    PAINTING,
    RUG,
    STRIPES,
    WHITE,
    WINDOW,
    Material,
    Palette,
    draw_seed,
    mix,
    plain,
    shade,
    wood,
)
from spmem.worlds.shapes import Part, Piece, ball, box, cylinder

Rng = np.random.Generator


def floor_lamp(rng: Rng, p: Palette) -> Piece:
    pole = plain(rng, BRASS if rng.random() < 0.5 else CHARCOAL)
    glow = Material(GLOW, mix(p.second, CREAM, 0.7), p.accent, CREAM)
    return Piece(
        "floor lamp",
        (
            cylinder(pole, 0.16, 0.03),
            cylinder(pole, 0.018, 1.4, h=0.03),
            cylinder(glow, 0.2, 0.3, h=1.35),
        ),
    )


def plant(rng: Rng, p: Palette) -> Piece:
    pot = Material(STRIPES, p.second, mix(p.second, CREAM, 0.5), CREAM, 0.15, draw_seed(rng))
    stem = plain(rng, shade(p.wood, 0.8))
    parts: list[Part] = [cylinder(pot, 0.17, 0.3), cylinder(stem, 0.025, 0.5, h=0.3)]
    for i in range(6):
        turn, r = i * 2.4 + rng.uniform(0, 0.5), rng.uniform(0.13, 0.2)
        leaves = Material(
            LEAVES,
            shade(p.green, rng.uniform(0.85, 1.25)),
            shade(p.green, 0.5),
            CREAM,
            0.1,
            draw_seed(rng),
        )
        away = 0.13 if i else 0.0
        parts.append(
            ball(
                leaves,
                (r, r * 0.9, r),
                x=away * np.cos(turn),
                h=0.55 + 0.11 * i,
                z=away * np.sin(turn),
            )
        )
    return Piece("plant", tuple(parts))


def rug(rng: Rng, p: Palette) -> Piece:
    cover = Material(RUG, p.accent, p.second, CREAM, rng.uniform(0.16, 0.24), draw_seed(rng))
    return Piece("rug", (box(cover, (rng.uniform(1.8, 2.3), 0.015, rng.uniform(1.2, 1.6))),))


def globe(rng: Rng, p: Palette) -> Piece:
    timber = wood(rng, p.wood, 0.1)
    world = Material(
        MARBLE, mix(p.accent, (0.2, 0.4, 0.6), 0.6), p.green, CREAM, 0.25, draw_seed(rng)
    )
    return Piece(
        "globe",
        (
            cylinder(timber, 0.2, 0.04),
            cylinder(timber, 0.03, 0.6, h=0.04),
            ball(world, 0.22, h=0.62),
        ),
    )


def toy_blocks(rng: Rng, p: Palette) -> Piece:
    parts = []
    for i in range(5):
        side = rng.uniform(0.14, 0.22)
        toy = Material(
            DOTS, (p.accent, p.second, p.wall, p.green)[i % 4], WHITE, CREAM, 0.1, draw_seed(rng)
        )
        x, h, z = rng.uniform(-0.25, 0.25), 0.0 if i < 3 else 0.2, 0.2 * (i % 3) - 0.2
        parts.append(
            ball(toy, side / 2, x=x, h=h, z=z)
            if i == 2
            else box(toy, (side, side, side), x=x, h=h, z=z)
        )
    return Piece("toys", tuple(parts))


def bowl(rng: Rng, p: Palette) -> Piece:
    fruits = [
        ball(plain(rng, c), 0.045, x=x, h=0.05, z=z)
        for c, x, z in ((p.accent, -0.05, 0.0), (p.green, 0.04, 0.04), (p.second, 0.03, -0.05))
    ]
    return Piece("bowl", (cylinder(plain(rng, WHITE), 0.13, 0.06), *fruits))


def vase(rng: Rng, p: Palette) -> Piece:
    clay = Material(STRIPES, p.accent, p.second, CREAM, 0.1, draw_seed(rng))
    flowers = [
        ball(plain(rng, shade(p.second, 1.2)), 0.05, x=0.06 * s, h=0.3 + 0.03 * s, z=0.04 * s)
        for s in (-1, 0, 1)
    ]
    return Piece(
        "vase", (ball(clay, (0.09, 0.12, 0.09)), cylinder(clay, 0.04, 0.1, h=0.2), *flowers)
    )


def pendant(rng: Rng, p: Palette) -> Piece:
    cord, glow = plain(rng, CHARCOAL), Material(GLOW, mix(p.second, CREAM, 0.75), p.second, CREAM)
    return Piece(
        "ceiling lamp", (cylinder(cord, 0.012, 0.3, h=0.2), ball(glow, (0.24, 0.12, 0.24)))
    )


def painting(rng: Rng, p: Palette) -> Piece:
    w = rng.uniform(0.5, 1.1)
    picture = Material(
        PAINTING, p.accent, p.second, shade(p.wood, rng.uniform(0.6, 1.3)), 0.05, draw_seed(rng)
    )
    return Piece("painting", (box(picture, (w, w * rng.uniform(0.65, 1.1), 0.04)),))


def window(rng: Rng, p: Palette) -> Piece:
    w, tall = rng.uniform(1.0, 1.5), rng.uniform(1.1, 1.3)
    glass = Material(WINDOW, WHITE, p.green, CREAM, 0.07, draw_seed(rng))
    sill = box(plain(rng, WHITE), (w + 0.1, 0.04, 0.14), h=-0.04, z=0.04)
    return Piece("window", (box(glass, (w, tall, 0.05)), sill))
