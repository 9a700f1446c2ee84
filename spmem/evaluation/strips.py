"""Strips of frames, the truth above what was generated with each control; and curves by chunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spmem.evaluation.consistency import PlayedJourney
from spmem.evaluation.paired import per_world
from spmem.evaluation.report import error_of_mean
from spmem.pictures.canvas import FAINT, PAPER, Page, save

CELL = 0.8
"""Inches."""
COLOURS = 10
"""Colours of matplotlib's cycle; lines beyond them are dashed."""


def strip(played: Sequence[PlayedJourney], columns: int = 12) -> Figure:
    """One journey under all its controls; evenly spread frames, and how many dB each has on the pixels that come again."""
    trip = played[0].journey
    count = len(trip.revisited)
    picked = np.linspace(0, count - 1, min(columns, count)).round().astype(int)
    truth = torch.stack([frame.rgb_float() for frame in trip.frames[trip.given :]])
    left, top, gap, tall = 1.7, 0.35, 0.04, CELL + 0.2
    page = Page(left + len(picked) * (CELL + gap) + 0.1, top + (1 + len(played)) * tall)
    page.text(0.1, 0.1, f"{trip.family}, house {trip.seed}", fontsize=10, weight="bold")
    for row, (name, rgb) in enumerate(
        [("truth", truth), *((one.control, one.rgb) for one in played)]
    ):
        y = top + row * tall
        page.text(0.1, y + CELL / 2 - 0.07, name, fontsize=8.5)
        for column, i in enumerate(picked.tolist()):
            x = left + column * (CELL + gap)
            image = (rgb[i].clamp(0, 1) * 255).round().byte().numpy()
            page.image(image, x, y, CELL, CELL)
            if row == 0:
                page.text(x, y + CELL + 0.02, f"frame {i + 1}", fontsize=6.5, color=FAINT)
                continue
            mask = trip.revisited[i]
            error = ((rgb[i] - truth[i]) ** 2).mean(-1)[mask]
            if len(error):
                caption = f"{-10 * torch.log10(error.mean().clamp(min=1e-6)).item():.1f} dB"
                page.text(x, y + CELL + 0.02, caption, fontsize=6.5, color=FAINT)
    return page.figure


def strips(shown: Sequence[Sequence[PlayedJourney]], folder: Path) -> list[Path]:
    """Write a PNG for each journey, numbered within its family."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    count: Counter[str] = Counter()
    for played in shown:
        family = played[0].journey.family
        name = f"strip-{family}-{count[family]}.png"
        count[family] += 1
        written.append(save(strip(played), folder / name, dpi=110))
    return written


def curves(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    """PSNR on revisited pixels by chunk, a line for each control; bands are standard errors over worlds."""
    chunks = sorted({row["chunk"] for row in rows})
    families = list(dict.fromkeys(row["family"] for row in rows))
    figure = Figure(figsize=(1.2 + 3.2 * len(families), 3.4), facecolor=PAPER, layout="constrained")
    panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    for family, axes in zip(families, panels, strict=True):
        for n, control in enumerate(dict.fromkeys(row["control"] for row in rows)):
            values = [
                list(
                    per_world(rows, control, "psnr_revisited", family=family, chunk=chunk).values()
                )
                for chunk in chunks
            ]
            mean = np.array([np.mean(some) if some else np.nan for some in values])
            error = np.nan_to_num([error_of_mean(some) for some in values])
            style = "-" if n < COLOURS else "--"
            (line,) = axes.plot(chunks, mean, style, label=control, linewidth=1.6)
            axes.fill_between(
                chunks, mean - error, mean + error, color=line.get_color(), alpha=0.15, linewidth=0
            )
        axes.set_title(family, fontsize=10)
        axes.set_xlabel("chunk", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("PSNR on revisited pixels, dB", fontsize=9)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    return save(figure, folder / "consistency.png", dpi=120)
