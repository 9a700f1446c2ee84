"""The patterns of surfaces, which fade to their mean where a pixel is wider than they are."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.jit import njit
from spmem.worlds.materials import (
    BLANKET,
    BOOKS,
    BRICKS,
    CABINET,
    DIAMONDS,
    DOTS,
    FABRIC,
    GLOW,
    LEAVES,
    MARBLE,
    PANELLED,
    PLAIN,
    PLANKS,
    RUG,
    SCREEN,
    STRIPES,
    TILES,
    WINDOW,
)
from spmem.worlds.pixels import Pixels

RGB = tuple[float, float, float]


@njit(fastmath=True)
def paint(
    pattern: NDArray[np.int64],
    colour: NDArray[np.float64],
    scale: NDArray[np.float64],
    seed: NDArray[np.int64],
    pixels: Pixels,
    start: int,
    stop: int,
) -> None:
    """Fill rgb of the rows start..stop, which :func:`light` has filled; the first four are the scene's surfaces'."""
    height, width = pixels.depth.shape[1:]
    for row in range(start, stop):
        i, y = row // height, row % height
        for x in range(width):
            s = pixels.material[i, y, x]
            if s < 0:
                continue
            place, lit, rgb = pixels.place[i, y, x], pixels.lit[i, y, x], pixels.rgb[i, y, x]
            u, v, foot = np.float64(place[0]), np.float64(place[1]), np.float64(place[4])
            w, tall = np.float64(place[2]), np.float64(place[3])
            kind, m, z, n = int(pattern[s]), colour[s], float(scale[s]), int(seed[s])
            if kind >= BOOKS:
                edge = min(min(u, w - u), min(v, tall - v))
                r, g, b = _picture_pattern(
                    kind, m, z, n, u / w, v / tall, w / tall, edge, foot / tall
                )
            else:
                if kind == GLOW:
                    p, q, k = 0.25 * math.fabs(2 * v / tall - 1), 0.0, 1.1
                elif kind >= PANELLED:
                    p, q, k = _face_pattern(kind, z, n, u, v, w, tall, foot)
                else:
                    p, q, k = _plane_pattern(kind, z, n, u, v, foot)
                r, g, b = _blend_colours(m, min(max(p, 0.0), 1.0), q, k)
            # Colours are squared for light to add up (a gamma of 2); the root takes them back to sRGB.
            rgb[0] = math.sqrt(min(r * lit[0], 1.0))
            rgb[1] = math.sqrt(min(g * lit[1], 1.0))
            rgb[2] = math.sqrt(min(b * lit[2], 1.0))


@njit(fastmath=True)
def _plane_pattern(
    kind: int, z: float, seed: int, u: float, v: float, foot: float
) -> tuple[float, float, float]:
    """Patterns that fill a plane: share of colour b, share of c over that, brightness."""
    f = foot / z
    fade = min(max(1.6 - 2 * f, 0.0), 1.0)
    x, y = _floor_float(u / z), _floor_float(v / z)
    b, c, k = 0.0, 0.0, 1 + 0.16 * _value_noise(u / 0.9, v / 0.9, seed, foot)
    k += 0.1 * _value_noise(u / 0.13, v / 0.13, seed, foot / 0.13)
    if kind == PLAIN:
        b = 0.5 + _value_noise(u / z, v / z, seed + 1, f)
    elif kind == FABRIC:
        b = 0.5 + 0.6 * _value_noise(u / z, v / z, seed, f)
        b += 0.8 * _value_noise(u / z / 7, v / z / 7, seed, f / 7)
    elif kind == PLANKS:
        shift = _hash_cell(y, 7.0, seed)
        k *= 0.82 + 0.36 * _hash_cell(y, _floor_float(u / 1.7 + shift), seed)
        b = 0.4 + 0.7 * _value_noise(u / 0.5 + 31 * y, v / z * 4, seed, f * 4)
        b += 0.4 * _value_noise(u / 0.15, v / z * 12, seed, f * 12)
        c = max(
            _line_pattern(v, z, 0.03 * z, foot), _line_pattern(u + shift * 1.7, 1.7, 0.004, foot)
        )
    elif kind == TILES:
        b = abs((x + y) - 2 * _floor_float((x + y) / 2)) if f < 0.7 else 0.5
        k *= 0.9 + 0.2 * _hash_cell(x, y, seed)
        c = max(_line_pattern(u, z, 0.02 * z, foot), _line_pattern(v, z, 0.02 * z, foot))
    elif kind == BRICKS:
        shift = 1.25 * z * (y - 2 * _floor_float(y / 2))
        b = _hash_cell(_floor_float((u + shift) / z / 2.5), y, seed) if f < 1 else 0.5
        k *= 0.95 + 0.5 * _value_noise(u / 0.03, v / 0.03, seed, foot / 0.03)
        c = max(
            _line_pattern(v, z, 0.06 * z, foot), _line_pattern(u + shift, 2.5 * z, 0.06 * z, foot)
        )
    elif kind == STRIPES:
        b = _line_pattern(u, z, z / 4, foot)
        c = 0.8 * _line_pattern(u + 0.36 * z, z, 0.03 * z, foot)
    elif kind == DIAMONDS:
        lattice = abs(u / z - x - 0.5) + abs(v / z - y - 0.5)
        b = fade * (1 - _soft_step(abs(lattice - 0.5), 0.06, f))
        c = fade * (1 - _soft_step(lattice, 0.14, f))
    elif kind == DOTS:
        one, two = _hash_cell(x, y, seed), _hash_cell(x, y, seed + 1)
        away = math.hypot(u / z - x - 0.35 - 0.3 * one, v / z - y - 0.35 - 0.3 * two)
        dot = 0.85 * fade * (1 - _soft_step(away, 0.14 + 0.14 * one, f))
        b, c = (dot, 0.0) if two < 0.6 else (0.0, dot)
    elif kind == MARBLE:
        bend = 2.2 * _value_noise(u / z, v / z, seed, f) + 0.9 * _value_noise(
            u / z * 3, v / z * 3, seed, 3 * f
        )
        vein = abs(math.sin(3.1 * (u / z + 0.6 * v / z + bend)))
        b = 0.3 * fade * (1 - _soft_step(vein, 0.1, max(3 * f, 0.3)))
        b += 0.2 + 0.4 * _value_noise(u / z / 2, v / z / 2, seed + 1, f)
    elif kind == LEAVES:
        b = 0.5 + 1.2 * _value_noise(u / 0.06, v / 0.09, seed, foot / 0.06)
        b += 0.5 * _value_noise(u / 0.02, v / 0.03, seed, foot / 0.02)
        k *= 0.8 + v
    return b, c, k


@njit(fastmath=True)
def _face_pattern(
    kind: int, z: float, seed: int, u: float, v: float, w: float, tall: float, foot: float
) -> tuple[float, float, float]:
    """Patterns that know where their face ends: share of colour b, share of c over that, brightness."""
    edge = min(min(u, w - u), min(v, tall - v))
    b, c, k = 0.0, 0.0, 1 + 0.16 * _value_noise(u / 0.5, v / 0.5, seed, foot / 0.5)
    if kind == PANELLED:
        if v < 0.95:
            x, y = abs(u - z * _floor_float(u / z) - z / 2), abs(v - 0.52)
            rim = abs(max(x - z / 2 + 0.07, y - 0.32))
            b, k = 1.0, k * (1 - 0.3 * (1 - _soft_step(rim, 0.012, foot)))
        c = 1 - _soft_step(abs(v - 0.97), 0.03, foot)
    elif kind == CABINET:
        door = _floor_float(u / z)
        x = u - z * door
        rim = min(min(x, z - x), min(v, tall - v))
        b = max(
            1 - _soft_step(rim, 0.008, foot), 0.6 * (1 - _soft_step(abs(rim - 0.07), 0.006, foot))
        )
        side = x if door - 2 * _floor_float(door / 2) > 0.5 else z - x
        c = 1 - _soft_step(math.hypot(side - 0.04, (v - 0.62 * tall) / 2.5), 0.014, foot)
    elif kind == RUG:
        x, y = abs(u - w / 2), abs(v - tall / 2)
        ring = abs(math.hypot(x, 1.4 * y) - 0.3 * w)
        b = _line_pattern(x + y, z, z / 4, foot) if edge > z else 0.0
        c = max(
            1 - _soft_step(abs(edge - 0.7 * z), 0.12 * z, foot), 1 - _soft_step(ring, 0.02, foot)
        )
        k *= 1 + 0.3 * _value_noise(u / 0.02, v / 0.02, seed, foot / 0.02)
    elif kind == BLANKET:
        b, c = 0.75 * _line_pattern(u, z, z / 4, foot), 0.6 * _line_pattern(v, z, z / 5, foot)
        k *= 1 + 0.25 * _value_noise(u / 0.02, v / 0.02, seed, foot / 0.02)
    return b, c, k


@njit(fastmath=True)
def _picture_pattern(
    kind: int,
    m: NDArray[np.float64],
    z: float,
    seed: int,
    x: float,
    y: float,
    aspect: float,
    edge: float,
    foot: float,
) -> RGB:
    """Things with colours of their own, at x, y in 0..1: books, the view from a window, screens, paintings."""
    if kind == BOOKS:
        return _book_spines(z, seed, x, y, foot)
    if kind == SCREEN:
        long = 0.3 + 0.6 * _hash_cell(_floor_float(y / 0.13), 3.0, seed)
        line = _line_pattern(y, 0.13, 0.03, foot) if 0.12 < x < long else 0.0
        wave = 1 - _soft_step(abs(y - 0.5 - 0.5 * _value_noise(5 * x, 0.0, seed, 0.0)), 0.03, foot)
        return (
            _blend_colours(m, wave, 0.5 * line, 1.2)
            if edge > 0.3 * z
            else _blend_colours(m, 0.0, 0.0, 0.4)
        )
    if edge < z:
        return _blend_colours(m, 0.0, 1.0, 0.9)
    if kind == WINDOW:
        if abs(x - 0.5) < 0.025 or abs(y - 0.55) < 0.02:
            return _blend_colours(m, 0.0, 1.0, 0.9)
        hill = (
            0.3
            + 0.25 * _value_noise(3 * x, 0.5, seed, 0.0)
            + 0.08 * _value_noise(11 * x, 1.5, seed, 0.0)
        )
        if y < hill:
            return _blend_colours(
                m, 1.0, 0.0, 0.9 + 0.9 * _value_noise(30 * x, 30 * y, seed, 30 * foot)
            )
        cloud = 2.5 * _value_noise(4 * x, 7 * y, seed, 0.0) + 1.5 * _value_noise(
            9 * x, 15 * y, seed, 0.0
        )
        cloud = min(max(cloud, 0.0), 1.0)
        return 0.45 + 0.75 * cloud, 0.75 + 0.45 * cloud, 1.25
    style, tone = 4 * _hash_cell(1.0, 2.0, seed), _hash_cell(3.0, 4.0, seed)
    if style < 1:
        return _paint_landscape(m, seed, tone, x, y, aspect)
    if style < 2:  # coloured fields between black lines
        cut = 3 + _floor_float(2 * tone)
        p, q = x * cut + 0.35 * _hash_cell(_floor_float(y * cut), 5.0, seed), y * cut
        if abs(p - _floor_float(p + 0.5)) < 0.05 or abs(q - _floor_float(q + 0.5)) < 0.05:
            return 0.015, 0.015, 0.02
        field = _hash_cell(_floor_float(p), _floor_float(q), seed)
        return _blend_hue(m, field * 3 + tone) if field < 0.55 else (0.8, 0.77, 0.68)
    if style < 3:  # rings
        off = 0.35 + 0.3 * _hash_cell(6.0, 6.0, seed)
        ring = _floor_float(7 * math.hypot((x - 0.3 - 0.4 * tone) * aspect, y - off))
        return _blend_hue(m, _hash_cell(ring, 8.0, seed) + 0.1 * tone)
    a = 4 * _value_noise(2 * x, 2 * y, seed, 0.0)  # broad strokes that swirl
    stroke = _value_noise(3 * x + 2 * math.cos(a), 3 * y + 2 * math.sin(a), seed + 1, 0.0)
    return _blend_hue(m, tone + 0.8 * stroke + 0.3 * a)


@njit(fastmath=True)
def _book_spines(thick: float, seed: int, x: float, y: float, foot: float) -> RGB:
    """Spines side by side, each ``thick`` of the shelf's width."""
    n = _floor_float(x / thick)
    one, two = _hash_cell(n, 1.0, seed), _hash_cell(n, 2.0, seed)
    if y > 0.72 + 0.28 * one:
        return 0.02, 0.015, 0.012
    across = x / thick - n
    k = 0.35 + 0.65 * min(4 * across * (1 - across), 1.0)
    k *= 0.35 + 0.6 * two
    band = 0.35 * (1 - _soft_step(abs(y - 0.2 - 0.6 * two), 0.05, foot))
    r, g, b = _hue_to_rgb(one)
    return k * (0.6 * r + 0.06 + band), k * (0.6 * g + 0.05 + band), k * (0.6 * b + 0.04 + band)


