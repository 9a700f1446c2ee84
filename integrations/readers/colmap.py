"""COLMAP: a sparse model (binary or text), its images, and MVS depth maps if there are any.

colmap.github.io/format.html: world-to-camera poses, OpenCV axes, pixel centres at +0.5, an arbitrary scale.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import FormatError
from spmem.integrations.readers.colmap_model import ModelCamera, read_model
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.pixels import PIXELS, by_number, fit_depth, too_large
from spmem.integrations.readers.poses import cameras_of, tracked
from spmem.integrations.readers.walk import Cameras, Walk, walk_of_files

SIGN = "a COLMAP model (cameras, images and points3D as .bin or .txt, also in sparse/ or sparse/0/)"
_PARTS = ("cameras", "images", "points3D")


def fits(path: DataPath) -> bool:
    """Whether a folder holds a sparse model."""
    return _model_folder(path) is not None


def open_colmap(
    path: str | Path,
    *,
    images: str | Path | None = None,
    depth: str | Path | None = None,
) -> Walk:
    """Open a COLMAP reconstruction; registered images ordered by name, numbers in names by value.

    Args:
        path: The workspace (``images/``, ``sparse/``, ``stereo/`` as ``colmap image_undistorter`` writes it),
            or the model's own folder.
        images: The images' folder; None takes ``images/`` in the workspace.
        depth: Folder of MVS depth maps (``NAME.geometric.bin``); None takes ``stereo/depth_maps/`` where it
            is there. An image without a map has no depth.

    Raises:
        FormatError: A file is missing or wrong, or a camera has lens distortion.
    """
    place = DataPath.named(path)
    found_model = _model_folder(place)
    if found_model is None:
        raise FormatError(place, f"lacks {SIGN}")
    model = found_model[0]
    posed = read_model(*found_model)
    w2c, rows = tracked(model, posed.w2c)
    kept = sorted(range(len(rows)), key=lambda i: by_number(posed.names[rows[i]]))
    names = [posed.names[rows[i]] for i in kept]
    cameras = _cameras(model, [posed.cameras[rows[i]] for i in kept], geometry.inverse(w2c)[kept])
    around = (
        folder for folder in (place.path, *place.path.parents[:2]) if (folder / "images").is_dir()
    )
    workspace = DataPath.named(next(around, place.path))
    folder = workspace / "images" if images is None else DataPath.named(images)
    if not folder.is_dir():
        raise FormatError(folder, "is missing; name the folder of images (images=...)")
    maps = workspace / "stereo" / "depth_maps" if depth is None else DataPath.named(depth)
    if depth is not None and not maps.is_dir():
        raise FormatError(maps, "is missing; wanted a folder of NAME.geometric.bin depth maps")
    found = [maps / f"{name}.geometric.bin" for name in names]
    return walk_of_files(
        place,
        [folder / name for name in names],
        [file if file.is_file() else None for file in found],
        cameras,
        None,
        read_mvs_depth,
        skipped=len(posed.names) - len(rows),
    )


def read_mvs_depth(path: DataPath, camera: Camera) -> Tensor:
    """A COLMAP MVS depth map as float32 ``[H, W]`` z-depth in the camera's size, 0 = none.

    The file is the text ``width&height&channels&`` and then little-endian float32, row by row. Values that
    are not positive or not finite are none.

    Raises FormatError where the file is missing or cut short.
    """
    raw = path.read()
    header = raw[:64].split(b"&", 3)
    if len(header) < 4 or not all(part.isdigit() for part in header[:3]):
        raise FormatError(path, "does not start with width&height&channels&, as COLMAP's maps do")
    width, height, channels = (int(part) for part in header[:3])
    if channels != 1:
        raise FormatError(path, f"has {channels} channels; a depth map has one")
    if width * height > PIXELS:
        raise FormatError(path, too_large(width, height))
    body = raw[sum(len(part) + 1 for part in header[:3]) :]
    if len(body) != 4 * width * height:
        raise FormatError(
            path,
            f"holds {len(body)} bytes of depth; {width}x{height} float32 are {4 * width * height}",
        )
    depth: NDArray[np.float32] = np.frombuffer(body, "<f4").reshape(height, width)
    return fit_depth(path, np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0)), camera)


def _model_folder(path: DataPath) -> tuple[DataPath, str] | None:
    """The folder of the model, and the suffix of its files."""
    for folder in (path, path / "0", path / "sparse", path / "sparse" / "0"):
        for suffix in (".bin", ".txt"):
            if all((folder / f"{part}{suffix}").is_file() for part in _PARTS):
                return folder, suffix
    return None


def _cameras(model: DataPath, cameras: list[ModelCamera], c2w: Tensor) -> Cameras:
    intrinsics = {camera.number: camera.intrinsics(model) for camera in cameras}
    K = torch.stack([intrinsics[camera.number] for camera in cameras])
    if len({camera.size for camera in cameras}) == 1:
        return cameras_of(model, K, c2w, *cameras[0].size)
    return tuple(cameras_of(model, K[i], c2w[i], *camera.size) for i, camera in enumerate(cameras))
