"""nerfstudio's ``transforms.json``: intrinsics shared or per frame, OpenGL axes, optional depth.

docs.nerf.studio, "Data conventions"; pixel centres at +0.5, as here. ``transforms.json`` of instant-ngp and
of the Blender sets (``camera_angle_x``) is read too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.errors import FormatError
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.pixels import by_number, image_size, read_depth
from spmem.integrations.readers.poses import cameras_of, opencv_poses, tracked
from spmem.integrations.readers.text import read_json
from spmem.integrations.readers.walk import Cameras, Walk, walk_of_files

SIGN = "transforms.json"
DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_PINHOLE_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")


@dataclass(frozen=True, eq=False)
class Transforms:
    """What a ``transforms.json`` says of n frames; files may be None (a camera path has none).

    cameras: OpenCV axes, ``Camera`` [n], or a tuple where sizes differ.
    times: ``[n]`` in the file's own unit (seconds as spmem writes them), or None.
    depth_scale: World units of one step of the depth images.
    """

    cameras: Cameras
    images: tuple[DataPath | None, ...]
    depths: tuple[DataPath | None, ...]
    times: NDArray[np.float64] | None
    depth_scale: float
    applied_transform: Float[Tensor, "4 4"] | None
    skipped: int


def fits(path: DataPath) -> bool:
    """Whether this is a ``transforms.json``, or a folder that has one."""
    return path.suffix == ".json" if path.is_file() else (path / SIGN).is_file()


def open_nerfstudio(
    path: str | Path, *, depth_scale: float | None = None, undistorted: bool = False
) -> Walk:
    """Open a nerfstudio data set, by its folder or its JSON file.

    Frames are ordered by ``time`` where all have one, else by file name, numbers by value.

    Args:
        path: The folder, or the file.
        depth_scale: World units of one step of the depth images; None takes ``depth_unit_scale_factor`` of
            the file, else 0.001 (nerfstudio's default).
        undistorted: The images were undistorted, so that distortion coefficients in the file no longer hold.

    Raises FormatError naming the file that is missing or wrong; images with lens distortion are refused.
    """
    place = DataPath.named(path)
    transforms = read_transforms(place, undistorted=undistorted)
    files = [image for image in transforms.images if image is not None]
    if len(files) != len(transforms.images):
        raise FormatError(place, "has frames without file_path; cameras alone: use read_cameras")
    scale = transforms.depth_scale if depth_scale is None else depth_scale
    return walk_of_files(
        place,
        files,
        transforms.depths,
        transforms.cameras,
        transforms.times,
        partial(read_depth, scale=scale),
        skipped=transforms.skipped,
        applied_transform=transforms.applied_transform,
    )


def read_transforms(path: DataPath, *, undistorted: bool = False) -> Transforms:
    """Read the file alone (and image headers where it gives no size). Raises FormatError."""
    file = path if path.is_file() else path / SIGN
    shared, frames = _load(file)
    frames = _ordered(file, frames)
    c2w = torch.stack([_pose(file, i, frame) for i, frame in enumerate(frames)])
    c2w, rows = tracked(file, c2w)
    kept = [{**shared, **frames[i]} for i in rows]
    if not undistorted:
        for frame in kept:
            _refuse_distortion(file, frame)
    images = tuple(_path(file, frame, "file_path") for frame in kept)
    timed = all("time" in frame for frame in kept)
    return Transforms(
        cameras=_cameras(file, kept, images, opencv_poses(c2w, "opengl")),
        images=images,
        depths=tuple(_path(file, frame, "depth_file_path") for frame in kept),
        times=np.array([_number(file, frame, "time") for frame in kept]) if timed else None,
        depth_scale=_number(file, shared, "depth_unit_scale_factor", 1e-3),
        applied_transform=_applied(file, shared),
        skipped=len(frames) - len(rows),
    )


def _load(file: DataPath) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    shared = read_json(file)
    frames = shared.get("frames") if isinstance(shared, dict) else None
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise FormatError(file, 'lacks "frames": a list of objects')
    if not frames:
        raise FormatError(file, "lists no frames")
    return shared, frames


def _ordered(file: DataPath, frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if all("time" in frame for frame in frames):
        return sorted(frames, key=lambda frame: _number(file, frame, "time"))
    if all("file_path" in frame for frame in frames):
        return sorted(frames, key=lambda frame: by_number(str(frame["file_path"])))
    return frames


def _pose(file: DataPath, index: int, frame: Mapping[str, Any]) -> Tensor:
    try:
        matrix = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
    except KeyError:
        raise FormatError(file, f"frame {index} lacks transform_matrix") from None
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise FormatError(file, f"frame {index}: transform_matrix: {error}") from error
    return _four_rows(file, matrix, f"frame {index}: transform_matrix")


def _applied(file: DataPath, shared: Mapping[str, Any]) -> Tensor | None:
    if "applied_transform" not in shared:
        return None
    try:
        matrix = torch.tensor(shared["applied_transform"], dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise FormatError(file, f"applied_transform: {error}") from error
    return _four_rows(file, matrix, "applied_transform")


def _four_rows(file: DataPath, matrix: Tensor, what: str) -> Tensor:
    if matrix.shape == (3, 4):
        return torch.cat([matrix, torch.tensor([[0, 0, 0, 1]], dtype=matrix.dtype)])
    if matrix.shape != (4, 4):
        raise FormatError(file, f"{what} is {list(matrix.shape)}; wanted 4x4 or 3x4")
    return matrix


def _refuse_distortion(file: DataPath, frame: Mapping[str, Any]) -> None:
    model = frame.get("camera_model", "OPENCV")
    if model not in _PINHOLE_MODELS:
        raise FormatError(file, f"has camera_model {model!r}; spmem reads pinhole images only")
    bent = [key for key in DISTORTION if _number(file, frame, key, 0.0)]
    if bent:
        raise FormatError(
            file,
            f"has lens distortion ({', '.join(bent)}): undistort the images (colmap image_undistorter) "
            "and, where the coefficients stay in the file, pass undistorted=True",
        )


def _path(file: DataPath, frame: Mapping[str, Any], key: str) -> DataPath | None:
    if frame.get(key) is None:
        return None
    path, with_png = (file.beside(f"{frame[key]}{suffix}") for suffix in ("", ".png"))
    # The Blender sets leave the suffix out.
    return with_png if not path.is_file() and with_png.is_file() else path


def _cameras(
    file: DataPath,
    frames: list[dict[str, Any]],
    images: tuple[DataPath | None, ...],
    c2w: Tensor,
) -> Cameras:
    sizes = [_size(file, frame, image) for frame, image in zip(frames, images, strict=True)]
    K = torch.stack([_K(file, frame, *size) for frame, size in zip(frames, sizes, strict=True)])
    if len(set(sizes)) == 1:
        return cameras_of(file, K, c2w, *sizes[0])
    return tuple(cameras_of(file, K[i], c2w[i], *size) for i, size in enumerate(sizes))


def _size(file: DataPath, frame: Mapping[str, Any], image: DataPath | None) -> tuple[int, int]:
    if "w" in frame and "h" in frame:
        return int(_number(file, frame, "w")), int(_number(file, frame, "h"))
    if image is None:
        raise FormatError(file, "gives no image size: wanted w and h, shared or in every frame")
    return image_size(image)


def _K(file: DataPath, frame: Mapping[str, Any], width: int, height: int) -> Tensor:
    if "fl_x" in frame:
        fl_x = _number(file, frame, "fl_x")
    elif "camera_angle_x" in frame:
        angle = _number(file, frame, "camera_angle_x")
        if not 0 < angle < math.pi:
            raise FormatError(file, f"camera_angle_x is {angle}; wanted radians between 0 and pi")
        fl_x = width / (2 * math.tan(angle / 2))
    else:
        raise FormatError(file, "gives no focal length: wanted fl_x (or camera_angle_x)")
    K = torch.eye(3, dtype=torch.float64)
    K[0, 0], K[1, 1] = fl_x, _number(file, frame, "fl_y", fl_x)
    K[0, 2] = _number(file, frame, "cx", width / 2)
    K[1, 2] = _number(file, frame, "cy", height / 2)
    return K


def _number(
    file: DataPath, frame: Mapping[str, Any], key: str, default: float | None = None
) -> float:
    value = frame.get(key, default)
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise FormatError(file, f"{key} is {repr(value)[:40]}; wanted a finite number")
    return number
