"""Is depth in another scale than the poses noticed, and is right depth left alone?

    python benchmarks/scale_check.py [--quick] [--json]

Depth is multiplied by a factor, and the check that a memory makes of its first frames looks at them: walks and loops through
procedural houses, with exact depth and with a sensor's noise among things that move; stretches of 60 frames of the real
walks in SPMEM_TEST_DATA, one beginning at every 20th frame. A stretch counts as warned where the check says anything.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from real_walks import WALKS

from spmem import Frame, worlds
from spmem.checks import ScaleCheck
from spmem.evaluation.report import aim, parse_options, print_report, walks_folder
from spmem.integrations.readers import open_walk

FACTORS = (1.0, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0, 1000.0)
SIZE = {"width": 96, "height": 72}


def stretches(quick: bool) -> Iterator[tuple[str, list[Frame]]]:
    """Frames by kind."""
    for seed in range(2 if quick else 12):
        house = worlds.House(seed=seed, rooms=3)
        yield "house", list(house.frames(worlds.walk(house, 60, seed=seed, **SIZE)))
        yield "house", list(house.frames(worlds.loop(house, 40, seed=seed, **SIZE)))
        busy, noise = worlds.House(seed=seed, rooms=3, moving=3), worlds.DepthNoise(seed=seed)
        way = worlds.walk(busy, 60, seed=seed + 50, **SIZE)
        yield "noisy, things move", list(busy.frames(way, noise=noise))
    for name in WALKS if walks_folder().is_dir() else ():
        walk = open_walk(walks_folder() / name, WALKS[name])
        frames = [walk[i] for i in range(80 if quick else len(walk))]
        for start in range(0, len(frames) - 20, 20):
            yield name, frames[start : start + 60]


def is_warned(frames: Sequence[Frame], factor: float) -> bool:
    """Whether the check says anything."""
    check = ScaleCheck()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for i, frame in enumerate(frames):
            assert frame.depth is not None
            check(frame.replace(depth=frame.depth * factor, time=float(i)))
    return bool(said)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few houses, the walks' beginnings")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parse_options(parser)
    answers: dict[str, list[list[bool]]] = {}
    for kind, frames in stretches(options.quick):
        answers.setdefault(kind, []).append([is_warned(frames, factor) for factor in FACTORS])
    rows: list[dict[str, Any]] = []
    for kind, several in answers.items():
        counts = {f"x{f:g}": sum(one[i] for one in several) for i, f in enumerate(FACTORS)}
        rows.append({"frames": kind, "stretches": len(several), **counts})
    everything = [one for several in answers.values() for one in several]
    false = sum(one[0] for one in everything)
    wrong = [one[i] for one in everything for i, f in enumerate(FACTORS) if not 0.5 < f < 2]
    aims = [
        aim("false alarms", false, 0, "stretches", "lower"),
        aim("noticed from a factor of 2 on", sum(wrong) / len(wrong), 0.9, "share", "higher"),
    ]
    print_report(rows, aims, as_json=options.json)


if __name__ == "__main__":
    main()
