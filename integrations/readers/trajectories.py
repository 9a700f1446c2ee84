"""Camera paths without pixels: where a generator is to go."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import FormatError
from spmem.integrations.readers import nerfstudio, realestate10k, tum
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.opening import open_walk
from spmem.integrations.readers.pixels import image_size, list_images
from spmem.integrations.readers.poses import (
    Axes,
    cameras_of,
    opencv_poses,
    poses_from_quaternions,
    poses_from_rows,
    scaled,
    tracked,
)
from spmem.integrations.readers.text import read_matrix, read_rows
from spmem.integrations.readers.walk import Cameras

TARTANAIR_FOV_X = math.pi / 2
_WHAT = "a row-major 4x4 or 3x4 matrix, t tx ty tz qx qy qz qw (TUM) or tx ty tz qx qy qz qw"


def read_cameras(
    path: str | Path,
    width: int,
    height: int,
    *,
    axes: Axes | None = None,
    K: Any = None,
    fov_x: float | None = None,
) -> Camera:
    """Read a camera path as cameras ``[T]`` for images of this size; the field of view stays the file's.

    What a file is, is told by what stands in it:

    - a folder: the cameras of the data set that :func:`open_walk` finds there;
    - ``.json``: nerfstudio's ``transforms.json``;
    - text that starts with a video's address: a RealEstate10K clip;
    - text with 16 or 12 numbers a line: row-major c2w matrices; intrinsics are ``K.txt`` beside it (in pixels
      of ``images/`` where that is beside it too, else of ``width`` x ``height``);
    - 8 numbers: a TUM trajectory ``t tx ty tz qx qy qz qw``, by default with the intrinsics of TUM's camera;
    - 7 numbers: a TartanAir trajectory ``tx ty tz qx qy qz qw``, NED axes, by default 90 degrees wide.

    Args:
        path: A file or folder.
        width: Of the images to generate, in pixels.
        height: Likewise.
        axes: Of the poses in a text file of matrices or quaternions (``opencv``, ``opengl`` or ``ned``); None
            takes what the format documents. The world of ``ned`` is renamed so that its up is -y.
        K: ``[3, 3]`` in pixels of ``width`` x ``height``, instead of the intrinsics in or beside the file.
        fov_x: The horizontal field of view in radians, instead (square pixels).

    Poses that are not finite are left out with a warning.
    Raises FormatError naming the file, and the line, that is wrong, or where it has no intrinsics.
    """
    place = DataPath.named(path)
    if K is None and fov_x is not None:
        K = geometry.intrinsics_from_fov(fov_x, width, height)
    if place.is_dir():
        cameras = _one_size(open_walk(place.path).cameras, width, height)
    elif place.suffix == ".json":
        cameras = _one_size(nerfstudio.read_transforms(place).cameras, width, height)
    elif realestate10k.fits(place):
        cameras = realestate10k.read_realestate10k(place.path).cameras(width, height)
    else:
        return _read_table(place, width, height, axes, K)
    return cameras if K is None else cameras_of(place, K, cameras.c2w, width, height)


def _one_size(cameras: Cameras, width: int, height: int) -> Camera:
    if isinstance(cameras, Camera):
        return cameras.resize(width, height)
    return Camera.stack([camera.resize(width, height) for camera in cameras])


def _read_table(path: DataPath, width: int, height: int, axes: Axes | None, K: Any) -> Camera:
    rows = read_rows(path, (16, 12, 8, 7), _WHAT)
    count = rows.shape[1]
    if count == 8:
        _, poses = tum.read_trajectory(path)
    elif count == 7:
        poses = poses_from_quaternions(path, rows[:, :3], rows[:, 3:])
    else:
        poses = poses_from_rows(rows)
    clean, _ = tracked(path, poses)
    c2w = opencv_poses(clean, axes or ("ned" if count == 7 else "opencv"))
    if K is None:
        K = _intrinsics(path, count, width, height)
    return cameras_of(path, K, c2w, width, height)


def _intrinsics(path: DataPath, count: int, width: int, height: int) -> Any:
    file, images = path.beside("K.txt"), path.beside("images")
    if file.is_file():
        size = image_size(list_images(images)[0]) if images.is_dir() else (width, height)
        return scaled(read_matrix(file, 3), size, width, height)
    if count == 8:
        return scaled(tum.default_intrinsics(path.path.parent), tum.SIZE, width, height)
    if count == 7:
        return geometry.intrinsics_from_fov(TARTANAIR_FOV_X, width, height)
    raise FormatError(path, "has no intrinsics: give K or fov_x, or put K.txt beside it")
