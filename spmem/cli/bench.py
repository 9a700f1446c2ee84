"""``spmem bench``: what the library is worth, measured on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spmem.cli.shell import Json

app = typer.Typer(no_args_is_help=True, help="Measure: one subject a command.")


@app.callback()
def bench() -> None:
    """Each subject is a command of its own."""


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
    from spmem.evaluation.publish import publish
    from spmem.evaluation.report import print_report
    from spmem.evaluation.retrieval import Scope, retrieval
    from spmem.evaluation.tables import aims, each_scene, summary

    found = retrieval(Scope.quick() if quick else Scope(), walk or ())
    publish(found, out)
    rows = summary(found) + (each_scene(found.answers) if as_json else [])
    print_report(rows, aims(found), as_json=as_json)


@app.command()
def consistency(
    quick: Annotated[bool, typer.Option("--quick", help="Two houses, for a look.")] = False,
    model: Annotated[str, typer.Option(help="A folder of weights, or `nano`.")] = "nano",
    steps: Annotated[int, typer.Option(min=1, help="Of sampling.")] = 4,
    houses: Annotated[int, typer.Option(min=1, help="Held-out houses for each kind of way.")] = 8,
    families: Annotated[
        str, typer.Option(help="Kinds of way, with commas; all where none is named.")
    ] = "",
    rules: Annotated[
        str,
        typer.Option(
            help="Rules of retrieval in place of the controls: names with commas, or `all`."
        ),
    ] = "",
    moving: Annotated[int, typer.Option(min=0, help="Things that move in each house.")] = 0,
    matches: Annotated[
        bool, typer.Option("--matches", help="Match keypoints; needs the extra `bench`.")
    ] = False,
    lpips: Annotated[
        list[Path] | None,
        typer.Option(help="LPIPS' weights on AlexNet, one file or two; repeatable."),
    ] = None,
    chunks: Annotated[
        int | None, typer.Option(min=2, help="Of four frames; 12, or 4 for a look.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for tables and strips.")] = Path("out/bench"),
    as_json: Json = False,
) -> None:
    """Does the bundled generator keep a place as it was? With memory, with parts of it, and without."""
    from dataclasses import replace

    from spmem.evaluation.consistency import Scope, consistency
    from spmem.evaluation.paired import aims, drift, summary
    from spmem.evaluation.report import markdown, print_report
    from spmem.evaluation.strips import curves, strips
    from spmem.integrations.reference.generator import ReferenceGenerator

    scope = Scope.quick() if quick else Scope(seeds=tuple(range(houses)))
    scope = replace(scope, chunks=chunks or scope.chunks, matches=matches, lpips=tuple(lpips or ()))
    scope = scope.with_families(families) if families else scope
    scope = scope.with_rules(rules) if rules else scope
    scope = scope.with_movers(moving) if moving else scope
    generator = ReferenceGenerator.from_pretrained(model, steps=steps)
    rows, shown = consistency(generator, scope)
    strips(shown, out)
    curves(rows, out)
    summaries = [*summary(rows), *drift(rows)]
    (out / "consistency.md").write_text(markdown([*summaries, *aims(rows)]), encoding="utf-8")
    print_report(summaries + (rows if as_json else []), aims(rows), as_json=as_json)
