"""Furnishing: which pieces stand where in a room, so that every door stays within reach."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spmem.worlds import furniture as f
from spmem.worlds import ornaments as o
from spmem.worlds.floorplan import FloorPlan
from spmem.worlds.materials import Palette
from spmem.worlds.shapes import Piece

BODY = 0.32
"""Half the width of the gap that a walker needs."""

Rect = tuple[float, float, float, float]
Draw = Callable[[np.random.Generator, Palette], Piece]

CENTRES: dict[str, tuple[Draw, ...]] = {
    "living room": (f.coffee_table,),
    "kitchen": (f.dining_table,),
    "bedroom": (),
    "study": (),
    "dining room": (f.dining_table,),
    "playroom": (o.toy_blocks,),
    "library": (f.coffee_table,),
    "hall": (),
}
ALONG_WALLS: dict[str, tuple[Draw, ...]] = {
    "living room": (f.sofa, f.television, f.armchair, f.bookcase, o.floor_lamp, o.plant),
    "kitchen": (f.kitchen_counter, f.fridge, f.cabinet, o.plant),
    "bedroom": (f.bed, f.wardrobe, f.nightstand, f.cabinet, f.armchair, o.plant),
    "study": (f.desk, f.bookcase, f.bookcase, f.armchair, o.globe, o.floor_lamp),
    "dining room": (f.cabinet, f.bench, o.plant, o.floor_lamp, f.cabinet),
    "playroom": (f.bookcase, f.sofa, o.toy_blocks, f.cabinet, o.plant),
    "library": (f.bookcase, f.bookcase, f.armchair, f.bookcase, o.globe, o.floor_lamp),
    "hall": (f.bench, f.cabinet, f.wardrobe, o.plant, o.plant),
}


WITH_RUGS = ("living room", "bedroom", "playroom", "library")


class PlacedPiece(NamedTuple):
    """A piece in the house: its origin stands ``lift`` above the floor at (x, z), it faces (sin yaw, cos yaw)."""

    piece: Piece
    room: int
    x: float
    z: float
    yaw: float
    lift: float = 0.0

    @property
    def footprint(self) -> Rect:
        """x0, z0, x1, z1 in the world."""
        b, c, s = self.piece.bounds, math.cos(self.yaw), math.sin(self.yaw)
        x, z = np.array([b[0], b[3], b[0], b[3]]), np.array([b[2], b[2], b[5], b[5]])
        wx, wz = self.x + c * x + s * z, self.z - s * x + c * z
        return float(wx.min()), float(wz.min()), float(wx.max()), float(wz.max())


def furnish(
    rng: np.random.Generator, plan: FloorPlan, room: int, palette: Palette
) -> tuple[list[PlacedPiece], list[Rect]]:
    """Everything that stands in a room or hangs on its walls, and the floor that it takes."""
    kind = plan.kinds[room]
    x0, z0, x1, z1 = plan.rooms[room]
    middle = PlacedPiece(o.pendant(rng, palette), room, (x0 + x1) / 2, (z0 + z1) / 2, 0.0)
    hanging = [middle._replace(lift=plan.heights[room] - 0.5)]
    standing: list[PlacedPiece] = []
    taken: list[Rect] = []
    if kind in WITH_RUGS:
        turned = 0.0 if x1 - x0 > z1 - z0 else math.pi / 2
        standing.append(middle._replace(piece=o.rug(rng, palette), yaw=turned))
    for draw in CENTRES[kind]:
        for _ in range(6):
            group = _centre_group(rng, plan, room, draw(rng, palette), palette)
            rect = _bounding_rect([p.footprint for p in group])
            if fits(plan, room, rect, taken):
                standing += group
                taken.append(rect)
                break
    for draw in ALONG_WALLS[kind]:
        piece = draw(rng, palette)
        for _ in range(12):
            placed = _against_wall(rng, plan, room, piece)
            if fits(plan, room, placed.footprint, taken):
                standing.append(placed)
                taken.append(placed.footprint)
                if piece.name == "sideboard":
                    top = o.vase(rng, palette) if rng.random() < 0.5 else o.bowl(rng, palette)
                    standing.append(placed._replace(piece=top, lift=-float(piece.bounds[1])))
                break
    tall = [p for p in standing if p.piece.bounds[1] < -1.05]
    hanging += _hang_on_walls(rng, plan, room, palette, tall)
    return [*standing, *hanging], taken


def door_zones(plan: FloorPlan, room: int, reach: float = 0.8) -> list[Rect]:
    """The floor inside the room, in front of its doors."""
    zones = []
    for door, axis, joins in zip(plan.doors, plan.axes, plan.joins, strict=True):
        if room in joins:
            grow = np.array([reach, 0, reach, 0] if axis == 0 else [0, reach, 0, reach])
            x0, z0, x1, z1 = door + grow * np.array([-1, -1, 1, 1])
            zones.append((float(x0), float(z0), float(x1), float(z1)))
    return zones


def fits(plan: FloorPlan, room: int, rect: Rect, taken: list[Rect]) -> bool:
    """Whether a thing may take ``rect``: inside the room, apart from the others, all doors still connected."""
    x0, z0, x1, z1 = plan.rooms[room]
    if not (rect[0] >= x0 and rect[1] >= z0 and rect[2] <= x1 and rect[3] <= z1):
        return False
    doors = door_zones(plan, room)
    if any(_rects_overlap(rect, other, 0.03) for other in [*taken, *doors]):
        return False
    return _is_passable(plan.rooms[room], [*taken, rect], doors)


def _rects_overlap(a: Rect, b: Rect, gap: float) -> bool:
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def _bounding_rect(rects: list[Rect]) -> Rect:
    x0, z0 = (min(r[i] for r in rects) for i in (0, 1))
    x1, z1 = (max(r[i] for r in rects) for i in (2, 3))
    return x0, z0, x1, z1


def _is_passable(room: NDArray[np.float64], taken: list[Rect], doors: list[Rect]) -> bool:
    """Whether a walker reaches all doors from one another, and a fair part of the room."""
    x0, z0, x1, z1 = room
    x, z = np.meshgrid(np.arange(x0, x1, 0.1), np.arange(z0, z1, 0.1), indexing="ij")
    free = (x > x0 + BODY) & (x < x1 - BODY) & (z > z0 + BODY) & (z < z1 - BODY)
    inside = [(x > d[0]) & (x < d[2]) & (z > d[1]) & (z < d[3]) for d in doors]
    for r in taken:
        free &= ~((x > r[0] - BODY) & (x < r[2] + BODY) & (z > r[1] - BODY) & (z < r[3] + BODY))
    if not free.any() or any(not (free & door).any() for door in inside):
        return False
    reached = np.zeros_like(free)
    start = free & inside[0] if inside else free
    reached.flat[int(np.argmax(start))] = True
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= free
        if (grown == reached).all():
            break
        reached = grown
    enough = reached.sum() > 0.8 * free.sum() and reached.mean() > 0.12
    return bool(enough and all((reached & door).any() for door in inside))


def _centre_group(
    rng: np.random.Generator, plan: FloorPlan, room: int, piece: Piece, palette: Palette
) -> list[PlacedPiece]:
    """A table with what belongs to it, in the middle of the room, along its longer side."""
    x0, z0, x1, z1 = plan.rooms[room]
    yaw = 0.0 if x1 - x0 > z1 - z0 else math.pi / 2
    centre = PlacedPiece(piece, room, (x0 + x1) / 2, (z0 + z1) / 2, yaw)
    group = [centre]
    top = -float(piece.bounds[1])
    if piece.name == "table":
        w, d = piece.bounds[3], piece.bounds[5]
        seats = (
            [(0.0, -1), (0.0, 1)]
            if w < 0.68
            else [(s * w / 2, t) for s in (-1, 1) for t in (-1, 1)]
        )
        chair = f.chair(rng, palette)
        for side, t in seats:
            lx, lz = side, t * (d + 0.1)
            x = centre.x + math.cos(yaw) * lx + math.sin(yaw) * lz
            z = centre.z - math.sin(yaw) * lx + math.cos(yaw) * lz
            turn = math.pi if t > 0 else 0.0
            group.append(PlacedPiece(chair, room, x, z, yaw + turn + rng.uniform(-0.15, 0.15)))
        group.append(centre._replace(piece=o.bowl(rng, palette), lift=top))
    elif piece.name == "coffee table":
        group.append(centre._replace(piece=o.vase(rng, palette), lift=top))
    return group


def _against_wall(
    rng: np.random.Generator, plan: FloorPlan, room: int, piece: Piece
) -> PlacedPiece:
    """At a random place with its back to a random wall; corners are the likeliest."""
    side = int(rng.integers(4))
    along = rng.choice([rng.uniform(0, 1), 0.0, 1.0], p=[0.6, 0.2, 0.2])
    return _at_wall(plan, room, piece, side, float(along), 0.0)


def _at_wall(
    plan: FloorPlan,
    room: int,
    piece: Piece,
    side: int,
    along: float,
    lift: float,
    gap: float = 0.02,
) -> PlacedPiece:
    """Sides 0..3 are -x, +x, -z, +z; ``along`` in 0..1 runs from corner to corner."""
    x0, z0, x1, z1 = plan.rooms[room]
    b = piece.bounds
    half, back = (b[3] - b[0]) / 2 + 0.03, gap - b[2]
    yaw = (math.pi / 2, -math.pi / 2, 0.0, math.pi)[side]
    low, high = (z0, z1) if side < 2 else (x0, x1)
    at = low + half + along * (high - low - 2 * half)
    wall = (x0 + back, x1 - back, z0 + back, z1 - back)[side]
    x, z = (wall, at) if side < 2 else (at, wall)
    return PlacedPiece(piece, room, float(x), float(z), yaw, lift)


def _hang_on_walls(
    rng: np.random.Generator, plan: FloorPlan, room: int, palette: Palette, tall: list[PlacedPiece]
) -> list[PlacedPiece]:
    """Windows in outer walls and paintings on all, clear of doors and of tall furniture."""
    x0, z0, x1, z1 = plan.rooms[room]
    left, front = plan.rooms[:, :2].min(0)
    right, back = plan.rooms[:, 2:].max(0)
    outer = [bool(gap < 0.5) for gap in (x0 - left, right - x1, z0 - front, back - z1)]
    doors = door_zones(plan, room, 0.3)
    blocked = [*doors, *(p.footprint for p in tall)]
    hung: list[PlacedPiece] = []
    for side in range(4):
        for draw, lift in ((o.window, 0.95), (o.painting, 1.2), (o.painting, 1.25)):
            if draw is o.window and (not outer[side] or rng.random() < 0.3):
                continue
            piece = draw(rng, palette)
            for _ in range(5):
                placed = _at_wall(plan, room, piece, side, rng.uniform(0.08, 0.92), lift, 0.0)
                if not any(_rects_overlap(placed.footprint, r, 0.12) for r in blocked):
                    hung.append(placed)
                    blocked.append(placed.footprint)
                    break
    return hung
