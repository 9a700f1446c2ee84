"""TUM RGB-D: ``rgb.txt``, ``depth.txt`` and ``groundtruth.txt``, joined by their timestamps.

Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems", IROS 2012, and the data set's pages
"File formats" and "Intrinsic camera calibration".
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.errors import FormatError
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.pixels import image_size, read_depth
from spmem.integrations.readers.poses import (
    cameras_of,
    left_out,
    poses_from_quaternions,
    scaled,
    tracked,
)
from spmem.integrations.readers.text import parse, read_lines, read_rows
from spmem.integrations.readers.walk import Walk, walk_of_files

SIGN = "rgb.txt and groundtruth.txt"
SIZE = (640, 480)
_DOCUMENTED = {
    "freiburg1": (517.3, 516.5, 318.6, 255.3),
    "freiburg2": (520.9, 521.0, 325.1, 249.7),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
}
_ROS_DEFAULT = (525.0, 525.0, 319.5, 239.5)


def fits(path: DataPath) -> bool:
    """Whether a folder is laid out so."""
    return (path / "rgb.txt").is_file() and (path / "groundtruth.txt").is_file()


def open_tum(
    path: str | Path, *, K: Any = None, max_difference: float = 0.02, depth_scale: float = 1 / 5000
) -> Walk:
    """Open a TUM RGB-D sequence; ``time`` is seconds since the first image of ``rgb.txt``.

    Every image is joined with the depth image and the pose nearest in time; one that has no partner within
    ``max_difference`` seconds is left out, with a warning. Without ``depth.txt`` frames have no depth.

    Args:
        path: The sequence's folder.
        K: ``[3, 3]`` in pixels with centres at +0.5, or None: the calibration that TUM documents for
            freiburg1, 2 or 3 where that is part of the folder's name, else TUM's ROS default (525). Lens
            distortion is not removed (the freiburg3 images have none). Defaults are scaled to images that are not 640x480.
        max_difference: Seconds.
        depth_scale: Metres of one step of the depth images.

    Raises FormatError naming the file and line that is wrong.
    """
    place = DataPath.named(path)
    images, image_times = _read_list(place, "rgb.txt")
    has_depth = (place / "depth.txt").is_file()
    depths, depth_times = _read_list(place, "depth.txt") if has_depth else (images, image_times)
    truth = place / "groundtruth.txt"
    pose_times, c2w = read_trajectory(truth)
    c2w, rows = tracked(truth, c2w)
    pose_times = pose_times[rows]

    nearest_depth, nearest_pose = (_nearest(image_times, t) for t in (depth_times, pose_times))
    apart = np.maximum(
        np.abs(depth_times[nearest_depth] - image_times),
        np.abs(pose_times[nearest_pose] - image_times),
    )
    kept = np.flatnonzero(apart <= max_difference)
    if not len(kept):
        raise FormatError(
            place,
            f"no image of rgb.txt has a depth image and a pose within {max_difference:g} s; "
            f"the nearest are {apart.min():.3g} s apart",
        )
    skipped = len(images) - len(kept)
    left_out(place, skipped, len(images), f"no depth or pose within {max_difference:g} s")
    files = [images[i] for i in kept]
    partners = [depths[nearest_depth[i]] if has_depth else None for i in kept]
    size = image_size(files[0])
    K = scaled(default_intrinsics(place.path), SIZE, *size) if K is None else K
    cameras = cameras_of(place, K, c2w[nearest_pose[kept]], *size)
    times = image_times[kept] - image_times[0]
    depth_of = partial(read_depth, scale=depth_scale)
    return walk_of_files(place, files, partners, cameras, times, depth_of, skipped=skipped)


def read_trajectory(path: DataPath) -> tuple[NDArray[np.float64], Float[Tensor, "n 4 4"]]:
    """Timestamps in seconds and c2w of a trajectory in TUM's format ``t tx ty tz qx qy qz qw``.

    Ordered by time; poses may be not finite. Raises FormatError.
    """
    rows = read_rows(path, (8,), "a trajectory: timestamp tx ty tz qx qy qz qw")
    if not np.isfinite(rows[:, 0]).all():
        raise FormatError(path, "has a timestamp that is not finite")
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return rows[:, 0], poses_from_quaternions(path, rows[:, 1:4], rows[:, 4:])


def default_intrinsics(path: Path) -> list[list[float]]:
    """K at 640x480 for a sequence, by the camera in its folder's name; TUM counts pixel centres from 0."""
    name = path.resolve().name
    documented = (value for key, value in _DOCUMENTED.items() if key in name)
    fx, fy, cx, cy = next(documented, _ROS_DEFAULT)
    return [[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]]


def _read_list(path: DataPath, name: str) -> tuple[list[DataPath], NDArray[np.float64]]:
    file = path / name
    lines = read_lines(file)
    if not lines:
        raise FormatError(file, "lists no images; wanted lines of timestamp and file name")
    for number, words in lines:
        if len(words) != 2:
            raise FormatError(
                file, f"line {number} has {len(words)} words; wanted timestamp and file name"
            )
    times = np.array([parse(file, number, words[0]) for number, words in lines])
    if not np.isfinite(times).all():
        raise FormatError(file, "has a timestamp that is not finite")
    order = np.argsort(times, kind="stable")
    return [path / lines[i][1][1] for i in order], times[order]


def _nearest(times: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.int64]:
    after = np.searchsorted(among, times).clip(0, len(among) - 1)
    before = (after - 1).clip(0)
    return np.where(np.abs(among[before] - times) <= np.abs(among[after] - times), before, after)
