"""Building a house: plan, furniture, movers and their names, put together as one scene."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from spmem.worlds.floorplan import FloorPlan, draw_plan
from spmem.worlds.furnishing import PlacedPiece, Rect, furnish
from spmem.worlds.materials import (
    CREAM,
    PLAIN,
    STEEL,
    WHITE,
    Material,
    Palette,
    draw_palettes,
    draw_surfaces,
    shade,
)
from spmem.worlds.movers import Orbits, draw_movers
from spmem.worlds.scene import FloatArray, Scene, assemble


class Building(NamedTuple):
    """What a seed stands for.

    Instance ids are 0 none, then wall, floor and ceiling of each room, then the doors, then the objects from
    ``first`` on: ``objects[i]`` has id ``first + i``, and the last ones move on ``orbits``. ``taken`` is the floor
    that furniture takes, per room.
    """

    plan: FloorPlan
    objects: tuple[PlacedPiece, ...]
    orbits: Orbits
    instances: tuple[str, ...]
    first: int
    taken: tuple[tuple[Rect, ...], ...]
    scene: Scene


@lru_cache(maxsize=8)
def build(seed: int, rooms: int, room_size: float, moving: int) -> Building:
    """Draw everything; movers have a stream of their own, so that their number changes nothing else."""
    still_rng, moving_rng = (np.random.default_rng([seed, stream]) for stream in range(2))
    plan = draw_plan(still_rng, rooms, room_size)
    palettes = draw_palettes(still_rng, rooms)
    faces = [_room_faces(still_rng, palettes[r], plan.kinds[r]) for r in range(rooms)]
    faces += [_door_faces(faces[a][3]) for a, _ in plan.joins]
    furnished = [furnish(still_rng, plan, room, palettes[room]) for room in range(rooms)]
    still = [placed for standing, _ in furnished for placed in standing]
    taken = [rects for _, rects in furnished]
    movers, orbits = draw_movers(moving_rng, plan, palettes, taken, moving)
    objects = [*still, *movers]
    walls = np.arange(rooms)[:, None] * 3 + np.array([1, 1, 3, 2, 1, 1])
    doors = np.repeat(3 * rooms + 1 + np.arange(len(plan.doors))[:, None], 6, 1)
    first = 3 * rooms + 1 + len(plan.doors)
    scene = assemble(
        plan,
        faces,
        np.concatenate([walls, doors]),
        _place_lights(plan, palettes),
        objects,
        range(first, first + len(objects)),
        range(len(still), len(objects)),
    )
    standing = tuple(tuple(rects) for rects in taken)
    return Building(
        plan, tuple(objects), orbits, _name_surfaces(plan, objects), first, standing, scene
    )


def remove_objects(scene: Scene, objects: frozenset[int]) -> Scene:
    """The scene without some objects; those that move must be left out of the poses too."""
    keep = ~np.isin(scene.cell_object, list(objects))
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    return scene._replace(
        cell_object=scene.cell_object[keep],
        cell_start=kept_before[scene.cell_start],
        moving=scene.moving[~np.isin(scene.moving, list(objects))],
    )


def _room_faces(rng: np.random.Generator, palette: Palette, kind: str) -> list[Material]:
    wall, floor, ceiling = draw_surfaces(rng, palette, kind)
    return [wall, wall, ceiling, floor, wall, wall]


def _door_faces(floor: Material) -> list[Material]:
    jamb = Material(PLAIN, shade(WHITE, 0.93), shade(CREAM, 0.9), STEEL, 0.5)
    return [jamb, jamb, jamb, floor, jamb, jamb]


def _place_lights(plan: FloorPlan, palettes: list[Palette]) -> FloatArray:
    """Below the middle of each ceiling, tinted by the room; doors have a faint one of their own."""
    rows = []
    for (x0, z0, x1, z1), height, palette in zip(plan.rooms, plan.heights, palettes, strict=True):
        tint = 0.9 + 0.2 * np.sqrt(np.array(palette.wall))
        rows.append([(x0 + x1) / 2, 0.55 - height, (z0 + z1) / 2, *tint])
    for (x0, z0, x1, z1), height in zip(plan.doors, plan.door_heights, strict=True):
        rows.append([(x0 + x1) / 2, 0.2 - height, (z0 + z1) / 2, 0.5, 0.5, 0.5])
    return np.array(rows, np.float64)


def _name_surfaces(plan: FloorPlan, objects: list[PlacedPiece]) -> tuple[str, ...]:
    """Kinds with a number each, as "kitchen 1 wall", "door 2", "sofa 1"."""
    count: dict[str, int] = {}

    def numbered(kind: str) -> str:
        count[kind] = count.get(kind, 0) + 1
        return f"{kind} {count[kind]}"

    rooms = [numbered(kind) for kind in plan.kinds]
    surfaces = [f"{room} {part}" for room in rooms for part in ("wall", "floor", "ceiling")]
    doors = [numbered("door") for _ in plan.doors]
    return ("none", *surfaces, *doors, *(numbered(placed.piece.name) for placed in objects))
