"""A folder that others work on: readers while another process forgets, file systems that fill up or turn read-only."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import torch

import spmem
from spmem import KeyframeConfig, MemoryConfig
from spmem.errors import ReadOnlyError, SnapshotNotFoundError, SpmemError, StoreError
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.box import BoxRoom
from spmem.testing.keyframe_store import KeyframeStoreTests
from spmem.testing.sample_frames import sample_frame

EVERY = MemoryConfig(recent=1, keyframes=KeyframeConfig(novelty=0.0, commit_every=0, cache=None))
check_same = KeyframeStoreTests().check_same

# -- readers while another process forgets ----------------------------------------------------------

FORGETS = """
import sys
import spmem

path, ready, go = sys.argv[1:4]
memory = spmem.open(path)
open(ready, "w").close()
while True:
    try:
        open(go).close()
        break
    except OSError:
        pass
for id in map(int, sys.argv[4:]):
    memory.forget(keyframes=id)
    print("forgot", id, flush=True)
memory.close()
"""


def filled(path: Path, count: int) -> list[spmem.Frame]:
    room = BoxRoom()
    frames = room.frames(room.walk(count, width=64, height=48, sweep=4.0), time=0.0)
    with spmem.open(path, config=EVERY) as memory:
        for frame in frames:
            memory.store(frame)
    return frames


def read_all(memory: spmem.SpatialMemory, frames: list[spmem.Frame]) -> tuple[int, int]:
    """How many keyframes could be read, each as it was stored, and how many are gone, with an error of ours."""
    read = gone = 0
    for id, keyframe in memory.keyframes.items():
        try:
            frame = keyframe.frame
        except SpmemError:
            gone += 1
            continue
        assert (frame.rgb_float() - frames[id].rgb_float()).abs().mean() < 0.02
        read += 1
    return read, gone


def forgetting(path: Path, ids: list[int]) -> tuple[subprocess.Popen[str], Path]:
    """Another process that forgets keyframes, one after the other, once a file is there."""
    ready, go = path.with_name("ready"), path.with_name("go")
    command = [sys.executable, "-c", FORGETS, path, ready, go, *map(str, ids)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not ready.exists():
        assert child.poll() is None, child.communicate()[0]
        sleep(0.05)
    return child, go


def test_a_reader_survives_that_another_process_forgets(tmp_path: Path) -> None:
    """Forgetting deletes the state that the reader shows: it says so, and after a refresh all is well again."""
    path = tmp_path / "walk.spmem"
    frames = filled(path, 6)
    memory = spmem.open(path, mode="r")
    child, go = forgetting(path, [1, 3])
    go.touch()
    out, _ = child.communicate(timeout=120)
    assert child.returncode == 0, out
    read, gone = read_all(memory, frames)
    assert (read + gone, gone > 1) == (6, True)
    with pytest.raises(SnapshotNotFoundError, match=r"deleted meanwhile.*refresh\(\)"):
        _ = memory.keyframes[1].frame
    assert memory.refresh()
    assert list(memory.keyframes) == [0, 2, 4, 5]
    assert read_all(memory, frames) == (4, 0)
    assert len(memory.retrieve(frames[2].camera[None]).keyframes) > 0
    memory.close()


@pytest.mark.slow
def test_readers_at_every_moment_of_forgetting(tmp_path: Path) -> None:
    path = tmp_path / "walk.spmem"
    frames = filled(path, 12)
    child, go = forgetting(path, [0, 2, 4, 6, 8])
    readers = [spmem.open(path, mode="r")]
    go.touch()
    opened = refused = 0
    while child.poll() is None:
        for reader in readers[-2:]:
            read_all(reader, frames)
            with contextlib.suppress(SpmemError):
                reader.refresh()
        try:
            readers.append(spmem.open(path, mode="r"))
            opened += 1
        except SpmemError:
            refused += 1
    assert child.returncode == 0, child.communicate()[0]
    assert opened > 0
    with spmem.open(path, mode="r") as memory:
        assert list(memory.keyframes) == [1, 3, 5, 7, 9, 10, 11]
        assert read_all(memory, frames) == (7, 0)
    for reader in readers:
        reader.close()


# -- file systems -----------------------------------------------------------------------------------


@contextlib.contextmanager
def file_system(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, in RAM; skipped where it cannot be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a file system needs root on Linux")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def noise(number: int, seed: int) -> spmem.Frame:
    chance = torch.Generator().manual_seed(seed)
    rgb = torch.randint(0, 255, (240, 320, 3), dtype=torch.uint8, generator=chance)
    return sample_frame(number, width=320, height=240).replace(rgb=rgb)


def fill(store: Any) -> None:
    """Keep and commit noise, which no codec makes small."""
    add = store.append if hasattr(store, "append") else store.store
    for number in range(1, 30):
        add(noise(number, number))
        store.commit(str(number))


def test_a_file_system_that_is_full_keeps_the_last_commit(tmp_path: Path) -> None:
    with file_system(tmp_path / "small", "1m") as folder:
        path = folder / "walk.spmem"
        store = ZarrKeyframes.open(path)
        store.append(sample_frame(0))
        store.commit("before")
        with pytest.raises(StoreError, match="no space"):
            fill(store)
        kept = len(ZarrKeyframes.open(path, "r"))
        assert 1 <= kept < 30
        remount(folder, "size=64m")
        count = len(store)
        store.commit("there is space again")
        store.close()
        again = ZarrKeyframes.open(path, "r")
        assert len(again) == count
        for id in again.ids().tolist():
            assert torch.equal(again.read(id).camera.c2w, sample_frame(id).camera.c2w)
        check_same(again.read(0), sample_frame(0))


def test_a_memory_on_a_full_file_system_is_consistent_and_goes_on(tmp_path: Path) -> None:
    with file_system(tmp_path / "small", "2m") as folder:
        path = folder / "walk.spmem"
        memory = spmem.open(path, config=EVERY)
        memory.store(sample_frame(0))
        memory.commit("before")
        with pytest.raises(StoreError, match="no space"):
            fill(memory)
        assert list(memory.views.ids) == list(memory.keyframes)
        remount(folder, "size=64m")
        ids = list(memory.keyframes)
        memory.commit("there is space again")
        memory.close()
        with spmem.open(path, mode="r") as again:
            assert list(again.keyframes) == list(again.views.ids) == ids
            assert all(keyframe.frame.depth is not None for keyframe in again.keyframes.values())


def test_a_file_system_that_turns_read_only_is_said_so(tmp_path: Path) -> None:
    with file_system(tmp_path / "sealed", "64m") as folder:
        path = folder / "walk.spmem"
        memory = spmem.open(path, config=EVERY)
        memory.store(sample_frame(0))
        memory.commit("before")
        memory.store(sample_frame(1))
        memory.flush()
        os.sync()
        remount(folder, "ro")
        with pytest.raises(StoreError, match=r"(?i)cannot be written|read-only"):
            memory.commit("refused")
        with pytest.raises(ReadOnlyError):
            spmem.open(path)
        with pytest.raises(ReadOnlyError):
            spmem.open(folder / "another.spmem")
        with spmem.open(path, mode="r") as reader:
            assert list(reader.keyframes) == [0]
            assert reader.keyframes[0].frame.depth is not None
        remount(folder, "rw")
        memory.commit("after")
        memory.close()
        with spmem.open(path, mode="r") as reader:
            assert list(reader.keyframes) == [0, 1]
