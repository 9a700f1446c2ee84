"""LeRobot data sets, version 3.0: an episode of one camera, from parquet rows and MP4 video.

"LeRobotDataset v3.0" in LeRobot's documentation: ``meta/info.json`` has the features and the paths, ``meta/episodes`` where
each episode lies in the shared files. The format knows no camera poses; ours are the features that
:func:`spmem.integrations.writers.write_lerobot` writes, others' are named.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import FormatError, InputError, MissingExtraError
from spmem.integrations.readers.pixels import read_depth
from spmem.integrations.readers.poses import (
    Axes,
    cameras_of,
    opencv_poses,
    poses_from_quaternions,
    poses_from_rows,
    tracked,
)
from spmem.integrations.readers.text import read_text
from spmem.integrations.readers.video_file import VideoFile
from spmem.integrations.readers.walk import Pixels, Walk

SIGN = "meta/info.json with codebase_version v3.x (a LeRobot data set)"
POSE, INTRINSICS = "observation.camera_pose", "observation.camera_intrinsics"
"""Our own features: camera-to-world, 16 numbers row by row with OpenCV axes; fx, fy, cx, cy in pixels."""

DEPTH = "depth/episode-{episode_index:06d}/frame-{frame_index:06d}.png"
"""Depth images are our addition, which lerobot passes over."""


@dataclass(frozen=True, eq=False)
class EpisodeRows:
    """One episode's rows: its number, its tasks in words, and every column that is no image, by name ``[n]`` or ``[n, c]``."""

    episode: int
    tasks: tuple[str, ...]
    columns: dict[str, NDArray[Any]]


