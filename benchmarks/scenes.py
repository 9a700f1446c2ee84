"""Scenes for speed: a room of 8 x 6 x 3 m that a camera circles in, and surfels spread over its surfaces."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from spmem import Camera, Frame
from spmem.testing.box import BoxRoom
from spmem.types import Surfels

FOV = 2 * math.atan(320 / 525)
"""Focal length of a Kinect: 525 pixels at a width of 640."""
ROOM = BoxRoom(
    room=((-4.0, -1.5, -3.0), (4.0, 1.5, 3.0)),
    solids=(
        ((1.2, 0.2, 0.4), (2.0, 1.5, 1.2)),
        ((-2.2, -0.6, 1.2), (-1.6, 1.5, 1.8)),
        ((-1.5, 0.5, -2.2), (-0.6, 1.5, -1.4)),
        ((2.6, -0.2, -2.4), (3.2, 1.5, -1.8)),
        ((-3.4, 0.3, -0.6), (-2.8, 1.5, 0.2)),
        ((0.4, 0.6, -2.6), (1.2, 1.5, -2.1)),
    ),
)


def circle(n: int, width: int, height: int, laps: float = 2.0) -> Camera:
    """A trajectory [n] around the middle of the room, looking along and outwards."""
    turn = torch.linspace(0, laps * 2 * math.pi, n + 1)[:-1]
    position = torch.stack([1.2 * turn.cos(), 0.2 * (3 * turn).sin(), 0.9 * turn.sin()], -1)
    ahead = torch.stack([-(turn + 0.5).sin(), 0.12 * (2 * turn).cos(), (turn + 0.5).cos()], -1)
    return Camera.look_at(position, position + ahead, width=width, height=height, fov_x=FOV)


def frames(cameras: Camera) -> Iterator[Frame]:
    """What the cameras see of the room, exactly, with uint8 colour."""
    for i in range(len(cameras)):
        frame = ROOM.frames(cameras[i][None], time=float(i))[0]
        yield frame.replace(rgb=(frame.rgb_float() * 255).round().byte())


def surfels(n: int, seed: int = 0, overlap: float = 1.0) -> Surfels:
    """N surfels of the room's surfaces in random order, uniformly by area; radius = ``overlap`` x mean spacing."""
    generator = np.random.default_rng(seed)
    boxes = [(ROOM.room, -1.0), *((solid, 1.0) for solid in ROOM.solids)]
    faces = [(box, axis, side, out) for box, out in boxes for axis in range(3) for side in (0, 1)]
    areas = np.array([area(box, axis) for box, axis, _, _ in faces])
    position, normal = [], []
    for (box, axis, side, out), m in zip(
        faces, generator.multinomial(n, areas / areas.sum()), strict=True
    ):
        low, high = np.array(box[0]), np.array(box[1])
        points = low + (high - low) * generator.random((m, 3))
        points[:, axis] = box[side][axis]
        facing = np.zeros((m, 3))
        facing[:, axis] = out * (1 if side else -1)
        position.append(points)
        normal.append(facing)
    order = generator.permutation(n)
    points, facing = (
        torch.from_numpy(np.concatenate(parts)[order].astype(np.float32))
        for parts in (position, normal)
    )
    spacing = overlap * math.sqrt(areas.sum() / n)
    return Surfels(
        ids=torch.arange(n),
        position=points,
        normal=facing,
        radius=torch.full((n,), spacing),
        colour=(0.5 + 0.5 * torch.sin(points * 3)).clamp(0, 1),
        confidence=torch.ones(n),
        first_seen=torch.zeros(n),
        last_seen=torch.zeros(n),
    )


def area(box: tuple[tuple[float, ...], tuple[float, ...]], axis: int) -> float:
    """Area of a box's face across an axis."""
    size = [high - low for low, high in zip(*box, strict=True)]
    return math.prod(size) / size[axis]
