"""Threads and processes: nothing hangs after a fork, answers do not depend on threads, torch's setting is left alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import spmem
from spmem.kernels import threads
from spmem.testing.box import BoxRoom

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/processes.md"
ROOM = BoxRoom()
ALL = spmem.MemoryConfig(keyframes=spmem.KeyframeConfig(novelty=0))
LIMIT = 280
"""Seconds after which a process counts as hanging."""

PARENT = """
import multiprocessing, sys, torch, spmem
from spmem.testing.box import BoxRoom

room = BoxRoom()
cameras = room.walk(4, width=320, height=240)
frames = room.frames(cameras)
memory = spmem.open()
for frame in frames[:3]:
    memory.store(frame)
expected = memory.retrieve(cameras[3]).projection.rgb
big = torch.ones(1000, 1000)
assert float((big @ big).sum()) == 1e9  # torch's own threads are there
threads = torch.get_num_threads()

def child(queue):
    try:
        queue.put(work())
    except BaseException as error:
        queue.put(f"{type(error).__name__}: {error}")

def answer():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    answer = queue.get(timeout=60)
    process.join()
    return answer
"""


def run(code: str, *args: object) -> str:
    """What a Python process of its own prints, with two threads."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_forked_process_goes_on_with_a_memory_in_ram() -> None:
    code = """
def work():
    memory.store(frames[3])
    seen = memory.retrieve(cameras[3]).projection
    return bool(torch.isfinite(seen.rgb).all()), float((big @ big).sum()), torch.get_num_threads()
print(answer(), torch.get_num_threads() == threads == 2)
"""
    assert run(PARENT + code).split() == ["(True,", "1000000000.0,", "1)", "True"]


def test_a_forked_process_says_at_once_that_it_cannot_read_from_disk(tmp_path: Path) -> None:
    code = """
writer = spmem.open(sys.argv[1])
writer.store(frames[0])
writer.commit()
def work():
    writer.keyframes[0].frame
print(answer())
def work():
    spmem.open(sys.argv[1], mode="r")
print(answer())
assert writer.keyframes[0].frame.rgb.shape == (240, 320, 3)  # the parent goes on
writer.close()
"""
    lines = run(PARENT + code, tmp_path / "m").splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("StoreError: ")
        assert "forked" in line
        assert "spawn" in line


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_the_recipe_for_a_data_loader_runs_with_two_workers(tmp_path: Path, start: str) -> None:
    with spmem.open(tmp_path / "m", config=ALL) as memory:
        for frame in ROOM.frames(ROOM.walk(4, width=64, height=48)):
            memory.store(frame)
    recipe = re.search(r'```python title="loading.py"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert recipe is not None
    file = tmp_path / "loading.py"
    file.write_text(recipe[1])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(file), str(tmp_path / "m"), start]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert [line[: line.index(")") + 1] for line in lines] == [f"{start} (2, 2, 48, 64, 3)"] * 2


@pytest.fixture
def two_threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def answers(count: int, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What a memory answers with so many threads, even for small work."""
    monkeypatch.setattr(threads, "WORTH", 0.01)
    torch.set_num_threads(count)
    memory, cameras = spmem.open(config=ALL), ROOM.walk(5, width=160, height=119)
    for frame in ROOM.frames(cameras)[:4]:
        memory.store(frame)
    context = memory.retrieve(cameras[3:], k=3)
    assert torch.get_num_threads() == count
    seen = context.projection
    ids = torch.tensor([one.id for one in context.keyframes])
    return [seen.rgb, seen.depth, seen.normal, seen.mask, seen.surfel_ids, context.scores, ids]


@pytest.mark.usefixtures("two_threads")
def test_answers_are_the_same_with_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = answers(1, monkeypatch)
    for count in (2, 4):
        for ours, theirs in zip(alone, answers(count, monkeypatch), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("two_threads")
def test_memories_in_several_threads_at_once_answer_as_one_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = answers(2, monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: answers(2, monkeypatch), range(4)):
            for ours, theirs in zip(alone, found, strict=True):
                assert torch.equal(ours, theirs)
