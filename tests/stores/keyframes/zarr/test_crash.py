"""A writer that is killed: what its last commit held is there, whole, and nothing else."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import sleep
from typing import Any

import pytest

import spmem
from spmem import KeyframeConfig, MemoryConfig
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.stores.keyframes.zarr.commits import Commits
from spmem.testing.box import BoxRoom
from spmem.testing.keyframe_store import KeyframeStoreTests
from spmem.testing.sample_frames import sample_frame

WRITER = """
import sys
from itertools import count
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.sample_frames import sample_frame

store = ZarrKeyframes.open(sys.argv[1])
for number in count(len(store)):
    store.append(sample_frame(number, width=200, height=150))
    if number % 3 == 2:
        store.write_arrays("map", {"count": store.ids() + 1}, {"length": len(store)})
        store.commit(f"{len(store)}")
        print(len(store), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("times", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_killed_writer_leaves_a_commit(tmp_path: Path, times: int) -> None:
    path, pause = tmp_path / "walk.spmem", random.Random(7)
    check = KeyframeStoreTests()
    for _ in range(times):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        told = [int(child.stdout.readline())]
        sleep(pause.uniform(0.0, 0.3))
        child.kill()
        told += map(int, child.stdout)
        child.wait()
        store = ZarrKeyframes.open(path, "r")
        assert len(store) >= told[-1]
        assert len(store) == store.snapshots()[0].keyframes == int(store.snapshots()[0].message)
        assert store.ids().tolist() == list(range(len(store)))
        for id in range(len(store)):
            check.check_same(store.read(id), sample_frame(id, width=200, height=150))
        found = store.read_arrays("map")
        assert found is not None
        assert found[0]["count"].tolist() == [id + 1 for id in range(found[1]["length"])]
        assert found[1]["length"] == len(store)


@pytest.mark.skipif(sys.platform == "win32", reason="needs to signal a thread")
def test_an_interrupted_commit_is_whole_and_the_memory_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at the worst moment: Icechunk has committed, and nobody has taken note of it."""
    room, commit = BoxRoom(), Commits.commit
    frames = room.frames(room.walk(3, width=32, height=24), time=0.0)
    config = MemoryConfig(keyframes=KeyframeConfig(novelty=0.0, commit_every=0))
    with spmem.open(tmp_path / "m", config=config) as memory:
        memory.store(frames[0])
        memory.commit()
        memory.store(frames[1])

        def interrupted(*given: Any, **more: Any) -> str:
            monkeypatch.undo()
            snapshot = commit(*given, **more)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return snapshot

        monkeypatch.setattr(Commits, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            memory.commit()
        assert memory.store(frames[2]) == 2
        memory.commit()
    with spmem.open(tmp_path / "m", mode="r") as memory:
        assert list(memory.keyframes) == [0, 1, 2]
        assert [one.keyframes for one in memory.snapshots()][:2] == [3, 2]