@njit(fastmath=True)
def _paint_landscape(
    m: NDArray[np.float64], seed: int, tone: float, x: float, y: float, aspect: float
) -> RGB:
    """Hills under a sun."""
    for i in range(3):
        hill = 2 - i
        if y < 0.55 - 0.16 * hill + 0.3 * _value_noise(2.5 * x + 9 * hill, 1.0 * hill, seed, 0.0):
            r, g, b = _blend_hue(m, tone + 0.3 + 0.13 * hill)
            return 0.7 * r, 0.7 * g, 0.7 * b
    if math.hypot((x - 0.2 - 0.6 * tone) * aspect, y - 0.72) < 0.13:
        return 1.0, 0.72, 0.3
    r, g, b = _hue_to_rgb(tone)
    sky = 0.4 + 0.6 * y
    return 0.35 * r + 0.5 * sky, 0.35 * g + 0.4 * sky, 0.35 * b + 0.35


@njit(fastmath=True)
def _blend_hue(m: NDArray[np.float64], hue: float) -> RGB:
    """A hue that leans towards the painting's two colours, so that paintings differ as wholes."""
    r, g, b = _hue_to_rgb(hue)
    p = 0.5 + 0.5 * math.cos(9.7 * hue)
    return (
        0.45 * r + 0.55 * (p * m[0, 0] + (1 - p) * m[1, 0]),
        0.45 * g + 0.55 * (p * m[0, 1] + (1 - p) * m[1, 1]),
        0.45 * b + 0.55 * (p * m[0, 2] + (1 - p) * m[1, 2]),
    )


