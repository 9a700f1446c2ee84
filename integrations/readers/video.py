"""A video with a file of poses beside it; frames are decoded by PyAV when asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spmem.errors import FormatError
from spmem.integrations.readers.arrays import read_npz
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.folders import read_pose_table
from spmem.integrations.readers.nerfstudio import read_transforms
from spmem.integrations.readers.pixels import list_images, read_depth
from spmem.integrations.readers.poses import Axes, cameras_of, opencv_poses, tracked
from spmem.integrations.readers.text import read_matrix
from spmem.integrations.readers.video_file import VideoFile
from spmem.integrations.readers.walk import Cameras, Pixels, Walk

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
POSES = ("poses.npz", "transforms.json", "poses.txt")
SIGN = f"a video ({', '.join(SUFFIXES)}) with NAME.json, NAME.npz, {', '.join(POSES)} beside it"


def fits(path: DataPath) -> bool:
    """Whether this is a video, or a folder that has just one, with poses beside it."""
    if path.is_file():
        return path.suffix in SUFFIXES
    found = _videos(path)
    return len(found) == 1 and any(file.is_file() for file in _candidates(found[0]))


def open_video(
    path: str | Path,
    *,
    poses: str | Path | None = None,
    K: Any = None,
    depth: str | Path | None = None,
    depth_scale: float = 0.001,
    axes: Axes = "opencv",
) -> Walk:
    """Open a video with a pose a frame; times are the video's own.

    Opening passes over the video's packets once (nothing is decoded) to find its frames.

    Args:
        path: The video, or a folder that has just one.
        poses: ``.npz`` with ``c2w [N, 4, 4]`` and ``K`` ``[3, 3]`` or ``[N, 3, 3]``; a ``transforms.json`` whose
            frames are in the video's order; or ``.txt`` with a row-major 4x4 or 3x4 c2w a line. None takes
            NAME.json, NAME.npz, poses.npz, transforms.json or poses.txt beside the video.
        K: ``[3, 3]`` in pixels of the video, instead of the poses' own or ``K.txt`` beside them.
        depth: Folder of as many depth images as frames, in order, or None.
        depth_scale: World units of one step of the depth images.
        axes: Of the poses in ``.npz`` and ``.txt``.

    Raises:
        FormatError: A file is missing or wrong, or counts do not match.
        MissingExtraError: PyAV is not installed.
    """
    place = DataPath.named(path)
    file = _video_in(place)
    video = VideoFile(file)
    source = _poses_beside(file) if poses is None else DataPath.named(poses)
    count, rows, cameras = _cameras(source, video, K, axes)
    if count != len(video):
        raise FormatError(source, f"has {count} poses; {file.name} has {len(video)} frames")
    kinds = (".png", ".tif", ".tiff", ".npy")
    depths = [] if depth is None else list_images(DataPath.named(depth), kinds)
    if depth is not None and len(depths) != len(video):
        raise FormatError(depth, f"has {len(depths)} images; {file.name} has {len(video)} frames")
    depth_of = partial(read_depth, scale=depth_scale)

    def read(row: int) -> Pixels:
        frame = int(rows[row])
        return video.rgb(frame), depth_of(depths[frame], cameras[row]) if depths else None

    skipped = len(video) - len(rows)
    return Walk(place.path, cameras, video.times[rows], read, range(len(rows)), skipped)


def _cameras(
    source: DataPath, video: VideoFile, K: Any, axes: Axes
) -> tuple[int, NDArray[np.int64], Cameras]:
    if source.suffix == ".json":
        transforms = read_transforms(source)
        cameras = transforms.cameras
        if transforms.skipped:
            raise FormatError(source, "has poses that are not finite; a video wants one a frame")
        if isinstance(cameras, tuple) or (cameras.width, cameras.height) != video.size:
            raise FormatError(source, f"has cameras of another size than the video's {video.size}")
        return len(cameras), np.arange(len(cameras)), cameras
    npz = source.suffix == ".npz"
    c2w, stored = _load_npz(source, video) if npz else _load_table(source)
    K = stored if K is None else torch.as_tensor(K)
    if K is None:
        raise FormatError(source.beside("K.txt"), "is missing; or pass K")
    clean, rows = tracked(source, c2w)
    K = K[torch.from_numpy(rows)] if K.ndim == 3 and len(K) == len(c2w) else K
    return len(c2w), rows, cameras_of(source, K, opencv_poses(clean, axes), *video.size)


def _load_npz(source: DataPath, video: VideoFile) -> tuple[Tensor, Tensor | None]:
    """Poses and intrinsics, for as many frames as the video has; others are not even unpacked."""
    n = len(video)
    shapes = {"c2w": ((n, 4, 4),), "K": ((3, 3), (n, 3, 3))}
    arrays = read_npz(source, shapes, f"the video has {n} frames")
    if "c2w" not in arrays:
        raise FormatError(source, "lacks the array c2w [N, 4, 4]")
    c2w, K = (
        torch.from_numpy(arrays[name].astype(np.float64)) if name in arrays else None
        for name in ("c2w", "K")
    )
    assert c2w is not None
    return c2w, K


def _load_table(source: DataPath) -> tuple[Tensor, Tensor | None]:
    K = source.beside("K.txt")
    return read_pose_table(source), torch.from_numpy(read_matrix(K, 3)) if K.is_file() else None


def _videos(folder: DataPath) -> list[DataPath]:
    if not folder.is_dir():
        return []
    return [file for file in folder.entries() if file.suffix in SUFFIXES]


def _video_in(path: DataPath) -> DataPath:
    if not path.is_dir():
        return path
    found = _videos(path)
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise FormatError(path, f"wanted a folder with just one video; it has {names}")
    return found[0]


def _candidates(file: DataPath) -> list[DataPath]:
    named = (f"{file.stem}{suffix}" for suffix in (".json", ".npz"))
    return [file.beside(name) for name in (*named, *POSES)]


def _poses_beside(file: DataPath) -> DataPath:
    for candidate in _candidates(file):
        if candidate.is_file():
            return candidate
    names = ", ".join(candidate.name for candidate in _candidates(file))
    raise FormatError(file, f"has no poses beside it; looked for {names}")
