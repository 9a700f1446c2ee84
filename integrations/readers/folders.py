"""Plain folders: ``images/``, ``depth/``, ``poses.txt`` (or ``poses/*.txt``) and ``K.txt``.

The layout of deep-video-mvs' sample data (github.com/ardaduz/deep-video-mvs) and of many home-made sets.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from spmem import geometry
from spmem.errors import FormatError
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.pixels import (
    IMAGE_SUFFIXES,
    by_number,
    image_size,
    list_images,
    read_depth,
)
from spmem.integrations.readers.poses import (
    Axes,
    cameras_of,
    opencv_poses,
    poses_from_rows,
    tracked,
)
from spmem.integrations.readers.text import read_matrix, read_rows
from spmem.integrations.readers.walk import Walk, walk_of_files

SIGN = "images/, poses.txt (or poses/) and K.txt"


def fits(path: DataPath) -> bool:
    """Whether a folder is laid out so."""
    posed = (path / "poses.txt").is_file() or (path / "poses").is_dir()
    return (path / "images").is_dir() and posed and (path / "K.txt").is_file()


def open_folders(
    path: str | Path,
    *,
    K: Any = None,
    depth_scale: float = 0.001,
    fps: float | None = None,
    axes: Axes = "opencv",
    world_to_camera: bool = False,
) -> Walk:
    """Open plain folders; images are ordered by name, numbers in names by value.

    Args:
        path: Holds ``images/``; ``depth/`` (16-bit or ``.npy``, named as the images; without the folder frames
            have no depth); ``poses.txt`` with a row-major 4x4 or 3x4 matrix a line in the order of the
            images, or ``poses/`` with a matrix a file, named as the images; and ``K.txt``, 3x3 in pixels.
        K: ``[3, 3]`` instead of ``K.txt``.
        depth_scale: World units of one step of the depth images; 0 is none.
        fps: Frames a second, for times; None leaves times to the memory.
        axes: The poses' axes.
        world_to_camera: The poses are world-to-camera (else camera-to-world).

    Frames whose pose is not finite are left out with a warning.
    Raises FormatError naming the file, and the line, that is wrong.
    """
    place = DataPath.named(path)
    images = list_images(place / "images")
    poses, rows = tracked(*_read_poses(place, images))
    c2w = opencv_poses(geometry.inverse(poses) if world_to_camera else poses, axes)
    depths = _depths(place / "depth", images)
    source = place / "K.txt" if K is None else place
    K = read_matrix(source, 3) if K is None else K
    cameras = cameras_of(source, K, c2w, *image_size(images[0]))
    return walk_of_files(
        place,
        [images[i] for i in rows],
        [depths[i] for i in rows],
        cameras,
        None if fps is None else rows / fps,
        partial(read_depth, scale=depth_scale),
        skipped=len(images) - len(rows),
    )


def read_pose_table(path: DataPath) -> Float[Tensor, "n 4 4"]:
    """A row-major 4x4 or 3x4 matrix a line. Raises FormatError with the number of a wrong line."""
    return poses_from_rows(read_rows(path, (16, 12), "a row-major 4x4 or 3x4 pose"))


def _read_poses(
    path: DataPath, images: list[DataPath]
) -> tuple[DataPath, Tensor, list[DataPath] | None]:
    table, folder = path / "poses.txt", path / "poses"
    if table.is_file():
        poses = read_pose_table(table)
        if len(poses) != len(images):
            raise FormatError(
                table, f"has {len(poses)} poses; {path / 'images'} has {len(images)} images"
            )
        return table, poses, None
    if not folder.is_dir():
        raise FormatError(table, "is missing, and there is no folder poses/")
    files = _beside(folder, images, (".txt",), "pose")
    rows = np.stack([read_matrix(file, 4).reshape(16) for file in files])
    return folder, poses_from_rows(rows), files


def _depths(folder: DataPath, images: list[DataPath]) -> list[DataPath] | list[None]:
    if not folder.is_dir():
        return [None] * len(images)
    return _beside(folder, images, (*IMAGE_SUFFIXES, ".npy"), "depth image")


def _beside(
    folder: DataPath, images: list[DataPath], suffixes: tuple[str, ...], what: str
) -> list[DataPath]:
    files = sorted(folder.entries(), key=lambda p: by_number(p.name))
    named = {p.stem: p for p in files if p.suffix in suffixes}
    lacking = [p.stem for p in images if p.stem not in named]
    if lacking:
        raise FormatError(
            folder,
            f"has no {what} called {lacking[0]} ({len(lacking)} of {len(images)} images have none)",
        )
    return [named[p.stem] for p in images]