@njit(fastmath=True)
def _hue_to_rgb(hue: float) -> RGB:
    """A colour for every number, linear."""
    r = 0.52 + 0.38 * math.cos(6.2832 * hue)
    g = 0.5 + 0.36 * math.cos(6.2832 * (hue + 0.33))
    b = 0.47 + 0.36 * math.cos(6.2832 * (hue + 0.67))
    return r * r, g * g, b * b


@njit(fastmath=True)
def _blend_colours(m: NDArray[np.float64], b: float, c: float, k: float) -> RGB:
    """Colour a with a share of b, then a share of c over that, times k."""
    p, q = (1 - c) * (1 - b), (1 - c) * b
    return (
        k * (p * m[0, 0] + q * m[1, 0] + c * m[2, 0]),
        k * (p * m[0, 1] + q * m[1, 1] + c * m[2, 1]),
        k * (p * m[0, 2] + q * m[1, 2] + c * m[2, 2]),
    )


@njit(fastmath=True)
def _floor_float(x: float) -> float:
    return float(math.floor(x))


@njit(fastmath=True)
def _hash_cell(x: float, y: float, seed: int) -> float:
    """A number in [0, 1) for whole x, y: rounds of multiply and fold, with xxHash32's multipliers."""
    h = (int(x) * 2654435761 + int(y) * 2246822519 + seed * 3266489917) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 3266489917) & 0xFFFFFFFF
    return (h ^ (h >> 16)) / 4294967296.0


