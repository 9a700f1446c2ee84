"""LeRobot data sets, version 3.0: an episode of one camera, from parquet rows and MP4 video.

"LeRobotDataset v3.0" in LeRobot's documentation: ``meta/info.json`` has the features and the paths, ``meta/episodes`` where
each episode lies in the shared files. The format knows no camera poses; ours are the features that
:func:`spmem.integrations.writers.write_lerobot` writes, others' are named.
"""

from __future__ import annotations

import re
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
from spmem.errors import FormatError, InputError
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.parquet import numbers, read_parquet
from spmem.integrations.readers.pixels import read_depth
from spmem.integrations.readers.poses import (
    Axes,
    cameras_of,
    opencv_poses,
    poses_from_quaternions,
    poses_from_rows,
    tracked,
)
from spmem.integrations.readers.text import read_json
from spmem.integrations.readers.video_file import VideoFile
from spmem.integrations.readers.walk import Pixels, Walk

SIGN = "meta/info.json with codebase_version v3.x (a LeRobot data set)"
POSE, INTRINSICS = "observation.camera_pose", "observation.camera_intrinsics"
"""Our own features: camera-to-world, 16 numbers row by row with OpenCV axes; fx, fy, cx, cy in pixels."""

DEPTH = "depth/episode-{episode_index:06d}/frame-{frame_index:06d}.png"
"""Depth images are our addition, which lerobot passes over."""

_FIELD = re.compile(r"\{(?P<name>\w+)(?::0?(?P<width>\d{1,2})d)?\}")
_TASKS = 1000


@dataclass(frozen=True, eq=False)
class EpisodeRows:
    """One episode's rows: its number, its tasks in words, and every column that is no image, by name ``[n]`` or ``[n, c]``."""

    episode: int
    tasks: tuple[str, ...]
    columns: dict[str, NDArray[Any]]


def fits(path: DataPath) -> bool:
    """Whether a folder is laid out so, in version 3."""
    info = path / "meta" / "info.json"
    if not info.is_file():
        return False
    try:
        found = read_json(info)
    except FormatError:
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
    place = DataPath.named(path)
    info = _info(place)
    camera = _video_key(place, info, camera)
    row = _episode(place, episode)
    columns = _rows(place, episode).columns
    n = len(columns["timestamp"])
    if pose not in columns:
        raise FormatError(
            place,
            f"has no feature {pose!r} for camera poses (pose=…); it has {', '.join(sorted(columns))}",
        )
    c2w = _poses(place, columns[pose])
    clean, rows = tracked(place, geometry.inverse(c2w) if world_to_camera else c2w)
    file = place / _filled(place, info, "video_path", row, f"videos/{camera}", video_key=camera)
    video = VideoFile(file)
    start = float(row.get(f"videos/{camera}/from_timestamp", 0))
    first = int(np.abs(video.times - start).argmin())
    if first + n > len(video):
        raise FormatError(file, f"has {len(video)} frames; episode {episode} wants {first + n}")
    intrinsics = _intrinsics(place, columns, K, rows)
    cameras = cameras_of(place, intrinsics, opencv_poses(clean, axes), *video.size)
    depth_of, has_depth = _depth(place, info)

    def read(i: int) -> Pixels:
        frame = int(rows[i])
        file = place / DEPTH.format(episode_index=episode, frame_index=frame)
        known = has_depth and file.is_file()
        return video.rgb(first + frame), depth_of(file, cameras[i]) if known else None

    times = columns["timestamp"].astype(np.float64)[rows]
    return Walk(place.path, cameras, times, read, range(len(rows)), n - len(rows))


def read_lerobot(path: str | Path, episode: int = 0) -> EpisodeRows:
    """An episode's rows: actions, states, timestamps and all else but images.

    Raises:
        FormatError: A file is missing or wrong, or there is no such episode.
        MissingExtraError: pyarrow is not installed.
    """
    return _rows(DataPath.named(path), episode)


def _rows(path: DataPath, episode: int) -> EpisodeRows:
    info, row = _info(path), _episode(path, episode)
    file = path / _filled(path, info, "data_path", row, "data")
    table = read_parquet(file, lambda name: True)
    found = {name: numbers(table.column(name)) for name in table.column_names}
    columns = {name: values for name, values in found.items() if values is not None}
    for name in ("episode_index", "timestamp", *({"frame_index"} & set(columns))):
        if name not in columns or columns[name].ndim != 1:
            raise FormatError(file, f"lacks the column {name}, a number a row")
    inside = columns["episode_index"] == episode
    kept = {name: values[inside] for name, values in columns.items()}
    n = int(inside.sum())
    if n != row.get("length", n):
        raise FormatError(file, f"has {n} rows of episode {episode}, meta/episodes {row['length']}")
    order = np.argsort(kept["frame_index"], kind="stable") if "frame_index" in kept else slice(None)
    return EpisodeRows(episode, row["tasks"], {n: v[order] for n, v in kept.items()})


