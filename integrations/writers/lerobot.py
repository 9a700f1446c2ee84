"""A LeRobot data set, version 3.0: parquet rows and MP4 video, many episodes a file.

The layout is that of "LeRobotDataset v3.0" in LeRobot's documentation, and of what its writer writes
(github.com/huggingface/lerobot, ``src/lerobot/datasets``). lerobot itself is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError, MissingExtraError
from spmem.integrations.readers.lerobot import DEPTH, INTRINSICS, POSE
from spmem.integrations.writers.encoding import encode
from spmem.integrations.writers.images import check_scale, frames_of, rgb_of, write_depth
from spmem.integrations.writers.placing import new_folder
from spmem.types import Frame, Keyframe

DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
_COUNTS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_AXES = ["fx", "fy", "cx", "cy"]


@dataclass(frozen=True, eq=False)
class LeRobotEpisode:
    """Frames that belong together, and what was done in them.

    frames: In order, evenly spaced in time; keyframes are read one at a time.
    task: In words.
    columns: Further features by name, ``[n]`` or ``[n, c]``, as ``action`` or ``observation.state``.
    """

    frames: Iterable[Frame | Keyframe]
    task: str = ""
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def write_lerobot(
    folder: str | Path,
    episodes: Iterable[LeRobotEpisode],
    *,
    fps: int,
    camera: str = "observation.images.main",
    robot: str | None = None,
    lossless: bool = False,
    depth_scale: float = 0.001,
    overwrite: bool = False,
) -> None:
    """Write episodes as a LeRobot v3.0 data set that ``open_lerobot`` and lerobot read.

    Args:
        folder: Appears whole or not at all.
        episodes: Episodes of frames of one size, in one video. Times become frame numbers over ``fps``, as the format has it.
        fps: Whole frames a second.
        camera: The video's feature. Poses and intrinsics are the features ``observation.camera_pose`` (16 numbers,
            camera-to-world with OpenCV axes) and ``observation.camera_intrinsics`` (fx, fy, cx, cy): the format has none.
        robot: Its type, as the format notes it.
        lossless: As :func:`spmem.integrations.writers.write_video`'s; lerobot's decoders may not read it.
        depth_scale: World units of one step of the depth images (16-bit PNG beside the data, which lerobot passes over).
        overwrite: Replace all that is in the folder.

    Raises:
        FormatError: The folder is not empty and ``overwrite`` is False.
        InputError: No episode, an episode without frames, columns of another length or name, sizes that differ or are odd.
        MissingExtraError: pyarrow or PyAV is not installed.
    """
    _import_pyarrow()
    check_scale(depth_scale)
    if fps < 1 or fps != int(fps):
        raise InputError(f"a LeRobot data set has whole frames a second, got {fps}")
    if not camera or "/" in camera:
        raise InputError(f"a feature's name has no '/', got {camera!r}")
    with new_folder(Path(folder), overwrite=overwrite) as place:
        written = _Rows(place, fps, depth_scale)
        video = place / VIDEO.format(video_key=camera, chunk_index=0, file_index=0)
        video.parent.mkdir(parents=True)
        encode(video, map(rgb_of, written.frames(episodes)), fps=fps, lossless=lossless, gop=2)
        _write_data(place, written)
        _write_episodes(place, written, camera)
        _write_tasks(place, written.tasks)
        _write_json(place / "meta" / "stats.json", written.statistics(camera))
        _write_json(place / "meta" / "info.json", _make_info(written, camera, robot, depth_scale))


class _Rows:
    """Collects the table while the frames pass by on their way into the video."""

    def __init__(self, place: Path, fps: int, depth_scale: float) -> None:
        self.place, self.fps, self.depth_scale = place, fps, depth_scale
        self.columns: dict[str, list[NDArray[Any]]] = {}
        self.lengths: list[int] = []
        self.task_names: list[str] = []
        self.tasks: dict[str, int] = {}
        self.size = (0, 0)
        self.has_depth = False
        self._colours: list[tuple[int, NDArray[np.float64]]] = []

    def frames(self, episodes: Iterable[LeRobotEpisode]) -> Iterator[Frame]:
        """All frames of all episodes; afterwards the columns are complete."""
        for number, episode in enumerate(episodes):
            rows: dict[str, list[Any]] = {POSE: [], INTRINSICS: []}
            colours = []
            for i, frame in enumerate(frames_of(episode.frames)):
                K = frame.camera.K
                rows[POSE].append(frame.camera.c2w.cpu().numpy().reshape(16))
                rows[INTRINSICS].append([float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])])  # fmt: skip
                self._write_frame_depth(frame, number, i)
                self.size = (frame.camera.width, frame.camera.height)
                pixels = frame.rgb_float().flatten(0, 1).double()
                spread = [pixels.amin(0), pixels.amax(0), pixels.mean(0), pixels.square().mean(0)]
                colours.append(np.stack([value.cpu().numpy() for value in spread]))
                yield frame
            n = len(rows[POSE])
            if not n:
                raise InputError(f"episode {number} has no frames")
            self._add_episode_rows(number, n, rows, episode)
            self._colours.append((n, np.stack(colours)))

    def _write_frame_depth(self, frame: Frame, episode: int, index: int) -> None:
        if frame.depth is None:
            return
        path = self.place / DEPTH.format(episode_index=episode, frame_index=index)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_depth(path, frame.depth, self.depth_scale)
        self.has_depth = True

    def _add_episode_rows(
        self, number: int, n: int, rows: Mapping[str, Any], episode: LeRobotEpisode
    ) -> None:
        task = self.tasks.setdefault(episode.task, len(self.tasks))
        start = sum(self.lengths)
        table: dict[str, NDArray[Any]] = {
            name: np.asarray(v, np.float32) for name, v in rows.items()
        }
        for name, values in episode.columns.items():
            table[name] = _check_column(name, values, n)
        table["timestamp"] = (np.arange(n) / self.fps).astype(np.float32)
        table["frame_index"] = np.arange(n)
        table["episode_index"] = np.full(n, number)
        table["index"] = start + np.arange(n)
        table["task_index"] = np.full(n, task)
        if self.columns and {k: v[0].shape[1:] for k, v in self.columns.items()} != {
            k: v.shape[1:] for k, v in table.items()
        }:
            raise InputError(f"episode {number} has other columns than the ones before it")
        for name, values in table.items():
            self.columns.setdefault(name, []).append(values)
        self.lengths.append(n)
        self.task_names.append(episode.task)

    def statistics(self, camera: str, episode: int | None = None) -> dict[str, Any]:
        """Minimum, maximum, mean, deviation and count of every feature; colour in [0, 1] with channels first."""
        which = slice(None) if episode is None else slice(episode, episode + 1)
        statistics: dict[str, dict[str, Any]] = {
            name: _summarize_column(np.concatenate(parts[which]))
            for name, parts in self.columns.items()
        }
        colours = np.concatenate([frames for _, frames in self._colours[which]])
        mean = colours[:, 2].mean(0)
        deviation = np.sqrt(np.maximum(colours[:, 3].mean(0) - mean**2, 0))
        values = (colours[:, 0].min(0), colours[:, 1].max(0), mean, deviation)
        statistics[camera] = {
            name: [[[float(v)]] for v in value]
            for name, value in zip(("min", "max", "mean", "std"), values, strict=True)
        } | {"count": [len(colours)]}
        return statistics


def _check_column(name: str, values: Any, n: int) -> NDArray[Any]:
    column = np.asarray(values)
    if name in (POSE, INTRINSICS, *_COUNTS) or not name or "/" in name:
        raise InputError(f"{name!r} is written by itself, or is no feature's name")
    if column.dtype.kind not in "fiub" or column.ndim not in (1, 2) or len(column) != n:
        raise InputError(
            f"column {name!r} is {column.dtype} {list(column.shape)}; wanted numbers [{n}] or [{n}, c], one row a frame"
        )
    if column.dtype.kind == "f":
        column = column.astype(np.float32)
    elif column.dtype.kind in "iu":
        column = column.astype(np.int64)
    return column[:, 0] if column.ndim == 2 and column.shape[1] == 1 else column


def _summarize_column(column: NDArray[Any]) -> dict[str, list[float]]:
    rows = column.reshape(len(column), -1).astype(np.float64)
    values = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    return {name: value.tolist() for name, value in values.items()} | {"count": [len(rows)]}


def _write_data(place: Path, written: _Rows) -> None:
    pa, pq = _import_pyarrow()
    arrays = {}
    for name, parts in written.columns.items():
        column = np.concatenate(parts)
        flat = pa.array(column.reshape(-1))
        arrays[name] = flat if column.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, column.shape[1])  # fmt: skip
    path = place / DATA.format(chunk_index=0, file_index=0)
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(arrays), path)


def _write_episodes(place: Path, written: _Rows, camera: str) -> None:
    pa, pq = _import_pyarrow()
    rows, start = [], 0
    for number, n in enumerate(written.lengths):
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [written.task_names[number]],
            "length": n,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": start,
            "dataset_to_index": start + n,
            f"videos/{camera}/chunk_index": 0,
            f"videos/{camera}/file_index": 0,
            f"videos/{camera}/from_timestamp": start / written.fps,
            f"videos/{camera}/to_timestamp": (start + n) / written.fps,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for feature, spread in written.statistics(camera, number).items():
            row |= {f"stats/{feature}/{name}": value for name, value in spread.items()}
        rows.append(row)
        start += n
    path = place / EPISODES
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def _write_tasks(place: Path, tasks: Mapping[str, int]) -> None:
    """Tasks by their words: a pandas table whose index is the words, which lerobot looks up."""
    pa, pq = _import_pyarrow()
    columns = [("task_index", "int64", "int64"), ("task", "unicode", "object")]
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": n, "field_name": n, "pandas_type": p, "numpy_type": t, "metadata": None}
            for n, p, t in columns
        ],
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": list(tasks.values()), "task": list(tasks)})
    pq.write_table(
        table.replace_schema_metadata({"pandas": json.dumps(pandas)}),
        place / "meta" / "tasks.parquet",
    )


def _make_info(
    written: _Rows, camera: str, robot: str | None, depth_scale: float
) -> dict[str, Any]:
    width, height = written.size
    features: dict[str, Any] = {
        camera: {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": int(written.fps),
                "video.channels": 3,
                "has_audio": False,
            },
        }
    }
    for name, parts in written.columns.items():
        shape = list(parts[0].shape[1:]) or [1]
        names = _AXES if name == INTRINSICS else None
        features[name] = {"dtype": str(parts[0].dtype), "shape": shape, "names": names}
    info: dict[str, Any] = {
        "codebase_version": "v3.0",
        "robot_type": robot,
        "total_episodes": len(written.lengths),
        "total_frames": sum(written.lengths),
        "total_tasks": len(written.tasks),
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 500,
        "fps": int(written.fps),
        "splits": {"train": f"0:{len(written.lengths)}"},
        "data_path": DATA,
        "video_path": VIDEO,
        "features": features,
    }
    if written.has_depth:
        info["spmem_depth"] = {"scale": float(depth_scale)}
    return info


def _write_json(path: Path, values: Mapping[str, Any] | Sequence[Any]) -> None:
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")


def _import_pyarrow() -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "formats", "writing a LeRobot data set") from error
    return pyarrow, parquet
