"""``spmem bench``: what the library is worth, measured on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spmem.cli.shell import Json

app = typer.Typer(no_args_is_help=True, help="Measure: one subject a command.")


@app.callback()
def bench() -> None:
    """Subjects are commands of their own, also while there is only one."""


@app.command()
def retrieval(
    quick: Annotated[bool, typer.Option("--quick", help="Small scenes, for a look.")] = False,
    walk: Annotated[
        list[Path] | None,
        typer.Option(help="A data set of posed RGB-D frames, as a further scene; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for tables and plots.")] = Path("out/bench"),
    as_json: Json = False,
) -> None:
    """Compare the rules of retrieval with the truth, on drawn houses and recorded walks."""
    from spmem.bench.publish import publish
    from spmem.bench.report import tell
    from spmem.bench.retrieval import Scope, retrieval
    from spmem.bench.tables import aims, each_scene, summary

    found = retrieval(Scope.quick() if quick else Scope(), walk or ())
    publish(found, out)
    rows = summary(found) + (each_scene(found.answers) if as_json else [])
    tell(rows, aims(found), as_json=as_json)
