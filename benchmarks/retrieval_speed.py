"""How fast is retrieval, and how does it grow? Candidate search to a million keyframes, a whole retrieve at 100,000.

    python benchmarks/retrieval_speed.py [--quick] [--json] [--only search retrieve votes beside]

- search: the 128 best keyframes for one camera (as many as are scored), on one thread. The bank is copies of the views
  of 16 procedural houses, each copy a place of its own; queries are views that are not in it. The inverted index (``voxels``) against sketches
  in faiss (a graph; lists cut by k-means) and all compared in torch (``flat``). Recall is of the 128 truly largest
  coefficients, and of what comparing with all would have answered. Graph and lists are built up to 100,000; below
  10,000 faiss walks its graph and compares with all in turn, to show where the one passes the other.
- retrieve: ``memory.retrieve(camera, k=4)`` without pixel reads at 320x240, 100,000 keyframes; with 5 million surfels,
  and with a finer map of 12 million.
- votes: VMem's rule in the structure of its code (an object a surfel, ``peers_retrieval.py``) against ours and against
  ``covisibility``, on the same map.
- beside: ``store`` and ``retrieve`` at 320x240 while another process works with a memory of its own, and while four
  processes compute; alone before and after each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peers_retrieval import Surfel, SurfelMemory, choose
from rich.progress import track

import spmem
from spmem import (
    Camera,
    Frame,
    FusionConfig,
    KeyframeConfig,
    MemoryConfig,
    RetrievalConfig,
    SpatialMemory,
    worlds,
)
from spmem.evaluation.report import aim, parse_options, print_report
from spmem.retrieval.indices.faiss import FaissIndex
from spmem.retrieval.indices.inverted import VoxelIndex
from spmem.retrieval.indices.places import PlaceIndex, SketchIndex, make_index
from spmem.retrieval.indices.voxels import VoxelSets, voxel_edge, voxels_of_views
from spmem.stores.keyframes.ram import RamKeyframes
from spmem.stores.maps.surfels import SurfelMap
from spmem.views import THUMB, Views

HOUSES, VIEWS, APART = 16, 128, 100.0
K, DIM = RetrievalConfig().candidates, RetrievalConfig().dim
VOXEL = 0.11
COARSE = 0.19
"""The voxel with which 100,000 keyframes have about 5 million surfels."""
HELD = 8
"""Every eighth view is a query, and not in the bank."""

Ids = NDArray[np.int64]


def walks_through_houses(houses: int) -> list[Frame]:
    """Frames of walks through houses that stand far apart."""
    frames: list[Frame] = []
    for seed in track(range(houses), "Walking", transient=True):
        house = worlds.House(seed=seed, rooms=3)
        way = worlds.walk(house, 5 * VIEWS, seed=seed, width=THUMB[1], height=THUMB[0])[::5]
        shift = torch.tensor([APART * seed, 0, 0])
        frames += [
            frame.replace(camera=move_camera(frame.camera, shift)) for frame in house.frames(way)
        ]
    return frames


def move_camera(camera: Camera, by: torch.Tensor) -> Camera:
    """The camera, carried along the world's axes."""
    c2w = camera.c2w.clone()
    c2w[..., :3, 3] += by
    return Camera(camera.K, c2w, width=camera.width, height=camera.height)


def views_of(frames: Sequence[Frame]) -> Views:
    """A view of each frame, a second apart."""
    views = Views()
    for id, frame in enumerate(frames):
        assert frame.depth is not None
        views.append(id, float(id), frame.camera, frame.depth.numpy())
    return views


# -- search -----------------------------------------------------------------------------------------


def copy_of(sets: VoxelSets, copy: int) -> VoxelSets:
    """The same sets of another place: other keys."""
    mixed = (sets.key ^ np.uint64(copy)) * np.uint64(0x9E3779B97F4A7C15)
    return replace(sets, key=mixed ^ (mixed >> np.uint64(29)))


