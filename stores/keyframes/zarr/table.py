"""What is known of every keyframe without its pixels: ids, times, cameras, record lengths, as columns in RAM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.errors import KeyframeNotFoundError
from spmem.names import UID_BYTES
from spmem.types import Frame

COLUMNS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "id": (np.int64, ()),
    "uid": (np.uint8, (UID_BYTES,)),  # the same on every branch and after every change
    "time": (np.float64, ()),
    "c2w": (np.float32, (4, 4)),
    "K": (np.float32, (3, 3)),
    "size": (np.int32, (2,)),  # width, height
    "bytes": (np.int64, (5,)),  # of colour, depth, confidence, features, latent; 0 = not there
    "channels": (np.int32, ()),  # of the features
    "digest": (np.uint64, ()),  # of the record
}
"""Name, dtype and shape of a row's fields."""


def table_digest(columns: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of columns, one after the other by name, as little-endian bytes."""
    whole = sha256()
    for name in sorted(columns):
        whole.update(columns[name].astype(columns[name].dtype.newbyteorder("<")).tobytes())
    return whole.hexdigest()


class KeyframeTable:
    """Columns by name, each ``[n, …]``, in the order of ascending ids."""

    def __init__(self, columns: dict[str, NDArray[Any]] | None = None) -> None:
        empty = {name: np.empty((0, *shape), dtype) for name, (dtype, shape) in COLUMNS.items()}
        self._columns = empty if columns is None else columns
        self._length = len(self._columns["id"])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name][: self._length]

    def append(self, id: int, uid: bytes, frame: Frame) -> None:
        """Add the row of a keyframe whose record is not known yet: its parts have 0 bytes."""
        row, camera = self._length, frame.camera
        if row == len(self._columns["id"]):
            self._grow()
        values = {
            "id": id,
            "uid": np.frombuffer(uid, np.uint8),
            "time": frame.time,
            "c2w": camera.c2w.cpu().numpy(),
            "K": camera.K.cpu().numpy(),
            "size": (camera.width, camera.height),
            "bytes": 0,
            "digest": 0,
            "channels": 0 if frame.features is None else frame.features.shape[-1],
        }
        for name, value in values.items():
            self._columns[name][row] = value
        self._length += 1

    def find(self, id: int) -> int | None:
        """The row of an id."""
        row = int(np.searchsorted(self["id"], id))
        return row if row < self._length and self["id"][row] == id else None

    def rows(self, ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of ids. Raises KeyframeNotFoundError if one is not there."""
        try:
            ids = np.asarray(ids, np.int64)
        except OverflowError:
            raise KeyframeNotFoundError(
                f"no keyframe {max(ids, key=abs)}; the bank holds {len(self)}"
            ) from None
        rows = np.searchsorted(self["id"], ids)
        missing = np.setdiff1d(ids, self["id"])
        if len(missing):
            raise KeyframeNotFoundError(f"no keyframe {missing[0]}; the bank holds {len(self)}")
        return rows

    def uids(self) -> list[bytes]:
        """The identity of each row."""
        return [uid.tobytes() for uid in self["uid"]]

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Drop rows; views that were handed out keep the old arrays."""
        self._columns = {name: np.delete(self[name], rows, 0) for name in COLUMNS}
        self._length = len(self._columns["id"])

    def first(self, count: int | None = None) -> KeyframeTable:
        """A copy of the first rows, or of all."""
        return KeyframeTable({name: self[name][:count].copy() for name in COLUMNS})

    def columns(self) -> dict[str, NDArray[Any]]:
        """All columns by name."""
        return {name: self[name] for name in COLUMNS}

    def camera(self, row: int) -> Camera:
        """The camera of a row, on the CPU."""
        width, height = self["size"][row].tolist()
        K, c2w = (torch.from_numpy(self[name][row].copy()) for name in ("K", "c2w"))
        return Camera(K, c2w, width=width, height=height, validate=False)

    def _grow(self) -> None:
        # Doubling keeps appending cheap; views that were handed out keep the old arrays.
        room = max(16, 2 * self._length)
        for name, column in self._columns.items():
            grown = np.empty((room, *column.shape[1:]), column.dtype)
            grown[: self._length] = column[: self._length]
            self._columns[name] = grown


class RowCameras(Sequence[Camera]):
    """The cameras of rows, each built when it is asked for."""

    def __init__(self, rows: KeyframeTable, numbers: Sequence[int] | NDArray[np.int64]) -> None:
        self._rows, self._numbers = rows, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Camera: ...
    @overload
    def __getitem__(self, index: slice) -> RowCameras: ...
    def __getitem__(self, index: int | slice) -> Camera | RowCameras:
        if isinstance(index, slice):
            return RowCameras(self._rows, self._numbers[index])
        return self._rows.camera(int(self._numbers[index]))

    def __iter__(self) -> Iterator[Camera]:
        return (self._rows.camera(int(number)) for number in self._numbers)
