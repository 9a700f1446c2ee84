"""Fusion and rendering on a CUDA device: ``python benchmarks/geometry.py --device cuda``, and part of ``make gpu``.

Rows say what was measured, on CUDA, and beside it a peer's figure in the note. Times are of calls one after the other,
waited for at the end of a batch; medians of batches.

- fuse: frames a second, two laps through the room of scenes.py; the same tensor of intrinsics for all frames
- render: milliseconds a view of a million surfels, one view a call, and sixteen a call
- gsplat: ``rasterization_2dgs`` of the same surfels, colour and depth, in a process of its own, as it is built at first use
- points: a z-buffer by torch's ``scatter_reduce``, a pixel a point, colour and depth; ours draws discs, with normals and ids
- worlds: frames a second of 64 worlds at 128x128 in one call, and views a second of four cameras each
- bytes: what a frame and a view move by the cost model of docs/geometry.md, as a share of what a copy moves
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from bandwidth import copy_bandwidth, frame_bytes, view_bytes, wait
from peers import scatter
from scenes import circle, frames, surfels

from spmem import Camera, FusionConfig
from spmem.evaluation.report import aim
from spmem.stores.maps.batch import SurfelMapBatch
from spmem.stores.maps.surfels import SurfelMap
from spmem.types import Surfels

Rows = list[dict[str, Any]]
BATCH = 8
GSPLAT_SECONDS = 90
"""Time for gsplat to be built and to draw."""
SIZES = (((640, 480), 0.02), ((640, 480), 0.01), ((256, 256), 0.02))


def measure(quick: bool) -> tuple[Rows, Rows]:
    """All rows, and the figures that were asked for."""
    copied = copy_bandwidth("cuda")
    rows, aims = [row("copy", f"{copied:.0f} GB/s")], []
    for part in PARTS:
        more, met = part(quick, copied)
        rows, aims = rows + more, aims + met
    return rows, aims


def row(what: str, cuda: str = "", cpu: str = "", note: str = "") -> dict[str, str]:
    """All rows have the same columns, so that they are one table."""
    return {"what": what, "cuda": cuda, "cpu": cpu, "note": note}


def fusing(quick: bool, copied: float) -> tuple[Rows, Rows]:
    """Frames a second."""
    rows, aims = [], []
    for (width, height), voxel in SIZES[:1] if quick else SIZES:
        store, K = SurfelMap(FusionConfig(voxel=voxel)), None
        walk = []
        for frame in frames(circle(48 if quick else 120, width, height)):
            moved = frame.to("cuda")
            K = moved.camera.K if K is None else K
            camera = Camera(K, moved.camera.c2w, width=width, height=height, validate=False)
            walk.append(moved.replace(camera=camera))
        store.fuse(walk[0])
        seconds = [
            time_each(store.fuse, walk[start : start + BATCH])
            for start in range(1, len(walk) - BATCH, BATCH)
        ]
        rate, name = 1 / median(seconds[2:]), f"fuse {width}x{height}, {voxel * 100:g} cm"
        columns, before = store._columns, len(store)
        assert columns is not None
        store.fuse(walk[-1])
        by, new = store._blocks(walk[-1].camera), max(len(store) - before, 0)
        share = frame_bytes(columns, walk[-1].camera, by, new) / 1e9 * rate / copied
        rows.append(row(name, f"{rate:.0f} frames/s", note=f"{len(store):,} surfels; bytes: {share:.2f} of a copy"))  # fmt: skip
        if (width, height) == (640, 480):
            aims.append(aim(f"{name}: frames a second", round(rate), 1000, "1/s", "higher"))
    return rows, aims


def drawing(quick: bool, copied: float) -> tuple[Rows, Rows]:
    """Milliseconds a view of a million discs, beside a peer's."""
    given, store = on_cuda(surfels(1_000_000)), SurfelMap()
    store.add(given)
    views = circle(16, 640, 480, laps=1.0).to("cuda")
    single = [views[t][None] for t in range(len(views))]
    repeats = 3 if quick else 8
    ms = 1000 * median(time_each(store.render, single) for _ in range(2 + repeats))
    together = (
        1000 * median(time_each(store.render, [views]) for _ in range(2 + repeats)) / len(views)
    )
    points = 1000 * median(
        time_each(lambda v: scatter(given, v[0]), single) for _ in range(2 + repeats)
    )
    covered = float(store.render(views).mask.float().mean())
    columns = store._columns
    assert columns is not None
    model = median(view_bytes(columns, view) for view in views) / 1e6
    name = "render 1,000,000 discs, 640x480"
    rows = [
        row(name, f"{ms:.3f} ms", note=f"covered {covered:.3f}; bytes: {model / ms / copied:.2f} of a copy"),
        row(f"{name}, 16 views a call", f"{together:.3f} ms each"),
        row("the same as points, torch", f"{points:.3f} ms"),
    ]  # fmt: skip
    aims = [aim(f"{name}: ms", round(ms, 3), 1.0, "ms", "lower")]
    other, note = gsplat_apart(repeats)
    rows.append(row("the same by gsplat's rasterization_2dgs", "" if other is None else f"{other:.3f} ms", note=note))  # fmt: skip
    if other is not None:
        aims.append(aim("a million discs: share of gsplat's time", round(ms / other, 2), 1.0, "x", "lower"))  # fmt: skip
    return rows, aims