def _info(path: DataPath) -> dict[str, Any]:
    file = path / "meta" / "info.json"
    info = read_json(file)
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
    path: DataPath, info: dict[str, Any], name: str, row: dict[str, Any], part: str, **more: str
) -> str:
    """A path of the info's template, where the episode's row says that ``part`` lies."""
    values: dict[str, int | str] = {**more}
    for key in ("chunk_index", "file_index"):
        number = row.get(f"{part}/{key}")
        if number is None or number != int(number):
            raise FormatError(path, f"meta/episodes does not say where an episode's {part} lies")
        values[key] = int(number)
    template = str(info.get(name))

    def fill(found: re.Match[str]) -> str:
        # str.format would do anything that a template says, such as a width of a billion.
        if found["name"] not in values:
            raise FormatError(
                path / "meta" / "info.json", f"{name} has the unknown field {found['name'][:40]!r}"
            )
        return str(values[found["name"]]).zfill(int(found["width"] or 0))

    return _FIELD.sub(fill, template)


def _depth(
    path: DataPath, info: dict[str, Any]
) -> tuple[Callable[[DataPath, Camera], Tensor], bool]:
    """What reads a depth image, and whether there are any (our addition to the format)."""
    about = info.get("spmem_depth")
    if about is None:
        return partial(read_depth, scale=1.0), False
    scale = about.get("scale") if isinstance(about, dict) else None
    if not isinstance(scale, float) or not scale > 0:
        raise FormatError(
            path / "meta" / "info.json", f"spmem_depth is {str(about)[:80]}; wanted a scale > 0"
        )
    return partial(read_depth, scale=scale), True


def _video_key(path: DataPath, info: dict[str, Any], camera: str | None) -> str:
    features = info["features"].items()
    videos = [k for k, one in features if isinstance(one, dict) and one.get("dtype") == "video"]
    if camera is None and len(videos) == 1:
        return str(videos[0])
    if camera is not None and camera in videos:
        return camera
    raise FormatError(path, f"has the videos {', '.join(videos) or '(none)'}; name one (camera=…)")


def _episode(path: DataPath, episode: int) -> dict[str, Any]:
    """The numbers that ``meta/episodes`` has of an episode, by column, and its tasks."""
    if episode < 0:
        raise InputError(f"episodes count from 0, got {episode}")
    chunks = [chunk for chunk in (path / "meta" / "episodes").entries() if chunk.is_dir()]
    files = [file for chunk in chunks for file in chunk.entries() if file.suffix == ".parquet"]
    if not files:
        raise FormatError(path / "meta" / "episodes", "holds no parquet files")
    count = 0
    for file in files:
        table = read_parquet(file, lambda name: not name.startswith("stats/"), words="tasks")
        columns = {
            name: numbers(table.column(name)) for name in table.column_names if name != "tasks"
        }
        plain = {name: v for name, v in columns.items() if v is not None and v.ndim == 1}
        if "episode_index" not in plain:
            raise FormatError(file, "lacks the column episode_index")
        count += len(plain["episode_index"])
        for row in np.flatnonzero(plain["episode_index"] == episode)[:1].tolist():
            words = table.column("tasks")[row] if "tasks" in table.column_names else None
            if words is not None and words.is_valid and len(words) > _TASKS:
                raise FormatError(file, f"has {len(words):,} tasks of episode {episode}")
            tasks = tuple(words.as_py() or ()) if words is not None else ()
            return {name: values[row].item() for name, values in plain.items()} | {"tasks": tasks}
    raise FormatError(path, f"has no episode {episode}; it has {count}")


def _poses(path: DataPath, values: NDArray[Any]) -> Float[Tensor, "n 4 4"]:
    count = values.shape[1] if values.ndim == 2 else 1
    if count in (12, 16):
        return poses_from_rows(values.astype(np.float64))
    if count == 7:
        return poses_from_quaternions(path, values[:, :3], values[:, 3:])
    raise FormatError(path, f"its poses have {count} numbers; wanted 16 or 12 (a matrix), or 7")


def _intrinsics(
    path: DataPath, columns: dict[str, NDArray[Any]], K: Any, rows: NDArray[np.int64]
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
