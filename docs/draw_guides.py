"""Draws the pictures of the guides into docs/pictures, by running the pages' own code.

python docs/draw_guides.py add-memory --seeds 16   (also prints the table of the page; two minutes)
python docs/draw_guides.py troubleshooting         (under a minute)
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from draw_gallery import PICTURES, shrink
from numpy.typing import NDArray
from rich.progress import track

from spmem.pictures import save
from spmem.pictures.canvas import FAINT, Page
from spmem.pictures.panels import coverage_image, rgb_image
from spmem.types import Frame

SYMPTOMS = ("axes", "scale", "ray", "intrinsics", "ghosts", "flicker", "nothing")
SHOWN = 3
"""The journey that is drawn."""
DOCS = Path(__file__).parent.resolve()
FENCE = re.compile(r'^```python(?: title="([^"\n]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def run(page: str, *, larger: tuple[str, str] = ("", "")) -> dict[str, Any]:
    """What the Python blocks of a page leave behind, by name; ``larger`` replaces the size of its images."""
    names: dict[str, Any] = {"__name__": "page"}
    os.chdir(tempfile.mkdtemp())
    sys.path.insert(0, os.getcwd())
    for title, body in FENCE.findall((DOCS / page).read_text()):
        if title:
            Path(title).write_text(body)
        else:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(body.replace(*larger), names)
    return names


def strip(
    rows: Sequence[tuple[str, Sequence[NDArray[Any]], Sequence[str]]],
    path: Path,
    cell: float,
    left: float = 1.75,
) -> None:
    """Rows of images, a label before each and words below."""
    gap, below = 0.05, 0.22
    tall = cell * rows[0][1][0].shape[0] / rows[0][1][0].shape[1]
    width = left + max(len(images) for _, images, _ in rows) * (cell + gap) + 0.1
    page = Page(width, len(rows) * (tall + below) + 0.1)
    for row, (label, images, words) in enumerate(rows):
        y = 0.1 + row * (tall + below)
        page.text(0.1, y + tall / 2 - 0.07, label, fontsize=8.5)
        for column, image in enumerate(images):
            x = left + column * (cell + gap)
            page.image(image, x, y, cell, tall)
            if column < len(words):
                page.text(x, y + tall + 0.03, words[column], fontsize=6.5, color=FAINT)
    shrink(save(page.figure, path, dpi=110), 1300)


def add_memory(seeds: int) -> None:
    """The table of the page about adding memory, and its picture."""
    names = run("add_memory.md")
    journey, psnr = names["journey"], names["psnr"]
    psnrs: dict[str, list[float]] = {name: [] for name in names["MODELS"]}
    for seed in track(range(seeds), "Journeys"):
        videos = journey(seed)
        for name, video in videos.items():
            psnrs[name].append(psnr(video))
        if seed == SHOWN:
            draw_journey(videos)
    base = psnrs["no memory"]
    print("| model | way back against way there, dB | better than without |\n|---|---|---|")
    for name, values in psnrs.items():
        gains = [a - b for a, b in zip(values, base, strict=True)]
        print(f"| {name} | {spread(values)} | {'' if values is base else spread(gains)} |")


def draw_journey(videos: dict[str, Any]) -> None:
    """The way there, and below each model's way back, turned round."""
    there = videos["spmem"]
    picked = list(range(0, len(there) // 2, 2))
    out = [rgb_image(there[t]) for t in picked]
    rows = [("the way there", out, [f"frame {t + 1}" for t in picked])]
    for name, video in videos.items():
        back = [rgb_image(video.flip(0)[t]) for t in picked]
        rows.append((f"back, {name}", back, [f"frame {len(video) - t}" for t in picked]))
    strip(rows, PICTURES / "add-memory.png", 1.0)


def troubleshooting() -> None:
    """What each symptom looks like: what is there, what memory makes of it, the cure."""
    small, large = '{"width": 64, "height": 48}', '{"width": 256, "height": 192}'
    names = run("troubleshooting.md", larger=(small, large))
    for symptom in SYMPTOMS:
        shown: dict[str, Any] = names[symptom]
        path = PICTURES / f"trouble-{symptom}.png"
        if symptom == "flicker":
            rows = [
                (label, [rgb_image(frame) for frame in video], ()) for label, video in shown.items()
            ]
            strip(rows, path, 0.9)
        else:
            strip([("", [panel(one) for one in shown.values()], list(shown))], path, 2.2, left=0.1)


def panel(shown: Any) -> NDArray[Any]:
    """A frame's colours, or what a memory renders at a camera."""
    if isinstance(shown, Frame):
        return rgb_image(shown.rgb)
    memory, camera = shown
    seen = memory.retrieve(camera, k=0).projection
    return coverage_image(seen.rgb[0], seen.mask[0], colour=True)


def spread(values: Sequence[float]) -> str:
    """Mean and its standard error."""
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) / len(values) ** 0.5:.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", choices=["add-memory", "troubleshooting"])
    parser.add_argument("--seeds", type=int, default=16)
    options = parser.parse_args()
    if options.page == "add-memory":
        add_memory(options.seeds)
    else:
        troubleshooting()
