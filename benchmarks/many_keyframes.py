"""What a memory of very many keyframes takes: time of each call, RAM and disk, as it grows.

    python benchmarks/many_keyframes.py [--quick] [--json]

Small frames of one room are stored on disk, every one as a keyframe, up to 5,000 of them. At each size the table has the
medians over the last frames of store and retrieve, and what a commit of the few frames since the last one, opening the
folder again, the first retrieval after that and a correction of eight poses take. Memory is the process's resident set.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import spmem
from spmem import KeyframeConfig, MemoryConfig
from spmem.evaluation.report import parse_options, print_report
from spmem.testing.box import BoxRoom

SIZES = (500, 1000, 2000, 5000)
QUICK = (100, 200)
LAST = 50
"""Frames that are timed one by one at each size."""
WIDTH, HEIGHT = 48, 32


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = perf_counter()
    call()
    return perf_counter() - start


def resident() -> float:
    """MB of RAM that the process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(folder: Path, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for each size."""
    room, path = BoxRoom(), folder / "many.spmem"
    walk = room.walk(sizes[-1], width=WIDTH, height=HEIGHT, sweep=4.0)
    config = MemoryConfig(check_poses=False, keyframes=KeyframeConfig(novelty=0.0))
    memory = spmem.open(path, config=config)
    rows, stored = [], 0
    for size in sizes:
        while stored < size - LAST:
            batch = walk[stored : min(stored + 100, size - LAST)]
            for frame in room.frames(batch, time=float(stored)):
                memory.store(frame)
            stored += len(batch)
        memory.commit()
        last = room.frames(walk[stored:size], time=float(stored))
        store = [seconds(partial(memory.store, frame)) for frame in last]
        stored = size
        memory.retrieve(last[0].camera)
        retrieve = [seconds(partial(memory.retrieve, frame.camera)) for frame in last]
        commit = seconds(memory.commit)
        memory.close()
        start = perf_counter()
        memory = spmem.open(path)
        reopen = perf_counter() - start
        first = seconds(partial(memory.retrieve, last[0].camera))
        poses = {id: memory.keyframes[id].camera.c2w.clone() for id in range(0, size, size // 8)}
        for pose in poses.values():
            pose[0, 3] += 0.01
        rows.append(
            {
                "keyframes": size,
                "surfels": len(memory.geometry),
                "store ms": round(1e3 * median(store), 2),
                "retrieve ms": round(1e3 * median(retrieve), 2),
                "commit s": round(commit, 3),
                "open s": round(reopen, 3),
                "first retrieve s": round(first, 3),
                "8 poses s": round(seconds(partial(memory.update_poses, poses)), 3),
                "RAM MB": round(resident()),
                "disk MB": round(
                    sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e6
                ),
            }
        )
    memory.close()
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="up to 200 keyframes")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parse_options(parser)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), QUICK if options.quick else SIZES)
    print_report(rows, [], as_json=options.json)


if __name__ == "__main__":
    main()
