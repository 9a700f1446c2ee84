"""The scene as the kernels read it: one structure of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spmem.worlds.floorplan import FloorPlan
from spmem.worlds.furnishing import PlacedPiece
from spmem.worlds.materials import CREAM, PLAIN, WHITE, Material, shade

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

TRIM = Material(PLAIN, WHITE, shade(CREAM, 0.95), WHITE, 0.5)


class Scene(NamedTuple):
    """Cells that rays walk through, objects in them, and the surfaces of both.

    A cell is an empty box: a room, or the passage of a door. Its faces (-x, +x, ceiling, floor, -z, +z) are walls
    with portals, rectangles through which a ray enters the next cell. Surface ``6 c + f`` is face f of cell c; the
    parts of the objects follow, and last the white trim of skirtings and door frames, which no ray meets (surface -1,
    nothing, is this row too, of instance 0). Boxes are x0, y0, z0, x1, y1, z1; CSR starts have one element more than rows.
    """

    cell_box: FloatArray  # [C, 6]
    cell_light: FloatArray  # [C, 6] position and colour of the one light
    portal_start: IntArray  # [6 C + 1] CSR by face
    portal_rect: FloatArray  # [P, 4] low and high of the face's axes, in the order x, y, z
    portal_cell: IntArray  # [P] where it leads
    cell_start: IntArray  # [C + 1] CSR by cell: objects that never move
    cell_object: IntArray
    moving: IntArray  # [M] objects that move
    object_pose: (
        FloatArray  # [O, 5] x, y, z, cos yaw, sin yaw; of moving ones, the middle of their path
    )
    object_bounds: FloatArray  # [O, 6] in the object's axes
    object_world: FloatArray  # [O, 6] in the world; means nothing for moving ones
    object_part: IntArray  # [O + 1] CSR: parts
    part_shape: IntArray  # [N] BOX, BALL or CYLINDER
    part_centre: FloatArray  # [N, 3] in the object's axes
    part_half: FloatArray  # [N, 3]
    surface_object: IntArray  # [S] -1 = a cell's face
    surface_instance: IntArray  # [S]
    surface_pattern: IntArray  # [S]
    surface_colour: FloatArray  # [S, 3, 3] colours a, b, c; linear
    surface_scale: FloatArray  # [S]
    surface_seed: IntArray  # [S]


def assemble(
    plan: FloorPlan,
    faces: Sequence[Sequence[Material]],
    face_instances: IntArray,
    lights: FloatArray,
    objects: Sequence[PlacedPiece],
    instances: Sequence[int],
    moving: Sequence[int],
) -> Scene:
    """Build the arrays.

    Args:
        plan: R rooms and D doors, which become R + D cells in this order.
        faces: Six materials per cell.
        face_instances: ``[C, 6]`` instance ids.
        lights: ``[C, 6]``.
        objects: What stands in the rooms.
        instances: Their instance ids.
        moving: Which of the objects move.
    """
    boxes, starts, rects, targets = _build_cells(plan)
    still = [i for i in range(len(objects)) if i not in set(moving)]
    by_cell = [[i for i in still if objects[i].room == c] for c in range(len(boxes))]
    parts = [part for placed in objects for part in placed.piece.parts]
    owners = [i for i, placed in enumerate(objects) for _ in placed.piece.parts]
    materials = [*(m for cell in faces for m in cell), *(part.material for part in parts), TRIM]
    return Scene(
        cell_box=boxes,
        cell_light=lights,
        portal_start=starts,
        portal_rect=rects,
        portal_cell=targets,
        cell_start=_offset_starts([len(row) for row in by_cell]),
        cell_object=np.array([i for row in by_cell for i in row], np.int64),
        moving=np.array(moving, np.int64),
        object_pose=_stack_rows(
            [(p.x, -p.lift, p.z, np.cos(p.yaw), np.sin(p.yaw)) for p in objects], 5
        ),
        object_bounds=_stack_rows([tuple(p.piece.bounds) for p in objects], 6),
        object_world=_stack_rows([_world_box(p) for p in objects], 6),
        object_part=_offset_starts([len(p.piece.parts) for p in objects]),
        part_shape=np.array([part.shape for part in parts], np.int64),
        part_centre=_stack_rows([part.centre for part in parts], 3),
        part_half=_stack_rows([part.half for part in parts], 3),
        surface_object=np.array([-1] * (6 * len(boxes)) + owners + [-1], np.int64),
        surface_instance=np.array(
            [*face_instances.flat, *(instances[o] for o in owners), 0],
            np.int64,
        ),
        surface_pattern=np.array([m.pattern for m in materials], np.int64),
        surface_colour=np.array([[m.a, m.b, m.c] for m in materials], np.float64) ** 2,
        surface_scale=np.array([m.scale for m in materials], np.float64),
        surface_seed=np.array([m.seed for m in materials], np.int64),
    )


def _build_cells(plan: FloorPlan) -> tuple[FloatArray, IntArray, FloatArray, IntArray]:
    """Boxes of rooms and passages, and the portals by face."""
    floors = np.concatenate([plan.rooms, plan.doors])
    heights = np.concatenate([plan.heights, plan.door_heights])
    zero = np.zeros(len(floors))
    boxes = np.stack([floors[:, 0], -heights, floors[:, 1], floors[:, 2], zero, floors[:, 3]], 1)
    portals: list[list[tuple[FloatArray, int]]] = [[] for _ in range(6 * len(boxes))]
    for i, (low, high) in enumerate(plan.joins):
        door, axis = len(plan.rooms) + i, int(plan.axes[i])
        others = [a for a in range(3) if a != axis]
        opening = boxes[door][[others[0], others[0] + 3, others[1], others[1] + 3]]
        portals[6 * low + 2 * axis + 1].append((opening, door))
        portals[6 * high + 2 * axis].append((opening, door))
        portals[6 * door + 2 * axis].append((opening, int(low)))
        portals[6 * door + 2 * axis + 1].append((opening, int(high)))
    flat = [p for face in portals for p in face]
    rects = np.array([rect for rect, _ in flat], np.float64).reshape(-1, 4)
    targets = np.array([cell for _, cell in flat], np.int64)
    return boxes, _offset_starts([len(face) for face in portals]), rects, targets


def _world_box(placed: PlacedPiece) -> tuple[float, ...]:
    x0, z0, x1, z1 = placed.footprint
    b = placed.piece.bounds
    return x0, float(b[1]) - placed.lift, z0, x1, float(b[4]) - placed.lift, z1


def _offset_starts(counts: Sequence[int]) -> IntArray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _stack_rows(rows: Sequence[Sequence[float]], width: int) -> FloatArray:
    return np.array(rows, np.float64).reshape(-1, width)
