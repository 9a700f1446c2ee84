"""What the durable bank does when the disk is full, the folder sealed, the bytes damaged or another writer there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import icechunk
import numpy as np
import pytest
import torch
import zarr
from numpy.typing import NDArray

from spmem.errors import CorruptMemoryError, ReadOnlyError, SpmemError, StoreError
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.keyframe_store import KeyframeStoreTests
from spmem.testing.sample_frames import sample_frame

check_same = KeyframeStoreTests().check_same


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "walk.spmem"


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# -- damaged bytes ----------------------------------------------------------------------------------


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
def test_a_damaged_keyframe_is_named_and_the_others_read(
    path: Path, damage: Callable[[Path], None]
) -> None:
    store = ZarrKeyframes.open(path)
    frames = [sample_frame(n, width=320, height=240) for n in range(3)]
    files: list[Path] = []  # of each keyframe's record, the largest file that its commit made
    for frame in frames:
        before = set(path.glob("chunks/*"))
        store.append(frame)
        store.commit("one")
        files.append(max(set(path.glob("chunks/*")) - before, key=lambda f: f.stat().st_size))
    store.close()
    damage(files[1])
    store = ZarrKeyframes.open(path, "r")
    with pytest.raises(CorruptMemoryError, match=r"keyframe 1\b"):
        store.read(1)
    check_same(store.read(0), frames[0])
    check_same(store.read(2), frames[2])


def test_a_damaged_table_or_group_is_told(path: Path) -> None:
    store = ZarrKeyframes.open(path)
    store.write_arrays("map", {"a": np.random.default_rng(0).random(50_000)}, {})
    store.commit("map")
    files = set(path.glob("chunks/*"))
    flip(max(files, key=lambda f: f.stat().st_size))
    with pytest.raises(CorruptMemoryError, match="map"):
        ZarrKeyframes.open(path, "r").read_arrays("map")
    for number in range(30):
        store.append(sample_frame(number))
    store.commit("rows")
    for file in set(path.glob("chunks/*")) - files:
        flip(file)
    with pytest.raises(CorruptMemoryError, match="table"):
        ZarrKeyframes.open(path, "r")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("time", np.zeros(1)),
        ("id", np.array([2, 1, 0])),
        ("K", np.zeros((3, 3, 3))),
        ("bytes", np.zeros((3, 2), np.int64)),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    path: Path, column: str, values: NDArray[np.generic]
) -> None:
    store = ZarrKeyframes.open(path)
    for number in range(3):
        store.append(sample_frame(number))
    store.commit("three")
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    session = repository.writable_session("main")
    bank = zarr.open_group(session.store, mode="r+", path="keyframes")
    bank.create_array(column, data=values, overwrite=True)
    session.commit("changed by other hands")
    with pytest.raises(CorruptMemoryError, match="table"):
        ZarrKeyframes.open(path, "r")


@pytest.mark.parametrize("folder", ["refs/branch.main", "snapshots", "manifests"])
def test_a_damaged_repository_is_an_error_of_ours(path: Path, folder: str) -> None:
    store = ZarrKeyframes.open(path)
    for number in range(3):
        store.append(sample_frame(number))
    store.commit("three")
    for file in (path / folder).iterdir():
        truncate(file)
    with pytest.raises(SpmemError, match="walk"):
        ZarrKeyframes.open(path, "r").read(0)


# -- no space, no permission ------------------------------------------------------------------------


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As if the disk were full: the system refuses to write a file's bytes beyond ``size``."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_the_last_commit_and_the_next_succeeds(path: Path) -> None:
    store = ZarrKeyframes.open(path)
    store.append(sample_frame(0))
    store.commit("before")
    noise = torch.randint(0, 255, (240, 320, 3), dtype=torch.uint8)
    store.append(sample_frame(1, width=320, height=240).replace(rgb=noise))
    with files_of_at_most(20_000), pytest.raises(StoreError, match="no space") as raised:
        store.commit("too large")
    assert str(path) in str(raised.value)
    reader = ZarrKeyframes.open(path, "r")
    assert [s.message for s in reader.snapshots()] == ["before"]
    assert len(reader) == 1
    check_same(reader.read(0), sample_frame(0))
    store.commit("after")
    reader = ZarrKeyframes.open(path, "r")
    assert [s.message for s in reader.snapshots()] == ["after", "before"]
    assert reader.ids().tolist() == [0, 1]
    assert torch.equal(reader.read(1).camera.c2w, sample_frame(1).camera.c2w)


SEALED = """
import os, sys
from spmem.errors import ReadOnlyError
from spmem.stores.keyframes.zarr import ZarrKeyframes

ZarrKeyframes.open(sys.argv[1], "r").read(0)  # imports all that nobody may not be allowed to import
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
ZarrKeyframes.open(sys.argv[1], "r").read(0)
for mode in "aw":
    try:
        ZarrKeyframes.open(sys.argv[1], mode)
    except ReadOnlyError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs the permission bits of files")
def test_a_read_only_folder_is_read_and_not_written() -> None:
    with (
        TemporaryDirectory() as parent
    ):  # pytest's own folders are closed to the child, who is nobody
        path = Path(parent) / "walk.spmem"
        store = ZarrKeyframes.open(path)
        store.append(sample_frame(0))
        store.commit("one")
        Path(parent).chmod(0o755)
        sealed = [path, *(entry for entry in path.rglob("*") if entry.is_dir())]
        for folder in sealed:
            folder.chmod(0o555)
        child = run(SEALED, path)
        said = child.communicate(timeout=120)[0]
        for folder in sealed:
            folder.chmod(0o755)
    assert child.returncode == 0
    assert said.count("cannot be written") == 2
    assert issubclass(ReadOnlyError, PermissionError)


# -- two writers ------------------------------------------------------------------------------------


def test_the_second_writer_is_refused_and_nothing_is_lost(path: Path) -> None:
    first, second = ZarrKeyframes.open(path), ZarrKeyframes.open(path)
    first.append(sample_frame(0))
    second.append(sample_frame(1))
    first.commit("first")
    with pytest.raises(StoreError, match="another writer"):
        second.commit("second")
    store = ZarrKeyframes.open(path)
    assert len(store) == 1
    check_same(store.read(0), sample_frame(0))
    store.append(sample_frame(2))
    store.commit("third")
    assert [s.message for s in store.snapshots()] == ["third", "first"]


RACE = """
import sys
from pathlib import Path
from time import sleep
from spmem.errors import StoreError
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.sample_frames import sample_frame

path, name = Path(sys.argv[1]), sys.argv[2]
path.with_name(name).touch()
while not (path.with_name("a").exists() and path.with_name("b").exists()):
    sleep(0.001)
store = ZarrKeyframes.open(path)
for number in range(40):
    store.append(sample_frame(number))
    try:
        store.commit(f"{name} {number}")
        print(f"{name} {number}")
    except StoreError:
        store = ZarrKeyframes.open(path)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="commits are not locked there")
def test_commits_that_race_are_all_there_or_refused(path: Path) -> None:
    ZarrKeyframes.open(path).close()
    children = [run(RACE, path, name) for name in "ab"]
    done = [child.communicate(timeout=120)[0].splitlines() for child in children]
    assert all(done)
    store = ZarrKeyframes.open(path, "r")
    committed = [s.message for s in store.snapshots()][::-1]
    assert sorted(committed) == sorted(done[0] + done[1])
    assert len(store) == len(committed)
    for id, message in enumerate(committed):
        check_same(store.read(id), sample_frame(int(message.split()[1])))
