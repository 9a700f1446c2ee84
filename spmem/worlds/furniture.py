"""The catalogue of furniture: every function draws one piece in a room's colours."""

from __future__ import annotations

import numpy as np

from spmem.worlds.materials import (
    BLANKET,
    BOOKS,
    BRASS,
    CABINET,
    CHARCOAL,
    CREAM,
    DOTS,
    FABRIC,
    GLOW,
    MARBLE,
    SCREEN,
    STEEL,
    WHITE,
    Colour,
    Material,
    Palette,
    cloth,
    draw_seed,
    mix,
    plain,
    shade,
    wood,
)
from spmem.worlds.shapes import Piece, ball, box, cylinder, four_legs

Rng = np.random.Generator


def sofa(rng: Rng, p: Palette) -> Piece:
    w, cover = rng.uniform(1.7, 2.2), cloth(rng, p.accent)
    seat, cushion = cloth(rng, shade(p.accent, 1.12)), cloth(rng, p.second)
    half = (w - 0.4) / 2
    parts = [
        box(cover, (w, 0.3, 0.85), h=0.08),
        box(cover, (w, 0.5, 0.2), h=0.38, z=-0.325),
        *(box(cover, (0.2, 0.24, 0.85), x=s * (w / 2 - 0.1), h=0.38) for s in (-1, 1)),
        *(box(seat, (half - 0.02, 0.12, 0.6), x=s * half / 2, h=0.38, z=0.1) for s in (-1, 1)),
        *(ball(cushion, (0.2, 0.17, 0.09), x=s * (half - 0.2), h=0.5, z=-0.12) for s in (-1, 1)),
    ]
    return Piece("sofa", tuple(parts))


def armchair(rng: Rng, p: Palette) -> Piece:
    cover, seat = cloth(rng, p.second), cloth(rng, shade(p.second, 1.15))
    parts = [
        box(cover, (0.8, 0.3, 0.8), h=0.08),
        box(cover, (0.8, 0.55, 0.18), h=0.38, z=-0.31),
        *(box(cover, (0.15, 0.22, 0.8), x=s * 0.325, h=0.38) for s in (-1, 1)),
        box(seat, (0.48, 0.12, 0.58), h=0.38, z=0.1),
        ball(cloth(rng, p.accent), (0.18, 0.16, 0.08), h=0.5, z=-0.1),
    ]
    return Piece("armchair", tuple(parts))


def chair(rng: Rng, p: Palette) -> Piece:
    timber, seat = wood(rng, p.wood, 0.1), cloth(rng, p.accent)
    parts = [
        *four_legs(timber, 0.42, 0.42, 0.42, 0.045),
        box(seat, (0.44, 0.06, 0.44), h=0.42),
        *(box(timber, (0.045, 0.48, 0.045), x=s * 0.19, h=0.48, z=-0.19) for s in (-1, 1)),
        box(timber, (0.36, 0.14, 0.03), h=0.8, z=-0.19),
        box(timber, (0.36, 0.07, 0.03), h=0.62, z=-0.19),
    ]
    return Piece("chair", tuple(parts))


def dining_table(rng: Rng, p: Palette) -> Piece:
    timber = wood(rng, p.wood, 0.2)
    if rng.random() < 0.35:
        r = rng.uniform(0.5, 0.65)
        foot = [cylinder(timber, 0.28, 0.04), cylinder(timber, 0.06, 0.66, h=0.04)]
        return Piece("table", (*foot, cylinder(timber, r, 0.05, h=0.7)))
    w, d = rng.uniform(1.2, 1.7), rng.uniform(0.75, 0.9)
    return Piece(
        "table",
        (*four_legs(timber, w - 0.06, d - 0.06, 0.7, 0.07), box(timber, (w, 0.05, d), h=0.7)),
    )


def coffee_table(rng: Rng, p: Palette) -> Piece:
    timber = wood(rng, p.light_wood, 0.15)
    if rng.random() < 0.4:
        marble = Material(MARBLE, WHITE, shade(p.wall, 0.6), STEEL, 0.4, draw_seed(rng))
        return Piece(
            "coffee table",
            (cylinder(plain(rng, CHARCOAL), 0.2, 0.36), cylinder(marble, 0.45, 0.05, h=0.36)),
        )
    w, d = rng.uniform(0.8, 1.1), rng.uniform(0.5, 0.6)
    shelf = box(timber, (w - 0.1, 0.03, d - 0.1), h=0.12)
    return Piece(
        "coffee table", (*four_legs(timber, w, d, 0.36), shelf, box(timber, (w, 0.05, d), h=0.36))
    )