def fits(path: Path) -> bool:
    """Whether a folder is laid out so, in version 3."""
    info = path / "meta" / "info.json"
    if not info.is_file():
        return False
    try:
        found = json.loads(info.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return False
    return isinstance(found, dict) and str(found.get("codebase_version", "")).startswith("v3")


def open_lerobot(
    path: str | Path,
    *,
    episode: int = 0,
    camera: str | None = None,
    pose: str = POSE,
    K: Any = None,
    axes: Axes = "opencv",
    world_to_camera: bool = False,
) -> Walk:
    """Open an episode; times are its rows' timestamps.

    Args:
        path: The data set's folder.
        episode: Its index.
        camera: The video's feature, as ``observation.images.main``; None takes the only one there is.
        pose: The feature with the camera's poses: 16 or 12 numbers (a matrix, row by row) or 7 (position, and a quaternion
            x y z w).
        K: ``[3, 3]`` in pixels, where the data set has no ``observation.camera_intrinsics``.
        axes: Of the poses.
        world_to_camera: The poses are world-to-camera (else camera-to-world).

    Raises:
        FormatError: A file is missing or wrong, there is no such episode, camera or feature, or it has no intrinsics.
        MissingExtraError: pyarrow or PyAV is not installed.
    """
    path = Path(path)
    info = _info(path)
    camera = _video_key(path, info, camera)
    row = _episode(path, episode)
    columns = read_lerobot(path, episode).columns
    n = len(columns["timestamp"])
    if pose not in columns:
        raise FormatError(
            path,
            f"has no feature {pose!r} for camera poses (pose=…); it has {', '.join(sorted(columns))}",
        )
    c2w = _poses(path, columns[pose])
    clean, rows = tracked(path, geometry.inverse(c2w) if world_to_camera else c2w)
    file = path / _filled(path, info, "video_path", row, f"videos/{camera}", video_key=camera)
    video = VideoFile(file)
    start = float(row.get(f"videos/{camera}/from_timestamp") or 0)
    first = int(np.abs(video.times - start).argmin())
    if first + n > len(video):
        raise FormatError(file, f"has {len(video)} frames; episode {episode} wants {first + n}")
    intrinsics = _intrinsics(path, columns, K, rows)
    cameras = cameras_of(path, intrinsics, opencv_poses(clean, axes), *video.size)
    depth_of, has_depth = _depth(path, info)

    def read(i: int) -> Pixels:
        frame = int(rows[i])
        file = path / DEPTH.format(episode_index=episode, frame_index=frame)
        known = has_depth and file.is_file()
        return video.rgb(first + frame), depth_of(file, cameras[i]) if known else None

    times = columns["timestamp"].astype(np.float64)[rows]
    return Walk(path, cameras, times, read, range(len(rows)), n - len(rows))


def read_lerobot(path: str | Path, episode: int = 0) -> EpisodeRows:
    """An episode's rows: actions, states, timestamps and all else but images.

    Raises:
        FormatError: A file is missing or wrong, or there is no such episode.
        MissingExtraError: pyarrow is not installed.
    """
    path = Path(path)
    info, row = _info(path), _episode(path, episode)
    file = path / _filled(path, info, "data_path", row, "data")
    table = _read_parquet(file)
    if "episode_index" not in table.column_names or "timestamp" not in table.column_names:
        raise FormatError(file, "lacks the column episode_index or timestamp")
    inside = np.asarray(table.column("episode_index")) == episode
    columns = {name: _numbers(table.column(name)) for name in table.column_names}
    kept = {name: values[inside] for name, values in columns.items() if values is not None}
    if len(kept["timestamp"]) != int(row.get("length", len(kept["timestamp"]))):
        raise FormatError(
            file,
            f"has {len(kept['timestamp'])} rows of episode {episode}, meta/episodes {row['length']}",
        )
    order = np.argsort(kept["frame_index"], kind="stable") if "frame_index" in kept else slice(None)
    return EpisodeRows(
        episode, tuple(row.get("tasks") or ()), {n: v[order] for n, v in kept.items()}
    )


def _info(path: Path) -> dict[str, Any]:
    file = path / "meta" / "info.json"
    try:
        info: Any = json.loads(read_text(file))
    except ValueError as error:
        raise FormatError(file, f"is not JSON: {error}") from error
    version = str(info.get("codebase_version", "none")) if isinstance(info, dict) else "none"
    if not version.startswith("v3"):
        raise FormatError(
            file,
            f"has codebase_version {version}; wanted v3.x (lerobot's converter brings older data sets there)",
        )
    if not isinstance(info.get("features"), dict) or not isinstance(info.get("data_path"), str):
        raise FormatError(file, "lacks features or data_path")
    found: dict[str, Any] = info
    return found


def _filled(
    path: Path, info: dict[str, Any], name: str, row: dict[str, Any], part: str, **more: str
) -> str:
    """A path of the info's template, where the episode's row says that ``part`` lies; only inside the data set."""
    where = {key: row.get(f"{part}/{key}") for key in ("chunk_index", "file_index")}
    if None in where.values():
        raise FormatError(path, f"meta/episodes does not say where an episode's {part} lies")
    template = info.get(name)
    try:
        filled = str(template).format(**where, **more)
    except (KeyError, ValueError, IndexError) as error:
        raise FormatError(
            path / "meta" / "info.json", f"{name} is {template!r}: {error}"
        ) from error
    if Path(filled).is_absolute() or ".." in Path(filled).parts:
        raise FormatError(
            path / "meta" / "info.json", f"{name} leads outside the data set: {filled}"
        )
    return filled


def _depth(path: Path, info: dict[str, Any]) -> tuple[Callable[[Path, Camera], Tensor], bool]:
    """What reads a depth image, and whether there are any (our addition to the format)."""
    told = info.get("spmem_depth")
    if told is None:
        return partial(read_depth, scale=1.0), False
    scale = told.get("scale") if isinstance(told, dict) else None
    if not isinstance(scale, float) or not scale > 0:
        raise FormatError(path / "meta" / "info.json", f"spmem_depth is {told}; wanted a scale > 0")
    return partial(read_depth, scale=scale), True


def _video_key(path: Path, info: dict[str, Any], camera: str | None) -> str:
    videos = [name for name, one in info["features"].items() if one.get("dtype") == "video"]
    if camera is None and len(videos) == 1:
        return str(videos[0])
    if camera is not None and camera in videos:
        return camera
    raise FormatError(path, f"has the videos {', '.join(videos) or '(none)'}; name one (camera=…)")


def _episode(path: Path, episode: int) -> dict[str, Any]:
    if episode < 0:
        raise InputError(f"episodes count from 0, got {episode}")
    files = sorted((path / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise FormatError(path / "meta" / "episodes", "holds no parquet files")
    count = 0
    for file in files:
        table = _read_parquet(file)
        named = [n for n in table.column_names if not n.startswith("stats/")]
        found: dict[str, Any]
        for found in table.select(named).to_pylist():
            count += 1
            if found.get("episode_index") == episode:
                return found
    raise FormatError(path, f"has no episode {episode}; it has {count}")


def _read_parquet(file: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "formats", "reading a LeRobot data set") from error
    try:
        return parquet.read_table(file)
    except FileNotFoundError:
        raise FormatError(file, "is missing") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise FormatError(file, f"is not a readable parquet file: {error}") from error


def _numbers(column: Any) -> NDArray[Any] | None:
    """``[n]`` or ``[n, c]``, or None for what holds no numbers of one length (images, words)."""
    array = column.combine_chunks()
    kind = str(array.type)
    if kind.startswith(("fixed_size_list", "list", "extension")):
        try:
            values = np.array(array.to_pylist(), dtype=np.float64)
        except (ValueError, TypeError):
            return None
        return values.reshape(len(values), -1) if values.size else None
    if not kind.startswith(("int", "uint", "float", "double", "bool", "halffloat")):
        return None
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _poses(path: Path, values: NDArray[Any]) -> Float[Tensor, "n 4 4"]:
    count = values.shape[1] if values.ndim == 2 else 1
    if count in (12, 16):
        return poses_from_rows(values.astype(np.float64))
    if count == 7:
        return poses_from_quaternions(path, values[:, :3], values[:, 3:])
    raise FormatError(path, f"its poses have {count} numbers; wanted 16 or 12 (a matrix), or 7")


def _intrinsics(
    path: Path, columns: dict[str, NDArray[Any]], K: Any, rows: NDArray[np.int64]
) -> Tensor:
    if K is not None:
        return torch.as_tensor(K, dtype=torch.float64)
    found = columns.get(INTRINSICS)
    if found is None or found.ndim != 2 or found.shape[1] != 4:
        raise FormatError(path, f"has no intrinsics ({INTRINSICS}: fx, fy, cx, cy); pass K")
    matrices = torch.zeros(len(rows), 3, 3, dtype=torch.float64)
    for column, (i, j) in enumerate(((0, 0), (1, 1), (0, 2), (1, 2))):
        matrices[:, i, j] = torch.from_numpy(found[rows, column].astype(np.float64))
    matrices[:, 2, 2] = 1
    return matrices
