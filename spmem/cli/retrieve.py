"""``spmem retrieve``: which keyframes saw what a camera is about to see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spmem.cli.shell import Json, Memory
from spmem.evaluation.printing import print_json

if TYPE_CHECKING:
    from spmem.types import Retrieval


def retrieve(
    memory: Memory,
    camera: Annotated[
        Path | None,
        typer.Option(
            help="Cameras: a transforms.json, a text file of poses, or a data set's folder."
        ),
    ] = None,
    frame: Annotated[
        int | None, typer.Option(help="The camera of this keyframe, which is not answered itself.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=0, help="Keyframes wanted at most.")] = 4,
    method: Annotated[
        str | None,
        typer.Option(help="The retrieval rule (see docs/rules.md); left out, the memory's."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Draw a contact sheet: a PNG file.")] = None,
    as_json: Json = False,
) -> None:
    """Find the keyframes to look at for cameras, and how much of their view memory covers."""
    from spmem.cli.cameras import lens_like, read_path
    from spmem.opening import open as open_memory
    from spmem.where import Where

    if (camera is None) == (frame is None):
        raise typer.BadParameter("give either --camera or --frame", param_hint="--camera / --frame")
    with open_memory(memory, mode="r") as opened:
        if camera is None:
            assert frame is not None
            cameras, where = opened.keyframes[frame].camera[None], Where(exclude=[frame])
        else:
            cameras, where = read_path(camera, lens_like(opened)), None
        # What the last session happened to look at last is of no concern to who asks here.
        found = opened.retrieve(cameras, k=k, method=method, where=where, given=())
        if out is not None:
            from spmem.pictures import contact_sheet, save

            truth = None if frame is None else [opened.keyframes[frame].frame]
            title = (
                f"{memory}: {'cameras of ' + str(camera) if frame is None else f'keyframe {frame}'}"
            )
            save(contact_sheet(found, truth, memory=opened, title=title), out)
        answer = _describe_retrieval(found)
    if as_json:
        print_json(answer | {"sheet": None if out is None else str(out)})
    else:
        _print_retrieval(answer, out)


def _describe_retrieval(found: Retrieval) -> dict[str, Any]:
    return {
        "method": found.method,
        "cameras": len(found.cameras),
        "coverage": found.coverage.tolist(),
        "keyframes": [
            {"id": c.id, "time": c.time, "score": c.score, "sees": c.sees, "alone": c.alone}
            for c in found.explain()
        ],
    }


def _print_retrieval(answer: dict[str, Any], out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("keyframe", "time", "score", "sees", "alone")
    for one in answer["keyframes"]:
        table.add_row(
            str(one["id"]), f"{one['time']:.2f} s", f"{one['score']:.3f}",
            f"{one['sees']:.1%}", f"{one['alone']:.1%}",
        )  # fmt: skip
    console = Console()
    console.print(table)
    shares = answer["coverage"]
    spread = "" if len(shares) == 1 else f" on average, {min(shares):.0%} to {max(shares):.0%}"
    console.print(f"memory covers {sum(shares) / len(shares):.0%} of what is seen{spread}")
    if out is not None:
        console.print(f"sheet: {out}")
