"""What the durable bank does when the disk is full, the folder sealed, the bytes damaged or another writer there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from spmem.errors import CorruptMemoryError, ReadOnlyError, SpmemError, StoreError
from spmem.stores.keyframes import ZarrKeyframes
from spmem.testing.keyframe_store import KeyframeStoreTests, sample_frame

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
def test_a_damaged_keyframe_is_named_and_the_others_read(path: Path, damage: object) -> None:
    store = ZarrKeyframes.open(path)
    frames = [sample_frame(n, width=320, height=240) for n in range(3)]
    files: list[Path] = []  # of each keyframe's record, the largest file that its commit made
    for frame in frames:
        before = set(path.glob("chunks/*"))
        store.append(frame)
        store.commit("one")
        files.append(max(set(path.glob("chunks/*")) - before, key=lambda f: f.stat().st_size))
    store.close()
    assert callable(damage)
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

FULL = """
import resource, sys
import torch
from spmem.errors import StoreError
from spmem.stores.keyframes import ZarrKeyframes
from spmem.testing.keyframe_store import KeyframeStoreTests, sample_frame

store = ZarrKeyframes.open(sys.argv[1])
store.append(sample_frame(0))
store.commit("before")
noise = torch.randint(0, 255, (240, 320, 3), dtype=torch.uint8)
store.append(sample_frame(1, width=320, height=240).replace(rgb=noise))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
try:
    store.commit("too large")
except StoreError as error:
    print(error)
reader = ZarrKeyframes.open(sys.argv[1], "r")
assert [s.message for s in reader.snapshots()] == ["before"] and len(reader) == 1
KeyframeStoreTests().check_same(reader.read(0), sample_frame(0))
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
store.commit("after")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_the_last_commit_and_the_next_succeeds(path: Path) -> None:
    child = run(FULL, path)
    said = child.communicate(timeout=120)[0]
    assert child.returncode == 0
    assert str(path) in said
    assert "no space" in said
    store = ZarrKeyframes.open(path, "r")
    assert [s.message for s in store.snapshots()] == ["after", "before"]
    assert store.ids().tolist() == [0, 1]
    assert torch.equal(store.read(1).camera.c2w, sample_frame(1).camera.c2w)


SEALED = """
import os, sys
from spmem.errors import ReadOnlyError
from spmem.stores.keyframes import ZarrKeyframes

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
from spmem.errors import StoreError
from spmem.stores.keyframes import ZarrKeyframes

print("ready", flush=True)
for number in range(30):
    store = ZarrKeyframes.open(sys.argv[1])
    try:
        store.commit(f"{sys.argv[2]} {number}")
        print(f"{sys.argv[2]} {number}")
    except StoreError:
        pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="commits are not locked there")
def test_commits_that_race_are_all_there_or_refused(path: Path) -> None:
    ZarrKeyframes.open(path).close()
    children = [run(RACE, path, name) for name in "ab"]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    done = [line for child in children for line in child.communicate(timeout=120)[0].splitlines()]
    messages = [s.message for s in ZarrKeyframes.open(path, "r").snapshots()]
    assert sorted(messages) == sorted(done)
    assert {line[0] for line in done} == {"a", "b"}
