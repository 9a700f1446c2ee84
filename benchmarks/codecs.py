"""How to keep a keyframe: colour and depth codecs on real walks, and the bank that uses the chosen ones.

    python benchmarks/codecs.py [--quick] [--json]

Walks are read from SPMEM_TEST_DATA (default ../shared/data). The kitchen's frames were JPEGs before, the other
walk's were not; the box room's depth is rendered, smooth as a depth estimator's.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numcodecs import Blosc, Zstd
from numpy.typing import NDArray
from PIL import Image

from spmem import Camera, Frame
from spmem.config import KeyframeConfig
from spmem.evaluation.report import ROOT, aim, parse_options, print_report, walks_folder
from spmem.stores.keyframes.zarr import ZarrKeyframes, codec
from spmem.testing.box import BoxRoom

WALKS = {
    "redkitchen": ("redkitchen_7scenes", "*.color.jpg", "redkitchen_7scenes", 585.0),
    "hololens": ("hololens_dvmvs/images", "*.png", "hololens_dvmvs/depth", 450.0),
}
COMMIT_EVERY = KeyframeConfig().commit_every


class Codec(NamedTuple):
    """A way to keep an image; decode gets the image's shape."""

    name: str
    encode: Callable[[NDArray[Any]], bytes]
    decode: Callable[[bytes, tuple[int, ...]], NDArray[Any]]


# -- candidates ---------------------------------------------------------------------------------------


def pillow(name: str, format: str, **options: Any) -> Codec:
    """An image format of Pillow's."""

    def encode(image: NDArray[Any]) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, format, **options)
        return stream.getvalue()

    return Codec(name, encode, lambda file, shape: np.array(Image.open(io.BytesIO(file))))


def plain_codec(name: str, compressor: Any, dtype: Any) -> Codec:
    """The array as it is, as another dtype."""
    return Codec(
        name,
        lambda image: bytes(compressor.encode(np.ascontiguousarray(image.astype(dtype)))),
        lambda file, shape: np.frombuffer(compressor.decode(file), dtype).reshape(shape),
    )


