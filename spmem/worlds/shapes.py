"""Solids that furniture is built of, and pieces of furniture as lists of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spmem.worlds.materials import Material

BOX, BALL, CYLINDER = range(3)


class Part(NamedTuple):
    """A box, an ellipsoid or an upright cylinder, in its piece's axes (+y down, the floor at y = 0)."""

    shape: int
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    material: Material


class Piece(NamedTuple):
    """One thing with a name: it faces +z, stands on y = 0 and is centred at x = z = 0."""

    name: str
    parts: tuple[Part, ...]

    @property
    def bounds(self) -> NDArray[np.float64]:
        """x0, y0, z0, x1, y1, z1 in the piece's axes."""
        centre, half = (np.array([getattr(p, n) for p in self.parts]) for n in ("centre", "half"))
        return np.concatenate([(centre - half).min(0), (centre + half).max(0)])


def box(
    material: Material,
    size: tuple[float, float, float],
    *,
    x: float = 0.0,
    h: float = 0.0,
    z: float = 0.0,
) -> Part:
    """Size is width, height, depth; ``h`` is how high its underside is."""
    w, tall, d = size
    return Part(BOX, (x, -h - tall / 2, z), (w / 2, tall / 2, d / 2), material)


def cylinder(
    material: Material,
    radius: float,
    tall: float,
    *,
    x: float = 0.0,
    h: float = 0.0,
    z: float = 0.0,
) -> Part:
    """Upright; ``h`` is how high its underside is."""
    return Part(CYLINDER, (x, -h - tall / 2, z), (radius, tall / 2, radius), material)


def ball(
    material: Material,
    radii: float | tuple[float, float, float],
    *,
    x: float = 0.0,
    h: float = 0.0,
    z: float = 0.0,
) -> Part:
    """Radii along x, y, z, or one for all; ``h`` is how high its lowest point is."""
    rx, ry, rz = (radii, radii, radii) if isinstance(radii, (int, float)) else radii
    return Part(BALL, (x, -h - ry, z), (rx, ry, rz), material)


def four_legs(
    material: Material, width: float, depth: float, tall: float, thick: float = 0.06
) -> list[Part]:
    """At the corners of a width x depth rectangle, inside it."""
    x, z = (width - thick) / 2, (depth - thick) / 2
    return [
        box(material, (thick, tall, thick), x=sx * x, z=sz * z) for sx in (-1, 1) for sz in (-1, 1)
    ]
