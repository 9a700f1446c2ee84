"""Store and retrieve on real RGB-D walks: what memory shows, and what it finds, against the depth itself.

    python benchmarks/real_walks.py [--quick] [--json]

Every frame but each tenth is stored; the memory is closed, and opened again by a new process, which asks for the
held-back cameras. Truth is depth reprojection (spmem.testing.truth) and owes nothing to the memory. Walks are read
from SPMEM_TEST_DATA (default ../shared/data).

- depth error: median over covered pixels of |rendered - sensor| / sensor; the median and the worst over queries
- covered but wrong: share of the covered pixels more than 5 % before, and behind, the sensor's depth, over all queries
- coverage: share of the pixels that some stored frame really saw, that the projection covers
- recall@4: what the four keyframes chosen saw of the query, as a share of what the best four could have (best: greedy
  on the truth); and the share of the truly best four single keyframes that were among them. The generator holds
  nothing (given=()).
- what the map shows beside Open3D's volume of the same frames: ``held_back.py``, where the peers are installed
  (benchmarks/requirements.txt); pictures side by side come into out/bench
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from held_back import MEASURES, SMALL, beside_open3d, held_back, small_view
from torch import Tensor

import spmem
from spmem import Camera
from spmem.evaluation.printing import json_only, print_json
from spmem.evaluation.report import (
    ROOT,
    aim,
    mean_and_error,
    parse_options,
    print_report,
    walks_folder,
)
from spmem.integrations.readers import open_walk
from spmem.progress import track
from spmem.retrieval.rules import METHODS
from spmem.testing.truth import covered_but_wrong, covisibility

WALKS = {"redkitchen_7scenes": "7scenes", "hololens_dvmvs": "folders"}
K = 4


def store_walk(name: str, path: Path, stop: int | None) -> dict[str, Any]:
    """Store the walk; a row of what it took."""
    walk = open_walk(walks_folder() / name, WALKS[name])[:stop]
    seconds, kept = [], 0
    with spmem.open(path, mode="w") as memory:
        for index, frame in enumerate(track(walk, f"Storing {name}")):
            if not held_back(index):
                start = perf_counter()
                kept += memory.store(frame) is not None
                seconds.append(perf_counter() - start)
        surfels = len(memory.geometry)
        start = perf_counter()
    closing = perf_counter() - start
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {
        "walk": name,
        "stored frames": len(seconds),
        "keyframes": kept,
        "surfels": surfels,
        "store ms": round(1000 * float(np.median(seconds[1:])), 1),
        "close s": round(closing, 2),
        "MB on disk": round(size / 1e6, 1),
    }


def query_walk(name: str, path: Path, stop: int | None) -> dict[str, Any]:
    """Ask for the held-back cameras; the row of the projection, and per method that of the keyframes."""
    walk = open_walk(walks_folder() / name, WALKS[name])[:stop]
    stored = [small_view(walk[i]) for i in range(len(walk)) if not held_back(i)]
    stored_depth = torch.stack([depth for depth, _ in stored])
    stored_cameras = Camera.stack([camera for _, camera in stored])
    errors, coverages, seconds = [], [], []
    wrong = np.zeros(3)  # pixels before, behind, and covered in all
    gains: dict[str, list[float]] = {method: [] for method in METHODS}
    hits: dict[str, list[float]] = {method: [] for method in METHODS}
    with spmem.open(path, mode="r") as memory:
        bank = [small_view(keyframe.frame) for keyframe in memory.keyframes.values()]
        ids = list(memory.keyframes)
        bank_depth = torch.stack([depth for depth, _ in bank])
        bank_cameras = Camera.stack([camera for _, camera in bank])
        queries = [i for i in range(len(walk)) if held_back(i)]
        for index in track(queries, f"Asking {name}"):
            frame = walk[index]
            assert frame.depth is not None
            depth, camera = small_view(frame)
            true = covisibility(depth, camera, bank_depth, bank_cameras)
            best_four = best_cover(true.masks)
            for method in METHODS:
                start = perf_counter()
                found = memory.retrieve(frame.camera, k=K, method=method, given=(), seed=index)
                seconds.append(perf_counter() - start)
                rows = [ids.index(keyframe.id) for keyframe in found.keyframes]
                union = true.masks[rows].any(0).sum() if rows else 0
                gains[method].append(float(union / true.masks[best_four].any(0).sum()))
                hits[method].append(hit_share(rows, true.share))
            covered = found.projection.mask[0]
            off = (found.projection.depth[0] - frame.depth).abs() / frame.depth
            errors.append(float(off[covered & (frame.depth > 0)].median()))
            before, behind = covered_but_wrong(found.projection.depth[0], covered, frame.depth)
            wrong += [float(part.sum()) for part in (before, behind, covered & (frame.depth > 0))]
            seen = covisibility(depth, camera, stored_depth, stored_cameras).masks.any(0)
            small_covered = covered[SMALL // 2 :: SMALL, SMALL // 2 :: SMALL]
            coverages.append(float((seen & small_covered).sum() / seen.sum()))
    projection = {
        "walk": name,
        "queries": len(queries),
        "depth error %, median": round(100 * float(np.median(errors)), 3),
        "worst query %": round(100 * max(errors), 3),
        "covered but wrong %: before": round(100 * float(wrong[0] / wrong[2]), 3),
        "behind": round(100 * float(wrong[1] / wrong[2]), 3),
        "coverage of the seen %, mean": round(100 * float(np.mean(coverages)), 2),
        "worst coverage %": round(100 * min(coverages), 2),
        "retrieve ms": round(1000 * float(np.median(seconds)), 1),
    }
    methods = [
        {
            "walk": name,
            "method": method,
            "recall@4, coverage": mean_and_error(gains[method]),
            "recall@4, best four": mean_and_error(hits[method]),
            "mean": round(float(np.mean(gains[method])), 4),
        }
        for method in METHODS
    ]
    return {"projection": projection, "methods": methods}


def leading_number(text: str | float) -> float:
    """The figure, without its standard error."""
    return float(str(text).split()[0])


def best_cover(masks: Tensor) -> list[int]:
    """Four keyframes that greedily cover most, on the truth."""
    covered = torch.zeros_like(masks[0])
    chosen: list[int] = []
    for _ in range(K):
        new = (masks & ~covered).sum((1, 2))
        chosen.append(int(new.argmax()))
        covered |= masks[chosen[-1]]
    return chosen


def hit_share(rows: list[int], share: Tensor) -> float:
    """Share of the truly best four that are among ``rows``; ties with the fourth count."""
    threshold = share.sort(descending=True).values[K - 1]
    return sum(float(share[row]) >= float(threshold) > 0 for row in rows) / K


def main() -> None:
    """Measure and print; with --query, the part of the new process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the first 60 frames only")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--query", nargs=2, metavar=("WALK", "MEMORY"), help=argparse.SUPPRESS)
    options = parse_options(parser)
    stop = 60 if options.quick else None
    if options.query:
        with json_only():
            print_json(query_walk(options.query[0], Path(options.query[1]), stop))
        return
    if not walks_folder().is_dir():
        raise SystemExit(f"no walks at {walks_folder()}: set SPMEM_TEST_DATA")
    stores, projections, methods, aims = [], [], [], []
    beside: list[dict[str, Any]] = []
    peers = find_spec("open3d") and find_spec("skimage")
    for name in WALKS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "walk.spmem"
            stores.append(store_walk(name, path, stop))
            command = [sys.executable, __file__, "--query", name, str(path)]
            answered = subprocess.run(
                command + ["--quick"] * options.quick, stdout=subprocess.PIPE, text=True, check=True
            )
            if peers:
                walk = open_walk(walks_folder() / name, WALKS[name])[:stop]
                picture = ROOT / "out" / "bench" / f"held-back-{name}.png"
                beside += beside_open3d(name, path, walk, picture)
        answer = json.loads(answered.stdout)
        projections.append(answer["projection"])
        methods += answer["methods"]
        others = [row["mean"] for row in answer["methods"] if row["method"] != "covisibility"]
        projection = answer["projection"]
        aims += [
            aim(f"{name}: depth error", projection["depth error %, median"], 1.5, "%", "lower"),
            aim(f"{name}: coverage", projection["coverage of the seen %, mean"], 95, "%", "higher"),
            aim(f"{name}: recall@4", answer["methods"][0]["mean"], max(others), "", "higher"),
        ]
    for name in WALKS if peers else ():
        ours, *others = (row for row in beside if row["walk"] == name)
        for measure, better in MEASURES.items():
            best = (max if better == "higher" else min)(
                leading_number(row[measure]) for row in others
            )
            value = leading_number(ours[measure])
            aims.append(aim(f"{name}: {measure}, beside Open3D", value, best, "", better))
    print_report([*stores, *projections, *beside, *methods], aims, as_json=options.json)


if __name__ == "__main__":
    main()
