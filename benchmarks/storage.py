"""Keyframes on disk: appending, reading eight at random, and bytes, beside plain Zarr, TensorStore and HDF5; opening a large memory.

    python benchmarks/storage.py [--quick] [--json] [--only bank reopen]

Frames are those of a recorded 640x480 walk (SPMEM_TEST_DATA, default ../shared/data), or of a drawn room without one. The peers keep
what their users would write: one chunk a frame, colour and depth compressed by Zstandard (HDF5: LZF), without loss; ours is the bank as
it comes, JPEG 95 and depth within 0.1 %. Every store makes 16 frames durable at a time as it can; none of them, and not the bank either,
forces files to the disk here. Peers come from benchmarks/requirements.txt; those that are not installed are left out.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

import spmem
from spmem import Frame, KeyframeConfig
from spmem.evaluation.report import aim, parse_options, print_report, walks_folder
from spmem.integrations.readers import open_walk
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.stores.keyframes.zarr.decode import read_records
from spmem.testing.box import BoxRoom
from spmem.types import Surfels

COMMIT = 16
READ = 8


class Store(Protocol):
    """What is measured of each."""

    def append(self, number: int, frame: Frame) -> None: ...
    def commit(self) -> None: ...
    def read(self, ids: list[int]) -> object: ...


class Bank:
    """Ours; without its cache of decoded keyframes, but for :meth:`parts`."""

    def __init__(self, path: Path, count: int) -> None:
        self._bank = ZarrKeyframes.open(path, config=KeyframeConfig(cache=None))

    def append(self, number: int, frame: Frame) -> None:
        self._bank.append(frame)

    def commit(self) -> None:
        self._bank.commit("benchmark")

    def read(self, ids: list[int]) -> object:
        return self._bank.read_many(ids)

    def parts(self, ids: list[int]) -> dict[str, float]:
        """Milliseconds of fetching and unpacking these records alone, and of reading the keyframes from the cache."""
        bank = self._bank
        sized_ids = list(zip(ids, bank.sizes()[ids].tolist(), strict=True))
        fetch = _time_call(lambda: read_records(bank._records, {}, sized_ids, lambda n, record: n))
        bank.configure(KeyframeConfig())
        for _ in range(2):
            bank.read_many(ids)
        cached = _time_call(lambda: bank.read_many(ids))
        bank.configure(KeyframeConfig(cache=None))
        return {"fetch 8 ms": 1000 * fetch, "cached 8 ms": 1000 * cached}


class PlainZarr:
    """Two arrays, a chunk a frame."""

    def __init__(self, path: Path, count: int) -> None:
        root = zarr.open_group(path, mode="w")
        shapes = {"rgb": ((count, 480, 640, 3), np.uint8), "depth": ((count, 480, 640), np.float32)}
        codecs = {"rgb": ZstdCodec(level=1), "depth": BloscCodec(cname="zstd", clevel=1)}
        self._arrays = {
            name: root.create_array(
                name, shape=shape, chunks=(1, *shape[1:]), dtype=dtype, compressors=[codecs[name]]
            )
            for name, (shape, dtype) in shapes.items()
        }

    def append(self, number: int, frame: Frame) -> None:
        self._arrays["rgb"][number] = frame.rgb.numpy()
        self._arrays["depth"][number] = np.asarray(frame.depth)

    def commit(self) -> None:
        pass  # each chunk is a file already

    def read(self, ids: list[int]) -> object:
        return [(np.asarray(self._arrays["rgb"][i]), self._arrays["depth"][i]) for i in ids]


class TensorStore:
    """The same arrays through TensorStore."""

    def __init__(self, path: Path, count: int) -> None:
        import tensorstore

        def make(name: str, shape: list[int], dtype: str) -> Any:
            chunk = {"name": "regular", "configuration": {"chunk_shape": [1, *shape[1:]]}}
            return tensorstore.open(
                {
                    "driver": "zarr3",
                    "kvstore": {"driver": "file", "path": str(path / name)},
                    "metadata": {
                        "shape": shape,
                        "data_type": dtype,
                        "chunk_grid": chunk,
                        "codecs": [
                            {"name": "bytes", "configuration": {"endian": "little"}},
                            {"name": "zstd", "configuration": {"level": 1}},
                        ],
                    },
                    "create": True,
                }
            ).result()

        self._rgb = make("rgb", [count, 480, 640, 3], "uint8")
        self._depth = make("depth", [count, 480, 640], "float32")
        self._waiting: list[Any] = []

    def append(self, number: int, frame: Frame) -> None:
        self._waiting.append(self._rgb[number].write(frame.rgb.numpy()))
        self._waiting.append(self._depth[number].write(np.asarray(frame.depth)))

    def commit(self) -> None:
        for one in self._waiting:
            one.result()
        self._waiting.clear()

    def read(self, ids: list[int]) -> object:
        reads = [part[i].read() for i in ids for part in (self._rgb, self._depth)]
        return [one.result() for one in reads]


class Hdf5:
    """Two data sets, a chunk a frame."""

    def __init__(self, path: Path, count: int) -> None:
        import h5py

        path.mkdir()
        self._file = h5py.File(path / "walk.h5", "w")
        for name, shape, dtype in (("rgb", (480, 640, 3), "u1"), ("depth", (480, 640), "f4")):
            self._file.create_dataset(
                name,
                (count, *shape),
                dtype,
                chunks=(1, *shape),
                compression="lzf",
                shuffle=name == "depth",
            )

    def append(self, number: int, frame: Frame) -> None:
        self._file["rgb"][number] = frame.rgb.numpy()
        self._file["depth"][number] = np.asarray(frame.depth)

    def commit(self) -> None:
        self._file.flush()

    def read(self, ids: list[int]) -> object:
        return [(self._file["rgb"][i], self._file["depth"][i]) for i in ids]


STORES: dict[str, Callable[[Path, int], Store]] = {
    "spmem": Bank,
    "zarr": PlainZarr,
    "tensorstore": TensorStore,
    "h5py": Hdf5,
}


def median_and_spread(values: list[float]) -> tuple[float, str]:
    """Median, and the middle half."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return round(float(middle), 3), f"{low:.3g} to {high:.3g}"


