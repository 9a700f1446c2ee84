"""Checkpoints that somebody crafted: whatever their arrays hold, a memory opens and answers, or says what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import spmem
from spmem import Frame, KeyframeConfig, MemoryConfig
from spmem.errors import CorruptMemoryError, SpmemError
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.box import BoxRoom
from spmem.verification import flaws

pytestmark = pytest.mark.filterwarnings("ignore:.*made anew")

Arrays = dict[str, NDArray[Any]]
Change = Callable[[NDArray[Any]], NDArray[Any] | None]

GROUPS = ("geometry", "views", "recent", "descriptors", "free", "rule.covisibility")
METHODS = (
    "surfel-votes",
    "point-votes",
    "set-cover",
    "visible-hungarian",
    "fov-overlap",
    "fov-rays",
    "fov-sphere",
    "frustum-submodular",
    "pose-nearest",
)
NUMBERS = (
    np.nan, np.inf, -np.inf, 3e38, -3e38, 1e20, -1e20, 1e9, 1e-30, 1e-300, 1e300,
    0, -1, 1, 127, 255, 2**31 - 1, -(2**31), 2**62, -(2**63), 2**64 - 1,
)  # fmt: skip
FEW = settings(max_examples=8, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=60)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Of an odd size, with all that a frame can have, so that the map and the working memory have all arrays."""
    room = BoxRoom()
    drawn = room.frames(room.walk(5, width=32, height=23), time=0.0)
    more = {"features": torch.rand(23, 32, 2), "confidence": torch.ones(23, 32)}
    return [frame.replace(latent=torch.rand(2, 3), **more) for frame in drawn]


