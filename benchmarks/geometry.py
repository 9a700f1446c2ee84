"""Fusion and rendering: speed and memory beside Open3D and torch, and how good the map is on noisy depth.

    pip install -r benchmarks/requirements.txt
    python benchmarks/geometry.py [--quick] [--json] [--only fusion memory rendering culling noise store start bytes]
    python benchmarks/geometry.py --device cuda [--quick] [--json]    (see geometry_cuda.py)

Ours and the peers' calls alternate in one process, ten frames or one view at a time, with a pause for the peers' threads
to fall asleep; medians. Scene: an analytic room of 8 x 6 x 3 m with six boxes, a Kinect's focal length, two laps.

- fusion: milliseconds a frame, against Open3D's VoxelBlockGrid (float32, block coordinates + integrate)
- memory: what a process holds at most while fusing 60 frames, above what it held before (Linux)
- rendering: a million surfels at 640x480 with colour, depth, normal, mask and id, against Open3D's 1-pixel
  project_to_rgbd_image of the same points; 100,000 at 256x256 against a z-buffer by torch's scatter_reduce. Surfels come
  in random order; ours are sorted as they are added, once.
- culling: a view of one room of a hundred (10 million surfels) against the same view of that room alone
- noise: a Kinect's noise on two procedural houses, 2 cm voxels; distance to the true surface, completeness, strays. Ours
  are five points of each disc (the centre, and four at 0.6 of the radius), VoxelBlockGrid's its point cloud
- store: memory.store over 5,000 frames of a walk; a longer stall would be growth or rebuilding
- start: a new process's first fuse and render, kernels from numba's cache on disk, and with an empty cache
- bytes: what a frame and a view move by the cost model of docs/geometry.md, over the time they take, as a share of what a
  copy in the same process moves
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np
import torch
from bandwidth import copy_bandwidth, frame_bytes, view_bytes
from peers import PointProjection, VoxelBlockGrid, scatter
from scenes import circle, frames, surfels

import spmem
from spmem import Camera, FusionConfig
from spmem.evaluation.report import aim, parse_options, print_report
from spmem.kernels.columns import Columns
from spmem.stores.maps.surfels import SurfelMap

Rows = list[dict[str, Any]]
Result = tuple[Rows, Rows]

SIZES = (((640, 480), 0.02, 5.0), ((640, 480), 0.01, 5.0), ((256, 256), 0.02, 8.0), ((256, 256), 0.01, 8.0))  # fmt: skip
PAUSE = 0.3
"""Seconds after which the peers' threads no longer spin."""


