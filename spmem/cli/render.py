"""``spmem render``: what a memory looks like along a way, as a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spmem.cli.shell import Json, Memory, print_table
from spmem.errors import UnknownNameError
from spmem.evaluation.printing import print_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spmem.camera import Camera
    from spmem.memory import SpatialMemory
    from spmem.types import Projection

PANELS = ("rgb", "depth", "normal", "mask")


def render(
    memory: Memory,
    out: Annotated[Path, typer.Option(help="A .mp4, a .gif, or a folder for PNG files.")],
    path: Annotated[
        str,
        typer.Option(help="keyframes, orbit, or a file of cameras as `spmem retrieve` takes it."),
    ] = "keyframes",
    frames: Annotated[
        int, typer.Option(min=1, help="Frames along the keyframes or the orbit.")
    ] = 120,
    width: Annotated[
        int | None, typer.Option(min=1, help="In pixels; else the keyframes'.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=1, help="In pixels; else the keyframes'.")
    ] = None,
    fps: Annotated[float, typer.Option(min=0.1, help="Frames a second.")] = 15.0,
    panels: Annotated[
        str, typer.Option("--show", help="rgb, depth, normal, mask: side by side, with commas.")
    ] = "rgb",
    as_json: Json = False,
) -> None:
    """Render a memory along a camera path."""
    from spmem.cli import cameras
    from spmem.opening import open as open_memory
    from spmem.pictures import write_video

    shown = panels.split(",")
    for name in shown:
        if name not in PANELS:
            raise UnknownNameError("panel", name, PANELS)
    with open_memory(memory, mode="r") as opened:
        lens = cameras.lens_like(opened, width, height)
        if path == "keyframes":
            way = cameras.along_keyframes(opened, lens, frames)
        elif path == "orbit":
            way = cameras.circle_scene(opened, lens, frames)
        else:
            way = cameras.read_path(Path(path), lens)
        coverage: list[float] = []
        write_video(out, _render_images(opened, way, shown, coverage), fps)
    mean = sum(coverage) / len(coverage)
    if as_json:
        print_json(
            {
                "out": str(out),
                "frames": len(way),
                "width": way.width,
                "height": way.height,
                "coverage": mean,
            }
        )
    else:
        print_table(
            str(out),
            {"frames": f"{len(way)} of {way.width}x{way.height}", "memory covers": f"{mean:.0%}"},
        )


def _render_images(
    memory: SpatialMemory, way: Camera, shown: list[str], coverage: list[float]
) -> Iterator[NDArray[np.uint8]]:
    """A frame a camera; notes what memory covers."""
    import numpy as np

    from spmem.progress import track

    draw = _make_drawings(memory)
    for camera in track(way, "Rendering"):
        projection = memory.geometry.render(camera[None])
        coverage.append(float(projection.coverage))
        yield np.concatenate([draw[name](projection) for name in shown], 1)


def _make_drawings(memory: SpatialMemory) -> dict[str, Callable[[Projection], NDArray[np.uint8]]]:
    """Depth colours are the same in all frames: from near to far as the keyframes saw it."""
    import numpy as np

    from spmem.pictures import coverage_image, depth_image, normal_image, rgb_image

    depth = memory.views.depth[memory.views.depth > 0]
    near, far = np.percentile(depth, [2, 98]).tolist() if len(depth) else (1.0, 2.0)
    return {
        "rgb": lambda seen: rgb_image(seen.rgb[0]),
        "depth": lambda seen: depth_image(seen.depth[0], near, far),
        "normal": lambda seen: normal_image(seen.normal[0]),
        "mask": lambda seen: coverage_image(seen.rgb[0], seen.mask[0]),
    }
