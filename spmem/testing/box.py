"""An analytic room: exact colour, depth and normals from anywhere, in a few lines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.camera import Camera
from spmem.types import Frame, Projection


@dataclass(frozen=True)
class BoxRoom:
    """A box seen from inside, with smaller boxes standing in it; y points down, colours vary smoothly.

    Corners are world coordinates, low and high: ``room`` of the walls, ``solids`` of what stands inside.

    Example:
        >>> room = BoxRoom()
        >>> view = room.render(room.walk(2, width=64, height=48))
        >>> view.depth.shape, bool(view.mask.all())
        (torch.Size([2, 48, 64]), True)
    """

    room: tuple[tuple[float, float, float], tuple[float, float, float]] = (
        (-3.0, -1.5, -2.5),
        (3.0, 1.2, 2.5),
    )
    solids: tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...] = (
        ((1.2, 0.2, 0.4), (2.0, 1.2, 1.6)),
        ((-2.2, -0.6, 1.2), (-1.6, 1.2, 1.8)),
        ((-1.5, 0.5, -2.0), (-0.6, 1.2, -1.4)),
    )

    def walk(self, n: int, *, width: int, height: int, sweep: float = 1.0) -> Camera:
        """A trajectory ``[n]`` in the middle of the room that turns by ``sweep`` radians as it moves."""
        turn = torch.linspace(0, 1, n) if n > 1 else torch.zeros(1)
        angle = turn * sweep
        position = torch.stack([0.5 * turn - 0.2, -0.1 * turn, -1 + 0.4 * turn], -1)
        ahead = torch.stack([angle.sin(), 0.15 * torch.ones(n), angle.cos()], -1)
        return Camera.look_at(position, position + ahead, width=width, height=height)

    def render(self, cameras: Camera) -> Projection:
        """What cameras ``[T]`` see; all of it is covered, ids are those of 5 cm voxels."""
        origin, rays = cameras.position[..., None, None, :], cameras.rays()
        depth, normal = _find_exit(origin, rays, *self.room)
        for low, high in self.solids:
            near, facing = _find_entry(origin, rays, low, high)
            first = near < depth
            depth = torch.where(first, near, depth)
            normal = torch.where(first[..., None], facing, normal)
        points = origin + rays * depth[..., None]
        return Projection(
            cameras=cameras,
            rgb=_paint_points(points, normal),
            depth=depth,
            normal=normal,
            mask=torch.ones_like(depth, dtype=torch.bool),
            surfel_ids=voxel_ids(points),
        )

    def frames(self, cameras: Camera, time: float | None = None) -> list[Frame]:
        """Frames of cameras ``[T]``, a second apart from ``time`` on (or without times)."""
        seen = self.render(cameras)
        times = [None if time is None else time + i for i in range(len(cameras))]
        return [
            Frame(seen.rgb[i], seen.depth[i], cameras[i], time=times[i])
            for i in range(len(cameras))
        ]


def _intersect_slabs(
    origin: Tensor, rays: Tensor, low: tuple[float, ...], high: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Per axis where rays enter and leave between two planes (Kay and Kajiya's slabs), in depths."""
    safe = torch.where(rays.abs() < 1e-9, torch.full_like(rays, 1e-9), rays)
    a, b = (rays.new_tensor(low) - origin) / safe, (rays.new_tensor(high) - origin) / safe
    return torch.minimum(a, b), torch.maximum(a, b)


def _facing_normal(rays: Tensor, axis: Tensor) -> Tensor:
    """The unit normal along ``axis`` that looks against the ray."""
    one = torch.nn.functional.one_hot(axis, 3).to(rays.dtype)
    return -one * rays.sign()


def _find_exit(
    origin: Tensor, rays: Tensor, low: tuple[float, ...], high: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    leave, axis = _intersect_slabs(origin, rays, low, high)[1].min(-1)
    return leave, _facing_normal(rays, axis)


def _find_entry(
    origin: Tensor, rays: Tensor, low: tuple[float, ...], high: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    entries, exits = _intersect_slabs(origin, rays, low, high)
    enter, axis = entries.max(-1)
    hit = (enter > 0) & (enter < exits.amin(-1))
    return torch.where(hit, enter, torch.full_like(enter, torch.inf)), _facing_normal(rays, axis)


def _paint_points(points: Float[Tensor, "*b 3"], normal: Float[Tensor, "*b 3"]) -> Tensor:
    waves = torch.sin(points * points.new_tensor([2.1, 3.3, 2.7]) + points.roll(1, -1) * 1.3)
    tint = normal.abs() * points.new_tensor([0.25, 0.15, 0.05])
    return (0.45 + 0.3 * waves + tint).clamp(0, 1)


def voxel_ids(points: Float[Tensor, "*b 3"]) -> Tensor:
    """The surfel ids of world points: their 5 cm voxels, packed."""
    x, y, z = ((points + 50) / 0.05).round().long().unbind(-1)
    return (x * 2048 + y) * 2048 + z
