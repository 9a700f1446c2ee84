"""Figures off screen: colours, a page laid out in inches, and saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from spmem.integrations.writers.placing import new_file

PAPER = "#ffffff"
TEXT = "#1d2129"
FAINT = "#6b7280"
GROUND = "#15181d"
"""Background of maps: dark, so that white walls show."""
INK = "#e8eaed"
"""On the ground."""
PATH = "#35c4d7"
QUERIES = ("#f48434", "#e64980", "#9775fa", "#fcc419", "#51cf66", "#ff6b6b", "#4dabf7", "#c0eb75")
"""One colour a row of a sheet, the same on its map."""


class Page:
    """A figure in inches from its top left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), facecolor=PAPER)
        self.width, self.height = width, height
        self._whole = self.axes(0, 0, width, height)
        self._whole.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Bare axes of their own, ``(x, y)`` their top left corner."""
        w, h = self.width, self.height
        axes = self.figure.add_axes((x / w, 1 - (y + height) / h, width / w, height / h))
        axes.set_axis_off()
        return axes

    def image(
        self, image: NDArray[np.uint8], x: float, y: float, width: float, height: float
    ) -> None:
        """An image as large as fits into the box, at its middle."""
        scale = min(width / image.shape[1], height / image.shape[0])
        w, h = scale * image.shape[1], scale * image.shape[0]
        x, y = x + (width - w) / 2, y + (height - h) / 2
        self._whole.imshow(image, extent=(x, x + w, y + h, y), aspect="auto")

    def box(
        self, colour: str, x: float, y: float, width: float, height: float, **look: Any
    ) -> None:
        """A filled rectangle."""
        self._whole.add_patch(Rectangle((x, y), width, height, color=colour, linewidth=0, **look))

    def text(self, x: float, y: float, words: str, **look: Any) -> None:
        """Words whose top left corner is ``(x, y)``."""
        self._whole.text(x, y, words, **{"color": TEXT, "va": "top", "ha": "left", **look})


def save(figure: Figure, path: str | Path, dpi: int = 100) -> Path:
    """Write a figure as PNG, whole or not at all; a file that is there is replaced."""
    path = Path(path)
    with new_file(path, overwrite=True) as file:
        figure.savefig(file, format="png", dpi=dpi, facecolor=figure.get_facecolor())
    return path