def bookcase(rng: Rng, p: Palette) -> Piece:
    w, tall, d = rng.uniform(0.8, 1.3), rng.uniform(1.6, 2.05), 0.32
    timber = wood(rng, p.wood, 0.3)
    boards = round(tall / 0.36)
    gap = (tall - 0.04) / boards
    parts = [
        box(plain(rng, shade(p.wood, 0.6)), (w, tall, 0.02), z=-d / 2 + 0.01),
        *(box(timber, (0.04, tall, d), x=s * (w / 2 - 0.02)) for s in (-1, 1)),
        *(box(timber, (w - 0.08, 0.035, d), h=i * gap) for i in range(boards + 1)),
    ]
    for i in range(boards):
        filled = rng.uniform(0.5, 1.0) * (w - 0.1)
        side = rng.choice([-1, 1]) * (w - 0.1 - filled) / 2
        thick = 1 / round(filled / rng.uniform(0.035, 0.05))
        books = Material(BOOKS, p.accent, p.second, CREAM, thick, draw_seed(rng))
        parts.append(
            box(
                books,
                (filled, gap * rng.uniform(0.6, 0.8), 0.2),
                x=side,
                h=i * gap + 0.035,
                z=-0.03,
            )
        )
        rest = w - 0.1 - filled
        if rest > 0.3:
            vase = Material(DOTS, p.second, WHITE, p.accent, 0.08, draw_seed(rng))
            x = -np.sign(side) * (w / 2 - 0.05 - rest / 2)
            parts.append(ball(vase, (0.08, 0.1, 0.08), x=float(x), h=i * gap + 0.035))
    return Piece("bookcase", tuple(parts))


def cabinet(rng: Rng, p: Palette, name: str = "sideboard", tall: float = 0.8) -> Piece:
    w, d = rng.uniform(1.0, 1.5), 0.42
    front = Material(
        CABINET, p.light_wood, shade(p.wood, 0.55), BRASS, w / round(w / 0.48), draw_seed(rng)
    )
    return Piece(
        name,
        (
            box(plain(rng, CHARCOAL), (w - 0.1, 0.08, d - 0.08)),
            box(front, (w, tall - 0.12, d), h=0.08),
            box(wood(rng, p.wood), (w + 0.04, 0.04, d + 0.03), h=tall - 0.04),
        ),
    )


def wardrobe(rng: Rng, p: Palette) -> Piece:
    w = rng.uniform(1.1, 1.7)
    front = Material(
        CABINET,
        mix(p.wall, WHITE, 0.5),
        shade(p.wall, 0.6),
        BRASS,
        w / round(w / 0.55),
        draw_seed(rng),
    )
    return Piece(
        "wardrobe",
        (
            box(front, (w, 2.0, 0.58), h=0.05),
            box(plain(rng, p.wood), (w + 0.06, 0.06, 0.62), h=2.05),
        ),
    )


def bed(rng: Rng, p: Palette) -> Piece:
    w, timber, white = (
        rng.uniform(1.2, 1.7),
        wood(rng, p.wood),
        Material(FABRIC, WHITE, shade(WHITE, 0.9), WHITE, 0.04),
    )
    blanket = Material(BLANKET, p.accent, p.second, CREAM, rng.uniform(0.2, 0.35), draw_seed(rng))
    pillows = (-1, 1) if w > 1.4 else (0,)
    parts = [
        box(timber, (w + 0.08, 0.28, 2.0), h=0.06),
        box(timber, (w + 0.12, 1.0, 0.07), z=-1.0),
        box(white, (w, 0.18, 1.94), h=0.34),
        box(blanket, (w + 0.05, 0.2, 1.3), h=0.35, z=0.36),
        *(ball(white, (0.32, 0.1, 0.2), x=s * w / 4, h=0.48, z=-0.7) for s in pillows),
    ]
    return Piece("bed", tuple(parts))


def nightstand(rng: Rng, p: Palette) -> Piece:
    front = Material(CABINET, p.light_wood, shade(p.wood, 0.55), BRASS, 0.42, draw_seed(rng))
    lamp = [
        cylinder(plain(rng, BRASS), 0.03, 0.22, h=0.5),
        cylinder(Material(GLOW, CREAM, p.accent, CREAM), 0.12, 0.18, h=0.7),
    ]
    return Piece("nightstand", (box(front, (0.42, 0.5, 0.38)), *lamp))


