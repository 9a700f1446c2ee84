"""Memories, retrievals and errors that travel between processes, and readers that see new commits."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

import spmem
from spmem import errors
from spmem.testing.box import BoxRoom

ROOM = BoxRoom()
WALK = ROOM.walk(8, width=64, height=48)
FRAMES = ROOM.frames(WALK)
ALL = spmem.MemoryConfig(keyframes=spmem.KeyframeConfig(novelty=0))


def travelled(thing):
    return pickle.loads(pickle.dumps(thing))


def written(path: Path, frames=FRAMES[:4]) -> Path:
    with spmem.open(path, config=ALL) as memory:
        for frame in frames:
            memory.store(frame)
    return path


def same(a: spmem.Retrieval, b: spmem.Retrieval) -> None:
    assert [one.id for one in a.keyframes] == [one.id for one in b.keyframes]
    assert torch.equal(a.scores, b.scores)
    for name in ("rgb", "depth", "normal", "mask", "surfel_ids"):
        assert torch.equal(getattr(a.projection, name), getattr(b.projection, name))
    for ours, theirs in zip(a.frames(), b.frames(), strict=True):
        assert torch.equal(ours.rgb, theirs.rgb)
        assert torch.equal(ours.depth, theirs.depth)
        assert torch.equal(ours.camera.c2w, theirs.camera.c2w)
    assert a.explain() == b.explain()


def test_a_reader_travels_as_its_address_and_answers_the_same(tmp_path):
    memory = spmem.open(written(tmp_path / "m"), mode="r")
    content = pickle.dumps(memory)
    assert len(content) < 4096  # an address, no pixels
    same(pickle.loads(content).retrieve(WALK), memory.retrieve(WALK))


def test_a_reader_opens_at_its_own_commit_though_the_branch_went_on(tmp_path):
    memory = spmem.open(written(tmp_path / "m"), mode="r")
    content = pickle.dumps(memory)
    written(tmp_path / "m", FRAMES[4:])
    arrived = pickle.loads(content)
    same(arrived.retrieve(WALK), memory.retrieve(WALK))
    assert arrived.refresh()
    assert len(arrived.keyframes) == 8


def test_a_memory_at_a_snapshot_or_on_a_branch_travels(tmp_path):
    with spmem.open(written(tmp_path / "m")) as memory:
        with memory.fork("other") as other:
            other.store(FRAMES[5])
        first = memory.snapshots()[-1]
        memory.store(FRAMES[4])
        memory.commit()
        assert len(travelled(memory.at(first)).keyframes) == len(memory.at(first).keyframes)
    other = travelled(spmem.open(tmp_path / "m", mode="r", branch="other"))
    assert (other.branch, len(other.keyframes)) == ("other", 5)


@pytest.mark.parametrize("path", [None, "m"])
def test_a_memory_that_cannot_travel_says_what_to_do(tmp_path, path):
    with (
        spmem.open(path and tmp_path / path) as memory,
        pytest.raises(errors.StoreError, match=r'mode="r"'),
    ):
        pickle.dumps(memory)


def test_a_snapshot_in_ram_says_that_it_stays_in_its_process():
    memory = spmem.open(config=ALL)
    memory.store(FRAMES[0])
    memory.commit()
    with pytest.raises(errors.StoreError, match="RAM"):
        pickle.dumps(memory.at(memory.snapshots()[0]))


@pytest.mark.parametrize("path", [None, "m"])
def test_a_retrieval_travels_whole(tmp_path, path):
    with spmem.open(path and tmp_path / path, config=ALL) as memory:
        for frame in FRAMES[:4]:
            memory.store(frame)
        context = memory.retrieve(WALK, k=3)
        content = pickle.dumps(context)
        one = travelled(context.keyframes[0])
    # The memory is closed: nothing is read from it any more.
    assert one.id == context.keyframes[0].id
    assert one.frame.rgb.shape == (48, 64, 3)
    arrived = pickle.loads(content)
    with pytest.raises(errors.SpmemError):
        context.frames()
    assert len(arrived.frames()) == len(arrived.keyframes) == 3
    assert [one.id for one in arrived.explain()] == [one.id for one in arrived.keyframes]
    arrived.keyframes[0].frame.rgb.zero_()  # a copy, as from every memory
    assert arrived.keyframes[0].frame.rgb.any()


def test_a_retrieval_that_travelled_is_the_same(tmp_path):
    with spmem.open(tmp_path / "m", config=ALL) as memory:
        for frame in FRAMES[:4]:
            memory.store(frame)
        context = memory.retrieve(WALK, k=3)
        same(travelled(context), context)


@pytest.mark.parametrize(
    "error",
    [
        errors.UnknownNameError("rule", "covisibilty", ["covisibility"]),
        errors.MissingExtraError("faiss", "faiss", "the index"),
        errors.FormatError("poses.txt", "has no lines"),
        errors.KeyframeNotFoundError("no keyframe 7"),
        errors.ConflictError("somebody committed"),
        errors.DTypeError("integers"),
    ],
)
def test_errors_travel(error):
    arrived = travelled(error)
    assert (type(arrived), str(arrived)) == (type(error), str(error))
    assert vars(arrived) == vars(error)


def test_a_reader_sees_new_commits_once_it_is_refreshed(tmp_path):
    reader = spmem.open(written(tmp_path / "m"), mode="r")
    before = reader.retrieve(WALK)
    assert reader.refresh() is False
    written(tmp_path / "m", FRAMES[4:])
    assert len(reader.keyframes) == 4
    assert reader.refresh() is True
    assert len(reader.keyframes) == 8
    same(reader.retrieve(WALK), spmem.open(tmp_path / "m", mode="r").retrieve(WALK))
    assert len(before.frames()) == len(before.keyframes)  # what was handed out is read as before
    assert reader.refresh() is False


def test_only_readers_of_a_branch_are_refreshed(tmp_path):
    with spmem.open(written(tmp_path / "m")) as writer:
        with pytest.raises(errors.StoreError, match="for writing"):
            writer.refresh()
        with pytest.raises(errors.StoreError, match="snapshot"):
            writer.at(writer.snapshots()[0]).refresh()
    with spmem.open() as memory, pytest.raises(errors.StoreError, match="on disk"):
        memory.refresh()
