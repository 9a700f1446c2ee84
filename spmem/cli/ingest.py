"""``spmem ingest``: a data set of posed frames into a memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from spmem.cli.shell import Json, format_bytes, print_table
from spmem.errors import InputError
from spmem.evaluation.printing import print_json

Format = Annotated[
    str | None,
    typer.Option(
        help="7scenes, tum, nerfstudio, colmap, folders, video or realestate10k; "
        "left out, what lies there decides."
    ),
]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="An option of the format; repeatable."),
]


def ingest(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The data set: a folder or file.")],
    out: Annotated[
        str,
        typer.Option(
            metavar="MEM", help="The memory to make: a folder, or an address (s3://bucket/prefix)."
        ),
    ],
    format: Format = None,
    option: Option = None,
    stride: Annotated[int, typer.Option(min=1, help="Take every n-th frame.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Take so many frames.")] = None,
    novelty: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Share of new pixels that makes a keyframe; 0: all."),
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Add to the memory that is there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Store the frames of a data set in a memory."""
    from spmem.integrations.readers import open_walk
    from spmem.opening import open as open_memory
    from spmem.progress import track
    from spmem.stores.keyframes.zarr.location import place
    from spmem.stores.keyframes.zarr.repository import held, taken

    walk = open_walk(source, format, **_parse_options(option or []))[::stride][:limit]
    where = place(out)
    if not append and taken(where):
        raise InputError(
            f"{out} is there already; add to it with --append, or choose another --out"
        )
    start = perf_counter()
    with open_memory(out) as memory:
        if novelty is not None:
            kept = replace(memory.config.keyframes, novelty=novelty)
            memory.config = replace(memory.config, keyframes=kept)
        before = len(memory.keyframes)
        for frame in track(walk, "Storing"):
            memory.store(frame)
        keyframes, surfels = len(memory.keyframes), len(memory.geometry)
    seconds = perf_counter() - start
    stored = held(where)
    if as_json:
        print_json(
            {
                "memory": str(out),
                "frames": len(walk),
                "new_keyframes": keyframes - before,
                "keyframes": keyframes,
                "surfels": surfels,
                "bytes": stored,
                "seconds": seconds,
            }
        )
        return
    print_table(
        str(out),
        {
            "frames": f"{len(walk)} in {seconds:.1f} s",
            "keyframes": f"{keyframes} ({keyframes - before} new)",
            "surfels": f"{surfels:,}",
            "on disk": format_bytes(stored),
        },
    )


def _parse_options(given: list[str]) -> dict[str, str | float]:
    """NAME=VALUE pairs; what reads as a number is one."""
    pairs = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--option")
        pairs[name] = _parse_value(value)
    return pairs


def _parse_value(value: str) -> str | float:
    try:
        return float(value)
    except ValueError:
        return value
