"""The 7-Scenes layout: ``frame-000000.color.png``, ``.depth.png`` and ``.pose.txt`` side by side.

Glocker et al., "Real-Time RGB-D Camera Relocalization", ISMAR 2013, and the data set's readme: Kinect v1,
640x480, depth in millimetres with 65535 where there is none, camera-to-world poses in metres, principal
point (320, 240), focal length (585, 585).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import FormatError
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.pixels import image_size, read_depth
from spmem.integrations.readers.poses import cameras_of, scaled, tracked
from spmem.integrations.readers.text import read_matrix
from spmem.integrations.readers.walk import Walk, walk_of_files

SIGN = "frame-000000.pose.txt files"
FPS = 30.0
_SIZE = (640, 480)
_K = [[585.0, 0, 320], [0, 585, 240], [0, 0, 1]]
_POSE = re.compile(r"frame-([0-9]+)\.pose\.txt")


def fits(path: DataPath) -> bool:
    """Whether a folder, or one of its sequences, is laid out so."""
    return bool(_numbers(path) or _sequences(path))


def open_7scenes(path: str | Path, *, K: Any = None) -> Walk:
    """Open one sequence of the 7-Scenes layout.

    Intrinsics are ``K`` (pixels of the colour image), or those of ``camera-intrinsics.txt`` beside the frames,
    or the documented ones (scaled where the images
    are not 640x480). ``time`` is the frame's number / 30. Where depth pixels hold 0 or 65535 there is
    none. Frames whose pose is not finite (the files say ``-1.#IND``) are left out with a warning.

    Raises FormatError naming the file that is missing or wrong.
    """
    place = DataPath.named(path)
    numbers = _numbers(place)
    if not numbers:
        found = _sequences(place)
        if not found:
            raise FormatError(place, f"holds no {SIGN}")
        raise FormatError(place, f"holds the sequences {', '.join(found)}: open one of them")
    poses = [place / f"frame-{n}.pose.txt" for n in numbers]
    c2w = torch.from_numpy(np.stack([read_matrix(p, 4) for p in poses]))
    c2w, rows = tracked(place, c2w, poses)
    images = [_colour(place, numbers[i]) for i in rows]
    depths = [place / f"frame-{numbers[i]}.depth.png" for i in rows]
    missing = next((p for p in depths if not p.is_file()), None)
    if missing is not None:
        raise FormatError(missing, "is missing; every pose wants a depth image")
    width, height = image_size(images[0])
    source, K = (place, K) if K is not None else _intrinsics(place, width, height)
    cameras = cameras_of(source, K, c2w, width, height)
    times = np.array([int(numbers[i]) for i in rows]) / FPS
    skipped = len(numbers) - len(rows)
    return walk_of_files(place, images, depths, cameras, times, _depth, skipped=skipped)


def _depth(path: DataPath, camera: Camera) -> Tensor:
    return read_depth(path, camera, 0.001, none=65535)


def _numbers(path: DataPath) -> list[str]:
    if not path.is_dir():
        return []
    found = (_POSE.fullmatch(p.name) for p in path.entries())
    return sorted((m[1] for m in found if m), key=int)


def _sequences(path: DataPath) -> list[str]:
    found = (p for p in path.entries() if p.name.startswith("seq-")) if path.is_dir() else ()
    return [p.name for p in found if p.is_dir() and _numbers(p)]


def _colour(path: DataPath, number: str) -> DataPath:
    png, jpg = (path / f"frame-{number}.color.{suffix}" for suffix in ("png", "jpg"))
    if not png.is_file() and not jpg.is_file():
        raise FormatError(png, "is missing (.jpg too); every pose wants a colour image")
    return png if png.is_file() else jpg


def _intrinsics(path: DataPath, width: int, height: int) -> tuple[DataPath, Any]:
    file = path / "camera-intrinsics.txt"
    if file.is_file():
        return file, read_matrix(file, 3)
    return path, scaled(_K, _SIZE, width, height)
