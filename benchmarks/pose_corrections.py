"""Poses corrected after the fact: how fast beside fusing all keyframes again, and how near to the map that gives.

    python benchmarks/pose_corrections.py [--quick] [--json]

A walk through a procedural house, 500 keyframes of 320x240, in a memory on disk. One in twenty is stored at a pose that is
wrong by 2 cm and 1 degree, scattered over the walk or in one stretch, with exact depth or a Kinect's; then
`update_poses` puts them right. Rebuilt is an empty map with every keyframe read from the bank, fused and observed; updating
counts all that the memory does, its rule and free space brought up to date included. Each is done twice, in turn; the
sooner counts. Depth and colour are compared in every eighth keyframe's view. The last rows are yardsticks: by how much two
maps differ that were built from the same keyframes, in another order.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import torch

import spmem
from spmem import Camera, Frame, FusionConfig, KeyframeConfig, MemoryConfig, SpatialMemory, worlds
from spmem.evaluation.report import aim, parse_options, print_report
from spmem.geometry import matrix_from_quaternion
from spmem.progress import track
from spmem.stores.maps.surfels import SurfelMap

WIDTH, HEIGHT, VOXEL = 320, 240, 0.02
SHIFT, DEGREES, SHARE = 0.02, 1.0, 0.05
CONFIG = MemoryConfig(
    fusion=FusionConfig(voxel=VOXEL), keyframes=KeyframeConfig(novelty=0.0, commit_every=0)
)
Rows = list[dict[str, Any]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100 keyframes, exact depth")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parse_options(parser)
    n, rows, aims = 100 if options.quick else 500, [], []
    for noisy in (False,) if options.quick else (False, True):
        frames = walk(n, noisy)
        depth = "a Kinect's depth" if noisy else "exact depth"
        count = round(SHARE * n)
        scattered, stretch = range(10, n, n // count), range(n // 2, n // 2 + count)
        for moved, how in ((scattered, "scattered"), (stretch, "one stretch")):
            found = correct_poses(frames, list(moved), f"{how}, {depth}")
            rows.append(found)
            aims.append(aim(f"{found['corrected']}: times rebuilding", found["times as fast"], 10, "x", "higher"))  # fmt: skip
        rows += yardsticks(frames, list(scattered), depth)
    print_report(rows, aims, as_json=options.json)


def correct_poses(frames: list[Frame], moved: list[int], name: str) -> dict[str, Any]:
    """One memory whose poses are put right, and a rebuilt map."""
    right = {i: frames[i].camera.c2w for i in moved}
    wrong = {i: off_by(frames[i].camera.c2w, i) for i in moved}
    with tempfile.TemporaryDirectory() as folder:
        memory = spmem.open(f"{folder}/walk.spmem", config=CONFIG)
        for i, frame in enumerate(track(frames, f"Storing, {name}")):
            memory.store(frame.moved(wrong[i]) if i in wrong else frame)
        memory.commit()
        memory.retrieve(frames[0].camera)
        look = views(frames)
        updating = [time_call(memory.update_poses, right)]
        memory.geometry.render(look[:1])  # threads are awake
        rebuilt, seconds = rebuild(memory)
        found = difference(memory.geometry, rebuilt, look)
        rebuilding = [seconds]
        memory.update_poses(wrong)
        updating.append(time_call(memory.update_poses, right))
        rebuilding.append(rebuild(memory)[1])
        restored = difference(memory.geometry, rebuilt, look)["depth %, mean"]
        removing = time_call(memory.remove, moved)
        memory.close()
    return {
        "corrected": name, "moved": len(moved), "update s": round(min(updating), 3),
        "rebuild s": round(min(rebuilding), 2), "times as fast": round(min(rebuilding) / min(updating), 1),
        **found, "after wrong and right again": restored, "remove s": round(removing, 3),
    }  # fmt: skip


def yardsticks(frames: list[Frame], moved: list[int], depth: str) -> Rows:
    """How much the order of keyframes matters."""
    order = torch.randperm(len(frames), generator=torch.Generator().manual_seed(0)).tolist()
    last = [i for i in range(len(frames)) if i not in moved] + moved
    first, look = build_memory(frames, range(len(frames))), views(frames)
    return [
        {
            "another order": f"{name}, {depth}",
            **difference(build_memory(frames, which), first, look),
        }
        for name, which in (("those moved come last", last), ("at random", order))
    ]


def difference(a: Any, b: Any, look: Camera) -> dict[str, Any]:
    """Differences of two maps in views: depth in %, colour in 0..255, the first one's coverage less the other's, surfels, confidence."""
    one, two = a.render(look), b.render(look)
    both = one.mask & two.mask
    off = 100 * ((one.depth - two.depth).abs() / two.depth)[both]
    sure = [float(map.surfels().confidence.sum()) for map in (a, b)]
    return {
        "depth %, mean": round(float(off.mean()), 3),
        "median": round(float(off.median()), 4),
        "p95": round(float(off.sort().values[int(0.95 * len(off))]), 3),
        "colour": round(255 * float((one.rgb - two.rgb).abs()[both].mean()), 2),
        "coverage %": round(100 * float(one.mask.float().mean() - two.mask.float().mean()), 3),
        "surfels %": round(100 * (len(a) / len(b) - 1), 2),
        "confidence %": round(100 * (sure[0] / sure[1] - 1), 2),
    }


def rebuild(memory: SpatialMemory) -> tuple[SurfelMap, float]:
    """A new map of the bank's keyframes, and its seconds."""
    start, store = perf_counter(), SurfelMap(CONFIG.fusion)
    for id, keyframe in memory.keyframes.items():
        store.observe(id, store.fuse(keyframe.frame).reshape(-1))
    return store, perf_counter() - start


