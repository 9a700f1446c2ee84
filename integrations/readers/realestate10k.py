"""RealEstate10K clips: one text file of cameras a clip; the frames themselves are yours to bring.

Zhou et al., "Stereo Magnification", arXiv 1805.09817, and the data set's page: the video's address, then a
line a frame: timestamp in microseconds, focal lengths and principal point as shares of the image's size, two
distortion coefficients (zero), a row-major 3x4 world-to-camera pose with OpenCV axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import FormatError
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.pixels import image_size, list_images, read_depth
from spmem.integrations.readers.poses import cameras_of, poses_from_rows, tracked
from spmem.integrations.readers.text import parse, read_lines
from spmem.integrations.readers.walk import Walk, walk_of_files

SIGN = "a .txt whose first line is a video's address"
_COUNT = 19


@dataclass(frozen=True, eq=False)
class Clip:
    """The cameras of a RealEstate10K clip.

    timestamps ``[n]`` int64 microseconds; times ``[n]`` seconds since the first; K ``[n, 3, 3]`` as shares of
    the image's size; c2w ``[n, 4, 4]`` float64; rows ``[n]`` int64 at which they stood in the file.
    """

    path: Path
    url: str
    timestamps: NDArray[np.int64]
    K: Float[Tensor, "n 3 3"]
    c2w: Float[Tensor, "n 4 4"]
    rows: NDArray[np.int64]

    @property
    def times(self) -> NDArray[np.float64]:
        """[n] seconds since the first frame."""
        return np.asarray((self.timestamps - self.timestamps[0]) / 1e6, np.float64)

    def cameras(self, width: int, height: int) -> Camera:
        """The cameras ``[n]`` for images of this size in pixels."""
        scale = torch.tensor([width, height, 1.0], dtype=torch.float64)
        path = DataPath.named(self.path)
        return cameras_of(path, self.K * scale[:, None], self.c2w, width, height)


def fits(path: DataPath) -> bool:
    """Whether a file starts as a clip does."""
    if not path.is_file() or path.suffix != ".txt":
        return False
    with path.open() as file:
        return file.read(4) == b"http"


def read_realestate10k(path: str | Path) -> Clip:
    """Read a clip's cameras. Raises FormatError naming the line that is wrong."""
    return _clip(DataPath.named(path))


def open_realestate10k(
    path: str | Path,
    *,
    images: str | Path | None = None,
    depth: str | Path | None = None,
    depth_scale: float = 0.001,
) -> Walk:
    """Open a clip with the images extracted from its video.

    Args:
        path: The clip's text file.
        images: Folder of images named by timestamp (``158692025.png``), or as many as the file has lines, in order.
        depth: Folder of depth images in the same way, or None.
        depth_scale: World units of one step of the depth images.

    Raises FormatError where a file is wrong, or no images are given (cameras alone:
    :func:`read_realestate10k`).
    """
    place = DataPath.named(path)
    if images is None:
        raise FormatError(
            place, "holds cameras only: name the folder of images (images=...), or use read_cameras"
        )
    clip = _clip(place)
    total = len(read_lines(place)) - 1
    files = _matched(list_images(DataPath.named(images)), clip, total)
    depths: list[DataPath | None] = [None] * len(files)
    if depth is not None:
        listed = list_images(DataPath.named(depth), (".png", ".npy"))
        depths = list(_matched(listed, clip, total))
    cameras = clip.cameras(*image_size(files[0]))
    depth_of = partial(read_depth, scale=depth_scale)
    return walk_of_files(
        place, files, depths, cameras, clip.times, depth_of, skipped=total - len(files)
    )


def _clip(path: DataPath) -> Clip:
    lines = read_lines(path)
    if not lines or not lines[0][1][0].startswith("http"):
        raise FormatError(path, "does not start with a video's address, as RealEstate10K clips do")
    if len(lines) == 1:
        raise FormatError(path, "lists no cameras after the video's address")
    for number, words in lines[1:]:
        if len(words) != _COUNT:
            raise FormatError(
                path, f"line {number} has {len(words)} numbers; wanted {_COUNT}: timestamp, "
                "fx, fy, cx, cy, k1, k2 and a 3x4 pose"
            )  # fmt: skip
    rows = np.array([[parse(path, number, word) for word in words] for number, words in lines[1:]])
    if not (np.abs(rows[:, 0]) < 1 << 53).all():
        raise FormatError(path, "has a timestamp that is no count of microseconds")
    if rows[:, 5:7].any():
        raise FormatError(
            path, "has lens distortion (k1, k2); undistort the images, then set both to 0"
        )
    w2c, kept = tracked(path, poses_from_rows(rows[:, 7:]))
    K = torch.zeros(len(kept), 3, 3, dtype=torch.float64)
    for column, (i, j) in enumerate(((0, 0), (1, 1), (0, 2), (1, 2)), start=1):
        K[:, i, j] = torch.from_numpy(rows[kept, column])
    K[:, 2, 2] = 1
    timestamps = rows[kept, 0].astype(np.int64)
    return Clip(path.path, lines[0][1][0], timestamps, K, geometry.inverse(w2c), kept)


def _matched(files: list[DataPath], clip: Clip, total: int) -> list[DataPath]:
    named = {p.stem: p for p in files}
    stems = [str(t) for t in clip.timestamps]
    if all(stem in named for stem in stems):
        return [named[stem] for stem in stems]
    if len(files) == total:
        return [files[i] for i in clip.rows]
    raise FormatError(
        files[0].path.parent,
        f"has {len(files)} images, neither named by timestamp nor as many as {clip.path.name} "
        f"has cameras ({total})",
    )
