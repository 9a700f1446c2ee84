"""Settings, checkpoints and caches that hold nonsense: refused, or made anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spmem
from spmem.errors import CorruptMemoryError, SpmemError
from spmem.stores.keyframes.zarr import ZarrKeyframes

pytestmark = pytest.mark.filterwarnings("ignore:.*made anew")


@pytest.mark.parametrize(
    "values",
    [
        {"recent": "many"},
        {"recent": 1 << 40},
        {"fusion": {"voxel_pixels": "x"}},
        {"fusion": 3},
        {"retrieval": {"dim": 1 << 40}},
        {"retrieval": {"candidates": None}},
        {"keyframes": {"quality": []}},
        {"retention": {"budget": {}}},
        {"geometry": 7},
        {"geometry": "os.system"},
    ],
)
def test_a_senseless_configuration_is_refused(path: Path, values: dict[str, Any]) -> None:
    spmem.open(path).close()
    store = ZarrKeyframes.open(path)
    store.write_arrays("config", {}, values)
    store.commit("senseless")
    store.close()
    with pytest.raises(SpmemError):
        spmem.open(path, mode="r").close()


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("geometry", "position", np.nan),
        ("geometry", "radius", np.inf),
        ("geometry", "posting_surfel", -5),
        ("geometry", "posting_surfel", 1 << 30),
        ("geometry", "posting_start", 7),
        ("geometry", "chunk_fill", 1 << 20),
        ("geometry", "chunk_fill", -1),
        ("recent", "rgb_0", np.nan),
        ("recent", "K_0", np.nan),
        ("recent", "depth_0", -1),
    ],
)
def test_a_checkpoint_that_holds_nonsense_is_refused(
    written: Path, path: Path, group: str, name: str, value: float
) -> None:
    shutil.copytree(written, path)
    arrays, attributes = taken(path, group)
    broken = {**arrays, name: arrays[name].copy()}
    broken[name].reshape(-1)[0] = value
    less = {key: array for key, array in arrays.items() if key != name}
    for wrong in (broken, broken if name == "chunk_fill" else less):
        put(path, group, wrong, attributes)
        with pytest.raises(CorruptMemoryError, match="does not fit together"):
            spmem.open(path, mode="r").close()


@pytest.mark.parametrize("group", ["geometry", "recent"])
def test_a_checkpoint_written_again_as_it_was_opens(written: Path, path: Path, group: str) -> None:
    shutil.copytree(written, path)
    put(path, group, *taken(path, group))
    with spmem.open(path, mode="r") as memory:
        assert len(memory.keyframes) == 4


@pytest.mark.parametrize("group", ["views", "free", "rule.covisibility", "descriptors"])
def test_a_cache_that_holds_nonsense_is_made_anew(written: Path, path: Path, group: str) -> None:
    shutil.copytree(written, path)
    with spmem.open(path, mode="r") as memory:
        camera = memory.keyframes[2].camera[None]
        before = memory.retrieve(camera)
    arrays, attributes = taken(path, group)
    for n, (name, array) in enumerate(arrays.items()):
        wrong = (array[:0], array[..., None], np.full(array.shape, np.nan))[n % 3]
        put(path, group, {**arrays, name: wrong}, attributes)
        with spmem.open(path, mode="r") as memory:
            after = memory.retrieve(camera)
        assert [one.id for one in after.keyframes] == [one.id for one in before.keyframes]


def taken(path: Path, group: str) -> tuple[dict[str, Any], dict[str, Any]]:
    found = ZarrKeyframes.open(path, "r").read_arrays(group)
    assert found is not None
    return found


def put(path: Path, group: str, arrays: dict[str, Any], attributes: dict[str, Any]) -> None:
    store = ZarrKeyframes.open(path)
    store.write_arrays(group, arrays, attributes)
    store.commit("by other hands")
    store.close()
