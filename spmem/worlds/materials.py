"""What surfaces are made of: a pattern, three colours, a size and a seed; and the palettes of rooms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Colour = tuple[float, float, float]
"""sRGB in [0, 1]."""

# Patterns that fill a plane, and are the same wherever the plane ends.
PLAIN, FABRIC, PLANKS, TILES, BRICKS, STRIPES, DIAMONDS, DOTS, MARBLE, LEAVES, GLOW = range(11)
# Patterns that are fitted to the face they are on; from BOOKS on, pictures with colours of their own.
PANELLED, CABINET, RUG, BLANKET, BOOKS, PAINTING, WINDOW, SCREEN = range(11, 19)


class Material(NamedTuple):
    """One surface. ``scale`` is the size of the pattern's unit (a plank's width, a tile's side) in world units."""

    pattern: int
    a: Colour
    b: Colour
    c: Colour
    scale: float = 1.0
    seed: int = 0


def colour(code: str) -> Colour:
    """From six hexadecimal digits."""
    r, g, b = (int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return r, g, b


def shade(base: Colour, by: float) -> Colour:
    """Darker (below 1) or lighter (above 1)."""
    r, g, b = (min(channel * by, 1.0) for channel in base)
    return r, g, b


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """``share`` of the other."""
    r, g, b = (p + share * (q - p) for p, q in zip(one, other, strict=True))
    return r, g, b


WHITE, CREAM, CHARCOAL = colour("f4f1ea"), colour("efe3cb"), colour("2f3136")
STEEL, BRASS = colour("b4b8bd"), colour("c9a04e")
WALLS = tuple(
    colour(c)
    for c in ("8fa98f", "c9795b", "7fa3c4", "dcb55c", "d9a5a0", "41607a", "3f7f7a", "b9a7cc",
              "e5d4b3", "9c4f4f", "6f8f4f", "a8bcc4", "d98f4e", "5c5470")
)  # fmt: skip
"""Wall colours, far enough apart to tell a dozen rooms."""
ACCENTS = tuple(
    colour(c)
    for c in ("b23a48", "e09f3e", "335c67", "2a9d8f", "6a4c93", "d1495b", "edae49", "00798c",
              "8d5b4c", "3d5a80", "588157", "bc6c25")
)  # fmt: skip
WOODS = tuple(colour(c) for c in ("c49a6c", "8a5a3b", "d8b98a", "5e3d2b", "a8703f", "b58863"))
GREENS = tuple(colour(c) for c in ("3c6e3f", "5b8c3e", "2f5d50", "7a9e4b"))


class Palette(NamedTuple):
    """The colours of one room, which its furniture shares."""

    wall: Colour
    accent: Colour
    second: Colour
    wood: Colour
    light_wood: Colour
    green: Colour


def draw_palettes(rng: np.random.Generator, rooms: int) -> list[Palette]:
    """No two rooms of the first 14 share a wall colour."""
    walls, accents = rng.permutation(len(WALLS)), rng.permutation(len(ACCENTS))
    palettes = []
    for i in range(rooms):
        wood = WOODS[rng.integers(len(WOODS))]
        palettes.append(
            Palette(
                wall=WALLS[walls[i % len(WALLS)]],
                accent=ACCENTS[accents[2 * i % len(ACCENTS)]],
                second=ACCENTS[accents[(2 * i + 1) % len(ACCENTS)]],
                wood=wood,
                light_wood=mix(wood, CREAM, 0.4),
                green=GREENS[rng.integers(len(GREENS))],
            )
        )
    return palettes


def draw_seed(rng: np.random.Generator) -> int:
    """Seed of a material's own variation."""
    return int(rng.integers(1 << 30))


def wood(rng: np.random.Generator, base: Colour, scale: float = 0.3) -> Material:
    """Boards of one colour."""
    return Material(PLANKS, base, shade(base, 0.75), shade(base, 0.62), scale, draw_seed(rng))


def plain(rng: np.random.Generator, base: Colour) -> Material:
    """Paint, hardly mottled."""
    return Material(PLAIN, base, shade(base, 0.86), base, 0.4, draw_seed(rng))


def cloth(rng: np.random.Generator, base: Colour) -> Material:
    """Upholstery, now and then striped."""
    if rng.random() < 0.25:
        return Material(
            STRIPES, base, mix(base, CREAM, 0.45), shade(base, 0.7), 0.12, draw_seed(rng)
        )
    return Material(FABRIC, base, shade(base, 0.75), shade(base, 0.6), 0.03, draw_seed(rng))


def draw_surfaces(
    rng: np.random.Generator, palette: Palette, kind: str
) -> tuple[Material, Material, Material]:
    """Wall, floor and ceiling of a room."""
    seed = int(rng.integers(1 << 30))
    wall, pale = palette.wall, mix(palette.wall, WHITE, 0.55)
    walls = [
        Material(PLAIN, wall, shade(wall, 0.8), wall, 1.0, seed),
        Material(
            STRIPES, wall, mix(wall, WHITE, 0.3), shade(wall, 0.75), rng.uniform(0.2, 0.4), seed
        ),
        Material(
            DIAMONDS, wall, mix(wall, WHITE, 0.3), palette.accent, rng.uniform(0.25, 0.4), seed
        ),
        Material(DOTS, pale, palette.accent, palette.second, rng.uniform(0.25, 0.4), seed),
        Material(PANELLED, pale, wall, WHITE, rng.uniform(0.45, 0.7), seed),
        Material(BRICKS, mix(wall, colour("a65a45"), 0.5), shade(wall, 0.75), CREAM, 0.11, seed),
    ]
    tiles = Material(
        TILES, WHITE, mix(wall, WHITE, 0.65), shade(STEEL, 0.85), rng.uniform(0.15, 0.3), seed
    )
    wood = palette.wood if rng.random() < 0.5 else palette.light_wood
    floors = [
        Material(PLANKS, wood, shade(wood, 0.72), shade(wood, 0.4), rng.uniform(0.12, 0.2), seed),
        Material(FABRIC, mix(palette.second, CREAM, 0.5), mix(palette.second, CREAM, 0.2), CREAM, 0.03, seed),
        Material(TILES, CREAM, mix(palette.accent, CREAM, 0.3), shade(CREAM, 0.6), rng.uniform(0.35, 0.55), seed),
        Material(MARBLE, mix(wall, WHITE, 0.75), shade(wall, 0.6), STEEL, rng.uniform(0.6, 0.9), seed),
    ]  # fmt: skip
    wet = kind == "kitchen"
    wall_of = tiles if wet else walls[rng.integers(len(walls))]
    floor_of = floors[2 + rng.integers(2)] if wet else floors[rng.integers(len(floors))]
    ceiling = mix(WHITE, wall, 0.08)
    return wall_of, floor_of, Material(PLAIN, ceiling, shade(ceiling, 0.93), ceiling, 1.5, seed + 1)
