"""``spmem find``: which keyframes match an image, words, a time, a place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spmem.cli.shell import Json, Memory
from spmem.evaluation.printing import print_json

if TYPE_CHECKING:
    from torch import Tensor

    from spmem.types import Match
    from spmem.where import Where


def find(
    memory: Memory,
    image: Annotated[Path | None, typer.Option(help="A picture of what is looked for.")] = None,
    text: Annotated[
        str | None, typer.Option(help="What is looked for, in words (--embedder siglip).")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="START:END in seconds; an end may be left out.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="A box in the world: x0,y0,z0,x1,y1,z1, low corner first.")
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(help="What compares looks; left out, colour-layout.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=0, help="Keyframes wanted at most.")] = 8,
    out: Annotated[Path | None, typer.Option(help="Draw a contact sheet: a PNG file.")] = None,
    as_json: Json = False,
) -> None:
    """Find the keyframes that match what is asked; several things asked must all hold."""
    from spmem.opening import open as open_memory

    where = _parse_where(time, region)
    example = None if image is None else _read_image(image)
    with open_memory(memory, mode="r", embedder=embedder) as opened:
        found = opened.find(image=example, text=text, where=where, k=k)
        if out is not None:
            from spmem.pictures import found_sheet, save

            save(found_sheet(found, title=str(memory)), out)
    rows = [
        {"id": one.keyframe.id, "time": one.keyframe.time, "score": one.score, "by": dict(one.by)}
        for one in found
    ]
    if as_json:
        print_json({"keyframes": rows, "sheet": None if out is None else str(out)})
    else:
        _print_matches(found, out)


def _parse_where(time: str | None, region: str | None) -> Where | None:
    from spmem.where import Where

    if time is None and region is None:
        return None
    span: tuple[float | None, float | None] = (None, None)
    if time is not None:
        start, colon, end = time.partition(":")
        if not colon:
            raise typer.BadParameter("wanted START:END in seconds", param_hint="--time")
        span = (_parse_bound(start, "--time"), _parse_bound(end, "--time"))
    if region is None:
        return Where(span)
    box = [_parse_bound(part, "--region") for part in region.split(",")]
    if len(box) != 6 or None in box:
        raise typer.BadParameter("wanted x0,y0,z0,x1,y1,z1", param_hint="--region")
    values = [part for part in box if part is not None]
    return Where(span, (values[:3], values[3:]))


def _parse_bound(word: str, option: str) -> float | None:
    try:
        return float(word) if word.strip() else None
    except ValueError:
        raise typer.BadParameter(f"{word!r} is no number", param_hint=option) from None


def _read_image(path: Path) -> Tensor:
    import numpy as np
    import torch
    from PIL import Image

    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB")))


def _print_matches(found: list[Match], out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    parts: list[Any] = list(found[0].by) if found else []
    table = Table("keyframe", "time", "score", *parts)
    for one in found:
        by = [f"{one.by[thing]:.3f}" for thing in parts]
        table.add_row(str(one.keyframe.id), f"{one.keyframe.time:.2f} s", f"{one.score:.3f}", *by)
    console = Console()
    console.print(table)
    if out is not None:
        console.print(f"sheet: {out}")
