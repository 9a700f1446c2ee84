"""``spmem ingest``: a data set of posed frames into a memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from spmem.cli.shell import Json, format_bytes, print_table
from spmem.config import MemoryConfig
from spmem.errors import InputError, NotAMemoryError
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

    walk = open_walk(source, format, **_parse_options(option or []))[::stride][:limit]
    there = _memory_bytes(out) is not None
    if there and not append:
        raise InputError(
            f"{out} is there already; add to it with --append, or choose another --out"
        )
    config = None
    if novelty is not None:
        config = MemoryConfig()
        if there:
            with open_memory(out, mode="r") as stored:
                config = stored.config
        config = replace(config, keyframes=replace(config.keyframes, novelty=novelty))
    start = perf_counter()
    with open_memory(out, config=config) as memory:
        before = len(memory.keyframes)
        for frame in track(walk, "Storing"):
            memory.store(frame)
        keyframes, surfels = len(memory.keyframes), len(memory.geometry)
    seconds = perf_counter() - start
    size = _memory_bytes(out) or 0
    if as_json:
        print_json(
            {
                "memory": str(out),
                "frames": len(walk),
                "new_keyframes": keyframes - before,
                "keyframes": keyframes,
                "surfels": surfels,
                "bytes": size,
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
            "on disk": format_bytes(size),
        },
    )


def _memory_bytes(address: str | Path) -> int | None:
    """Bytes of a memory, as its store reports them; None if there is none."""
    from contextlib import closing

    from spmem.opening import open_store
    from spmem.protocols import DescribedStore

    try:
        store = open_store(address, "r")
    except NotAMemoryError:
        return None
    with closing(store):
        if isinstance(store, DescribedStore):
            return int(store.describe()["bytes"]["total"])
        return int(store.sizes().sum())


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
