"""Commits, branches and going back, of whole memories in RAM and on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import spmem
from spmem import Frame, KeyframeConfig, MemoryConfig, SpatialMemory
from spmem.errors import (
    ConflictError,
    InputError,
    ReadOnlyError,
    SnapshotNotFoundError,
    StoreError,
)
from spmem.testing.box import BoxRoom

EVERY = MemoryConfig(recent=1, keyframes=KeyframeConfig(novelty=0.0, commit_every=0))


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    room = BoxRoom()
    return room.frames(room.walk(8, width=64, height=48, sweep=5.0), time=0.0)


@pytest.fixture(params=["ram", "disk"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "ram" else tmp_path / "walk.spmem"


@pytest.fixture
def memory(path: Path | None) -> Iterator[SpatialMemory]:
    with spmem.open(path, config=EVERY) as memory:
        yield memory


MOSTLY_IN_RAM = pytest.mark.parametrize(
    "path", ["ram", pytest.param("disk", marks=pytest.mark.slow)], indirect=True
)


def answers(memory: SpatialMemory, frames: list[Frame]) -> list[Any]:
    """Everything that memory says of the frames' cameras, exactly."""
    told: list[Any] = []
    for frame in frames[::3]:
        context = memory.retrieve(frame.camera[None], k=3)
        seen = context.projection
        told += [seen.rgb, seen.depth, seen.mask, context.scores, context.coverage]
        told += [keyframe.frame.rgb for keyframe in context.keyframes]
        told += [torch.tensor([keyframe.id for keyframe in context.keyframes])]
    return told


def same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a, b) for a, b in zip(some, others, strict=True)
    )


def store(memory: SpatialMemory, frames: list[Frame]) -> str:
    for frame in frames:
        memory.store(frame)
    snapshot = memory.commit(f"{len(memory.keyframes)} keyframes")
    assert snapshot is not None
    return snapshot


def test_a_snapshot_answers_the_same_for_ever(
    memory: SpatialMemory, path: Path | None, frames: list[Frame]
) -> None:
    first = store(memory, frames[:4])
    before = answers(memory, frames)
    store(memory, frames[4:])
    memory.remove(0)
    memory.commit("one gone")
    assert not same(answers(memory, frames), before)
    for _ in range(2):
        with memory.at(first) as then:
            assert same(answers(then, frames), before)
            for change in (
                lambda: then.store(frames[5]),
                lambda: then.remove(1),
                lambda: then.commit("no"),
                lambda: then.rollback(0),
                lambda: then.tag("no"),
            ):
                with pytest.raises(ReadOnlyError):
                    change()
    if path is not None:
        memory.close()
        with spmem.open(path, mode="r") as again, again.at(first) as then:
            assert same(answers(then, frames), before)


@MOSTLY_IN_RAM
def test_at_a_time(memory: SpatialMemory, frames: list[Frame]) -> None:
    store(memory, frames[:2])
    store(memory, frames[2:5])
    store(memory, frames[5:])
    assert frames[4].time == 4.0
    for time, count in ((1.0, 2), (3.9, 2), (4.0, 5), (1e9, 8)):
        with memory.at(time=time) as then:
            assert len(then.keyframes) == count
    with pytest.raises(SnapshotNotFoundError, match=r"0\.5"):
        memory.at(time=0.5)
    with pytest.raises(InputError):
        memory.at()
    with pytest.raises(SnapshotNotFoundError):
        memory.at("yesterday")


def test_a_fork_shares_the_past_and_goes_its_own_way(
    memory: SpatialMemory, path: Path | None, frames: list[Frame]
) -> None:
    store(memory, frames[:3])
    memory.store(frames[3])  # not committed; goes along
    before = answers(memory, frames)
    fork = memory.fork("left")
    assert same(answers(fork, frames), before)
    assert (memory.branch, fork.branch, fork.branches()) == ("main", "left", ["left", "main"])
    fork.store(frames[6])
    fork.remove(1)
    memory.store(frames[4])
    assert fork.keyframes.keys() == {0, 2, 3, 4}
    assert memory.keyframes.keys() == {0, 1, 2, 3, 4}
    assert torch.equal(memory.keyframes[4].camera.c2w, frames[4].camera.c2w)
    assert torch.equal(fork.keyframes[4].camera.c2w, frames[6].camera.c2w)
    after = answers(fork, frames)
    fork.close()
    memory.commit("here")
    if path is not None:
        with spmem.open(path, branch="left") as again:
            assert same(answers(again, frames), after)
    with pytest.raises(InputError, match="left"):
        memory.fork("left")


