"""COLMAP: a sparse model (binary or text, read by pycolmap), its images, and MVS depth maps where there are any.

colmap.github.io/format.html: world-to-camera poses, OpenCV axes, pixel centres at +0.5, an arbitrary scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import FormatError, MissingExtraError
from spmem.integrations.readers.pixels import by_number, fit_depth
from spmem.integrations.readers.poses import cameras_of, tracked
from spmem.integrations.readers.walk import Cameras, Walk, walk_of_files

SIGN = "a COLMAP model (cameras, images and points3D as .bin or .txt, also in sparse/ or sparse/0/)"
_PARTS = ("cameras", "images", "points3D")
_MODEL_FOLDERS = ("", "0", "sparse", "sparse/0")


@dataclass(frozen=True, eq=False)
class _Image:
    name: str
    w2c: Tensor
    camera_id: int
    model: str
    K: Tensor
    size: tuple[int, int]


def fits(path: Path) -> bool:
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
        MissingExtraError: pycolmap is not installed.
    """
    path = Path(path)
    model = _model_folder(path)
    if model is None:
        raise FormatError(path, f"lacks {SIGN}")
    posed = _registered(model)
    w2c, rows = tracked(model, torch.stack([image.w2c for image in posed]))
    kept = [posed[i] for i in rows]
    cameras = _cameras(model, kept, geometry.inverse(w2c))
    around = (folder for folder in (path, *path.parents[:2]) if (folder / "images").is_dir())
    workspace = next(around, path)
    folder = workspace / "images" if images is None else Path(images)
    if not folder.is_dir():
        raise FormatError(folder, "is missing; name the folder of images (images=...)")
    maps = workspace / "stereo" / "depth_maps" if depth is None else Path(depth)
    if depth is not None and not maps.is_dir():
        raise FormatError(maps, "is missing; wanted a folder of NAME.geometric.bin depth maps")
    found = [maps / f"{image.name}.geometric.bin" for image in kept]
    return walk_of_files(
        path,
        [folder / image.name for image in kept],
        [file if file.is_file() else None for file in found],
        cameras,
        None,
        read_mvs_depth,
        skipped=len(posed) - len(rows),
    )


def read_mvs_depth(path: Path, camera: Camera) -> Tensor:
    """A COLMAP MVS depth map as float32 ``[H, W]`` z-depth in the camera's size, 0 = none.

    The file is the text ``width&height&channels&`` and then little-endian float32, row by row. Values that
    are not positive or not finite are none.

    Raises FormatError where the file is missing or cut short.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror}") from error
    header = raw[:64].split(b"&", 3)
    if len(header) < 4 or not all(part.isdigit() for part in header[:3]):
        raise FormatError(path, "does not start with width&height&channels&, as COLMAP's maps do")
    width, height, channels = (int(part) for part in header[:3])
    if channels != 1:
        raise FormatError(path, f"has {channels} channels; a depth map has one")
    body = raw[sum(len(part) + 1 for part in header[:3]) :]
    if len(body) != 4 * width * height:
        raise FormatError(
            path,
            f"holds {len(body)} bytes of depth; {width}x{height} float32 are {4 * width * height}",
        )
    depth: NDArray[np.float32] = np.frombuffer(body, "<f4").reshape(height, width)
    return fit_depth(path, np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0)), camera)


def _model_folder(path: Path) -> Path | None:
    for folder in (path / name for name in _MODEL_FOLDERS):
        for suffix in (".bin", ".txt"):
            if all((folder / f"{part}{suffix}").is_file() for part in _PARTS):
                return folder
    return None


def _registered(model: Path) -> list[_Image]:
    try:
        import pycolmap
    except ImportError as error:
        raise MissingExtraError("pycolmap", "formats", "reading a COLMAP model") from error
    try:
        # Values are copied out: pycolmap's images and cameras do not outlive their reconstruction.
        reconstruction = pycolmap.Reconstruction(str(model))
        posed = [_copied(image) for image in reconstruction.images.values() if image.has_pose]
    except (ValueError, IndexError, RuntimeError) as error:
        raise FormatError(model, f"pycolmap cannot read the model: {error}") from error
    if not posed:
        raise FormatError(model, "has no registered image")
    return sorted(posed, key=lambda image: by_number(image.name))


def _copied(image: Any) -> _Image:
    camera = image.camera
    w2c = torch.eye(4, dtype=torch.float64)
    w2c[:3] = torch.tensor(image.cam_from_world().matrix())
    return _Image(
        name=image.name,
        w2c=w2c,
        camera_id=int(camera.camera_id),
        model=camera.model.name,
        K=torch.tensor(camera.calibration_matrix()),
        size=(int(camera.width), int(camera.height)),
    )


def _cameras(model: Path, images: list[_Image], c2w: Tensor) -> Cameras:
    for image in images:
        if image.model not in ("PINHOLE", "SIMPLE_PINHOLE"):
            raise FormatError(
                model,
                f"camera {image.camera_id} is {image.model}, which has lens distortion: run "
                "colmap image_undistorter and open the workspace that it writes",
            )
    if len({image.size for image in images}) == 1:
        K = torch.stack([image.K for image in images])
        return cameras_of(model, K, c2w, *images[0].size)
    return tuple(
        cameras_of(model, image.K, pose, *image.size)
        for image, pose in zip(images, c2w, strict=True)
    )
