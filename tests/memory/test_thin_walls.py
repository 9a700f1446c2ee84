"""A wall that memory saw seldom stands, however well the room behind it is known."""

from __future__ import annotations

import pytest
import torch

import spmem
from spmem import Camera, Frame

WALL, THICK, FAR = 2.0, 0.1, 5.0
LEFT, RIGHT, HIGH = -1.2, 1.2, 1.0
"""The wall stands free; past its ends one sees the room behind."""


def camera(x: float, z: float) -> Camera:
    return Camera.look_at([x, 0.0, z], [0.4 * x, 0.0, 9.0], width=96, height=72, fov_x=1.2)


def view(x: float, z: float, time: float) -> Frame:
    """A wall at ``WALL``, and the far wall of the room behind it at ``FAR``, as a camera that looks along z sees them."""
    seen = camera(x, z)
    rays = seen.rays()
    eye = seen.position
    depth = (FAR - eye[2]) / rays[..., 2]
    rgb = torch.tensor([0.9, 0.3, 0.2]).expand(72, 96, 3).clone()
    if z < WALL:
        near = (WALL - eye[2]) / rays[..., 2]
        hit = eye + rays * near[..., None]
        on_wall = (hit[..., 0] > LEFT) & (hit[..., 0] < RIGHT) & (hit[..., 1].abs() < HIGH)
        depth = torch.where(on_wall, near, depth)
        rgb[on_wall] = torch.tensor([0.2, 0.4, 0.9])
    forward = seen.c2w[:3, 2]
    return Frame(rgb, depth * (rays @ forward), seen, time=time)


@pytest.mark.parametrize("looks", [1, 2])
def test_a_thin_wall_before_a_well_seen_room_is_not_looked_through(looks: int) -> None:
    with spmem.open() as memory:
        for n in range(24):  # the room behind the wall, from within
            memory.store(view(-1.0 + n / 12, WALL + THICK + 0.02 * n, float(n)))
        for n in range(looks):  # its near side, from afar
            memory.store(view(0.3 * n, -2.0, 24.0 + n))
        truth = view(0.1, -1.5, 30.0)
        shown = memory.retrieve(truth.camera).projection
    assert truth.depth is not None
    wall, covered = truth.depth < WALL + 1.7, shown.mask[0]
    behind = shown.depth[0] > 1.05 * truth.depth
    assert (covered & wall).sum() > 0.8 * wall.sum()
    assert (behind & covered & wall).sum() < 0.05 * wall.sum()  # its outline