@MOSTLY_IN_RAM
def test_a_snapshot_can_be_forked(memory: SpatialMemory, frames: list[Frame]) -> None:
    first = store(memory, frames[:2])
    store(memory, frames[2:])
    with memory.at(first) as then, then.fork("another-way") as fork:
        fork.store(frames[7])
        assert len(fork.keyframes) == 3
    assert len(memory.keyframes) == 8


@MOSTLY_IN_RAM
def test_rolling_back(memory: SpatialMemory, frames: list[Frame]) -> None:
    first = store(memory, frames[:3])
    before = answers(memory, frames)
    store(memory, frames[3:5])
    second = answers(memory, frames)
    memory.store(frames[5])
    memory.rollback(0)
    assert same(answers(memory, frames), second)
    memory.rollback()
    assert same(answers(memory, frames), before)
    assert [one.id for one in memory.snapshots()] == [first]
    store(memory, frames[3:5])
    assert same(answers(memory, frames), second)
    memory.rollback(snapshot=first)
    assert same(answers(memory, frames), before)
    for steps in (1, -1):
        with pytest.raises(SnapshotNotFoundError):
            memory.rollback(steps)


@MOSTLY_IN_RAM
def test_tags(memory: SpatialMemory, frames: list[Frame]) -> None:
    memory.store(frames[0])
    memory.tag("start")
    store(memory, frames[1:3])
    assert list(memory.tags()) == ["start"]
    with memory.at(tag="start") as then:
        assert len(then.keyframes) == 1
    memory.store(frames[3])
    commits = memory.snapshots()
    for name in ("start", "no/path", ""):
        with pytest.raises(InputError):
            memory.tag(name)
    assert memory.snapshots() == commits  # a name that is none commits nothing
    memory.drop(tag="start")
    with pytest.raises(SnapshotNotFoundError):
        memory.at(tag="start")


def test_merging_brings_what_the_other_branch_saw(
    memory: SpatialMemory, frames: list[Frame]
) -> None:
    store(memory, frames[:2])
    with memory.fork("left") as fork:
        store(fork, frames[5:])
    store(memory, frames[2:4])
    camera = frames[6].camera[None]
    unknown = float(memory.retrieve(camera).coverage[0])
    ids = memory.merge("left")
    assert ids == {2: 4, 3: 5, 4: 6}
    assert [memory.keyframes[id].time for id in ids.values()] == [5.0, 6.0, 7.0]
    assert float(memory.retrieve(camera).coverage[0]) > max(unknown, 0.9)
    memory.commit("merged")
    with memory.fork("right") as fork:
        fork.remove(0)
        fork.commit("gone")
    with pytest.raises(ConflictError, match="right"):
        memory.merge("right")
    with pytest.raises(SnapshotNotFoundError):
        memory.merge("nowhere")


@MOSTLY_IN_RAM
def test_branches_that_parted_when_empty_merge(memory: SpatialMemory, frames: list[Frame]) -> None:
    with memory.fork("left") as fork:
        store(fork, frames[:2])
    store(memory, frames[4:6])
    assert memory.merge("left") == {0: 2, 1: 3}


@MOSTLY_IN_RAM
def test_without_a_common_commit_nothing_is_merged(
    memory: SpatialMemory, frames: list[Frame]
) -> None:
    """Reclaiming ended the commit from which both went on."""
    store(memory, frames[:2])
    with memory.fork("left") as fork:
        store(fork, frames[2:3])
    store(memory, frames[3:4])
    memory.reclaim(keep=1)
    with pytest.raises(ConflictError, match="in common"):
        memory.merge("left")


@MOSTLY_IN_RAM
def test_merging_again_takes_only_what_is_new(memory: SpatialMemory, frames: list[Frame]) -> None:
    store(memory, frames[:2])
    with memory.fork("left") as fork:
        store(fork, frames[2:3])
        assert memory.merge("left") == {2: 2}
        store(fork, frames[3:4])
        assert memory.merge("left") == {3: 3}
    assert memory.merge("left") == {}
    memory.remove(3)
    assert memory.merge("left") == {}  # what was removed after a merge stays removed
    assert list(memory.keyframes) == [0, 1, 2]


@MOSTLY_IN_RAM
def test_branches_that_parted_when_empty_merge_again(
    memory: SpatialMemory, frames: list[Frame]
) -> None:
    with memory.fork("left") as fork:
        store(fork, frames[:2])
        assert memory.merge("left") == {0: 0, 1: 1}
        assert memory.merge("left") == {}
        memory.commit("merged")
        store(fork, frames[2:3])
        store(memory, frames[4:5])
        assert memory.merge("left") == {2: 3}
        memory.commit("merged")
        assert fork.merge("main") == {2: 3}
        assert [fork.keyframes[id].time for id in fork.keyframes] == [0.0, 1.0, 2.0, 4.0]