def build_memory(frames: list[Frame], order: Iterable[int]) -> SurfelMap:
    """A map of frames in an order."""
    store = SurfelMap(CONFIG.fusion)
    for i in order:
        store.observe(i, store.fuse(frames[i]).reshape(-1))
    return store


def views(frames: list[Frame]) -> Camera:
    """Every eighth keyframe's view, at half size."""
    return Camera.stack([frame.camera for frame in frames[::8]]).resize(WIDTH // 2, HEIGHT // 2)


def walk(n: int, noisy: bool) -> list[Frame]:
    """Keyframes with colour in bytes, a second apart."""
    house, noise = worlds.House(seed=2), worlds.DepthNoise(seed=2)
    cameras = worlds.walk(house, n, seed=1, width=WIDTH, height=HEIGHT)
    frames = []
    for i in track(range(n), "Walking through a house"):
        view, camera = house.render(cameras[i][None]), cameras[i]
        depth = noise.spoil(view.depth[0], view.normal[0], camera, index=i) if noisy else view.depth[0]  # fmt: skip
        frames.append(Frame((view.rgb[0] * 255).round().byte(), depth, camera, time=float(i)))
    return frames


def off_by(c2w: torch.Tensor, seed: int) -> torch.Tensor:
    """A pose that is wrong by ``SHIFT`` and ``DEGREES`` in some direction."""
    draw = torch.Generator().manual_seed(seed)
    axis, step = torch.nn.functional.normalize(torch.randn(2, 3, generator=draw), dim=-1)
    half = math.radians(DEGREES) / 2
    turn = matrix_from_quaternion(torch.tensor([math.cos(half), *(axis * math.sin(half)).tolist()]))
    wrong = c2w.clone()
    wrong[:3, :3] = turn @ wrong[:3, :3]
    wrong[:3, 3] += SHIFT * step
    return wrong


def time_call(call: Callable[[Any], Any], given: Any) -> float:
    """Seconds of a call."""
    start = perf_counter()
    call(given)
    return perf_counter() - start


if __name__ == "__main__":
    main()