def many_worlds(quick: bool, copied: float) -> tuple[Rows, Rows]:
    """64 worlds of 128 x 128."""
    b, side = 64, 128
    worlds, poses = SurfelMapBatch(b, FusionConfig(voxel=0.05)), circle(b, side, side, laps=1.0)
    batch = [frame.to("cuda") for frame in frames(poses)]
    rgb = torch.stack([frame.rgb for frame in batch])
    depth = torch.stack([frame.depth for frame in batch if frame.depth is not None])
    cameras = poses.to("cuda")
    repeats = 4 if quick else 16

    def step(_: int) -> None:
        worlds.fuse(rgb, depth, cameras)

    four = Camera.stack([cameras] * 4)
    K, c2w = four.K.transpose(0, 1), four.c2w.transpose(0, 1)
    views = Camera(K, c2w, width=side, height=side, validate=False)
    fuse = median(time_each(step, range(BATCH)) for _ in range(2 + repeats))
    draw = median(time_each(worlds.render, [views]) for _ in range(2 + repeats))
    return [
        row(f"fuse {b} worlds, {side}x{side}", f"{b / fuse:.0f} frames/s", note=f"{1000 * fuse:.2f} ms a call"),
        row(f"render {b} worlds x 4 views, {side}x{side}", f"{4 * b / draw:.0f} views/s", note=f"{1000 * draw:.2f} ms a call"),
    ], []  # fmt: skip


def gsplat_apart(repeats: int) -> tuple[float | None, str]:
    """Milliseconds a view by gsplat, or why there are none."""
    command = [sys.executable, __file__, "--gsplat", str(repeats)]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=GSPLAT_SECONDS)  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"left out: not built and drawn after {GSPLAT_SECONDS} s"
    if done.returncode:
        return None, f"left out: {done.stderr.strip().rpartition(chr(10))[2]}"
    return float(json.loads(done.stdout.strip().rpartition("\n")[2])), "colour and depth"


def gsplat(repeats: int) -> float:
    """Milliseconds a view of the same million surfels, as 2D Gaussians made ready beforehand."""
    from gsplat import rasterization_2dgs

    from spmem.integrations.renderers.gsplat import gaussians_from_surfels

    gaussians = gaussians_from_surfels(on_cuda(surfels(1_000_000)))
    views = [view[None].to_gsplat() for view in circle(16, 640, 480, laps=1.0).to("cuda")]

    def draw(view: Any) -> None:
        rasterization_2dgs(**gaussians, **view, render_mode="RGB+D")

    with torch.no_grad():
        return 1000 * median(time_each(draw, views) for _ in range(2 + repeats))


PARTS = (fusing, drawing, many_worlds)


def on_cuda(given: Surfels) -> Surfels:
    """The surfels there."""
    return Surfels(**{n: None if v is None else v.to("cuda") for n, v in vars(given).items()})


def time_each(call: Callable[[Any], Any], given: Any) -> float:
    """Seconds a call, of calls one after the other."""
    wait("cuda")
    start = perf_counter()
    for one in given:
        call(one)
    wait("cuda")
    return (perf_counter() - start) / len(given)


if __name__ == "__main__":
    if "--gsplat" in sys.argv:
        print(gsplat(int(sys.argv[-1])))
    else:
        print("python benchmarks/geometry.py --device cuda measures this")