@MOSTLY_IN_RAM
def test_tags_and_branches_are_apart(memory: SpatialMemory, frames: list[Frame]) -> None:
    store(memory, frames[:1])
    memory.tag("main")
    memory.fork("left").close()
    store(memory, frames[1:2])
    memory.tag("left")
    assert (list(memory.tags()), memory.branches()) == (["left", "main"], ["left", "main"])
    for given, count in (
        ({"tag": "left"}, 2),
        ({"branch": "left"}, 1),
        ({"tag": "main"}, 1),
        ({"branch": "main"}, 2),
        ({"snapshot": memory.snapshots()[1]}, 1),
        ({"snapshot": memory.snapshots()[0].id}, 2),
    ):
        with memory.at(**given) as then:
            assert len(then.keyframes) == count
    store(memory, frames[2:3])
    memory.rollback(tag="left")
    assert len(memory.keyframes) == 2
    memory.drop(tag="main")
    memory.drop(branch="left")
    assert (list(memory.tags()), memory.branches()) == (["left"], ["main"])
    for call in (
        lambda: memory.drop(branch="left"),
        lambda: memory.drop(tag="main"),
        lambda: memory.at(tag="main"),
        lambda: memory.at("main"),
        lambda: memory.merge("left"),
        lambda: memory.rollback(tag="main"),
    ):
        with pytest.raises(SnapshotNotFoundError):
            call()
    for call in (
        lambda: memory.drop(),
        lambda: memory.drop(tag="left", branch="left"),
        lambda: memory.drop(branch="main"),
        lambda: memory.at(tag="left", branch="main"),
        lambda: memory.merge(),
        lambda: memory.merge("main", tag="left"),
        lambda: memory.rollback(1, tag="left"),
        lambda: memory.rollback("left"),
    ):
        with pytest.raises(InputError):
            call()


def test_reclaiming(memory: SpatialMemory, path: Path | None, frames: list[Frame]) -> None:
    snapshots = [store(memory, frames[n : n + 1]) for n in range(4)]
    memory.tag("kept")
    memory.remove([0, 1, 2])
    memory.commit("three gone")
    after = answers(memory, frames)
    if path is not None:
        fork = memory.fork("open")
        with pytest.raises(StoreError, match="fork"):
            memory.reclaim(keep=1)
        fork.close()
        memory.drop(branch="open")
    memory.drop(tag="kept")
    freed = memory.reclaim(keep=1)
    assert freed > 0 or path is None
    assert len(memory.snapshots()) == 1
    assert same(answers(memory, frames), after)
    with pytest.raises(StoreError):
        memory.at(snapshots[0])


def test_two_writers_of_one_branch(tmp_path: Path, frames: list[Frame]) -> None:
    path = tmp_path / "walk.spmem"
    first = spmem.open(path, config=EVERY)
    store(first, frames[:1])
    second = spmem.open(path)
    store(first, frames[1:3])
    for frame in frames[3:6]:
        second.store(frame)
    held = answers(second, frames)
    with pytest.raises(ConflictError, match="fork"):
        second.commit("refused")
    with second.fork("second") as saved:
        assert same(answers(saved, frames), held)
        assert saved.commit("saved") is not None
    with spmem.open(path, branch="second") as saved:
        assert same(answers(saved, frames), held)
    assert first.merge("second") == {1: 3, 2: 4, 3: 5}
    first.close()


def test_what_goes_wrong_in_the_background_is_told(
    tmp_path: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spmem.stores.keyframes.zarr import record

    memory = spmem.open(tmp_path / "walk.spmem", config=EVERY)
    store(memory, frames[:1])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(record, "encode", full)
        memory.store(frames[1])
        with pytest.raises(OSError, match=r"keyframe 1 .*space"):
            memory.flush()
    assert list(memory.keyframes) == list(memory.views.ids) == [0, 1]
    assert memory.store(frames[2]) == 2
    memory.close()
    with spmem.open(tmp_path / "walk.spmem", mode="r") as again:
        assert list(again.keyframes) == list(again.views.ids) == [0, 1, 2]


def test_automatic_commits_are_made_in_the_background(tmp_path: Path, frames: list[Frame]) -> None:
    config = MemoryConfig(keyframes=KeyframeConfig(novelty=0.0, commit_every=2))
    memory = spmem.open(tmp_path / "walk.spmem", config=config)
    for frame in frames[:5]:
        memory.store(frame)
    memory.flush()
    with spmem.open(tmp_path / "walk.spmem", mode="r") as reader:
        assert list(reader.keyframes) == [0, 1, 2, 3]
        assert len(reader.snapshots()) == 2
    memory.close()
