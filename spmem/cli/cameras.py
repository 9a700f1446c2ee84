"""The cameras that a command is asked for: from a file, along the keyframes, around the scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import FormatError, InputError
from spmem.integrations.readers import read_cameras

if TYPE_CHECKING:
    from spmem.memory import SpatialMemory


def lens_like(memory: SpatialMemory, width: int | None = None, height: int | None = None) -> Camera:
    """A camera as the memory's first keyframe has it, in other pixels where they are given.

    One given side keeps the proportions.
    """
    if not len(memory.keyframes):
        raise InputError("the memory holds no keyframes yet; store frames first")
    camera = memory.keyframes[next(iter(memory.keyframes))].camera
    if width is None and height is None:
        return camera
    wide = width or max(round(camera.width * (height or 0) / camera.height), 1)
    return camera.resize(wide, height or max(round(camera.height * wide / camera.width), 1))


def read_path(path: Path, lens: Camera) -> Camera:
    """Cameras ``[T]`` of a file or folder, in the pixels of ``lens``; its intrinsics where the file has none."""
    try:
        return read_cameras(path, lens.width, lens.height)
    except FormatError:
        if not path.is_file():
            raise
        return read_cameras(path, lens.width, lens.height, K=lens.K)


def along_keyframes(memory: SpatialMemory, lens: Camera, count: int) -> Camera:
    """Cameras ``[count]`` from the first keyframe to the last, smoothly."""
    poses = torch.stack([keyframe.camera.c2w for keyframe in memory.keyframes.values()])
    at = torch.linspace(0, len(poses) - 1, count)
    return Camera(lens.K, geometry.interpolate(poses, at), width=lens.width, height=lens.height)


def circle_scene(memory: SpatialMemory, lens: Camera, count: int) -> Camera:
    """Cameras ``[count]`` on a circle, looking at its middle: the point nearest to all keyframes' optical axes.

    The circle has the keyframes' median distance from that point and their median height, and stands upright by the
    mean of their image columns.
    """
    cameras = Camera.stack(
        [keyframe.camera.resize(lens.width, lens.height) for keyframe in memory.keyframes.values()]
    )
    position, ahead = cameras.position, cameras.forward
    # Sum over the axes of the projections that take the part along each axis away (a least-squares line
    # intersection); the second term keeps parallel axes solvable.
    across = torch.eye(3) - ahead[:, :, None] * ahead[:, None, :]
    system = across.sum(0) + 1e-3 * len(cameras) * torch.eye(3)
    right_side = (across @ position[:, :, None]).sum(0)[:, 0] + 1e-3 * position.sum(0)
    middle = torch.linalg.solve(system, right_side)
    down = torch.nn.functional.normalize(cameras.c2w[:, :3, 1].mean(0), dim=0)
    offset = position - middle
    low = (offset @ down).median()
    flat = offset - (offset @ down)[:, None] * down
    radius = flat.norm(dim=1).median().clamp(min=1e-3 * float(offset.norm(dim=1).max()) + 1e-6)
    first = torch.nn.functional.normalize(flat[0], dim=0)
    second = torch.linalg.cross(down, first)
    angle = torch.linspace(0, 2 * torch.pi, count + 1)[:-1, None]
    eye = middle + low * down + radius * (angle.cos() * first + angle.sin() * second)
    return Camera(
        lens.K,
        geometry.look_at(eye, middle.expand_as(eye), -down),
        width=lens.width,
        height=lens.height,
    )
