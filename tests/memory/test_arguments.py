"""What a memory's own calls are given: refused with a word on what was wanted, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import spmem
from spmem import SpatialMemory, Where
from spmem.errors import InputError, SpmemError
from spmem.testing.box import BoxRoom

ROOM = BoxRoom()
WAY = ROOM.walk(3, width=64, height=48, sweep=1.0)
FRAMES = ROOM.frames(WAY)
HUGE = 2**70
POSE = WAY.c2w[0]

CALLS: dict[str, Callable[[SpatialMemory], Any]] = {
    "retrieve k None": lambda m: m.retrieve(WAY, k=None),  # type: ignore[arg-type]
    "retrieve k 1.5": lambda m: m.retrieve(WAY, k=1.5),  # type: ignore[arg-type]
    "retrieve k infinite": lambda m: m.retrieve(WAY, k=float("inf")),  # type: ignore[arg-type]
    "retrieve k huge": lambda m: m.retrieve(WAY, k=HUGE),
    "retrieve k text": lambda m: m.retrieve(WAY, k="4"),  # type: ignore[arg-type]
    "find k None": lambda m: m.find(image=FRAMES[0], k=None),  # type: ignore[arg-type]
    "method 5": lambda m: m.retrieve(WAY, method=5),  # type: ignore[arg-type]
    "method is a list": lambda m: m.retrieve(WAY, method=["recent"]),  # type: ignore[arg-type]
    "time is text": lambda m: m.retrieve(WAY, time="now"),  # type: ignore[arg-type]
    "time NaN": lambda m: m.retrieve(WAY, time=float("nan")),
    "seed is text": lambda m: m.retrieve(WAY, seed="x", method="random"),  # type: ignore[arg-type]
    "where is a dict": lambda m: m.retrieve(WAY, where={"time": (0, 1)}),  # type: ignore[arg-type]
    "given is a frame": lambda m: m.retrieve(WAY, given=FRAMES[0]),  # type: ignore[arg-type]
    "given is a number": lambda m: m.retrieve(WAY, given=[3]),  # type: ignore[list-item]
    "exclude huge": lambda m: m.retrieve(WAY, where=Where(exclude=[HUGE])),
    "exclude is text": lambda m: m.retrieve(WAY, where=Where(exclude="ab")),  # type: ignore[arg-type]
    "where.time 5": lambda m: Where(time=5),  # type: ignore[arg-type]
    "where.time NaN": lambda m: Where(time=(float("nan"), None)),
    "where.time of words": lambda m: Where(time=("a", "b")),  # type: ignore[arg-type]
    "where.region 5": lambda m: Where(region=5),  # type: ignore[arg-type]
    "remove huge": lambda m: m.remove(HUGE),
    "remove None": lambda m: m.remove(None),  # type: ignore[arg-type]
    "remove text": lambda m: m.remove("all"),  # type: ignore[arg-type]
    "remove 0.5": lambda m: m.remove([0.5]),  # type: ignore[list-item]
    "forget huge": lambda m: m.forget(keyframes=HUGE),
    "forget time 5": lambda m: m.forget(time=5),  # type: ignore[arg-type]
    "forget time 0": lambda m: m.forget(time=0),  # type: ignore[arg-type]
    "forget region 5": lambda m: m.forget(region=5),  # type: ignore[arg-type]
    "poses huge": lambda m: m.update_poses({HUGE: POSE}),
    "poses of words": lambda m: m.update_poses({"a": POSE}),  # type: ignore[dict-item]
    "pose None": lambda m: m.update_poses({0: None}),
    "a keyframe huge": lambda m: m.keyframes[HUGE],
    "a keyframe by text": lambda m: m.keyframes["0"],  # type: ignore[index]
    "frames huge": lambda m: m.keyframes.frames([HUGE]),
    "reclaim 1.5": lambda m: m.reclaim(1.5),  # type: ignore[arg-type]
    "reclaim text": lambda m: m.reclaim("1"),  # type: ignore[arg-type]
    "rollback 1.5": lambda m: m.rollback(1.5),  # type: ignore[arg-type]
    "rollback text": lambda m: m.rollback("1"),  # type: ignore[arg-type]
    "at 5": lambda m: m.at(5),  # type: ignore[arg-type]
    "at a time that is text": lambda m: m.at(time="x"),  # type: ignore[arg-type]
    "fork 5": lambda m: m.fork(5),  # type: ignore[arg-type]
    "commit 5": lambda m: m.commit(5),  # type: ignore[arg-type]
    "commit NUL": lambda m: m.commit("a\0b"),
    "tag None": lambda m: m.tag(None),  # type: ignore[arg-type]
    "drop 5": lambda m: m.drop(branch=5),  # type: ignore[arg-type]
    "merge 5": lambda m: m.merge(5),  # type: ignore[arg-type]
    "store None": lambda m: m.store(None),  # type: ignore[arg-type]
    "cameras None": lambda m: m.retrieve(None),  # type: ignore[arg-type]
    "find a camera that is text": lambda m: m.find(camera="x"),  # type: ignore[arg-type]
    "find an image that is text": lambda m: m.find(image="x"),
}  # fmt: skip


def refused(call: Callable[[SpatialMemory], Any], memory: SpatialMemory) -> bool:
    """Whether the call is refused by an error of ours."""
    try:
        call(memory)
    except SpmemError as error:
        return bool(str(error))
    except Exception as error:
        print(type(error).__name__, error)
    return False


@pytest.mark.parametrize("durable", [False, True], ids=["ram", "disk"])
def test_senseless_arguments_are_refused_and_nothing_changes(tmp_path: Any, durable: bool) -> None:
    memory = spmem.open(tmp_path / "m.spmem" if durable else None)
    for frame in FRAMES:
        memory.store(frame)
    memory.commit()
    before = [list(memory.keyframes), memory.retrieve(WAY).projection.depth, memory.branches(), memory.tags()]  # fmt: skip
    assert [name for name, call in CALLS.items() if not refused(call, memory)] == []
    after = [list(memory.keyframes), memory.retrieve(WAY).projection.depth, memory.branches(), memory.tags()]  # fmt: skip
    assert before[0] == after[0]
    assert torch.equal(before[1], after[1])  # type: ignore[arg-type]
    assert before[2:] == after[2:]
    memory.close()


def test_ids_come_as_numbers_of_any_kind() -> None:
    for ids in (0, np.int64(0), torch.tensor(0), [0], {0}, (id for id in [0]), np.array([0]), torch.tensor([0])):  # fmt: skip
        memory = spmem.open()
        memory.store(FRAMES[0])
        memory.remove(ids)  # type: ignore[arg-type]
        assert not memory.keyframes


def test_where_keeps_the_ids_that_it_excludes() -> None:
    memory = spmem.open()
    for frame in FRAMES:
        memory.store(frame)
    where = Where(exclude=(id for id in (0, 999)))  # type: ignore[arg-type]
    for _ in range(2):
        assert 0 not in [one.id for one in memory.retrieve(WAY, where=where).keyframes]
    assert where.exclude == (0, 999)


def test_k_may_be_a_whole_float() -> None:
    memory = spmem.open()
    memory.store(FRAMES[0])
    assert len(memory.retrieve(WAY, k=1.0).keyframes) == 1  # type: ignore[arg-type]
    with pytest.raises(InputError, match="k must be an integer >= 0, got None"):
        memory.retrieve(WAY, k=None)  # type: ignore[arg-type]