@njit(fastmath=True)
def _value_noise(u: float, v: float, seed: int, foot: float) -> float:
    """Value noise in -0.5..0.5 with cells of one unit; fades to 0 as a pixel grows to a cell."""
    fade = 1.6 - 2 * foot
    if fade <= 0:
        return 0.0
    x, y = _floor_float(u), _floor_float(v)
    a, b = u - x, v - y
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    top = _hash_cell(x, y, seed) * (1 - a) + _hash_cell(x + 1, y, seed) * a
    low = _hash_cell(x, y + 1, seed) * (1 - a) + _hash_cell(x + 1, y + 1, seed) * a
    return (top * (1 - b) + low * b - 0.5) * min(fade, 1.0)


@njit(fastmath=True)
def _soft_step(x: float, edge: float, foot: float) -> float:
    """0 below the edge, 1 above, a ramp as wide as a pixel between."""
    return min(max((x - edge) / max(foot, 1e-6) + 0.5, 0.0), 1.0)


@njit(fastmath=True)
def _line_pattern(x: float, every: float, half: float, foot: float) -> float:
    """1 on lines of 2 x half; where pixels are wider than the distance between lines, their mean."""
    if foot > 0.7 * every:
        return min(2 * half / every, 1.0)
    return 1 - _soft_step(abs(x - every * _floor_float(x / every + 0.5)), half, foot)
