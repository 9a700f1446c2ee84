"""What a budget costs: coverage at 4 keyframes against the number of keyframes kept, for each retention policy.

    python benchmarks/retention.py [--quick] [--json]

Walks through procedural houses; every frame is stored as a keyframe, in a memory with a budget. Then cameras come back, and what four
retrieved keyframes truly saw of the revisited pixels is divided by what the best four of all frames saw. Controls: no budget, and a
random sample (``reservoir``).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

import spmem
from spmem.evaluation.episode import BenchEpisode, Size
from spmem.evaluation.measures import best, coverage
from spmem.evaluation.report import ROOT, aim, parse_options, print_report
from spmem.evaluation.scenes import room_to_room, round_again
from spmem.registry import SHIPPED
from spmem.worlds.house import FRAME_RATE

FAMILIES = {"round again": round_again, "room to room": room_to_room}
BUDGETS = (4, 8, 16, 32, 64)
K = 4


def share(episode: BenchEpisode, budget: int | None, policy: str) -> tuple[float, float]:
    """Of what the best four frames saw: what four retrieved keyframes saw, and what the best four that were kept saw."""
    config = spmem.MemoryConfig(
        check_poses=False,
        recent=0,
        keyframes=spmem.KeyframeConfig(novelty=0.0, commit_every=0),
        retention=spmem.RetentionConfig(budget, policy),
    )
    memory = spmem.open(config=config)
    for frame in episode.frames:
        memory.store(frame)
    kept = [round(keyframe.time * FRAME_RATE) for keyframe in memory.keyframes.values()]
    got, could = [], []
    for target in episode.targets:
        found = memory.retrieve(target.cameras, k=K, time=target.time)
        chosen = [round(keyframe.time * FRAME_RATE) for keyframe in found.keyframes]
        most = coverage(target.saw, best(target.saw, K))
        got.append(coverage(target.saw, chosen) / most)
        could.append(coverage(target.saw, best(target.saw, K, kept)) / most)
    return float(np.mean(got)), float(np.mean(could))


def measure(quick: bool) -> list[dict[str, Any]]:
    """A row for each family, policy and budget."""
    size = (
        Size(frames=40, targets=4, width=64, height=48)
        if quick
        else Size(frames=240, width=96, height=72)
    )
    seeds = range(2 if quick else 6)
    trials = [(None, "none")] + [(b, p) for b in BUDGETS for p in SHIPPED["retention"]]
    rows = []
    for family, make in FAMILIES.items():
        episodes = [make(seed, size) for seed in seeds]
        for budget, policy in track(trials, family, transient=True):
            name = "coverage" if budget is None else policy
            pairs = np.array([share(one, budget, name) for one in episodes])
            error = pairs.std(0, ddof=1) / np.sqrt(len(pairs))
            rows.append(
                {
                    "scenes": family,
                    "policy": policy,
                    "budget": budget or size.frames,
                    "share of the best 4": round(float(pairs[:, 0].mean()), 3),
                    "standard error": round(float(error[0]), 3),
                    "the best 4 of the kept": round(float(pairs[:, 1].mean()), 3),
                }
            )
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Share against budget, a line a policy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(FAMILIES), figsize=(11, 4), sharey=True)
    for family, axis in zip(FAMILIES, axes, strict=True):
        mine = [row for row in rows if row["scenes"] == family]
        whole = next(row for row in mine if row["policy"] == "none")
        axis.axhline(whole["share of the best 4"], color="grey", linestyle=":", label="no budget")
        for policy in SHIPPED["retention"]:
            line = [row for row in mine if row["policy"] == policy]
            axis.errorbar(
                [row["budget"] for row in line],
                [row["share of the best 4"] for row in line],
                [row["standard error"] for row in line],
                label=policy,
                marker="o",
                capsize=3,
            )
        axis.set(title=family, xlabel="keyframes kept", xscale="log", xticks=BUDGETS)
        axis.set_xticklabels(map(str, BUDGETS))
        axis.minorticks_off()
    axes[0].set_ylabel("what 4 retrieved saw,\nof what the best 4 saw")
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def main() -> None:
    """Measure, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="under a minute, for a look")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parse_options(parser)
    rows = measure(options.quick)
    plot(rows, ROOT / "out" / "bench" / "retention.png")
    aims = []
    for budget in (8, 16, 32):
        coverage_of = {
            policy: np.mean(
                [
                    r["share of the best 4"]
                    for r in rows
                    if (r["policy"], r["budget"]) == (policy, budget)
                ]
            )
            for policy in SHIPPED["retention"]
        }
        gain = float(
            coverage_of["coverage"]
            - max(share for name, share in coverage_of.items() if name != "coverage")
        )
        aims.append(
            aim(f"coverage over the next best policy, {budget} kept", gain, 0.0, "", "higher")
        )
    print_report(rows, aims, as_json=options.json)


if __name__ == "__main__":
    main()