@pytest.fixture(scope="module")
def whole(frames: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory with every group; tests only copy it."""
    path = tmp_path_factory.mktemp("hostile") / "whole.spmem"
    config = MemoryConfig(recent=1, keyframes=KeyframeConfig(novelty=0.0))
    with spmem.open(path, config=config) as memory:
        for frame in frames[:4]:
            memory.store(frame)
        memory.retrieve(frames[0].camera[None])
        memory.find(image=frames[0].rgb)
    return path


def taken(path: Path, group: str) -> tuple[Arrays, dict[str, Any]]:
    bank = ZarrKeyframes.open(path, "r")
    found = bank.read_arrays(group)
    bank.close()
    assert found is not None
    return found


def crafted(whole: Path, path: Path, group: str, arrays: Arrays, attributes: Any = None) -> Path:
    """A copy of the memory with other arrays in a group."""
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(whole, path)
    bank = ZarrKeyframes.open(path)
    bank.write_arrays(group, arrays, taken(whole, group)[1] if attributes is None else attributes)
    bank.commit("by other hands")
    bank.close()
    return path


# -- each array -------------------------------------------------------------------------------------

WRONG: dict[str, Change] = {
    "missing": lambda array: None,
    "a row short": lambda array: array[:-1],
    "one row": lambda array: array[:1],
    "twice": lambda array: np.concatenate([array, array]),
    "another dimension": lambda array: array[..., None],
    "flat": lambda array: array.reshape(1, -1),
    "of other numbers": lambda array: array.astype("f4" if array.dtype.kind != "f" else "i4"),
    "complex": lambda array: array.astype("c8"),
}


def test_a_map_with_one_array_of_another_form_is_refused(whole: Path, tmp_path: Path) -> None:
    arrays, _ = taken(whole, "geometry")
    assert "features" in arrays
    for n, name in enumerate(arrays):
        for wrong in list(WRONG)[n % 3 :: 3]:
            if (name.startswith(("features", "chunk")) and wrong == "missing") or (
                name == "posting_surfel" and wrong == "a row short"
            ):
                continue  # a map can do without; a keyframe can have seen less
            path = craft(whole, tmp_path / name, "geometry", name, WRONG[wrong])
            with pytest.raises(CorruptMemoryError, match="does not fit together"):
                spmem.open(path, mode="r")


@pytest.mark.parametrize("group", ["views", "free", "rule.covisibility", "descriptors"])
def test_a_cache_with_one_array_of_another_form_is_made_anew(
    whole: Path, tmp_path: Path, frames: list[Frame], group: str
) -> None:
    camera = frames[2].camera[None]
    with spmem.open(whole, mode="r") as memory:
        before = memory.retrieve(camera)
        looks = [one.keyframe.id for one in memory.find(image=frames[1].rgb)]
    for n, name in enumerate(taken(whole, group)[0]):
        for wrong in list(WRONG.values())[n % 4 :: 4]:
            path = craft(whole, tmp_path / name, group, name, wrong)
            with spmem.open(path, mode="r") as memory:
                after = memory.retrieve(camera)
                assert [one.id for one in after.keyframes] == [one.id for one in before.keyframes]
                assert torch.equal(after.projection.mask, before.projection.mask)
                assert [one.keyframe.id for one in memory.find(image=frames[1].rgb)] == looks


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("geometry", "position", 3e38),
        ("geometry", "normal", 3e38),
        ("geometry", "radius", -1.0),
        ("geometry", "radius", 0.0),
        ("geometry", "colour", 7.0),
        ("geometry", "confidence", -1.0),
        ("geometry", "posting_surfel", 0),
        ("geometry", "posting_keyframe", -1),
        ("geometry", "posting_start", 0),
        ("geometry", "chunk_fill", 0),
        ("geometry", "scalars", 1e-300),
        ("geometry", "scalars", -1.0),
        ("recent", "depth_0", 3e38),
        ("recent", "c2w_0", 1e38),
        ("recent", "K_0", 0.0),
        ("recent", "latent_0", 0),
    ],
)
def test_values_that_no_memory_writes_are_refused(
    whole: Path, tmp_path: Path, group: str, name: str, value: float
) -> None:
    path = craft(whole, tmp_path / "x", group, name, lambda array: np.full_like(array, value))
    with pytest.raises(CorruptMemoryError, match="does not fit together"):
        spmem.open(path, mode="r")


def test_a_map_seen_by_keyframes_that_are_not_there_answers_without_them(
    whole: Path, tmp_path: Path, frames: list[Frame]
) -> None:
    def strangers(names: NDArray[Any]) -> NDArray[Any]:
        return np.append(names[:-1], 2**31 - 1).astype(names.dtype)

    path = craft(whole, tmp_path / "x", "geometry", "posting_keyframe", strangers)
    with spmem.open(path, mode="r") as memory:
        for method in METHODS:
            found = memory.retrieve(frames[2].camera, method=method).keyframes
            assert {one.id for one in found} <= set(memory.keyframes)


def test_postings_without_a_run_are_refused(whole: Path, tmp_path: Path) -> None:
    arrays, _ = taken(whole, "geometry")
    none = {name: arrays[name][:0] for name in ("posting_keyframe", "posting_start")}
    path = crafted(whole, tmp_path / "x", "geometry", {**arrays, **none})
    with pytest.raises(CorruptMemoryError, match="in no run"):
        spmem.open(path, mode="r")


# -- everything, at random --------------------------------------------------------------------------


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, float, Change]:
    """A group, where in it the array is, and what becomes of that."""
    kind = draw(st.sampled_from(["form", "cut", "values", "values", "values", "order"]))
    at, number = draw(st.floats(0, 1)), draw(st.sampled_from(NUMBERS))
    spread, wrong = draw(st.integers(1, 5)), draw(st.sampled_from(list(WRONG.values())))

    def change(array: NDArray[Any]) -> NDArray[Any] | None:
        if kind == "form":
            return wrong(array)
        if kind == "cut":
            return array[: int(at * len(array))]
        if kind == "order":
            return np.roll(array, spread, 0)
        flat = array.reshape(-1).copy()
        with np.errstate(all="ignore"), suppress(OverflowError, ValueError):
            flat[int(at * (len(flat) - 1)) :: spread**4] = number
        return flat.reshape(array.shape)

    return draw(st.sampled_from(GROUPS)), draw(st.floats(0, 1, exclude_max=True)), change


@FEW
@given(some=st.lists(changes(), min_size=1, max_size=2))
def test_a_changed_checkpoint(
    whole: Path, frames: list[Frame], tmp_path: Path, some: list[tuple[str, float, Change]]
) -> None:
    check_changed(whole, frames, tmp_path, some)


@pytest.mark.slow
@MANY
@given(some=st.lists(changes(), min_size=1, max_size=3))
def test_many_changed_checkpoints(
    whole: Path, frames: list[Frame], tmp_path: Path, some: list[tuple[str, float, Change]]
) -> None:
    check_changed(whole, frames, tmp_path, some)


def check_changed(
    whole: Path, frames: list[Frame], tmp_path: Path, some: list[tuple[str, float, Change]]
) -> None:
    path, source = tmp_path / "changed.spmem", whole
    for group, where, change in some:
        arrays, _ = taken(source, group)
        if not arrays:
            continue
        name = sorted(arrays)[int(where * len(arrays))]
        changed = change(arrays[name])
        rest = {key: array for key, array in arrays.items() if key != name}
        other = tmp_path / ("b" if source.name == "a" else "a")
        source = crafted(source, other, group, rest if changed is None else {**rest, name: changed})
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(source, path)
    with suppress(SpmemError):
        use(path, frames)


def use(path: Path, frames: list[Frame]) -> None:
    """Every call that reads a memory, then those that write it."""
    cameras = spmem.Camera.stack([frame.camera for frame in frames[1:4]])
    bank = ZarrKeyframes.open(path, "r")
    list(flaws(bank))
    bank.close()
    with spmem.open(path, mode="r") as memory:
        answer = memory.retrieve(cameras, k=3)
        assert bool(torch.isfinite(answer.projection.depth).all())
        answer.frames()
        answer.explain()
        for method in METHODS:
            memory.retrieve(cameras[:1], k=2, method=method)
        memory.find(camera=cameras[0])
        memory.find(image=frames[0].rgb)
    with spmem.open(path) as memory:
        memory.store(frames[4])
        pose = memory.keyframes[0].camera.c2w.clone()
        pose[0, 3] += 0.02
        memory.update_poses({0: pose})
        memory.remove(1)
        memory.retrieve(cameras)
        memory.forget(keyframes=2)


def craft(whole: Path, path: Path, group: str, name: str, change: Change) -> Path:
    """A copy of the memory with one array changed, or left out where that is None."""
    arrays, _ = taken(whole, group)
    with np.errstate(all="ignore"):
        changed = change(arrays.pop(name))
    return crafted(whole, path, group, arrays if changed is None else {**arrays, name: changed})
