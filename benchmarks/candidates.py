"""What does it cost to search for candidates, in place of scoring every keyframe?

    python benchmarks/candidates.py [--quick] [--json]

Every frame of a dense walk through a house is kept: the first keyframes that an index finds are then nearly the same
one, which is where a search may miss what the choice needs. Cameras of another walk through the house are asked for four
keyframes by the rule ``covisibility``, with all keyframes scored, and with so many candidates a search. *Covered* is the share of
the pixels that memory shows which the four saw, *lost* how much less that is than with all scored; errors are standard
errors over houses.
"""

from __future__ import annotations

import argparse
from time import perf_counter
from typing import Any

import numpy as np
from rich.progress import track

from spmem import Camera, KeyframeConfig, MemoryConfig, RetrievalConfig, SpatialMemory
from spmem.evaluation.report import mean_and_error, parse_options, print_report
from spmem.opening import open as open_memory
from spmem.retrieval.rules.covisibility import Covisibility
from spmem.retrieval.visibility.exact import visibility, visible_points
from spmem.worlds import House, walk

ROOMS, ASKED = 6, 24
CANDIDATES = (32, 64, 128)
ALL = "all scored"


def answer(memory: SpatialMemory, camera: Camera, rule: Covisibility) -> tuple[float, float]:
    """What the four keyframes saw of what memory shows, and the milliseconds that finding them took."""
    start = perf_counter()
    found = memory.retrieve(camera, k=4, method=rule, given=())
    ms = 1000 * (perf_counter() - start)
    points = visible_points(found.projection)
    rows = memory.views.rows(np.array([keyframe.id for keyframe in found.keyframes], np.int64))
    saw = visibility(points, memory.views, rows).any(0)
    return float(points.weight @ saw) / max(int(points.weight.sum()), 1), ms


def in_house(seed: int, frames: int) -> dict[str, tuple[float, float]]:
    """The mean share covered and the median time, for each way of finding candidates."""
    house = House(seed=seed, rooms=ROOMS)
    size = {"width": 96, "height": 72, "fov_x": 1.3}
    ways = {ALL: Covisibility(scan=frames)}
    ways |= {str(n): Covisibility(RetrievalConfig(candidates=n), scan=0) for n in CANDIDATES}
    config = MemoryConfig(keyframes=KeyframeConfig(novelty=0, commit_every=0))
    with open_memory(config=config) as memory:
        for frame in house.frames(walk(house, frames, seed=seed, stride=0.12, **size)):
            memory.store(frame)
        cameras = walk(house, ASKED, seed=seed + 1000, stride=1.0, **size)
        answers: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for rule in ways.values():
            answer(memory, cameras[0], rule)  # indexes all
        for camera in cameras:
            for name, rule in ways.items():
                answers[name].append(answer(memory, camera, rule))
    columns = {name: tuple(zip(*each, strict=True)) for name, each in answers.items()}
    return {
        name: (float(np.mean(shares)), float(np.median(ms))) for name, (shares, ms) in columns.items()
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small banks, for a look")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parse_options(parser)
    rows: list[dict[str, Any]] = []
    for frames in (64, 128) if options.quick else (128, 256, 512, 1024, 2048):
        houses = [
            in_house(seed, frames)
            for seed in track(range(2 if options.quick else 6), f"{frames} keyframes")
        ]
        for name in houses[0]:
            lost = [house[ALL][0] - house[name][0] for house in houses]
            rows.append(
                {
                    "keyframes": frames,
                    "candidates a search": name,
                    "covered": mean_and_error([house[name][0] for house in houses]),
                    "lost": mean_and_error(lost),
                    "retrieve ms": round(float(np.median([house[name][1] for house in houses])), 2),
                }
            )
    print_report(rows, [], as_json=options.json)


if __name__ == "__main__":
    main()