def frames(count: int) -> list[Frame]:
    """640x480 frames of the recorded kitchen, or of a drawn room."""
    kitchen = walks_folder() / "redkitchen_7scenes"
    if kitchen.exists():
        walk = open_walk(kitchen)
        found = [walk[i] for i in range(min(count, len(walk)))]
    else:
        room = BoxRoom()
        found = room.frames(room.walk(count, width=640, height=480), time=0.0)
    return [frame.replace(rgb=frame.rgb_uint8(), time=float(i)) for i, frame in enumerate(found)]


def bank(quick: bool) -> list[dict[str, Any]]:
    """A row for each store, all of them in turn, several rounds."""
    walk, rounds, count = frames(16 if quick else 48), 2 if quick else 5, 48 if quick else 160
    rates: dict[str, list[float]] = {}
    reads: dict[str, list[float]] = {}
    parts: dict[str, list[float]] = {}
    sizes: dict[str, float] = {}
    chance = np.random.default_rng(0)
    for _ in range(rounds):
        for name, make in STORES.items():
            with tempfile.TemporaryDirectory() as folder, suppress(ImportError):
                path = Path(folder) / "walk"
                store, start = make(path, count), perf_counter()
                for number in range(count):
                    store.append(number, walk[number % len(walk)])
                    if number % COMMIT == COMMIT - 1:
                        store.commit()
                store.commit()
                rates.setdefault(name, []).append(count / (perf_counter() - start))
                for _ in range(10):
                    ids = chance.choice(count, READ, replace=False).tolist()
                    start = perf_counter()
                    store.read(ids)
                    reads.setdefault(name, []).append(1000 * (perf_counter() - start))
                    if isinstance(store, Bank):
                        for part, took in store.parts(ids).items():
                            parts.setdefault(part, []).append(took)
                files = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
                sizes[name] = sum(files) / count / 1000
    rows = []
    for name in rates:
        row: dict[str, Any] = {
            "store": name,
            "loss": "JPEG 95, 0.1 %" if name == "spmem" else "none",
        }
        row["append a second"], row["append spread"] = median_and_spread(rates[name])
        row["read 8 ms"], row["read spread"] = median_and_spread(reads[name])
        row["kB a keyframe"] = round(sizes[name], 1)
        if name == "spmem":
            row |= {part: median_and_spread(took)[0] for part, took in parts.items()}
        rows.append(row)
    return rows


