"""A walk: the posed frames of a data set, in order, read when asked for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.pixels import read_rgb
from spmem.types import Frame

Cameras = Camera | tuple[Camera, ...]
Pixels = tuple[Tensor, Tensor | None]


@dataclass(frozen=True, eq=False, repr=False)
class Walk(Sequence[Frame]):
    """Frames of a data set: ``len``, index, slice (another walk) and iterate; pixels are read on demand.

    path: What was opened.
    cameras: :class:`Camera` ``[N]``, or a tuple of N cameras where image sizes differ. No pixel is read.
    times: ``[N]`` seconds, or None where the data set has none.
    skipped: How many frames of the data set are left out: tracking lost (a pose that is not finite), or no
        partner in time. A warning said so at opening.
    applied_transform: ``[4, 4]`` that the data set's maker had applied to the poses (it is in them already),
        or None where unknown.

    Reading a frame raises FormatError naming the file that is missing or broken.
    """

    path: Path
    cameras: Cameras
    times: NDArray[np.float64] | None
    _read: Callable[[int], Pixels]
    _rows: range
    skipped: int = 0
    applied_transform: Float[Tensor, "4 4"] | None = None

    def __repr__(self) -> str:
        return f"Walk({str(self.path)!r}, {len(self)} frames, {self.cameras!r})"

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Walk: ...
    def __getitem__(self, index: int | slice) -> Frame | Walk:
        if isinstance(index, slice):
            return self._part(index)
        i = range(len(self))[operator.index(index)]
        rgb, depth = self._read(self._rows[i])
        time = None if self.times is None else float(self.times[i])
        return Frame(rgb, depth, self.cameras[i], time)

    def _part(self, index: slice) -> Walk:
        picked = torch.tensor(range(len(self))[index], dtype=torch.long)
        cameras = self.cameras
        return replace(
            self,
            cameras=cameras[picked] if isinstance(cameras, Camera) else cameras[index],
            times=None if self.times is None else self.times[index],
            _rows=self._rows[index],
        )


def walk_of_files(
    path: DataPath,
    images: Sequence[DataPath],
    depths: Sequence[DataPath | None],
    cameras: Cameras,
    times: NDArray[np.float64] | None,
    depth_of: Callable[[DataPath, Camera], Tensor],
    *,
    skipped: int = 0,
    applied_transform: Tensor | None = None,
) -> Walk:
    """A walk with an image file a frame, and a depth file (read by ``depth_of``) or None."""

    def read(row: int) -> Pixels:
        camera, depth = cameras[row], depths[row]
        rgb = read_rgb(images[row], camera)
        return rgb, None if depth is None else depth_of(depth, camera)

    rows = range(len(images))
    return Walk(path.path, cameras, times, read, rows, skipped, applied_transform)
