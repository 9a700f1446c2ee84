"""A third party's keyframe store, as short as notebook 03 shows it: it works, and a memory names what it cannot do."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spmem
from spmem import Frame, KeyframeConfig, MemoryConfig, registry
from spmem.errors import InputError, StoreError
from spmem.protocols import CommittingStore, KeyframeStore, VersionedStore
from spmem.testing.box import BoxRoom
from spmem.testing.keyframe_store import DurableStoreTests, KeyframeStoreTests

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "03_parts_of_your_own.py"
EVERY = MemoryConfig(recent=1, keyframes=KeyframeConfig(novelty=0.0))


def shown() -> dict[str, Any]:
    """The store that the notebook shows, and what it needs."""
    wanted = ("FileKeyframes", "replace_file")
    parts: list[ast.stmt] = [
        part
        for part in ast.parse(NOTEBOOK.read_text()).body
        if isinstance(part, ast.Import | ast.ImportFrom) or getattr(part, "name", "") in wanted
    ]
    parts = [part for part in parts if "matplotlib" not in ast.unparse(part)]
    names: dict[str, Any] = {}
    exec(compile(ast.Module(parts, []), str(NOTEBOOK), "exec"), names)
    return names


FileKeyframes: Callable[[Path], KeyframeStore] = shown()["FileKeyframes"]


class TestFileKeyframes(KeyframeStoreTests, DurableStoreTests):
    @pytest.fixture
    def store(self, tmp_path: Path) -> KeyframeStore:
        return FileKeyframes(tmp_path / "walk")

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], KeyframeStore]:
        return lambda: FileKeyframes(tmp_path / "walk")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    room = BoxRoom()
    return room.frames(room.walk(6, width=64, height=48, sweep=5.0), time=0.0)


def test_it_is_a_store_and_nothing_more(tmp_path: Path) -> None:
    store = FileKeyframes(tmp_path / "walk")
    assert isinstance(store, KeyframeStore)
    assert not isinstance(store, CommittingStore | VersionedStore)


def test_a_memory_on_it_answers_and_opens_as_on_a_shipped_store(
    tmp_path: Path, frames: list[Frame]
) -> None:
    answers = []
    for path in (None, FileKeyframes(tmp_path / "walk")):
        with spmem.open(path, config=EVERY) as memory:
            for frame in frames:
                memory.store(frame)
            pose = frames[2].camera.c2w.clone()
            pose[0, 3] += 0.01
            memory.update_poses({2: pose})
            memory.remove(4)
            answer = memory.retrieve(frames[1].camera[None], k=3)
            answers.append((answer, answer.frames()))
    with spmem.open(FileKeyframes(tmp_path / "walk"), mode="r") as again:
        assert list(again.keyframes) == [0, 1, 2, 3, 5]
        assert len(again.recent) == 1
        answer = again.retrieve(frames[1].camera[None], k=3)
        answers.append((answer, answer.frames()))
    expected, pixels = answers[0]
    for answer, read in answers[1:]:
        assert torch.equal(answer.projection.rgb, expected.projection.rgb)
        assert torch.equal(answer.scores, expected.scores)
        for one, other in zip(read, pixels, strict=True):
            assert torch.equal(one.rgb, other.rgb)


def test_what_it_cannot_do_is_an_error_that_names_the_capability(
    tmp_path: Path, frames: list[Frame]
) -> None:
    memory = spmem.open(FileKeyframes(tmp_path / "walk"), config=EVERY)
    memory.store(frames[0])
    for call in (
        lambda: memory.branch,
        lambda: memory.snapshots(),
        lambda: memory.at(time=1.0),
        lambda: memory.fork("left"),
        lambda: memory.rollback(),
        lambda: memory.merge("left"),
        lambda: memory.tag("now"),
        lambda: memory.tags(),
        lambda: memory.branches(),
        lambda: memory.drop(tag="now"),
        lambda: memory.reclaim(),
    ):
        with pytest.raises(StoreError, match=r"FileKeyframes lacks it"):
            call()
    with pytest.raises(StoreError, match="CommittingStore"):
        memory.commit()
    memory.flush()
    memory.forget(keyframes=0)
    memory.close()
    assert len(FileKeyframes(tmp_path / "walk")) == 0


def test_a_budget_holds_on_it(tmp_path: Path, frames: list[Frame]) -> None:
    with spmem.open(FileKeyframes(tmp_path / "walk"), config=EVERY, budget=3) as memory:
        for frame in frames:
            memory.store(frame)
        assert len(memory.keyframes) <= 3
    assert len(FileKeyframes(tmp_path / "walk")) <= 3


# -- by scheme --------------------------------------------------------------------------------------


def test_an_installed_package_opens_addresses_of_its_scheme(
    tmp_path: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[Any, ...]] = []

    class Installed:
        name, value, dist = "files", "somewhere:open_files", None

        def load(self) -> Callable[..., KeyframeStore]:
            return open_files

    def open_files(
        path: str, mode: str, config: Any, *, branch: str, options: Any
    ) -> KeyframeStore:
        opened.append((path, mode, branch, options))
        return FileKeyframes(tmp_path / path.removeprefix("files://"))

    monkeypatch.setattr(registry, "_installed", lambda seam: [Installed()] * ("keyframe" in seam))
    with spmem.open("files://walk", config=EVERY, storage_options={"a": 1}) as memory:
        memory.store(frames[0])
    assert opened == [("files://walk", "a", "main", {"a": 1})]
    with spmem.open("files://walk", mode="r") as memory:
        assert list(memory.keyframes) == [0]


def test_memory_is_a_scheme_too(frames: list[Frame]) -> None:
    with spmem.open("memory://") as memory:
        assert memory.store(frames[0]) == 0
        assert memory.commit("one") is not None
    for wrong in ({"mode": "r"}, {"branch": "left"}, {"storage_options": {"a": 1}}):
        for path in (None, "memory://"):
            with pytest.raises(InputError, match="RAM"):
                spmem.open(path, **wrong)


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"ftp://.*s3://"):
        spmem.open("ftp://somewhere/else")


def test_file_addresses_are_folders(tmp_path: Path, frames: list[Frame]) -> None:
    with spmem.open(f"file://{tmp_path}/walk.spmem", config=EVERY) as memory:
        memory.store(frames[0])
    with spmem.open(tmp_path / "walk.spmem", mode="r") as memory:
        assert list(memory.keyframes) == [0]
        assert np.array_equal(memory.views.times, [0.0])
