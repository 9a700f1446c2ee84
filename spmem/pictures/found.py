"""The keyframes that a question found, on one page."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from spmem.pictures.canvas import FAINT, Page
from spmem.pictures.panels import rgb_image
from spmem.types import Match

COLUMNS, CELL, GAP, MARGIN = 4, 3.7, 0.12, 0.35
HEADER, CAPTION = 0.6, 0.42


def found_sheet(found: Sequence[Match], *, title: str = "") -> Figure:
    """Keyframes in the order found, four a row, with their scores.

    Returns:
        A figure 16 inches wide; :func:`spmem.pictures.save` writes it.
    """
    images = [rgb_image(one.keyframe.frame.rgb) for one in found]
    tall = CELL * max((image.shape[0] / image.shape[1] for image in images), default=0.0)
    rows = -(-len(found) // COLUMNS)
    page = Page(16.0, 2 * MARGIN + HEADER + rows * (tall + CAPTION))
    page.text(MARGIN, MARGIN, f"{title}: {len(found)} found" if title else f"{len(found)} found")
    for i, (one, image) in enumerate(zip(found, images, strict=True)):
        x = MARGIN + i % COLUMNS * (CELL + GAP)
        y = MARGIN + HEADER + i // COLUMNS * (tall + CAPTION)
        page.image(image, x, y, CELL, tall)
        by = "".join(f" · {name} {score:.2f}" for name, score in one.by.items())
        caption = f"#{one.keyframe.id} · {one.keyframe.time:.1f} s · score {one.score:.3f}{by}"
        page.text(x, y + tall + 0.07, caption, fontsize=7.5, color=FAINT)
    return page.figure
