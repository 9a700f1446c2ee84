"""What all commands share: errors in one line, tables on stdout, progress on stderr."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from spmem import __version__
from spmem.errors import SpmemError
from spmem.evaluation.printing import json_only

Memory = Annotated[
    str,
    typer.Argument(metavar="MEM", help="The memory: a folder, or an address (s3://bucket/prefix)."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]


JSON = "spmem.json"
"""Key of the context that says whether one JSON object is wanted."""


class Commands(TyperGroup):
    """Turns what spmem and the system refuse into one line and exit code 1; ``--debug`` may stand anywhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Bring ``--debug`` to the front."""
        ctx.meta[JSON] = "--json" in args
        requested = ["--debug"] if "--debug" in args else []
        return super().parse_args(ctx, requested + [arg for arg in args if arg != "--debug"])

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with warnings.catch_warnings(), json_only(ctx.meta.get(JSON, False)):
            warnings.showwarning = _print_warning
            try:
                return super().invoke(ctx)
            except BrokenPipeError:
                raise
            except (SpmemError, OSError) as error:
                if ctx.params["debug"]:
                    raise
                print_error(str(error))
                raise typer.Exit(1) from None


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"spmem {__version__}")
        raise typer.Exit


def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from (a traceback).")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of every command; typer shows the app's help in place of this line."""


def print_error(words: str) -> None:
    """One line on stderr."""
    typer.echo(f"spmem: {' '.join(words.split())}", err=True)


def print_table(title: str, rows: Mapping[str, str]) -> None:
    """A table of two columns on stdout."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)


def format_bytes(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"


def _print_warning(message: Warning | str, *place: Any, **more: Any) -> None:
    print_error(f"warning: {message}")