def reopen(quick: bool) -> dict[str, Any]:
    """A memory of many keyframes and surfels: commits of all, of nothing, of one frame more; opening it."""
    surfels, keyframes = (200_000, 400) if quick else (5_000_000, 10_000)
    chance = np.random.default_rng(0)
    row: dict[str, Any] = {"surfels": surfels, "keyframes": keyframes}
    config = spmem.MemoryConfig(
        check_poses=False,
        fusion=spmem.FusionConfig(voxel=0.02),
        keyframes=spmem.KeyframeConfig(novelty=0.0, commit_every=0),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.spmem"
        memory = spmem.open(path, config=config)
        state = memory._state  # put together without fusing a frame
        rows = state.map.store.add(_floor_surfels(surfels, chance))  # type: ignore[attr-defined]
        small = BoxRoom()
        seen = small.frames(small.walk(1, width=64, height=48))[0]
        for id in range(keyframes):
            frame = seen.replace(time=float(id))
            assert frame.depth is not None
            state.bank.append(frame)
            first = int(chance.integers(0, len(rows) - 3000))
            state.map.store.observe(id, rows[first : first + 3000])
            state.views.append(id, float(id), frame.camera, frame.depth.numpy())
        row["commit of all s"] = _time_call(lambda: memory.commit("all"))
        state.changed = True  # so that there is something to commit
        row["commit of nothing s"] = _time_call(lambda: memory.commit("nothing"))
        memory.store(seen.replace(time=None))
        row["commit of one frame s"] = _time_call(lambda: memory.commit("one"))
        memory.close()
        times = [
            _time_call(lambda: spmem.open(path, mode="r").close()) for _ in range(2 if quick else 5)
        ]
        row["open s"], row["open spread"] = median_and_spread(times)
    return row


def _floor_surfels(count: int, chance: np.random.Generator) -> Surfels:
    """Surfels of a slightly uneven floor, a voxel apart."""
    side = int(np.sqrt(count))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2)
    height = chance.normal(0, 0.002, (len(grid), 1))
    position = torch.from_numpy(np.concatenate([0.02 * grid, height], 1).astype(np.float32))
    n = len(position)
    numbers = [torch.from_numpy(chance.random(n, np.float32)) for _ in range(3)]
    return Surfels(
        ids=torch.arange(n),
        position=position,
        normal=torch.tensor([0.0, 0.0, 1.0]).repeat(n, 1),
        radius=torch.full((n,), 0.02),
        colour=torch.from_numpy(chance.random((n, 3), np.float32)),
        confidence=3 + numbers[0],
        first_seen=numbers[1],
        last_seen=numbers[2],
    )


def _time_call(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return round(perf_counter() - start, 5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="under a minute, for a look")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--only", nargs="+", choices=["bank", "reopen"], default=[])
    options = parse_options(parser)
    parts = options.only or ["bank", "reopen"]
    rows: list[dict[str, Any]] = []
    aims = []
    if "bank" in parts:
        stores = bank(options.quick)
        ours = stores[0]
        rows += stores
        aims += [
            aim("appending 640x480", ours["append a second"], 100, "keyframes/s", "higher"),
            aim("reading 8 at random", ours["read 8 ms"], 10, "ms", "lower"),
            aim("bytes a keyframe", ours["kB a keyframe"], 250, "kB", "lower"),
        ]
    if "reopen" in parts:
        large = reopen(options.quick)
        rows.append(large)
        what = f"opening {large['keyframes']:,} keyframes, {large['surfels']:,} surfels"
        aims.append(aim(what, large["open s"], 2, "s", "lower"))
    print_report(rows, aims, as_json=options.json)


if __name__ == "__main__":
    main()
