"""Surfel columns: a structure of arrays that grows without stalls, in chunks of rows that lie together in space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.arrays import ArraySchema, require
from spmem.camera import LARGEST
from spmem.device import as_device
from spmem.kernels.chunks import CHUNK, Chunks
from spmem.limits import FARTHEST, FINEST

WIDTHS: dict[str, tuple[int, ...]] = {
    "position": (3,),
    "normal": (3,),
    "radius": (),
    "colour": (3,),
    "confidence": (),
    "first_seen": (),
    "last_seen": (),
    "detail": (),
}
"""Trailing shape of each float32 column: 56 bytes a surfel, and 4 a feature channel."""

SURFELS = {
    "position": ArraySchema("float32", "n 3", least=-FARTHEST, most=FARTHEST),
    "normal": ArraySchema("float32", "n 3", least=-1.01, most=1.01),
    "radius": ArraySchema("float32", "n", least=0, most=FARTHEST),
    "colour": ArraySchema("float32", "n 3", least=-0.01, most=1.01),
    "confidence": ArraySchema("float32", "n", least=0, most=LARGEST),
    "first_seen": ArraySchema("float32", "n"),
    "last_seen": ArraySchema("float32", "n"),
    "detail": ArraySchema("float32", "n", least=0),
    # means of what is taken, which round a little beyond it
    "features": ArraySchema("float32", "n c", least=-2 * LARGEST, most=2 * LARGEST, optional=True),
}
"""What columns must be before kernels index them; rows with confidence have a radius of ``FINEST`` at least."""

AHEAD = 8
"""Frames for which :meth:`Columns.reserve` makes room."""


class Columns:
    """n rows; a row's number never changes, one with confidence 0 is dead, or not taken yet.

    On the CPU rows come in chunks (:class:`spmem.kernels.chunks.Chunks`), each filled from one block of space; on other
    devices they are taken one after the other, also by kernels that count them on the device (:meth:`reserve`): n is
    then no less than what is taken.
    """

    position: Float[Tensor, "n 3"]
    normal: Float[Tensor, "n 3"]
    radius: Float[Tensor, " n"]
    colour: Float[Tensor, "n 3"]
    confidence: Float[Tensor, " n"]
    first_seen: Float[Tensor, " n"]
    last_seen: Float[Tensor, " n"]
    detail: Float[Tensor, " n"]
    features: Float[Tensor, "n c"] | None

    def __init__(self, device: torch.device, *, chunked: bool = True) -> None:
        self.n = 0
        self.device = device = as_device(device)
        self.chunks = Chunks() if chunked and device.type == "cpu" else None
        self.taken = torch.zeros(1, dtype=torch.long, device=device)
        self._reserved = False
        self._full = {
            name: torch.zeros(0, *width, dtype=torch.float32, device=device)
            for name, width in WIDTHS.items()
        }

    def __getattr__(self, name: str) -> Tensor | None:
        full = self.__dict__.get("_full", {})
        if name in full:
            column: Tensor = full[name][: self.n]
            return column
        if name == "features":
            return None
        raise AttributeError(name)

    def append(
        self, rows: Mapping[str, Tensor], cell: Int[Tensor, "m 3"] | None = None
    ) -> Int[Tensor, " m"]:
        """Add surfels, of voxels ``cell`` where known; the rows that they got."""
        at = self.take(len(rows["position"]), cell)
        for name, values in rows.items():
            self._full[name][at] = values
        self.widen(at)
        return at

    def take(self, count: int, cell: Int[Tensor, "m 3"] | None = None) -> Int[Tensor, " m"]:
        """Rows for so many surfels; each column has room for them then."""
        if self.chunks is None:
            self.settle()
            at = torch.arange(self.n, self.n + count, device=self.device)
            self.n += count
            self.taken.fill_(self.n)
        else:
            at = torch.from_numpy(self.chunks.take(count, None if cell is None else cell.numpy()))
            self.n = CHUNK * self.chunks.n
        if self.n > len(self._full["radius"]):
            for name, column in self._full.items():
                self._full[name] = grow(column, self.n)
        return at

    def reserve(self, count: int) -> dict[str, Tensor]:
        """Whole columns, with room for ``count`` rows more than are taken: a kernel takes them, and adds to ``taken``.

        The host waits for the device only when the room might not suffice, some ``AHEAD`` calls apart.
        """
        if self.n + count > len(self._full["radius"]):
            self.settle()
            for name, column in self._full.items():
                self._full[name] = grow(column, self.n + AHEAD * count)
        self.n, self._reserved = self.n + count, True
        return self._full

    def worlds(self) -> tuple[dict[str, Tensor], Tensor]:
        """Whole columns, and how many rows of them are in use, as a tensor [1] on the device."""
        return self._full, self.taken if self.chunks is None else torch.tensor([self.n])

    def whole(self) -> dict[str, NDArray[np.float32]]:
        """Whole columns, with the room beyond n, as arrays of the same memory; on the CPU, until rows are taken."""
        return {name: column.numpy() for name, column in self._full.items()}

    def settle(self) -> None:
        """Let n be what is taken; waits for the device where a kernel took rows."""
        if self._reserved:
            self.n, self._reserved = int(self.taken), False

    def with_features(self, channels: int) -> Tensor:
        """The feature column [n, channels], zeros where it was not there before."""
        if "features" not in self._full:
            rows = len(self._full["radius"])
            self._full["features"] = torch.zeros(
                rows, channels, dtype=torch.float32, device=self.device
            )
        return self._full["features"][: self.n]

    def widen(self, rows: Int[Tensor, " m"]) -> None:
        """Let the bounds of chunks hold these rows, which are new or have moved."""
        if self.chunks is not None and len(rows):
            self.chunks.widen(rows.numpy(), self.position.numpy(), self.radius.numpy())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint."""
        self.settle()
        columns = {name: column[: self.n].cpu().numpy() for name, column in self._full.items()}
        return columns if self.chunks is None else {**columns, **self.chunks.arrays()}

    @classmethod
    def restore(
        cls, arrays: Mapping[str, NDArray[Any]], device: torch.device, *, chunked: bool = True
    ) -> Columns:
        """Inverse of :meth:`arrays`, from whichever device they came; ValueError where they are no columns."""
        n = require(arrays, SURFELS)["n"]
        alive = arrays["confidence"] > 0
        if not bool((arrays["radius"] >= FINEST)[alive].all()):
            raise ValueError("radius is 0 where there are surfels")
        columns = cls(device, chunked=chunked)
        columns.n = n if columns.chunks is None else -(-n // CHUNK) * CHUNK
        for name in [*WIDTHS, *(["features"] if "features" in arrays else [])]:
            full = owned(arrays[name], np.float32).to(columns.device)
            columns._full[name] = grow(full, columns.n) if columns.n > n else full
        columns.taken.fill_(columns.n)
        if columns.chunks is not None:
            columns.chunks = Chunks.restore(arrays, n)
            rows = np.flatnonzero(alive)
            if not columns.chunks.took(rows):
                raise ValueError("surfels are in rows that their chunks have not given away")
            columns.widen(torch.from_numpy(rows))
        return columns


def owned(array: NDArray[Any], dtype: Any) -> Tensor:
    """A tensor on the CPU of an array that is given away: of the same memory, where nobody else's array lies in it."""
    fits = array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable
    return torch.from_numpy(
        array if fits and array.flags.owndata else np.array(array, dtype, order="C")
    )


def grow(column: Tensor, rows: int, fill: float = 0) -> Tensor:
    """The column with room for ``rows`` rows, at least half as long again where it must move.

    On the CPU the room beyond is memory that the system has promised but not yet given.
    """
    if rows <= len(column):
        return column
    shape = (max(rows, len(column) * 3 // 2, 1024), *column.shape[1:])
    if column.device.type != "cpu":
        grown = column.new_full(shape, fill)
        grown[: len(column)] = column
        return grown
    old = column.numpy()  # numpy copies on this thread alone, torch wakes all
    new = np.full(shape, fill, old.dtype) if fill else np.zeros(shape, old.dtype)
    new[: len(old)] = old
    return torch.from_numpy(new)