def level_codec(name: str, to: Callable[..., Any], back: Callable[..., Any], store: Codec) -> Codec:
    """uint16 levels between the frame's own nearest and farthest depth on another scale; level 0 = none."""

    def encode(depth: NDArray[np.float32]) -> bytes:
        there = depth > 0
        scale = to(depth[there].astype(np.float64))
        low, step = scale.min(), max(float(np.ptp(scale)) / 65534, STEP if to is np.log else 0.0)
        level = np.zeros(depth.shape, np.uint16)
        level[there] = 1 + np.round((scale - low) / step)
        return np.array([low, step]).tobytes() + store.encode(level)

    def decode(file: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
        low, step = np.frombuffer(file[:16])
        level = store.decode(file[16:], shape)
        depth = back(low + step * (level.astype(np.float64) - 1))
        return np.where(level > 0, depth, 0).astype(np.float32)

    return Codec(name, encode, decode)


def differences(compressor: Any) -> Codec:
    """uint16 differences along the rows."""

    def encode(level: NDArray[np.uint16]) -> bytes:
        return bytes(compressor.encode(np.diff(level, axis=1, prepend=np.uint16(0))))

    def decode(file: bytes, shape: tuple[int, ...]) -> NDArray[np.uint16]:
        steps = np.frombuffer(compressor.decode(file), np.uint16).reshape(shape)
        return np.cumsum(steps, axis=1, dtype=np.uint16)

    return Codec("differences", encode, decode)


STEP = 2 * float(np.arctanh(1e-3))  # of the logarithm: half of it is 0.1 %
ZSTD = Zstd(level=1)
BIT = Blosc("zstd", clevel=1, shuffle=Blosc.BITSHUFFLE)
BYTE = Blosc("zstd", clevel=1, shuffle=Blosc.SHUFFLE)
PNG16 = pillow("PNG16", "PNG", compress_level=1)

COLOUR = [
    *(
        pillow(f"JPEG {q} {name}", "JPEG", quality=q, subsampling=chroma)
        for q in (92, 95)
        for name, chroma in (("4:4:4", 0), ("4:2:0", 2))
    ),
    pillow("WebP 95", "WEBP", quality=95, method=0),
    pillow("WebP lossless", "WEBP", lossless=True, quality=0, method=0),
    pillow("PNG level 1", "PNG", compress_level=1),
    plain_codec("zstd 1", ZSTD, np.uint8),
    plain_codec("blosc bitshuffle zstd 1", BIT, np.uint8),
]
DEPTH = [
    Codec(
        "mantissa 9, differences, blosc (ours)",
        codec.encode_depth,
        lambda file, shape: codec.decode_depth(np.frombuffer(file, np.uint8), (shape[0], shape[1])),
    ),
    Codec(
        "mantissa 9, blosc",
        codec.encode_features,
        lambda file, shape: np.frombuffer(BYTE.decode(file), np.float32).reshape(shape),
    ),
    level_codec("log levels, differences, blosc", np.log, np.exp, differences(BYTE)),
    level_codec("log levels, zstd 1", np.log, np.exp, plain_codec("", ZSTD, np.uint16)),
    level_codec("log levels, PNG16", np.log, np.exp, PNG16),
    level_codec("inverse levels, PNG16", np.reciprocal, np.reciprocal, PNG16),
    plain_codec("float16, blosc bitshuffle zstd 1", BIT, np.float16),
    plain_codec("float32, blosc bitshuffle zstd 1", BIT, np.float32),
]


# -- measuring ----------------------------------------------------------------------------------------


def load(walk: str, count: int) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Colour and depth in metres of frames spread over a walk."""
    root = walks_folder()
    folder, pattern, depths, _ = WALKS[walk]
    files = sorted((root / folder).glob(pattern))
    if not files:
        raise SystemExit(f"no walk at {root / folder}: set SPMEM_TEST_DATA")
    frames = []
    for file in files[:: max(1, len(files) // count)][:count]:
        name = file.name.replace("color.jpg", "depth.png")
        millimetres = np.array(Image.open(root / depths / name))
        millimetres[millimetres == 65535] = 0
        frames.append((np.array(Image.open(file)), millimetres.astype(np.float32) / 1000))
    return frames


def median_and_spread(values: list[float]) -> tuple[float, str]:
    """Median, and the 10th to 90th percentile."""
    low, high = np.percentile(values, [10, 90])
    return round(float(np.median(values)), 3), f"{low:.2f}-{high:.2f}"


def psnr(got: NDArray[Any], truth: NDArray[Any]) -> float:
    """Decibels; 99 for no difference."""
    noise = float(np.mean((got.astype(np.float64) - truth) ** 2))
    return float(10 * np.log10(255**2 / noise)) if noise else 99.0


def relative_error(got: NDArray[Any], truth: NDArray[Any]) -> float:
    """Largest; infinite where depth appears or vanishes."""
    there = truth > 0
    if np.any((got > 0) != there):
        return float("inf")
    return float(np.max(np.abs(got[there].astype(np.float64) - truth[there]) / truth[there]))


def compare(walk: str, images: list[NDArray[Any]], codecs: list[Codec], part: str) -> list[Any]:
    """Every codec on every image, the codecs taking turns."""
    size, encode, decode, quality = ({c.name: [] for c in codecs} for _ in range(4))
    for number, image in enumerate([images[0], *images]):
        for c in codecs:
            start = perf_counter()
            file = c.encode(image)
            middle = perf_counter()
            got = c.decode(file, image.shape)
            end = perf_counter()
            if number == 0:  # compiles and warms up
                continue
            size[c.name].append(len(file) / 1000)
            encode[c.name].append(1000 * (middle - start))
            decode[c.name].append(1000 * (end - middle))
            quality[c.name].append(
                psnr(got, image) if part == "colour" else relative_error(got, image)
            )
    rows = []
    for c in codecs:
        worst = min(quality[c.name]) if part == "colour" else 100 * max(quality[c.name])
        worst_text = f"{worst:.1f} dB" if part == "colour" else f"{worst:.3f} %"
        row: dict[str, Any] = {"walk": walk, "part": part, "codec": c.name}
        row["kB"], row["kB spread"] = median_and_spread(size[c.name])
        row["encode ms"], row["encode spread"] = median_and_spread(encode[c.name])
        row["decode ms"], row["decode spread"] = median_and_spread(decode[c.name])
        if part == "colour":
            row["psnr dB"] = round(float(np.mean(quality[c.name])), 1)
        row["worst"] = "lossless" if worst in (99, 0) else worst_text
        rows.append(row)
    return rows


def bank(walk: str, frames: list[Any], rounds: int) -> dict[str, Any]:
    """The durable bank on a walk: appending with commits, reading 8, bytes on disk, worst errors."""
    height, width = frames[0][1].shape
    K = torch.tensor([[WALKS[walk][3], 0, width / 2], [0, WALKS[walk][3], height / 2], [0, 0, 1]])
    camera = Camera(K, torch.eye(4), width=width, height=height)
    posed = [
        Frame(torch.from_numpy(rgb), torch.from_numpy(depth), camera, float(number))
        for number, (rgb, depth) in enumerate(frames)
    ]
    rates, reads = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walk.spmem"
        store = ZarrKeyframes.open(path)
        for _ in range(rounds):
            start = perf_counter()
            for number in range(2 * COMMIT_EVERY):
                store.append(posed[number % len(posed)])
                if number % COMMIT_EVERY == COMMIT_EVERY - 1:
                    store.commit("bench")
            rates.append(2 * COMMIT_EVERY / (perf_counter() - start))
        store.close()
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        store = ZarrKeyframes.open(path, "r", KeyframeConfig(cache=None))
        kept = [store.read(number) for number in range(min(len(posed), 2 * COMMIT_EVERY))]
        for number in range(0, len(store) - 8, 8):
            start = perf_counter()
            store.read_many(range(number, number + 8))
            reads.append(1000 * (perf_counter() - start))
        keyframes = len(store)
    row: dict[str, Any] = {"walk": walk, "quality": KeyframeConfig().quality}
    row["kB a keyframe"] = round(size / keyframes / 1000, 1)
    row["append a second"], row["append spread"] = median_and_spread(rates)
    row["read 8 ms"], row["read spread"] = median_and_spread(reads)
    row["worst psnr dB"] = round(
        min(psnr(k.rgb.numpy(), rgb) for k, (rgb, _) in zip(kept, frames, strict=False)), 1
    )
    errors = [
        relative_error(torch.as_tensor(k.depth).numpy(), depth)
        for k, (_, depth) in zip(kept, frames, strict=False)
    ]
    row["worst depth %"] = round(100 * max(errors), 4)
    return row


def checkpoint(rounds: int) -> dict[str, Any]:
    """A map of a million surfels of 64 bytes, written with a commit and read."""
    random, count = np.random.default_rng(0), 1_000_000
    columns = {"position": 3, "normal": 3, "colour": 3, "radius": 1, "confidence": 1, "seen": 5}
    arrays = {n: random.random((count, c), dtype=np.float32) for n, c in columns.items()}
    writes, reads = [], []
    with tempfile.TemporaryDirectory() as folder:
        store = ZarrKeyframes.open(Path(folder) / "map.spmem")
        for _ in range(rounds):
            start = perf_counter()
            store.write_arrays("map", arrays, {})
            store.commit("bench")
            middle = perf_counter()
            store.read_arrays("map")
            writes.append(middle - start)
            reads.append(perf_counter() - middle)
    row: dict[str, Any] = {"MB": sum(a.nbytes for a in arrays.values()) / 1e6}
    row["write s"], row["write spread"] = median_and_spread(writes)
    row["read s"], row["read spread"] = median_and_spread(reads)
    return row


def aims(banks: list[dict[str, Any]], map_row: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures that were asked for, of the 640x480 walk (errors: of both)."""
    kitchen = banks[0]
    expected = [
        ("bytes a 640x480 keyframe", kitchen["kB a keyframe"], 250, "kB", "lower"),
        ("worst colour", min(b["worst psnr dB"] for b in banks), 42, "dB", "higher"),
        ("worst depth error", max(b["worst depth %"] for b in banks), 0.1, "%", "lower"),
        ("appending 640x480", kitchen["append a second"], 100, "keyframes/s", "higher"),
        ("reading 8 of 640x480", kitchen["read 8 ms"], 10, "ms", "lower"),
        ("map of 1 M rows, written", map_row["write s"], 1, "s", "lower"),
    ]
    return [aim(*row) for row in expected]


# -- telling ------------------------------------------------------------------------------------------


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Kilobytes against decoding time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 5))
    for part, axis in zip(("colour", "depth"), axes, strict=True):
        for row in (r for r in rows if r.get("part") == part and r["walk"] == "redkitchen"):
            axis.scatter(row["kB"], row["decode ms"])
            axis.annotate(f"{row['codec']}, {row['worst']}", (row["kB"], row["decode ms"]), size=7)
        axis.set(title=f"{part}, 640x480", xlabel="kB a frame", ylabel="decoding ms", xscale="log")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="under a minute, for a look")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parse_options(parser)
    rows: list[Any] = []
    banks = []
    for walk in WALKS:
        frames = load(walk, 8 if options.quick else 40)
        rows += compare(walk, [rgb for rgb, _ in frames], COLOUR, "colour")
        rows += compare(walk, [depth for _, depth in frames], DEPTH, "depth")
        banks.append(bank(walk, frames, 3 if options.quick else 12))
    room = BoxRoom()
    rendered = room.render(room.walk(8, width=640, height=480)).depth.numpy()
    rows += compare("box room", list(rendered), DEPTH, "depth")
    map_row = checkpoint(3 if options.quick else 9)
    print_report([*rows, *banks, map_row], aims(banks, map_row), as_json=options.json)
    if not options.json:
        plot(rows, ROOT / "out" / "bench" / "codecs.png")


if __name__ == "__main__":
    main()
