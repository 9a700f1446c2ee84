"""Views: what retrieval knows of every keyframe without reading its pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spmem.arrays import ArraySchema, require
from spmem.camera import LARGEST, Camera

if TYPE_CHECKING:
    from spmem.types import Frame

THUMB = (48, 64)
"""Height and width of the depth thumbnails."""

SCHEMA = {
    "ids": ArraySchema("int64", "n", least=0, rising=True),
    "times": ArraySchema("float64", "n"),
    "K": ArraySchema("float32", "n 3 3"),
    "c2w": ArraySchema("float32", "n 4 4"),
    "depth": ArraySchema("float32", "n 48 64", least=0, most=LARGEST),
}


class Views:
    """Structure of arrays over n keyframes, ascending ids, grown in place (amortised).

    ids ``[n]`` int64; times ``[n]`` float64 seconds; K ``[n, 3, 3]`` float32 in pixels of the thumbnail;
    c2w ``[n, 4, 4]`` float32 camera-to-world, OpenCV axes; depth ``[n, 48, 64]`` float32 z-depth, 0 = none.

    The thumbnail samples the depth image (no averaging: a mean over an edge is a depth that nobody saw).
    """

    def __init__(self) -> None:
        self._n = 0
        self._columns = _columns(0)

    def __len__(self) -> int:
        return self._n

    @property
    def ids(self) -> NDArray[np.int64]:
        """[n] ascending."""
        return self._columns["ids"][: self._n]

    @property
    def times(self) -> NDArray[np.float64]:
        """[n] seconds."""
        return self._columns["times"][: self._n]

    @property
    def K(self) -> NDArray[np.float32]:
        """[n, 3, 3] in pixels of the thumbnail."""
        return self._columns["K"][: self._n]

    @property
    def c2w(self) -> NDArray[np.float32]:
        """[n, 4, 4]."""
        return self._columns["c2w"][: self._n]

    @property
    def depth(self) -> NDArray[np.float32]:
        """[n, 48, 64], 0 = none."""
        return self._columns["depth"][: self._n]

    def append(self, id: int, time: float, camera: Camera, depth: NDArray[np.float32]) -> None:
        """Add one view; ``depth`` [H, W] is the keyframe's, in the camera's size."""
        if self._n and id <= self.ids[-1]:
            raise ValueError(f"view ids ascend: {id} after {self.ids[-1]}")
        if self._n == len(self._columns["ids"]):
            grown = _columns(max(64, 2 * self._n))
            for name, column in grown.items():
                column[: self._n] = self._columns[name][: self._n]
            self._columns = grown
        small = camera.resize(THUMB[1], THUMB[0])
        row = {
            "ids": id,
            "times": time,
            "K": small.K.cpu().numpy(),
            "c2w": camera.c2w.cpu().numpy(),
            "depth": thumbnail(depth),
        }
        for name, value in row.items():
            self._columns[name][self._n] = value
        self._n += 1

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row numbers of ids; KeyError where one is not there."""
        rows = np.searchsorted(self.ids, ids)
        if len(ids) and (rows.max(initial=0) >= self._n or not np.array_equal(self.ids[rows], ids)):
            raise KeyError(
                f"no view with id {sorted(set(map(int, ids)) - set(map(int, self.ids)))}"
            )
        return rows.astype(np.int64)

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Give views other poses ``[n, 4, 4]``; KeyError where one is not there. Rules are to observe the rows again."""
        self.c2w[self.rows(ids)] = c2w

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Drop views; unknown ids are skipped."""
        keep = ~np.isin(self.ids, ids)
        self._columns = {name: column[: self._n][keep] for name, column in self._columns.items()}
        self._n = int(keep.sum())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The columns, for storage."""
        return {name: column[: self._n] for name, column in self._columns.items()}

    @classmethod
    def of(cls, frames: Iterable[Frame]) -> Views:
        """Views of frames, numbered in their order; those without depth are left out."""
        views = cls()
        for i, frame in enumerate(frames):
            if frame.depth is not None:
                views.append(i, frame.time or 0.0, frame.camera, frame.depth.cpu().numpy())
        return views

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]]) -> Views:
        """Inverse of :meth:`arrays`; the depth is taken as it is, because it is never changed.

        Raises:
            ValueError: Arrays that no views give, or cameras that are none.
        """
        views = cls()
        views.take(arrays)
        return views

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become what :meth:`arrays` gave, or change nothing and raise as :meth:`restore` does."""
        n = require(arrays, SCHEMA)["n"]
        Camera(arrays["K"], arrays["c2w"], width=1, height=1)
        self._n, self._columns = (
            n,
            {name: (np.asarray if name == "depth" else np.array)(arrays[name]) for name in SCHEMA},
        )


def thumbnail(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depth ``[H, W]`` sampled at the 48x64 thumbnail's pixel centres (nearest)."""
    h, w = depth.shape
    y = np.minimum(((np.arange(THUMB[0]) + 0.5) * h / THUMB[0]).astype(np.int64), h - 1)
    x = np.minimum(((np.arange(THUMB[1]) + 0.5) * w / THUMB[1]).astype(np.int64), w - 1)
    sampled: NDArray[np.float32] = depth[y[:, None], x[None, :]]
    return sampled


def _columns(n: int) -> dict[str, NDArray[Any]]:
    return {
        "ids": np.zeros(n, np.int64),
        "times": np.zeros(n, np.float64),
        "K": np.zeros((n, 3, 3), np.float32),
        "c2w": np.zeros((n, 4, 4), np.float32),
        "depth": np.zeros((n, *THUMB), np.float32),
    }
