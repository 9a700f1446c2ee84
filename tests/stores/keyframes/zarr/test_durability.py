"""Commits that survive a loss of power: what is on the disk, at the worst moment, is a whole memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spmem.config import KeyframeConfig
from spmem.errors import ConflictError, SpmemError
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.keyframe_store import KeyframeStoreTests
from spmem.testing.sample_frames import sample_frame

POWER = KeyframeConfig(durability="power")
check_same = KeyframeStoreTests().check_same


class Disk:
    """What a disk holds for sure: files as they were when synced, under names that were there when their folder was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.contents: dict[int, bytes] = {}  # by inode
        self.names: dict[
            Path, dict[str, tuple[int, bool]]
        ] = {}  # of folders: inode, and whether it is one
        self._sync = os.fsync
        monkeypatch.setattr(os, "fsync", self.sync)

    def sync(self, opened: int) -> None:
        self._sync(opened)
        path = Path(os.readlink(f"/proc/self/fd/{opened}"))
        if path.is_dir():
            entries = {e.name: (e.inode(), e.is_dir()) for e in os.scandir(path)}
            self.names[path] = entries
        else:
            self.contents[os.fstat(opened).st_ino] = path.read_bytes()

    def restore(self, path: Path, to: Path) -> None:
        """Write below ``to`` what is left of the folder ``path`` after the power went."""
        to.mkdir(parents=True)
        for name, (inode, folder) in self.names.get(path, {}).items():
            if folder:
                self.restore(path / name, to / name)
            else:
                (to / name).write_bytes(self.contents.get(inode, b""))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs to know open files by name")
def test_a_loss_of_power_takes_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, disk = tmp_path / "walk.spmem", Disk(monkeypatch)
    store = ZarrKeyframes.open(path, config=POWER)
    for n in range(4):
        store.append(sample_frame(n))
        store.commit(f"{n}")
        left = tmp_path / f"left-{n}"
        disk.restore(path, left)
        found = ZarrKeyframes.open(left, "r")
        assert [one.message for one in found.snapshots()] == [f"{i}" for i in range(n, -1, -1)]
        for id in range(n + 1):
            check_same(found.read(id), sample_frame(id))
    store.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs to know open files by name")
def test_without_it_a_loss_of_power_takes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the test above can fail."""
    path, disk = tmp_path / "walk.spmem", Disk(monkeypatch)
    store = ZarrKeyframes.open(path)
    store.append(sample_frame(0))
    store.commit("one")
    disk.restore(path, tmp_path / "left")
    with pytest.raises(SpmemError):
        ZarrKeyframes.open(tmp_path / "left", "r")


def test_writers_conflict_there_too(tmp_path: Path) -> None:
    path = tmp_path / "walk.spmem"
    first, second = (ZarrKeyframes.open(path, config=POWER) for _ in range(2))
    first.append(sample_frame(0))
    second.append(sample_frame(1))
    first.commit("first")
    with pytest.raises(ConflictError):
        second.commit("second")
    fork = second.fork("second")
    fork.commit("second")
    check_same(fork.read(0), sample_frame(1))
    check_same(first.read(0), sample_frame(0))
