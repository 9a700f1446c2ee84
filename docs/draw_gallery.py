"""Draws the pictures of the gallery into docs/pictures: python docs/draw_gallery.py (a minute or two)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import spmem
from spmem import Camera, worlds
from spmem.pictures import contact_sheet, save, top_down
from spmem.pictures.panels import coverage_image, rgb_image

PICTURES = Path(__file__).parent / "pictures"
RULES = ("covisibility", "pose-nearest", "recent", "random")


def shrink(path: Path, width: int) -> None:
    """As a picture for a page: no wider than ``width``, 256 colours."""
    image = Image.open(path).convert("RGB")
    image.thumbnail((width, 10**6), Image.Resampling.LANCZOS)
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def demo() -> None:
    """The demo's own sheet."""
    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).parent / "spmem", "demo", "--out", folder]
        subprocess.run(command, check=True)
        shutil.copy(Path(folder) / "demo.png", PICTURES / "demo.png")
    shrink(PICTURES / "demo.png", 1280)


def walked() -> None:
    """A house walked through: from above, coverage at the edge of the known, four rules for one query."""
    house = worlds.House(seed=3, rooms=4)
    way = worlds.walk(house, 140, width=192, height=144)
    with spmem.open() as memory:
        for frame in house.frames(way):
            memory.store(frame)
        save(top_down(memory, way[20::60]), PICTURES / "map.png", dpi=100)
        shrink(PICTURES / "map.png", 1100)

        turn = worlds.rotate_and_return(house, 24, seed=5, width=192, height=144)[:12:2]
        known = memory.retrieve(turn).projection
        true = house.render(turn).rgb
        rows = [
            np.concatenate([rgb_image(true[t]) for t in range(len(turn))], 1),
            np.concatenate(
                [
                    coverage_image(known.rgb[t], known.mask[t], colour=True)
                    for t in range(len(turn))
                ],
                1,
            ),
        ]
        Image.fromarray(np.concatenate(rows)).save(PICTURES / "coverage.png")
        shrink(PICTURES / "coverage.png", 1100)

        query = Camera.stack([way[40]])
        answers = [memory.retrieve(query, method=rule, given=()) for rule in RULES]
        truth = list(house.frames(query)) * len(RULES)
        sheet = contact_sheet(answers, truth, title="One camera, four rules", labels=list(RULES))
        save(sheet, PICTURES / "rules.png", dpi=100)
        shrink(PICTURES / "rules.png", 1280)


def revisit() -> None:
    """The first picture of the notebook about rules, as it was executed last."""
    notebook = Path(__file__).parents[1] / "notebooks" / "02_retrieval_quality.ipynb"
    cells = json.loads(notebook.read_text())["cells"]
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    image = next(output["image/png"] for output in outputs if "image/png" in output)
    (PICTURES / "revisit.png").write_bytes(base64.b64decode(image))
    shrink(PICTURES / "revisit.png", 1000)


if __name__ == "__main__":
    walked()
    revisit()
    demo()
