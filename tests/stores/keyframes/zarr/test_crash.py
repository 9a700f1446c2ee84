"""A writer that is killed: what its last commit held is there, whole, and nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from time import sleep

import pytest

from spmem.stores.keyframes.zarr import ZarrKeyframes
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