def part_of(sets: VoxelSets, rows: Ids) -> VoxelSets:
    """Some of the sets."""
    spans = [np.arange(*sets.offsets[row : row + 2]) for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
    return VoxelSets(sets.key[np.concatenate(spans)], sets.share[np.concatenate(spans)], offsets)


def truly_best(query: VoxelSets, sets: VoxelSets) -> Ids:
    """Rows of the K sets with the largest coefficients above 0."""
    share = dict(zip(query.key.tolist(), query.share.tolist(), strict=True))
    of_query = np.array([share.get(key, 0.0) for key in sets.key.tolist()])
    total = np.add.reduceat(np.sqrt(of_query * sets.share), sets.offsets[:-1])
    best = np.argsort(-total, kind="stable")[:K]
    return best[total[best] > 0]


class Lists:
    """faiss' inverted lists over k-means cells (IVF): tried against the graph, and left."""

    def __init__(self, dim: int) -> None:
        import faiss

        self._faiss, self._dim, self._index = faiss, dim, None

    def add(self, ids: Ids, descriptors: NDArray[np.float32]) -> None:
        """Train on all, and add."""
        lists = int(4 * len(ids) ** 0.5)
        coarse = self._faiss.IndexFlatIP(self._dim)
        metric = self._faiss.METRIC_INNER_PRODUCT
        self._index = self._faiss.IndexIVFFlat(coarse, self._dim, lists, metric)
        self._index.cp.niter, self._index.nprobe, self._index.verbose = 6, 32, False
        self._index.train(descriptors[:: max(1, len(ids) // (40 * lists))])
        self._index.add_with_ids(descriptors, ids)

    def search(
        self, queries: NDArray[np.float32], k: int, exclude: Ids | None = None
    ) -> tuple[NDArray[np.float32], Ids]:
        """The best of the nearest 32 lists."""
        assert self._index is not None
        return self._index.search(queries, k)  # type: ignore[no-any-return]

    def remove(self, ids: Ids) -> None:
        """Not needed here."""

    def __len__(self) -> int:
        return 0 if self._index is None else int(self._index.ntotal)


def search_rows(frames: Sequence[Frame], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each index and size of the bank."""
    views = views_of(frames)
    edge = voxel_edge(views.depth[0])
    assert edge is not None
    sets = voxels_of_views(views, np.arange(len(views)), edge=edge)
    held_out = np.arange(0, len(views), HELD)
    kept = part_of(sets, np.setdiff1d(np.arange(len(views)), held_out))
    queries, best = [], []
    for i, row in enumerate(held_out[:: max(1, len(held_out) // 100)]):
        copy = i % 4
        queries.append(copy_of(part_of(sets, np.array([row])), copy))
        best.append(copy * len(kept) + truly_best(queries[-1], copy_of(kept, copy)))
    rows = []
    for n in sizes:
        kinds: dict[str, Callable[[], PlaceIndex]] = {"voxels": VoxelIndex}
        if n <= 100_000:
            kinds["flat"] = lambda: SketchIndex(make_index("flat", DIM), DIM)
            if find_spec("faiss"):
                kinds["faiss"] = lambda: SketchIndex(make_index("faiss", DIM), DIM)
                kinds["faiss, lists"] = lambda: SketchIndex(Lists(DIM), DIM)
            if find_spec("faiss") and n < 10_000:
                kinds["faiss, graph"] = lambda: SketchIndex(FaissIndex(DIM, graph_from=0), DIM)
                kinds["faiss, all"] = lambda: SketchIndex(FaissIndex(DIM, graph_from=10_000), DIM)
        answers = {}
        for name, make in kinds.items():
            index, added = make(), 0.0
            whole = name == "faiss, lists"  # k-means wants them all at once
            for ids, part in tile_copies(kept, n, len(kept) if not whole else n, name):
                start = perf_counter()
                index.add(ids, part)
                added += perf_counter() - start
            answers[name] = [index.search(query, K)[1][0] for query in queries]
            exact = best if name == "voxels" else answers["flat"]
            rows.append(
                {
                    "index": name,
                    "keyframes": n,
                    "search ms": round(median_ms(partial(index.search, k=K), queries), 3),
                    f"recall of the true {K}": round(recall(answers[name], best), 4),
                    "against comparing with all": round(recall(answers[name], exact), 4),
                    "bytes a keyframe": round(index.nbytes / n)
                    if isinstance(index, VoxelIndex)
                    else 4 * DIM,
                    "add us": round(1e6 * added / n, 1),
                }
            )
    return rows


def tile_copies(
    sets: VoxelSets, n: int, at_once: int, name: str
) -> Iterator[tuple[Ids, VoxelSets]]:
    """Views as copies of the sets, so many at a time."""
    parts = [(copy, min(len(sets), n - copy * len(sets))) for copy in range(-(-n // len(sets)))]
    held_out: list[VoxelSets] = []
    first = 0
    for copy, count in track(parts, f"{name}, {n:,}", transient=True):
        held_out.append(part_of(copy_of(sets, copy), np.arange(count)) if count < len(sets) else copy_of(sets, copy))  # fmt: skip
        ready = sum(map(len, held_out))
        if ready >= at_once or copy == parts[-1][0]:
            sizes = np.concatenate([np.diff(part.offsets) for part in held_out])
            offsets = np.concatenate([[0], np.cumsum(sizes)])
            key, share = (np.concatenate([getattr(part, field) for part in held_out]) for field in ("key", "share"))  # fmt: skip
            yield np.arange(first, first + ready), VoxelSets(key, share, offsets)
            first, held_out = first + ready, []


def recall(answers: Sequence[Ids], truth: Sequence[Ids]) -> float:
    """Mean share of the truth that was answered."""
    shares = [np.isin(b, a).mean() for a, b in zip(answers, truth, strict=True) if len(b)]
    return float(np.mean(shares))


def median_ms(search: Callable[..., Any], queries: Sequence[Any]) -> float:
    """Median milliseconds of one search."""
    seconds = []
    for query in [*queries[:5], *queries]:
        start = perf_counter()
        search(query)
        seconds.append(perf_counter() - start)
    return 1000 * float(np.median(seconds[5:]))


# -- retrieve ---------------------------------------------------------------------------------------


class KeyframeListing(RamKeyframes):
    """A bank that lists keyframes without pixels of their own, as many as wanted, beside groups that are given."""

    def __init__(
        self, frames: Sequence[Frame], n: int, groups: Mapping[str, dict[str, NDArray[Any]]]
    ) -> None:
        super().__init__()
        self._copied, self._given = frames, groups
        self._ids, self._times = np.arange(n), np.arange(n, dtype=float)

    def ids(self) -> Ids:
        """All."""
        return self._ids

    def times(self) -> NDArray[np.float64]:
        """A second apart."""
        return self._times

    def cameras(self) -> KeyframeListing:  # type: ignore[override]
        """By row."""
        return self

    def __getitem__(self, row: int) -> Camera:
        return self._copied[row % len(self._copied)].camera  # of the first copy, as pixels are

    def read(self, id: int) -> Frame:
        """Pixels, of the first copy."""
        return self._copied[id % len(self._copied)]

    def read_arrays(self, group: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """The groups that were given, not copied."""
        if group not in self._given:
            return super().read_arrays(group)
        return dict(self._given[group]), {"keyframes": len(self) - 1}

    def __len__(self) -> int:
        return len(self._ids)


def offset_copy(copy: int) -> torch.Tensor:
    """Where a copy of the houses stands."""
    return torch.tensor([0.0, 0.0, APART * copy])


def memory_of(frames: Sequence[Frame], keyframes: int, voxel: float = VOXEL) -> SpatialMemory:
    """A memory of copies of the frames, as long as wanted."""
    first = SurfelMap(FusionConfig(voxel=voxel))
    for frame in track(frames, "Fusing", transient=True):
        first.fuse(frame)
    one, number = first.surfels(), -(-keyframes // len(frames))
    geometry = SurfelMap(first.config)
    for copy in track(range(number), "Copying", transient=True):
        geometry.add(replace(one, position=one.position + offset_copy(copy)))
    row = np.arange(keyframes) % len(frames)
    views = {name: column[row] for name, column in views_of(frames).arrays().items()}
    views["ids"], views["times"] = np.arange(keyframes), np.arange(keyframes, dtype=float)
    views["c2w"][:, 2, 3] += APART * (np.arange(keyframes) // len(frames))
    bank = KeyframeListing(frames, keyframes, {"geometry": geometry.arrays(), "views": views})
    return spmem.open(bank, mode="r", config=MemoryConfig(fusion=geometry.config))


def query_cameras(frames: Sequence[Frame], n: int, keyframes: int) -> list[Camera]:
    """Cameras of 320x240, a little beside keyframes of different copies."""
    draw = np.random.default_rng(0)
    cameras = []
    for row in draw.integers(0, keyframes, n).tolist():
        camera = move_camera(frames[row % len(frames)].camera, offset_copy(row // len(frames)))
        cameras.append(
            move_camera(camera.resize(320, 240), torch.from_numpy(draw.normal(0, 0.05, 3)).float())
        )
    return cameras


def retrieve_rows(
    frames: Sequence[Frame], sizes: Sequence[tuple[int, float]]
) -> list[dict[str, Any]]:
    """A row for each number of keyframes and voxel of the map."""
    rows = []
    for n, voxel in sizes:
        memory = memory_of(frames, n, voxel)
        start = perf_counter()
        memory.retrieve(query_cameras(frames, 1, n)[0], k=4, given=())
        first = perf_counter() - start
        spans = {
            "retrieve ms": partial(memory.retrieve, k=4, given=()),
            "of it render ms": memory.geometry.render,
        }
        many = [camera[None] for camera in query_cameras(frames, 40, n)]
        rows.append(
            {
                "keyframes": n,
                "surfels": len(memory.geometry),
                **{name: round(median_ms(call, many), 2) for name, call in spans.items()},
                "first, indexing all, s": round(first, 1),
                "view kB a keyframe": round(
                    sum(a.nbytes for a in memory.views.arrays().values()) / n / 1000, 1
                ),
            }
        )
        del memory  # before the next is made: each takes some gigabytes
    return rows


# -- votes ------------------------------------------------------------------------------------------


def vote_rows(frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """One query of one map, by the peers' structure and by ours."""
    memory = spmem.open(
        config=MemoryConfig(fusion=FusionConfig(voxel=VOXEL), keyframes=KeyframeConfig(novelty=0.0))
    )
    for frame in track(frames, "Storing", transient=True):
        memory.store(frame)
    surfels = memory.geometry.surfels()
    offsets, saw = (part.tolist() for part in memory.geometry.observers(surfels.ids))
    theirs = SurfelMemory(
        [Surfel(p, n, float(r)) for p, n, r in zip(surfels.position.numpy(), surfels.normal.numpy(), surfels.radius.numpy(), strict=True)],
        {i: saw[a:b] for i, (a, b) in enumerate(pairwise(offsets))},
    )  # fmt: skip
    poses = dict(enumerate(memory.views.c2w))
    camera = frames[len(frames) // 2].camera
    scale = float(np.median(memory.views.depth))
    start = perf_counter()
    choose(theirs.votes(*theirs.render(camera), scale), poses, camera.c2w.numpy(), 4, scale)
    peer = perf_counter() - start
    rows: list[dict[str, Any]] = [
        {"rule": "surfel votes, an object a surfel", "ms": round(1000 * peer, 1)}
    ]
    for name in ("surfel-votes", "covisibility"):
        ms = median_ms(partial(memory.retrieve, k=4, method=name, given=()), [camera] * 20)
        rows.append({"rule": f"{name}, ours", "ms": round(ms, 2)})
    for row in rows:
        row |= {
            "surfels": len(surfels),
            "keyframes": len(frames),
            "times faster": round(1000 * peer / row["ms"], 1),
        }
    return rows


# -- beside -----------------------------------------------------------------------------------------


def small_frames() -> list[Frame]:
    """Frames of a walk through a house, 320x240."""
    house = worlds.House(seed=3, rooms=3)
    return list(house.frames(worlds.walk(house, 240, seed=3, width=320, height=240)[::8]))


def store_and_retrieve(frames: Sequence[Frame]) -> tuple[list[float], list[float]]:
    """Seconds of each store, and of each retrieve after it."""
    stores, retrieves = [], []
    with spmem.open() as memory:
        for frame in frames:
            start = perf_counter()
            memory.store(frame)
            stored = perf_counter()
            memory.retrieve(frame.camera, k=4)
            stores.append(stored - start)
            retrieves.append(perf_counter() - stored)
    return stores, retrieves


def work_beside(what: str, begun: Any) -> None:
    """In a process of its own: work until it is ended."""
    frames = small_frames() if what == "memory" else []
    while True:
        if what == "memory":
            store_and_retrieve(frames)
        else:
            sum(i * i for i in range(10_000))
        begun.set()


def beside_rows(walks: int) -> list[dict[str, Any]]:
    """Medians over so many walks: alone, beside others, and what they are to one another."""
    frames, spawn = small_frames(), get_context("spawn")
    store_and_retrieve(frames)

    def medians() -> NDArray[np.float64]:
        spans = [store_and_retrieve(frames) for _ in range(walks)]
        return 1000 * np.median(np.concatenate(spans, 1), 1)

    rows = []
    for name, what, count in (("another memory", "memory", 1), ("load 4", "core", 4)):
        before = medians()
        begun = [spawn.Event() for _ in range(count)]
        others = [spawn.Process(target=work_beside, args=(what, one), daemon=True) for one in begun]
        for other in others:
            other.start()
        for one in begun:
            one.wait()
        found = medians()
        for other in others:
            other.terminate()
            other.join()
        alone = (before + medians()) / 2
        times = found / alone
        rows.append(
            {
                "beside": name,
                "store alone ms": round(float(alone[0]), 2),
                "store ms": round(float(found[0]), 2),
                "store, times": round(float(times[0]), 2),
                "retrieve alone ms": round(float(alone[1]), 2),
                "retrieve ms": round(float(found[1]), 2),
                "retrieve, times": round(float(times[1]), 2),
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small banks only, under a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--only", nargs="+", choices=("search", "retrieve", "votes", "beside"))
    options = parse_options(parser)
    only = options.only or ("search", "retrieve", "votes", "beside")
    walks = {"search", "retrieve", "votes"} & set(only)
    frames = walks_through_houses(2 if options.quick else HOUSES) if walks else []
    rows, aims = [], []
    if "search" in only:
        sizes = (1_000, 4_000, 8_000) if options.quick else (10_000, 100_000, 1_000_000)
        found = search_rows(frames, sizes)
        rows += found
        ours = {row["keyframes"]: row for row in found if row["index"] == "voxels"}
        least, most = ours[sizes[0]], ours[sizes[-1]]
        aims += [
            aim("search, ms", ours[sizes[-2]]["search ms"], 0.5, "ms", "lower"),
            aim(
                "search, most over least keyframes",
                round(most["search ms"] / least["search ms"], 2),
                5,
                "x",
                "lower",
            ),
            aim("recall of the largest bank", most[f"recall of the true {K}"], 0.98, "", "higher"),
            aim("bytes of descriptor", most["bytes a keyframe"], 1000, "B", "lower"),
        ]
    if "retrieve" in only:
        maps = ((10_000, VOXEL), (100_000, VOXEL), (100_000, COARSE))
        found = retrieve_rows(frames, ((256, VOXEL),) if options.quick else maps)
        rows += found
        aims.append(aim("retrieve, ms", found[-1]["retrieve ms"], 10, "ms", "lower"))
    if "votes" in only:
        found = vote_rows(frames[: 20 if options.quick else VIEWS])
        rows += found
        aims.append(
            aim(
                "faster than surfel votes as objects", found[-1]["times faster"], 100, "x", "higher"
            )
        )
    if "beside" in only:
        found = beside_rows(1 if options.quick else 5)
        rows += found
        aims += [
            aim(
                f"{call} beside {row['beside']}, times alone",
                row[f"{call}, times"],
                3,
                "x",
                "lower",
            )
            for row in found
            for call in ("store", "retrieve")
        ]
    print_report(rows, aims, as_json=options.json)


if __name__ == "__main__":
    main()
