"""``spmem verify``, ``spmem rebuild`` and ``spmem history``: checks a memory, rebuilds its map, lists its commits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from spmem.cli.shell import Json, Memory, print_table
from spmem.evaluation.printing import print_json

Branch = Annotated[str, typer.Option(help="The line of history.")]


def verify(
    memory: Memory,
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild what can be made from the keyframes.")
    ] = False,
    branch: Branch = "main",
    as_json: Json = False,
) -> None:
    """Read everything that a memory holds and say what is wrong; the exit code is 1 where something stays wrong."""
    from contextlib import closing

    from rich.progress import track

    from spmem import verification
    from spmem.opening import open_store
    from spmem.protocols import CommittingStore

    with closing(open_store(memory, "a" if repair else "r", branch=branch)) as bank:
        parts = len(bank) + 7
        checks = verification.flaws(bank)
        steps = checks if as_json else track(checks, "checking", total=parts, transient=True)
        found = [flaw for flaw in steps if flaw is not None]
        left = verification.repair(bank, found) if repair else found
        if repair and len(left) < len(found) and isinstance(bank, CommittingStore):
            bank.commit("made again what was damaged")
        keyframes = len(bank)
    answer = {
        "memory": str(memory),
        "keyframes": keyframes,
        "flaws": [vars(flaw) for flaw in found],
        "repaired": len(found) - len(left),
    }
    if as_json:
        print_json(answer)
    else:
        rows = {
            f"{f.part} {'' if f.keyframe is None else f.keyframe}".strip(): f.problem for f in found
        }
        rows["left" if found else "whole"] = (
            f"{len(left)} of {len(found)} flaws"
            if found
            else f"all {keyframes} keyframes, and all made of them"
        )
        print_table(f"{memory}", rows)
    if left:
        raise typer.Exit(1)


def rebuild(memory: Memory, branch: Branch = "main", as_json: Json = False) -> None:
    """Fuse the map again from the keyframes alone: other frames are no longer in it."""
    from spmem.opening import open as open_memory

    with open_memory(memory, branch=branch) as opened:
        before = len(opened.geometry)
        opened.rebuild()
        answer = {
            "keyframes": len(opened.keyframes),
            "surfels": len(opened.geometry),
            "before": before,
        }
    if as_json:
        print_json({"memory": str(memory)} | answer)
    else:
        print_table(str(memory), {name: f"{count:,}" for name, count in answer.items()})


def history(memory: Memory, branch: Branch = "main", as_json: Json = False) -> None:
    """List the commits, branches and tags of a memory."""
    from spmem.keyframes import versioned
    from spmem.opening import open_store

    store = open_store(memory, "r", branch=branch)
    bank = versioned(store, "spmem history")
    commits, branches, tags = bank.snapshots(), list(bank.branches()), bank.tags()
    bank.close()
    if as_json:
        listing: dict[str, Any] = {"memory": str(memory), "branch": branch, "branches": branches}
        print_json(listing | {"tags": tags, "snapshots": [vars(one) for one in commits]})
        return
    names = {id: name for name, id in tags.items()}
    rows = {
        one.id: f"{datetime.fromtimestamp(one.time, UTC):%Y-%m-%d %H:%M:%S}  {one.keyframes:6,} keyframes  "
        f"{one.message}{f'  ({names[one.id]})' if one.id in names else ''}"
        for one in commits
    }
    print_table(f"{memory}: {branch} of {', '.join(branches)}", rows or {"commits": "none yet"})
