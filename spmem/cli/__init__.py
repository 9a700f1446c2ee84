"""The command line: ``spmem --help``. Heavy imports wait in the commands, so that help comes at once."""

import typer

from spmem.cli import (
    about,
    bench,
    demo,
    doctor,
    find,
    generate,
    ingest,
    render,
    retrieve,
    train,
    verify,
    warm,
)
from spmem.cli.shell import Commands, options

app = typer.Typer(
    cls=Commands,
    callback=options,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Geometry-grounded episodic memory for autoregressive video world models.",
)
for command in (
    demo.demo,
    ingest.ingest,
    retrieve.retrieve,
    find.find,
    render.render,
    generate.generate,
    train.train,
    about.info,
    verify.history,
    verify.verify,
    verify.rebuild,
    doctor.doctor,
    warm.warm,
):
    app.command()(command)
app.add_typer(bench.app, name="bench")

__all__ = ["app"]