def desk(rng: Rng, p: Palette) -> Piece:
    w, timber = rng.uniform(1.2, 1.5), wood(rng, p.wood, 0.2)
    drawers = Material(CABINET, p.light_wood, shade(p.wood, 0.55), BRASS, 0.36, draw_seed(rng))
    screen = Material(SCREEN, CHARCOAL, p.accent, WHITE, 0.1, draw_seed(rng))
    dark = plain(rng, CHARCOAL)
    parts = [
        *four_legs(timber, w - 0.04, 0.6, 0.7, 0.05),
        box(timber, (w, 0.045, 0.65), h=0.7),
        box(drawers, (0.36, 0.55, 0.55), x=w / 2 - 0.22, h=0.15),
        cylinder(dark, 0.11, 0.02, h=0.745, z=-0.12),
        box(dark, (0.05, 0.14, 0.03), h=0.765, z=-0.14),
        box(screen, (0.62, 0.36, 0.03), h=0.88, z=-0.12),
        box(dark, (0.42, 0.02, 0.14), h=0.745, z=0.14),
        cylinder(plain(rng, p.second), 0.04, 0.1, x=-w / 2 + 0.2, h=0.745),
    ]
    return Piece("desk", tuple(parts))


def television(rng: Rng, p: Palette) -> Piece:
    stand = Material(CABINET, CHARCOAL, shade(CHARCOAL, 0.5), STEEL, 0.5, draw_seed(rng))
    screen = Material(SCREEN, _screen_colour(p), p.accent, p.second, 0.14, draw_seed(rng))
    dark = plain(rng, CHARCOAL)
    return Piece(
        "television",
        (
            box(stand, (1.5, 0.42, 0.4), h=0.05),
            box(dark, (0.4, 0.06, 0.2), h=0.47),
            box(screen, (1.2, 0.68, 0.05), h=0.53),
        ),
    )


def _screen_colour(p: Palette) -> Colour:
    """A screen's dark ground, tinted by the room."""
    return mix((0.05, 0.07, 0.12), p.wall, 0.15)


def kitchen_counter(rng: Rng, p: Palette) -> Piece:
    w = rng.uniform(1.8, 2.4)
    front = Material(
        CABINET,
        mix(p.accent, WHITE, 0.25),
        shade(p.accent, 0.5),
        STEEL,
        w / round(w / 0.5),
        draw_seed(rng),
    )
    stone = Material(MARBLE, WHITE, shade(p.wall, 0.5), STEEL, 0.5, draw_seed(rng))
    steel, dark = plain(rng, STEEL), plain(rng, CHARCOAL)
    parts = [
        box(dark, (w - 0.06, 0.1, 0.5)),
        box(front, (w, 0.76, 0.58), h=0.1),
        box(stone, (w + 0.02, 0.05, 0.62), h=0.86),
        box(front, (w, 0.6, 0.34), h=1.45, z=-0.12),
        box(dark, (0.55, 0.012, 0.48), x=-w / 4, h=0.91),
        cylinder(steel, 0.1, 0.14, x=-w / 4 - 0.1, h=0.922, z=-0.08),
        cylinder(plain(rng, p.second), 0.08, 0.1, x=-w / 4 + 0.13, h=0.922, z=0.08),
        box(steel, (0.5, 0.012, 0.4), x=w / 4, h=0.91),
        cylinder(steel, 0.02, 0.28, x=w / 4, h=0.91, z=-0.22),
        box(steel, (0.03, 0.03, 0.16), x=w / 4, h=1.17, z=-0.15),
    ]
    return Piece("kitchen counter", tuple(parts))


def fridge(rng: Rng, p: Palette) -> Piece:
    body = plain(rng, mix(p.second, WHITE, 0.55) if rng.random() < 0.5 else STEEL)
    grip = plain(rng, CHARCOAL)
    parts = [
        box(body, (0.65, 1.15, 0.62), h=0.03),
        box(body, (0.65, 0.55, 0.62), h=1.2),
        *(
            box(grip, (0.03, tall, 0.04), x=-0.26, h=h, z=0.33)
            for h, tall in ((0.7, 0.4), (1.26, 0.3))
        ),
    ]
    return Piece("fridge", tuple(parts))


def bench(rng: Rng, p: Palette) -> Piece:
    timber, w = wood(rng, p.wood, 0.12), rng.uniform(0.9, 1.2)
    seat = box(cloth(rng, p.accent), (w, 0.07, 0.36), h=0.42)
    return Piece("bench", (*four_legs(timber, w, 0.36, 0.42), seat))
