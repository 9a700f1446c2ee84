"""How colour and depth are coded: error bounds, exactness of what is promised, and other people's readers."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numcodecs import Blosc
from numpy.typing import NDArray
from PIL import Image

from spmem import Camera, Frame
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.stores.keyframes.zarr.codec import (
    DEPTH_ERROR,
    decode_depth,
    decode_features,
    encode_depth,
    encode_features,
    rounded,
    rounded_depth,
)
from spmem.stores.keyframes.zarr.decode import read_records
from spmem.testing.sample_frames import sample_frame

SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)


def depths(low: float, high: float) -> st.SearchStrategy[NDArray[np.float32]]:
    value = st.just(0.0) | st.floats(low, high, width=32)
    return hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2), elements=value)


def coded(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    return decode_depth(np.frombuffer(encode_depth(depth), np.uint8), depth.shape)


@settings(max_examples=200, deadline=None)
@given(depths(SMALLEST_NORMAL, LARGEST))
def test_depth_is_within_its_bound_at_any_scale(depth: NDArray[np.float32]) -> None:
    got, wanted = coded(depth).astype(np.float64), depth.astype(np.float64)
    assert np.array_equal(got == 0, wanted == 0)
    assert np.all(np.abs(got - wanted) <= DEPTH_ERROR * wanted)
    assert np.isfinite(got).all()


@settings(max_examples=200, deadline=None)
@given(depths(0.0, LARGEST))
def test_rounding_alone_tells_bit_for_bit_what_decoding_gives(depth: NDArray[np.float32]) -> None:
    assert np.array_equal(coded(depth).view(np.uint32), rounded_depth(depth).view(np.uint32))
    assert np.array_equal(rounded_depth(rounded_depth(depth)), rounded_depth(depth))


def test_rounding_keeps_order() -> None:
    depth = np.sort(np.random.default_rng(0).lognormal(0, 20, 10_000).astype(np.float32))
    assert np.all(np.diff(rounded(depth)) >= 0)


@given(hnp.arrays(np.float32, (3, 4, 2), elements=st.floats(-1e6, 1e6, width=32)))
def test_features_keep_their_sign_and_bound(features: NDArray[np.float32]) -> None:
    got = decode_features(np.frombuffer(encode_features(features), np.uint8), features.shape)
    assert np.all(np.abs(got - features) <= DEPTH_ERROR * np.abs(features) + 1e-40)
    assert np.array_equal(got, rounded(features))


@settings(max_examples=10, deadline=None)
@given(depth=depths(0.0, LARGEST))
def test_the_bank_tells_the_depth_that_it_will_give(
    tmp_path_factory: pytest.TempPathFactory, depth: NDArray[np.float32]
) -> None:
    height, width = depth.shape
    K = [[8.0, 0, 4], [0, 8, 4], [0, 0, 1]]
    frame = Frame(
        torch.zeros(height, width, 3, dtype=torch.uint8),
        torch.from_numpy(depth),
        Camera(K, torch.eye(4), width=width, height=height),
        0.0,
        validate=False,  # more than a frame may hold
    )
    path = tmp_path_factory.mktemp("bank") / "walk.spmem"
    store = ZarrKeyframes.open(path)
    told = store.stored_depth(depth)
    id = store.append(frame)
    pending = store.read(id).depth
    store.commit("one")
    written, reopened = store.read(id).depth, ZarrKeyframes.open(path, "r").read(id).depth
    for read in (pending, written, reopened):
        assert read is not None
        assert np.array_equal(read.numpy().view(np.uint32), told.view(np.uint32))


def test_others_read_it_with_zarr_alone(tmp_path: Path) -> None:
    """The format as the group's attributes describe it, with nothing of spmem."""
    frame = sample_frame(3, confidence=True)
    store = ZarrKeyframes.open(tmp_path / "walk.spmem")
    for number in range(5):
        store.append(frame if number == 3 else sample_frame(number))
    store.commit("five")
    read = store.read(3)

    storage = icechunk.local_filesystem_storage(str(tmp_path / "walk.spmem"))
    session = icechunk.Repository.open(storage).readonly_session("main")
    bank: Any = zarr.open_group(session.store, mode="r")["keyframes"]
    assert set(bank.attrs["records"]) == {
        "colour",
        "depth",
        "confidence",
        "features",
        "latent",
    }
    record = bank["records"][3].tobytes()
    colour_bytes, depth_bytes, confidence_bytes, features_bytes, latent_bytes = bank["bytes"][3]
    assert confidence_bytes > 0
    assert features_bytes == latent_bytes == 0

    colour = np.array(Image.open(io.BytesIO(record[:colour_bytes])))
    assert np.array_equal(colour, read.rgb.numpy())

    folded = np.frombuffer(
        Blosc().decode(record[colour_bytes : colour_bytes + depth_bytes]), np.uint16
    ).astype(np.int64)
    step = np.where(folded == 0, 0, ((folded - 1) >> 1) ^ -((folded - 1) & 1))
    code = np.where(folded == 0, 0, 65024 + np.cumsum(step)).astype(np.uint32)
    width, height = bank["size"][3]
    depth = (code << 14).view(np.float32).reshape(height, width)
    assert read.depth is not None
    assert np.array_equal(depth, read.depth.numpy())
    assert np.array_equal(bank["c2w"][3], frame.camera.c2w.numpy())
    assert bank["time"][3] == frame.time


