"""Memories that cannot commit, or cannot write: they say so once, let go of everything, and stay consistent."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import spmem
from spmem import Frame, KeyframeConfig, MemoryConfig, SpatialMemory
from spmem.errors import (
    ConflictError,
    FrameError,
    InputError,
    KeyframeNotFoundError,
    StoreError,
)
from spmem.testing.box import BoxRoom

EVERY = MemoryConfig(recent=1, keyframes=KeyframeConfig(novelty=0.0, commit_every=0))


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    room = BoxRoom()
    return room.frames(room.walk(6, width=64, height=48, sweep=5.0), time=0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "walk.spmem"


def overtaken(path: Path, frames: list[Frame]) -> tuple[SpatialMemory, SpatialMemory]:
    """Two writers of one branch; the second has a frame that it can no longer commit."""
    first, second = spmem.open(path, config=EVERY), spmem.open(path, config=EVERY)
    first.store(frames[0])
    first.commit("first")
    second.store(frames[1])
    with pytest.raises(ConflictError):
        second.commit("second")
    return first, second


def check_consistent(memory: SpatialMemory, camera: spmem.Camera) -> None:
    ids = list(memory.keyframes)
    assert list(memory.views.ids) == ids
    memory.find(image=memory.keyframes[ids[0]].frame.rgb)
    for keyframe in memory.retrieve(camera, k=8).keyframes:
        assert keyframe.id in ids
        assert keyframe.frame.depth is not None


# -- conflicts --------------------------------------------------------------------------------------


def test_closing_after_a_conflict_raises_once_and_releases(path: Path, frames: list[Frame]) -> None:
    first, second = overtaken(path, frames)
    with pytest.raises(StoreError, match="another writer"):
        first.reclaim(keep=1)
    with pytest.raises(ConflictError):
        second.close()
    second.close()
    with pytest.raises(StoreError, match="closed"):
        second.store(frames[2])
    assert first.reclaim(keep=1) >= 0
    first.close()


def test_closing_after_the_work_was_saved_on_a_fork(path: Path, frames: list[Frame]) -> None:
    first, second = overtaken(path, frames)
    with second.fork("saved") as saved:
        assert [keyframe.time for keyframe in saved.keyframes.values()] == [1.0]
    with pytest.raises(ConflictError):
        second.close()
    first.close()
    with spmem.open(path, mode="r", branch="saved") as saved:
        assert len(saved.keyframes) == 1


def test_going_back_after_a_conflict_is_a_conflict(path: Path, frames: list[Frame]) -> None:
    with spmem.open(path, config=EVERY) as memory:
        memory.store(frames[5])
    first, second = spmem.open(path), spmem.open(path)
    for memory, frame in ((first, frames[0]), (second, frames[1])):
        memory.store(frame)
    first.commit("first")
    with pytest.raises(ConflictError):
        second.commit("second")
    with pytest.raises(ConflictError, match="another writer"):
        second.rollback(0)
    with pytest.raises(ConflictError, match="another writer"):
        second.rollback(snapshot=second.snapshots()[0])
    with pytest.raises(ConflictError):
        second.close()
    assert len(first.keyframes) == 2
    first.close()


def test_an_error_in_the_body_is_not_replaced(path: Path, frames: list[Frame]) -> None:
    first, second = overtaken(path, frames)
    with pytest.raises(KeyError, match="mine") as raised, second:
        raise KeyError("mine")
    assert any("ConflictError" in note for note in raised.value.__notes__)
    assert first.reclaim(keep=1) >= 0  # the other one let go
    first.close()


# -- keyframes that cannot be encoded ---------------------------------------------------------------


def wide(frame: Frame, width: int) -> Frame:
    depth = torch.full((2, width), 2.0)
    camera = spmem.Camera.from_fov(1.0, frame.camera.c2w, width=width, height=2)
    return Frame(torch.zeros(2, width, 3, dtype=torch.uint8), depth, camera, time=50.0)


def test_a_picture_that_no_jpeg_holds_is_refused_at_once(path: Path, frames: list[Frame]) -> None:
    with spmem.open(path, config=EVERY) as memory:
        for frame in frames[:3]:
            memory.store(frame)
        with pytest.raises(FrameError, match="65,500"):
            memory.store(wide(frames[0], 70_000))
        check_consistent(memory, frames[0].camera)
        assert memory.store(frames[3]) == 3
    with spmem.open(path, mode="r") as memory:
        assert list(memory.keyframes) == [0, 1, 2, 3]
        check_consistent(memory, frames[0].camera)


def test_cameras_that_no_table_holds_are_refused(path: Path, frames: list[Frame]) -> None:
    """So that a folder never holds what opening refuses."""
    from spmem.stores.keyframes.zarr import ZarrKeyframes

    store, frame = ZarrKeyframes.open(path), frames[0]
    bent = frame.camera.c2w.clone()
    bent[0, 0] = float("nan")
    camera = spmem.Camera(frame.camera.K, bent, width=64, height=48, validate=False)
    with pytest.raises(FrameError, match="cannot be stored"):
        store.append(Frame(frame.rgb, frame.depth, camera, 0.0, validate=False))
    store.append(frame)
    with pytest.raises(InputError, match="rigid"):
        store.move(np.array([0]), 2 * frame.camera.c2w.numpy()[None])
    store.commit("one")
    store.close()
    assert len(ZarrKeyframes.open(path, "r")) == 1


def test_the_next_call_names_a_keyframe_that_could_not_be_encoded(
    path: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spmem.stores.keyframes.zarr import record

    memory = spmem.open(path, config=EVERY)
    memory.store(frames[0])
    memory.flush()
    with monkeypatch.context() as patched:
        patched.setattr(
            record, "encode", lambda *_: (_ for _ in ()).throw(MemoryError("none left"))
        )
        assert memory.store(frames[1]) == 1
        check_consistent(memory, frames[0].camera)
        with pytest.raises(StoreError, match=r"keyframe 1 could not be encoded \(none left"):
            memory.flush()
    assert memory.store(frames[2]) == 2
    check_consistent(memory, frames[0].camera)
    memory.commit("all")
    memory.close()
    with spmem.open(path, mode="r") as again:
        assert list(again.keyframes) == [0, 1, 2]
        check_consistent(again, frames[0].camera)


def test_a_keyframe_that_cannot_be_encoded_can_be_removed(
    path: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spmem.stores.keyframes.zarr import pending, record

    def refuse(*_: object) -> None:
        raise MemoryError("none left")

    memory = spmem.open(path, config=EVERY)
    memory.store(frames[0])
    memory.flush()
    monkeypatch.setattr(record, "encode", refuse)
    memory.store(frames[1])
    with pytest.raises(StoreError, match="keyframe 1"):
        memory.flush()
    with monkeypatch.context() as patched:
        patched.setattr(pending, "encode", refuse)
        with pytest.raises(StoreError, match=r"keyframe 1 .*remove\(1\)"):
            memory.commit("still not")
        assert list(memory.keyframes) == [0, 1]
        memory.remove(1)
        memory.commit("without it")
    memory.close()
    with spmem.open(path, mode="r") as again:
        assert list(again.keyframes) == [0]


# -- folders that are gone --------------------------------------------------------------------------


@pytest.mark.parametrize("instead", ["nothing", "another memory"])
def test_a_folder_that_is_gone_is_not_made_again(
    path: Path, frames: list[Frame], instead: str
) -> None:
    memory = spmem.open(path, config=EVERY)
    memory.store(frames[0])
    memory.commit("one")
    shutil.rmtree(path)
    if instead == "another memory":
        spmem.open(path, config=EVERY).close()
    before = sorted(path.rglob("*"))
    memory.store(frames[1])
    with pytest.raises(StoreError, match="deleted, moved or replaced") as raised:
        memory.commit("two")
    assert not isinstance(raised.value, ConflictError)
    with pytest.raises(StoreError, match="deleted"):
        memory.close()
    assert sorted(path.rglob("*")) == before


# -- small things -----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_a_new_memory_can_be_reclaimed(where: str, path: Path) -> None:
    with spmem.open(None if where == "ram" else path) as memory:
        assert memory.reclaim() >= 0
        assert memory.reclaim(keep=1) >= 0
        for keep in (0, 1.5, "2"):
            with pytest.raises(InputError):
                memory.reclaim(keep)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["a\0b", b"bytes", 7])
def test_paths_that_no_file_has_are_refused(bad: object) -> None:
    with pytest.raises(InputError):
        spmem.open(bad)  # type: ignore[arg-type]


def test_ids_that_were_never_given_are_unknown(path: Path, frames: list[Frame]) -> None:
    with spmem.open(path, config=EVERY) as memory:
        memory.store(frames[0])
        with pytest.raises(InputError, match="below 2\\*\\*63"):
            memory.keyframes.frames([2**70])
        for id in (2**70, 2**62, -1):
            with pytest.raises(KeyError):
                memory.keyframes[id]
        for id in (2**62, -1):
            with pytest.raises(KeyframeNotFoundError):
                memory.keyframes.frames([0, id])
