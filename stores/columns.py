"""Surfel columns: a structure of arrays that grows without stalls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

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


class Columns:
    """n surfels by row number; a row's number never changes, a dead row has confidence 0."""

    position: Float[Tensor, "n 3"]
    normal: Float[Tensor, "n 3"]
    radius: Float[Tensor, " n"]
    colour: Float[Tensor, "n 3"]
    confidence: Float[Tensor, " n"]
    first_seen: Float[Tensor, " n"]
    last_seen: Float[Tensor, " n"]
    detail: Float[Tensor, " n"]
    features: Float[Tensor, "n c"] | None

    def __init__(self, device: torch.device) -> None:
        self.n = 0
        self.device = device
        self._full = {name: torch.zeros(0, *width, device=device) for name, width in WIDTHS.items()}

    def __getattr__(self, name: str) -> Tensor | None:
        full = self.__dict__.get("_full", {})
        if name in full:
            column: Tensor = full[name][: self.n]
            return column
        if name == "features":
            return None
        raise AttributeError(name)

    def append(self, rows: Mapping[str, Tensor]) -> None:
        """Add rows; a first ``features`` gives the rows before it zeros, and rows without get zeros."""
        m = len(rows["position"])
        if "features" in rows and "features" not in self._full:
            channels = rows["features"].shape[1]
            self._full["features"] = torch.zeros(self.n, channels, device=self.device)
        for name, column in self._full.items():
            column = self._full[name] = grow(column, self.n + m)
            if name in rows:
                column[self.n : self.n + m] = rows[name]
        self.n += m

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint."""
        return {name: column[: self.n].cpu().numpy() for name, column in self._full.items()}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> Columns:
        """Inverse of :meth:`arrays`."""
        columns = cls(device)
        names = [*WIDTHS, *(["features"] if "features" in arrays else [])]
        columns._full = {name: torch.tensor(arrays[name], device=device) for name in names}
        columns.n = len(arrays["position"])
        return columns


def grow(column: Tensor, rows: int, fill: float = 0) -> Tensor:
    """The column with room for ``rows`` rows, at least half as long again where it must move."""
    if rows <= len(column):
        return column
    grown = column.new_full((max(rows, len(column) * 3 // 2, 1024), *column.shape[1:]), fill)
    grown[: len(column)] = column
    return grown
