"""Which novelty makes a keyframe: what is kept, and what the kept ones still know, on real walks.

    python benchmarks/novelty.py [--quick] [--json]

Every frame but each tenth is stored, at half size, under several thresholds. Known is the share of what the stored
frames saw of the held-back ones that some keyframe saw too; recall is what the four retrieved keyframes saw, as a
share of what the best four of all stored frames could have. Walks are read from SPMEM_TEST_DATA.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from held_back import held_back, small_view
from real_walks import WALKS, K, best_cover

import spmem
from spmem import Camera, Frame, KeyframeConfig, MemoryConfig
from spmem.evaluation.report import mean_and_error, parse_options, print_report, walks_folder
from spmem.integrations.readers import open_walk
from spmem.progress import track
from spmem.testing.truth import covisibility

THRESHOLDS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


def halve_frame(frame: Frame) -> Frame:
    """Every second pixel of every second row."""
    assert frame.depth is not None
    depth = frame.depth[::2, ::2]
    camera = frame.camera.resize(depth.shape[1], depth.shape[0])
    return frame.replace(
        rgb=frame.rgb[::2, ::2].contiguous(), depth=depth.contiguous(), camera=camera
    )


def measure(name: str, stop: int | None) -> list[dict[str, Any]]:
    """A row for each threshold."""
    walk = open_walk(walks_folder() / name, WALKS[name])[:stop]
    frames = [halve_frame(frame) for frame in track(walk, f"Reading {name}")]
    stored = [i for i in range(len(frames)) if not held_back(i)]
    queries = [i for i in range(len(frames)) if held_back(i)]
    views = [small_view(frames[i]) for i in stored]
    depths, cameras = torch.stack([d for d, _ in views]), Camera.stack([c for _, c in views])
    truths = [covisibility(*small_view(frames[i]), depths, cameras).masks for i in queries]
    best = [masks[best_cover(masks)].any(0).sum() for masks in truths]
    rows = []
    for novelty in track(THRESHOLDS, f"Storing {name}"):
        keyframes = KeyframeConfig(novelty=novelty, commit_every=0)
        memory = spmem.open(config=MemoryConfig(keyframes=keyframes))
        kept = [row for row, i in enumerate(stored) if memory.store(frames[i]) is not None]
        known, recall = [], []
        for i, masks, most in zip(queries, truths, best, strict=True):
            known.append(float(masks[kept].any(0).sum() / masks.any(0).sum()))
            found = memory.retrieve(frames[i].camera, k=K, given=())
            chosen = [kept[list(memory.keyframes).index(k.id)] for k in found.keyframes]
            recall.append(float(masks[chosen].any(0).sum() / most))
        rows.append(
            {
                "walk": name,
                "novelty": novelty,
                "keyframes": len(kept),
                "of frames": len(stored),
                "known": mean_and_error(known),
                "worst known": round(float(np.min(known)), 3),
                "recall@4": mean_and_error(recall),
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the first 60 frames only")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parse_options(parser)
    if not walks_folder().is_dir():
        raise SystemExit(f"no walks at {walks_folder()}: set SPMEM_TEST_DATA")
    stop = 60 if options.quick else None
    print_report([row for name in WALKS for row in measure(name, stop)], [], as_json=options.json)


if __name__ == "__main__":
    main()
