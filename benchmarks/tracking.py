"""Cameras that nobody gave: how far a walk that is tracked against its own map drifts, and whether loss is reported.

    python benchmarks/tracking.py [--quick] [--json]

Every frame is stored at the pose that tracking found (`spmem.integrations.tracking.follow`); the first one's pose is given,
no other. Procedural walks have exact depth or a Kinect's; the real walks' own poses are those of the devices that recorded them,
so the error there is the difference of two trackers. Real walks are read from SPMEM_TEST_DATA (default ../shared/data), and left
out where there are none.

- ate: root mean square distance to the given positions after the best rigid motion, over the frames that were found; in
  per cent of the path's length
- end: distance of the last positions with the first poses laid upon one another
- carried off: in the middle of a walk the camera sees another house for some frames, and then the first one again; how many of
  these frames are reported as lost, and after how many frames the walk is found again
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

import spmem
from spmem import Camera, Frame, SpatialMemory, worlds
from spmem.evaluation.report import aim, mean_and_error, parse_options, print_report, walks_folder
from spmem.integrations.readers import open_walk
from spmem.integrations.tracking import TrackedFrame, follow, trajectory_error
from spmem.pictures.canvas import INK, PATH, QUERIES, Page, save
from spmem.pictures.plan import ground_plan
from spmem.progress import track

WALKS = {"redkitchen_7scenes": "7scenes", "hololens_dvmvs": "folders"}
OUT = Path("out/bench")
WIDTH, HEIGHT, ROOMS = 160, 120, 4
AWAY = 12


def walk_house(seed: int, steps: int, noisy: bool) -> tuple[Iterator[Frame], Camera]:
    """Frames of a procedural walk that all claim to stand at its start, and the true cameras."""
    house = worlds.House(seed=seed, rooms=ROOMS)
    cameras = worlds.walk(house, steps, seed=seed, width=WIDTH, height=HEIGHT)
    noise = worlds.DepthNoise(seed=seed) if noisy else None
    return without_poses(house.frames(cameras, noise=noise)), cameras


def without_poses(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The same frames, all at the pose of the first."""
    start = None
    for frame in frames:
        start = frame.camera.c2w if start is None else start
        yield frame.moved(start)


def measure_tracking(
    name: str, frames: Iterable[Frame], truth: Camera, picture: bool
) -> dict[str, Any]:
    """Track one walk; the row of it, and a picture from above."""
    start, memory = perf_counter(), spmem.open()
    followed = list(track(follow(frames, memory), f"Tracking {name}"))
    seconds = perf_counter() - start
    found = torch.tensor([one.how != "lost" for one in followed])
    cameras = Camera.stack([one.frame.camera for one in followed])
    error = trajectory_error(cameras[found], truth[found])
    if picture:
        save(
            from_above(memory, cameras[found], truth), OUT / f"tracking_{name.split()[0]}.png", 110
        )
    return {
        "walk": name,
        "frames": len(followed),
        "lost": int((~found).sum()),
        "found again": sum(one.how == "found again" for one in followed),
        "path": round(trajectory_error(truth, truth).path, 2),
        "ate": round(error.ate, 4),
        "ate %": round(100 * error.ate / trajectory_error(truth, truth).path, 3),
        "end": round(error.end, 3),
        "turn, degrees": round(float(np.degrees(error.turn)), 2),
        "ms a frame": round(1000 * seconds / len(followed)),
    }


def carried_off(seed: int, steps: int) -> dict[str, Any]:
    """A walk that is interrupted by frames of another house."""
    house, other = (worlds.House(seed=s, rooms=ROOMS) for s in (seed, seed + 100))
    way = worlds.walk(house, steps, seed=seed, width=WIDTH, height=HEIGHT)
    foreign = worlds.walk(other, AWAY, seed=seed, width=WIDTH, height=HEIGHT)
    half = steps // 2
    truth = Camera.stack([*way[:half], *foreign, *way[half // 2 :]])
    frames = [*house.frames(way[:half]), *other.frames(foreign), *house.frames(way[half // 2 :])]
    followed = list(follow(without_poses(frames), spmem.open()))
    away = slice(half, half + AWAY)
    back = followed[half + AWAY :]
    found_at = next((i for i, one in enumerate(back) if one.how != "lost"), len(back))
    off = [
        pose_error(one, truth[half + AWAY + i])
        for i, one in enumerate(back)
        if one.camera is not None
    ]
    return {
        "carried off, seed": seed,
        "foreign frames": AWAY,
        "reported lost": sum(one.how == "lost" for one in followed[away]),
        "frames until found again": found_at,
        "lost after": sum(one.how == "lost" for one in back),
        "error after, median": round(float(np.median(off)), 4) if off else None,
        "worst": round(max(off), 4) if off else None,
    }


def pose_error(one: TrackedFrame, truth: Camera) -> float:
    """Distance from the true position, in world units."""
    return float((one.frame.camera.position - truth.position).norm())


def from_above(memory: SpatialMemory, found: Camera, truth: Camera) -> Any:
    """The map that tracking built, with the true way and the tracked one."""
    plan = ground_plan(memory, cameras=truth)
    page = Page(9.0, 9.0 * plan.image.shape[0] / plan.image.shape[1])
    axes = page.axes(0, 0, page.width, page.height)
    axes.set_axis_on()
    axes.set(facecolor="#15181d", xticks=[], yticks=[])
    axes.imshow(plan.image, extent=plan.extent, origin="lower", interpolation="antialiased")
    for cameras, colour, width, label in (
        (truth, QUERIES[0], 4.0, "given"),
        (found, PATH, 1.5, "tracked"),
    ):
        way = plan.to_page(cameras.position.double().numpy())
        axes.plot(way[:, 0], way[:, 1], color=colour, linewidth=width, label=label)
    axes.set_aspect("equal")
    axes.legend(loc="lower left", frameon=False, labelcolor=INK)
    return page.figure


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short walk of each kind")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parse_options(parser)
    seeds, steps = (range(1), 30) if options.quick else (range(3), 100)
    rows, aims = [], []
    OUT.mkdir(parents=True, exist_ok=True)
    for noisy, depth in ((False, "exact"), (True, "a Kinect's")):
        shares = []
        for seed in seeds:
            frames, truth = walk_house(seed, steps, noisy)
            picture = noisy and seed == 0
            rows.append(measure_tracking(f"house-{seed} {depth} depth", frames, truth, picture))
            shares.append(rows[-1]["ate %"])
        rows.append({"depth": depth, "ate %, mean over houses": mean_and_error(shares)})
        aims.append(aim(f"{depth} depth: ate, worst walk", max(shares), 1.0, "% of path", "lower"))
    for name, format in WALKS.items():
        if (walks_folder() / name).is_dir():
            walk = open_walk(walks_folder() / name, format)[: 20 if options.quick else None]
            assert isinstance(walk.cameras, Camera)
            rows.append(measure_tracking(name, without_poses(walk), walk.cameras, True))
    carried = [carried_off(seed, 40 if options.quick else 80) for seed in seeds]
    lost = sum(row["reported lost"] for row in carried) / sum(
        row["foreign frames"] for row in carried
    )
    aims.append(aim("foreign frames reported lost", round(100 * lost, 1), 100, "%", "higher"))
    print_report([*rows, *carried], aims, as_json=options.json)


if __name__ == "__main__":
    main()