def test_records_are_read_as_zarr_reads_them(tmp_path: Path) -> None:
    """Reading goes below Zarr's arrays, in records of one chunk and of several."""
    store = ZarrKeyframes.open(tmp_path / "walk.spmem")
    store.append(sample_frame(0))
    noise = sample_frame(1, width=480, height=360)
    chance = torch.Generator().manual_seed(0)
    store.append(noise.replace(rgb=torch.rand(noise.rgb.shape, generator=chance)))
    store.append(sample_frame(2))
    store.commit("three")
    session = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(tmp_path / "walk.spmem"))
    ).readonly_session("main")
    records: Any = zarr.open_group(session.store, mode="r")["keyframes/records"]
    wanted = [(id, int(size)) for id, size in zip(store.ids(), store.sizes(), strict=True)]
    assert wanted[1][1] > records.chunks[1] > wanted[0][1]
    pending = {7: b"not written yet"}
    read = read_records(
        records, pending, [(7, 15), *wanted[::-1]], lambda n, record: (n, record.tobytes())
    )
    told = [(1 + n, records[id, :size].tobytes()) for n, (id, size) in enumerate(wanted[::-1])]
    assert read == [(0, pending[7]), *told]


@pytest.mark.parametrize(
    ("folder", "colours", "depth_folder", "largest"),
    [
        ("redkitchen_7scenes", "*.color.jpg", "", 250_000),
        ("hololens_dvmvs/images", "*.png", "../depth", 160_000),
    ],
)
def test_real_frames_are_small_and_close(
    tmp_path: Path, folder: str, colours: str, depth_folder: str, largest: int
) -> None:
    root = Path(os.environ.get("SPMEM_TEST_DATA", Path(__file__).parents[4] / "../shared/data"))
    files = sorted((root / folder).glob(colours))[::80]
    if not files:
        pytest.skip(f"no real walk at {root / folder}: set SPMEM_TEST_DATA")
    for number, file in enumerate(files):
        path = tmp_path / f"{number}.spmem"
        store = ZarrKeyframes.open(path)
        millimetres = np.array(
            Image.open(file.parent / depth_folder / file.name.replace("color.jpg", "depth.png"))
        )
        millimetres[millimetres == 65535] = 0
        rgb = torch.from_numpy(np.array(Image.open(file)))
        depth = torch.from_numpy(millimetres.astype(np.float32) / 1000)
        height, width = depth.shape
        camera = Camera.from_fov(1.0, torch.eye(4), width=width, height=height)
        read = store.read(store.append(Frame(rgb, depth, camera, 0.0)))
        store.commit("one")
        noise = (read.rgb.double() - rgb.double()).square().mean()
        assert 10 * np.log10(255**2 / float(noise)) > 40
        assert read.depth is not None
        assert bool(((read.depth - depth).abs() <= DEPTH_ERROR * depth).all())
        chunks = [chunk.stat().st_size for chunk in (path / "chunks").iterdir()]
        assert sum(chunks) < largest
