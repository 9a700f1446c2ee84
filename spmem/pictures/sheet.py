"""The contact sheet: what was asked, what memory answered, and what was true, on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.pictures import panels
from spmem.pictures.agreement import agreement, depth_error
from spmem.pictures.canvas import FAINT, QUERIES, Page
from spmem.pictures.plan import draw_plan, ground_plan
from spmem.types import Contribution, Frame, Keyframe, Retrieval

if TYPE_CHECKING:
    from spmem.memory import SpatialMemory

WIDTH = 16.0
MARGIN, GAP, GUTTER = 0.35, 0.09, 0.22
CAPTION, HEADER = 0.42, 0.3
MAP = (10.4, 5.6)
"""Width (where facts stand beside it) and height of the map."""
FACT, FACTS = 0.62, 8
"""Height of a line of facts, and how many stand side by side where there is no map."""
ROWS = 6
"""Cameras of one retrieval that are shown at most."""
CEILING = 0.05
"""Relative depth error at which the colours end."""


class Panel(NamedTuple):
    """An image with words under it."""

    image: NDArray[np.uint8]
    caption: str
    share: tuple[float, float] | None = None
    """What a keyframe sees, and what it alone sees."""


class Row(NamedTuple):
    """A camera: its own panels, and those of the keyframes that stand beside it."""

    colour: str
    panels: list[Panel]
    keyframes: list[Panel]


def contact_sheet(
    retrievals: Retrieval | Sequence[Retrieval],
    truth: Sequence[Frame] | None = None,
    *,
    memory: SpatialMemory | None = None,
    title: str = "",
    facts: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
) -> Figure:
    """A row a camera: the true image, the projection, what memory covers, the depth error, the keyframes to look at.

    Args:
        retrievals: One, or several of one image size. Of a long trajectory six cameras are shown, evenly.
        truth: A frame a camera, over all retrievals in order; without it the projection's depth and normals are shown.
        memory: If given, a map of it with the cameras of the retrievals heads the sheet.
        title: Title of the sheet.
        facts: Figures under the title, by what they are.
        labels: Words a camera, in the order of ``truth``.

    Returns:
        A figure 16 inches wide; :func:`spmem.pictures.save` writes it.

    Raises:
        InputError: Nothing to show, or not one true frame or label a camera.
    """
    answers = [retrievals] if isinstance(retrievals, Retrieval) else list(retrievals)
    total = sum(len(one.cameras) for one in answers)
    if not total:
        raise InputError("a contact sheet needs at least one retrieval of at least one camera")
    for what, given in (("truth", truth), ("labels", labels)):
        if given is not None and len(given) != total:
            raise InputError(f"{what} are one a camera: {total} wanted, got {len(given)}")
    rows, cameras = _make_rows(answers, truth, labels or [""] * total)
    plan = None if memory is None else ground_plan(memory, 1500, Camera.stack(cameras))

    columns = 4 + max(len(row.keyframes) for row in rows)
    cell = (WIDTH - 2 * MARGIN - GUTTER - (columns - 2) * GAP) / columns
    tall = cell * answers[0].cameras.height / answers[0].cameras.width
    top = MARGIN + (0.5 if title else 0.0)
    start = top
    if plan is not None:
        start += MAP[1] + 0.25
    elif facts:
        start += -(-len(facts) // FACTS) * FACT + 0.1
    page = Page(WIDTH, start + HEADER + len(rows) * (tall + CAPTION) + MARGIN - 0.1)

    page.text(MARGIN, MARGIN - 0.05, title, fontsize=17, weight="bold")
    if plan is None or memory is None:
        _draw_facts(page, facts or {}, MARGIN, top, FACTS)
    else:
        marked = [(camera, row.colour) for camera, row in zip(cameras, rows, strict=True)]
        wide = MAP[0] if facts else WIDTH - 2 * MARGIN
        draw_plan(page.axes(MARGIN, top, wide, MAP[1]), plan, memory, marked)
        _draw_facts(page, facts or {}, MARGIN + MAP[0] + 0.4, top, 2)
    _draw_headers(page, start, cell, truth is not None, any(row.keyframes for row in rows))
    for i, row in enumerate(rows):
        _draw_row(page, row, start + HEADER + i * (tall + CAPTION), cell, tall)
    return page.figure


# -- what is shown ------------------------------------------------------------------------------------


def _make_rows(
    answers: Sequence[Retrieval], truth: Sequence[Frame] | None, labels: Sequence[str]
) -> tuple[list[Row], list[Camera]]:
    rows: list[Row] = []
    cameras: list[Camera] = []
    first = 0
    for one in answers:
        count = len(one.cameras)
        shown = np.unique(np.linspace(0, count - 1, min(count, ROWS)).round().astype(int)).tolist()
        frames = None if truth is None else truth[first : first + count]
        beside = _keyframe_panels(one)
        width = -(-len(beside) // len(shown))
        for place, t in enumerate(shown):
            own = (
                _projection_panels(one, t) if frames is None else _comparison_panels(one, t, frames)
            )
            own[0] = own[0]._replace(caption=labels[first + t] or own[0].caption)
            colour = QUERIES[len(rows) % len(QUERIES)]
            rows.append(Row(colour, own, beside[place * width : (place + 1) * width]))
            cameras.append(one.cameras[t])
        first += count
    return rows, cameras


def _projection_panels(one: Retrieval, t: int) -> list[Panel]:
    seen = one.projection
    there = seen.depth[t][seen.depth[t] > 0]
    near, far = (float(there.quantile(q)) for q in (0.02, 0.98)) if len(there) else (1.0, 2.0)
    return [
        Panel(panels.rgb_image(seen.rgb[t]), ""),
        Panel(panels.coverage_image(seen.rgb[t], seen.mask[t]), f"{one.coverage[t]:.0%} covered"),
        Panel(panels.depth_image(seen.depth[t], near, far), f"{near:.3g} to {far:.3g} world units"),
        Panel(panels.normal_image(seen.normal[t]), ""),
    ]


def _comparison_panels(one: Retrieval, t: int, frames: Sequence[Frame]) -> list[Panel]:
    seen, frame = one.projection, frames[t]
    error = depth_error(seen, t, frame)
    found = agreement(seen, frames)
    return [
        Panel(panels.rgb_image(frame.rgb), "" if frame.time is None else f"{frame.time:.1f} s"),
        Panel(
            panels.rgb_image(seen.rgb[t]), f"PSNR {_format_value(found.psnr[t].item(), '.1f')} dB"
        ),
        Panel(panels.coverage_image(seen.rgb[t], seen.mask[t]), f"{one.coverage[t]:.0%} covered"),
        Panel(
            panels.error_image(error, CEILING),
            _format_median(found.depth_error[t].item()),
        ),
    ]


def _keyframe_panels(one: Retrieval) -> list[Panel]:
    contributions = {contribution.id: contribution for contribution in one.explain()}
    return [
        _keyframe_panel(keyframe, float(score), contributions.get(keyframe.id))
        for keyframe, score in zip(one.keyframes, one.scores, strict=True)
    ]


def _keyframe_panel(keyframe: Keyframe, score: float, contribution: Contribution | None) -> Panel:
    caption = f"#{keyframe.id} · {keyframe.time:.1f} s · score {score:.2f}"
    if contribution is None:
        return Panel(panels.rgb_image(keyframe.frame.rgb), caption)
    caption += f"\nsees {contribution.sees:.0%} · alone {contribution.alone:.0%}"
    return Panel(
        panels.rgb_image(keyframe.frame.rgb), caption, (contribution.sees, contribution.alone)
    )


def _format_value(value: float, format: str) -> str:
    return "none" if value != value else f"{value:{format}}"


def _format_median(error: float) -> str:
    if error < 1e-4:
        return "median < 0.01 %"
    return f"median {_format_value(100 * error, '.2f')} %"


# -- drawing ------------------------------------------------------------------------------------------


def _draw_facts(page: Page, facts: Mapping[str, str], x: float, y: float, columns: int) -> None:
    step = (WIDTH - MARGIN - x) / columns
    for i, (name, value) in enumerate(facts.items()):
        at = x + i % columns * step, y + i // columns * FACT
        page.text(*at, name, fontsize=9, color=FAINT)
        page.text(at[0], at[1] + 0.17, value, fontsize=15)


def _draw_headers(page: Page, y: float, cell: float, compared: bool, keyframes: bool) -> None:
    names = ("truth", "projection", "coverage", "depth error")
    if not compared:
        names = ("projection", "coverage", "depth", "normals")
    for i, name in enumerate(names):
        page.text(MARGIN + i * (cell + GAP), y, name, fontsize=9.5, weight="bold")
    if keyframes:
        x = MARGIN + 4 * (cell + GAP) - GAP + GUTTER
        page.text(x, y, "keyframes to look at", fontsize=9.5, weight="bold")
    if compared:
        right = MARGIN + 4 * cell + 3 * GAP
        scale = panels.error_image(torch.linspace(0, CEILING, 64)[None].repeat(18, 1), CEILING)
        page.image(scale, right - 0.62, y + 0.03, 0.36, 0.1)
        page.text(right - 0.66, y + 0.015, "0", fontsize=7.5, color=FAINT, ha="right")
        page.text(right, y + 0.015, f"{CEILING:.0%}", fontsize=7.5, color=FAINT, ha="right")


def _draw_row(page: Page, row: Row, y: float, cell: float, tall: float) -> None:
    page.box(row.colour, MARGIN - 0.16, y, 0.07, tall)
    x = MARGIN
    for i, panel in enumerate([*row.panels, *row.keyframes]):
        x += GUTTER - GAP if i == 4 else 0
        page.image(panel.image, x, y, cell, tall)
        page.text(x, y + tall + 0.07, panel.caption, fontsize=7.5, color=FAINT, linespacing=1.25)
        if panel.share is not None:
            _draw_coverage_bar(page, panel.share, x, y + tall + 0.01, cell, row.colour)
        x += cell + GAP


def _draw_coverage_bar(
    page: Page, share: tuple[float, float], x: float, y: float, cell: float, colour: str
) -> None:
    """Shares of the image's width: what the keyframe sees, and more strongly what it alone sees."""
    for width, alpha in ((1.0, 0.12), (share[0], 0.35), (share[1], 1.0)):
        page.box(colour, x, y, width * cell, 0.045, alpha=alpha)