def fusion(quick: bool) -> Result:
    """Milliseconds a frame."""
    from spmem.progress import track

    rows, aims, n = [], [], 60 if quick else 300
    for (width, height), voxel, target in SIZES:
        ours, theirs = SurfelMap(FusionConfig(voxel=voxel)), VoxelBlockGrid(voxel)
        times: tuple[list[float], list[float]] = ([], [])
        walk = frames(circle(n, width, height))
        for _ in track(range(n // 10), f"Fusing {width}x{height}, {voxel * 100:g} cm"):
            batch = [next(walk) for _ in range(10)]
            sleep(PAUSE)
            times[0].extend(time_calls(ours.fuse, frame) for frame in batch)
            times[1].extend(time_calls(theirs.fuse, frame) for frame in batch)
        mine, other = (1000 * median(part[10:]) for part in times)
        name = f"{width}x{height}, {voxel * 100:g} cm"
        rows.append({
            "fusion": name, "ms": round(mine, 2), "p90 ms": round(1000 * float(np.quantile(times[0][10:], 0.9)), 2),
            "VoxelBlockGrid ms": round(other, 1), "times as fast": round(other / mine, 2), "surfels": len(ours),
        })  # fmt: skip
        aims.append(aim(f"fusion {name}: times VoxelBlockGrid", round(other / mine, 2), target, "x", "higher"))  # fmt: skip
    return rows, aims


def memory(quick: bool) -> Result:
    """Megabytes at most while fusing."""
    rows, aims = [], []
    for voxel in (0.02, 0.01):
        megabytes = {}
        for who in ("spmem", "VoxelBlockGrid"):
            command = [sys.executable, __file__, "--hold", who, str(voxel)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            megabytes[who] = float(done.stdout)
        name = f"640x480, {voxel * 100:g} cm"
        rows.append({"memory, MB": name, **{who: round(mb) for who, mb in megabytes.items()}})
        share = round(megabytes["spmem"] / megabytes["VoxelBlockGrid"], 2)
        aims.append(aim(f"memory {name}: share of VoxelBlockGrid's", share, 0.5, "x", "lower"))
    store = SurfelMap()
    given = surfels(1_000_000)
    store.add(given)
    each = sum(array.nbytes for array in store.arrays().values()) / len(store)
    rows.append({"a million surfels": "bytes each, without postings", "bytes": round(each, 1)})
    aims.append(aim("bytes a surfel", round(each, 1), 64, "B", "lower"))
    return rows, aims


def hold_geometry(who: str, voxel: float) -> None:
    """Fuse 60 frames in this process; prints by how many megabytes it grew at most."""
    walk = list(frames(circle(60, 640, 480)))
    ctypes.CDLL(None).malloc_trim(0)  # what making the frames left behind
    store = SurfelMap(FusionConfig(voxel=voxel)) if who == "spmem" else VoxelBlockGrid(voxel, 1000)
    before = resident()
    most = before
    for frame in walk:
        store.fuse(frame)
        most = max(most, resident())
    print(most - before)


def resident() -> float:
    """Megabytes of anonymous memory that this process holds."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("RssAnon:")[2].split()[0]) / 1000


def rendering(quick: bool) -> Result:
    """Milliseconds a view."""
    rows, aims, repeats = [], [], 5 if quick else 15
    for n, (width, height) in ((1_000_000, (640, 480)), (100_000, (256, 256))):
        given = surfels(n)
        store, cameras = SurfelMap(), circle(4, width, height, laps=1.0)
        store.add(given)
        project = PointProjection(given)
        calls: dict[str, Callable[[Camera], Any]] = {
            "discs": lambda camera, store=store: store.render(camera[None]),
            "Open3D 1 px": project,
            "torch 1 px": lambda camera, given=given: scatter(given, camera),
        }
        times: dict[str, list[float]] = {who: [] for who in calls}
        for camera in cameras:
            for who, call in calls.items():
                sleep(PAUSE)
                times[who] += [time_calls(call, camera) for _ in range(repeats)][2:]
        ms = {who: 1000 * median(part) for who, part in times.items()}
        trajectory = time_calls(store.render, circle(16, width, height)) / 16 * 1000
        rows.append({
            "rendering": f"{n:,} at {width}x{height}", **{f"{who}, ms": round(t, 2) for who, t in ms.items()},
            "16 views at once, ms each": round(trajectory, 2),
            "covered": round(float(store.render(cameras).mask.float().mean()), 3),
        })  # fmt: skip
        if n == 1_000_000:
            aims.append(aim("a million discs: share of Open3D's time", round(ms["discs"] / ms["Open3D 1 px"], 2), 1.0, "x", "lower"))  # fmt: skip
        else:
            aims.append(aim("100,000 discs: share of torch's time", round(ms["discs"] / ms["torch 1 px"], 2), 0.5, "x", "lower"))  # fmt: skip
    return rows, aims


def culling(quick: bool) -> Result:
    """One room of a hundred."""
    side, room = (4 if quick else 10), surfels(100_000, overlap=1.6)
    alone, house = SurfelMap(), SurfelMap()
    away = torch.tensor([10.0, 0, 8])
    alone.add(room)
    for i in range(side):
        for j in range(side):
            moved = room.position + away * torch.tensor([i, 0, j])
            house.add(type(room)(**{**vars(room), "position": moved}))
    middle = away * torch.tensor([side // 2, 0, side // 2])
    cameras = circle(8, 640, 480, laps=1.0)
    shifted = cameras.c2w.clone()
    shifted[:, :3, 3] += middle
    there = Camera(cameras.K, shifted, width=640, height=480)
    times: tuple[list[float], list[float]] = ([], [])
    for camera, far in zip(cameras, there, strict=True):
        for _ in range(5):
            times[0].append(time_calls(house.render, far[None]))
            times[1].append(time_calls(alone.render, camera[None]))
    whole, part = (1000 * median(t) for t in times)
    row = {
        "culling": f"one room of {side * side}", "surfels": len(house), "ms": round(whole, 2), "that room alone, ms": round(part, 2),
    }  # fmt: skip
    return [row], [aim("culling: times the room alone", round(whole / part, 2), 3, "x", "lower")]


def store(quick: bool) -> Result:
    """memory.store over a long walk."""
    from spmem import worlds
    from spmem.progress import track

    n = 500 if quick else 5000
    house = worlds.House(seed=2)
    cameras = worlds.walk(house, n, seed=1, width=160, height=120)
    seconds = []
    with spmem.open(None) as opened:
        for start in track(range(0, n, 100), "Storing a walk"):
            part = slice(start, start + 100)
            batch = list(house.frames(cameras[part], times=torch.arange(n)[part].float()))
            sleep(PAUSE)  # the threads that rendered fall asleep
            seconds += [time_calls(opened.store, frame) for frame in batch]
        row = {
            "store": f"{n} frames of 160x120", "median ms": round(1000 * median(seconds), 2),
            "p99 ms": round(1000 * float(np.quantile(seconds, 0.99)), 2), "longest ms": round(1000 * max(seconds[5:]), 1),
            "keyframes": len(opened.keyframes), "surfels": len(opened.geometry),
        }  # fmt: skip
    ratio = round(float(row["p99 ms"]) / float(row["median ms"]), 2)
    return [row], [aim("store: p99 / median", ratio, 3, "x", "lower")]


def start(quick: bool) -> Result:
    """Seconds until a new process has fused and rendered its first frame."""
    code = (
        "from time import perf_counter\nimport spmem\nfrom spmem.stores.maps.surfels import SurfelMap\n"
        "from spmem.testing.box import BoxRoom\nroom = BoxRoom()\n"
        "frame = room.frames(room.walk(1, width=64, height=48))[0]\nstart = perf_counter()\n"
        "store = SurfelMap()\nstore.fuse(frame)\nstore.render(frame.camera[None])\nprint(perf_counter() - start)"
    )
    seconds = {}
    with tempfile.TemporaryDirectory() as empty:
        for name, cache in (("warm", None), ("empty", empty)):
            if name == "empty" and quick:
                continue
            environ = {**os.environ, **({"NUMBA_CACHE_DIR": cache} if cache else {})}
            ran = subprocess.run([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True, check=True)  # fmt: skip
            seconds[name] = round(float(ran.stdout), 2)
    row = {"start": "first fuse and render, s", **{f"{k} cache": v for k, v in seconds.items()}}
    return [row], [aim("first call, kernels cached", seconds["warm"], 3, "s", "lower")]


def noise(quick: bool) -> Result:
    """Distance to the true surface."""
    from surface import noisy_walks

    return noisy_walks(quick)


def measure_moving(quick: bool) -> Result:
    """Bytes by the model, against a copy."""
    copied, rows = copy_bandwidth("cpu"), []
    for (width, height), voxel, _ in SIZES[:2] if quick else SIZES:
        grown, walk = SurfelMap(FusionConfig(voxel=voxel)), circle(60, width, height, laps=0.4)
        times, most = [], []
        for frame in frames(walk):
            before = len(grown)
            times.append(time_calls(grown.fuse, frame))
            columns = columns_of(grown)
            by = grown._blocks(frame.camera)
            most.append(frame_bytes(columns, frame.camera, by, max(len(grown) - before, 0)))
        rows.append(moving_row(f"fusing {width}x{height}, {voxel * 100:g} cm", times[10:], most[10:], copied))  # fmt: skip
    for n, (width, height) in ((1_000_000, (640, 480)), (100_000, (256, 256))):
        given, views = SurfelMap(), circle(8, width, height, laps=1.0)
        given.add(surfels(n))
        given.render(views)
        times = [time_calls(given.render, view[None]) for view in views for _ in range(5)]
        most = [view_bytes(columns_of(given), view) for view in views]
        rows.append(moving_row(f"drawing {n:,} discs at {width}x{height}", times, most, copied))
    return rows, []


def columns_of(grown: SurfelMap) -> Columns:
    """A map's columns."""
    assert grown._columns is not None
    return grown._columns


def moving_row(what: str, seconds: list[float], most: list[int], copied: float) -> dict[str, Any]:
    """The fastest tenth's time, as other work slows the rest and the copy is the best of ten; the share of its bandwidth."""
    ms, megabytes = 1000 * float(np.quantile(seconds, 0.1)), median(most) / 1e6
    return {
        "bytes": what, "MB": round(megabytes, 1), "ms, fastest tenth": round(ms, 2), "GB/s": round(megabytes / ms, 2),
        "a copy, GB/s": round(copied, 1), "share of a copy": round(megabytes / ms / copied, 2),
    }  # fmt: skip


def time_calls(call: Callable[..., Any], *given: Any) -> float:
    """Seconds of a call."""
    begin = perf_counter()
    call(*given)
    return perf_counter() - begin


PARTS = {
    "fusion": fusion, "memory": memory, "rendering": rendering, "culling": culling, "noise": noise,
    "store": store, "start": start, "bytes": measure_moving,
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer frames and views")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), help="of the CPU's parts"
    )
    parser.add_argument("--hold", nargs=2, help=argparse.SUPPRESS)
    options = parse_options(parser)
    if options.hold:
        hold_geometry(options.hold[0], float(options.hold[1]))
        return
    if options.device == "cuda":
        if not torch.cuda.is_available():
            parser.error(f"torch {torch.__version__} finds no CUDA device")
        import geometry_cuda

        print_report(*geometry_cuda.measure(options.quick), as_json=options.json)
        return
    rows: Rows = []
    aims: Rows = []
    for name in options.only:
        try:
            more, met = PARTS[name](options.quick)
        except ImportError as error:
            print(f"{name} left out: {error}; pip install -r benchmarks/requirements.txt", file=sys.stderr)  # fmt: skip
            continue
        rows, aims = rows + more, aims + met
    print_report(rows, aims, as_json=options.json)


if __name__ == "__main__":
    main()
