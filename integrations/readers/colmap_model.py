"""The cameras and images of a COLMAP model, binary or text; its 3D points are not read.

colmap.github.io/format.html. A count in a binary file is believed as far as the file reaches, and no further.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spmem.errors import FormatError
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.poses import poses_from_quaternions
from spmem.integrations.readers.text import parse, read_text

_PINHOLES = {"SIMPLE_PINHOLE": (0, 0, 1, 2), "PINHOLE": (0, 1, 2, 3)}
"""Where fx, fy, cx and cy stand among a camera's parameters."""

_MODELS = (
    ("SIMPLE_PINHOLE", 3), ("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("RADIAL", 5), ("OPENCV", 8), ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12), ("FOV", 5), ("SIMPLE_RADIAL_FISHEYE", 4), ("RADIAL_FISHEYE", 5), ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16), ("SIMPLE_DIVISION", 4), ("DIVISION", 5), ("SIMPLE_FISHEYE", 3), ("FISHEYE", 4),
    ("EUCM", 6), ("EQUIRECTANGULAR", 2),
)  # fmt: skip
"""COLMAP's camera models by number, each with the count of its parameters."""


@dataclass(frozen=True, eq=False)
class ModelCamera:
    """A camera of a model: its number, the name of its kind, its image size in pixels, and its parameters."""

    number: int
    kind: str
    size: tuple[int, int]
    parameters: tuple[float, ...]

    def intrinsics(self, model: DataPath) -> Float[Tensor, "3 3"]:
        """K in pixels. Raises FormatError if the camera has lens distortion, or another count of parameters."""
        if self.kind not in _PINHOLES:
            raise FormatError(
                model,
                f"camera {self.number} is {self.kind}, which has lens distortion: run colmap image_undistorter "
                "and open the workspace that it writes",
            )
        places = _PINHOLES[self.kind]
        if len(self.parameters) != max(places) + 1:
            raise FormatError(
                model,
                f"camera {self.number} has {len(self.parameters)} parameters; {self.kind} has {max(places) + 1}",
            )
        fx, fy, cx, cy = (self.parameters[place] for place in places)
        return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class ModelImages:
    """The n registered images of a model: names, world-to-camera poses ``[n, 4, 4]`` float64, and their cameras."""

    names: list[str]
    w2c: Float[Tensor, "n 4 4"]
    cameras: list[ModelCamera]


def read_model(folder: DataPath, suffix: str) -> ModelImages:
    """Read ``cameras`` and ``images`` of a model's folder.

    Args:
        folder: Of the model.
        suffix: ``.bin`` or ``.txt``.

    Raises FormatError naming the file that is wrong.
    """
    file, binary = folder / f"images{suffix}", suffix == ".bin"
    cameras = (_binary_cameras if binary else _text_cameras)(folder / f"cameras{suffix}")
    rows = list((_binary_images if binary else _text_images)(file))
    if not rows:
        raise FormatError(file, "has no registered image")
    for _, _, name, number in rows:
        if number not in cameras:
            raise FormatError(
                file, f"image {name[:80]!r} has the camera {number}, which is missing"
            )
    pose = np.array([row[0] + row[1] for row in rows], np.float64)
    w2c = poses_from_quaternions(file, pose[:, 4:], pose[:, [1, 2, 3, 0]])
    return ModelImages([row[2] for row in rows], w2c, [cameras[row[3]] for row in rows])


_Row = tuple[tuple[float, ...], tuple[float, ...], str, int]
"""Of an image: the quaternion w x y z, the translation, its name, its camera's number."""


def _text_lines(file: DataPath) -> Iterator[tuple[int, str]]:
    """All lines but comments, from line 1, whether something stands there or not."""
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.lstrip().startswith("#"):
            yield number, line.strip()


def _text_cameras(file: DataPath) -> dict[int, ModelCamera]:
    cameras: dict[int, ModelCamera] = {}
    for number, line in _text_lines(file):
        words = line.split()
        if not words:
            continue
        if len(words) < 5:
            raise FormatError(file, f"line {number} has {len(words)} words; wanted a camera")
        values = [parse(file, number, word) for word in words[4:]]
        id, width, height = (_whole(file, number, words[i]) for i in (0, 2, 3))
        cameras[id] = ModelCamera(id, words[1], (width, height), tuple(values))
    return cameras


def _text_images(file: DataPath) -> Iterator[_Row]:
    lines = _text_lines(file)
    for number, line in lines:
        words = line.split(maxsplit=9)
        if not words:
            continue
        if len(words) < 10:
            raise FormatError(file, f"line {number} has {len(words)} words; wanted an image")
        values = tuple(parse(file, number, word) for word in words[1:8])
        yield values[:4], values[4:], words[9], _whole(file, number, words[8])
        next(lines, None)  # its 2D points, in a line that may be empty


def _whole(file: DataPath, line: int, word: str) -> int:
    value = parse(file, line, word)
    if not (value.is_integer() and abs(value) < 1 << 53):
        raise FormatError(file, f"line {line}: {word[:40]!r} is no whole number")
    return int(value)


class _Binary:
    """A file's bytes, taken from the front. Raises FormatError if it ends before what it claims."""

    def __init__(self, file: DataPath) -> None:
        self._file, self._bytes, self._at = file, file.read(), 0

    def take(self, kind: str) -> tuple[Any, ...]:
        """The next numbers, as :mod:`struct` calls them."""
        self.skip(struct.calcsize(f"<{kind}"))
        return struct.unpack_from(f"<{kind}", self._bytes, self._at - struct.calcsize(f"<{kind}"))

    def skip(self, count: int) -> None:
        """Pass over bytes."""
        if count > len(self._bytes) - self._at:
            raise FormatError(
                self._file,
                f"claims {count:,} bytes at {self._at:,}; it has {len(self._bytes):,} in all",
            )
        self._at += count

    def word(self) -> str:
        """The next letters, up to the zero after them."""
        end = self._bytes.find(b"\0", self._at)
        start = self._at
        self.skip(max(end, start) + 1 - start if end >= 0 else len(self._bytes) + 1)
        return self._bytes[start:end].decode("utf-8", "surrogateescape")


def _binary_cameras(file: DataPath) -> dict[int, ModelCamera]:
    content = _Binary(file)
    cameras: dict[int, ModelCamera] = {}
    for _ in range(content.take("Q")[0]):
        number, kind, width, height = content.take("IiQQ")
        if not 0 <= kind < len(_MODELS):
            raise FormatError(file, f"camera {number} is of the model {kind}, which is unknown")
        name, count = _MODELS[kind]
        cameras[number] = ModelCamera(number, name, (width, height), content.take(f"{count}d"))
    return cameras


def _binary_images(file: DataPath) -> Iterator[_Row]:
    content = _Binary(file)
    for _ in range(content.take("Q")[0]):
        _, *pose, camera = content.take("I7dI")
        name = content.word()
        content.skip(24 * content.take("Q")[0])
        yield tuple(pose[:4]), tuple(pose[4:]), name, camera
