"""``spmem generate``: the bundled generator along a way through a drawn house, with memory and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spmem.cli.shell import Json, print_table
from spmem.evaluation.printing import print_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGER = 4
"""Times that each pixel is shown."""


def generate(
    out: Annotated[Path, typer.Option(help="A .mp4, a .gif, or a folder for PNG files.")] = Path(
        "out/generated.gif"
    ),
    path: Annotated[
        str, typer.Option(help="loop, closed-loop, rotate-and-return or reverse.")
    ] = "rotate-and-return",
    seed: Annotated[
        int, typer.Option(min=0, help="Of the house, of the way and of the noise.")
    ] = 0,
    chunks: Annotated[int, typer.Option(min=1, help="Of four frames.")] = 12,
    model: Annotated[str, typer.Option(help="A folder of weights, or `nano`.")] = "nano",
    steps: Annotated[int, typer.Option(min=1, help="Of sampling.")] = 4,
    fps: Annotated[float, typer.Option(min=0.1, help="Frames a second.")] = 8.0,
    as_json: Json = False,
) -> None:
    """Generate video side by side: the truth, with memory, without memory."""
    from spmem.evaluation.consistency import FULL, measure_play, play
    from spmem.evaluation.journeys import FAMILIES, journey
    from spmem.integrations.reference.generator import ReferenceGenerator
    from spmem.pictures import rgb_image, write_video
    from spmem.progress import track
    from spmem.registry import require_known

    require_known("path", path, FAMILIES)
    full = ReferenceGenerator.from_pretrained(model, steps=steps)
    config = full.model.config
    trip = journey(path, seed, chunks=chunks, size=config.size, window=config.history)
    without = ReferenceGenerator(full.model, steps=steps, forms=("recent",))
    played = [
        play(generator, trip, name)
        for generator, name in track([(full, FULL), (without, "recent only")], "Generating")
    ]

    def images() -> Iterator[NDArray[np.uint8]]:
        import numpy as np

        for i, frame in enumerate(trip.frames[trip.given :]):
            row = [frame.rgb, *(one.rgb[i] for one in played)]
            side = np.concatenate([rgb_image(image) for image in row], 1)
            yield side.repeat(LARGER, 0).repeat(LARGER, 1)

    video = write_video(out, images(), fps=fps)
    psnr = {}
    for one in played:
        values = [row["psnr_revisited"] for row in measure_play(one)]
        known = [value for value in values if value == value]
        psnr[one.control] = sum(known) / len(known) if known else float("nan")
    if as_json:
        print_json({"video": str(video), "psnr_revisited": psnr})
    else:
        lines = {
            f"PSNR, revisited pixels, {name}": f"{value:.1f} dB" for name, value in psnr.items()
        }
        print_table(
            f"{path}, house {seed}: truth | memory | recent frames alone",
            lines | {"video": str(video)},
        )
