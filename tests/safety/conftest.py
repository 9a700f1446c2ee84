"""A memory folder, to be read or copied."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import spmem
from spmem import KeyframeConfig, MemoryConfig
from spmem.testing.box import BoxRoom


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory with all that a memory can hold; tests only read it."""
    path = tmp_path_factory.mktemp("safety") / "walk.spmem"
    room = BoxRoom()
    config = MemoryConfig(recent=1, keyframes=KeyframeConfig(novelty=0.0))
    frames = room.frames(room.walk(5, width=32, height=24), time=0.0)
    with spmem.open(path, config=config) as memory:
        for frame in frames:
            memory.store(frame)
        memory.retrieve(frames[0].camera[None])
        memory.tag("five")
        memory.find(image=frames[0].rgb)
        memory.fork("left").close()
        memory.remove(1)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "walk.spmem"


@pytest.fixture
def frugal() -> Iterator[None]:
    """Fails if a test takes more than 400 MB on top of what the process ever took."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400 << (20 if sys.platform == "darwin" else 10)
