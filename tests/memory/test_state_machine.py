"""Any order of calls: a memory, in RAM and on disk, does what a model in plain Python says."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import spmem
from spmem import (
    Camera,
    Frame,
    KeyframeConfig,
    MemoryConfig,
    RetentionConfig,
    RetrievalConfig,
    SpatialMemory,
)
from spmem.errors import (
    ConflictError,
    InputError,
    SnapshotNotFoundError,
    StoreError,
)
from spmem.query import Query, Selection
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.box import BoxRoom
from spmem.verification import flaws
from spmem.views import Views

SIZES = ((24, 16), (24, 15), (26, 17))
BOX = ((-0.4, -0.4, -0.4), (0.4, 0.4, 0.4))
NAMES = ("left", "right", "main")
"""Of branches and of tags: one name may be both."""


@dataclass(frozen=True)
class Kept:
    """What is known of a keyframe: who it is on every branch, and what reading it gives."""

    identity: int
    time: float
    pose: bytes
    pixels: tuple[tuple[str, str], ...]

    @property
    def seen(self) -> tuple[float, bytes, tuple[tuple[str, str], ...]]:
        """All but the identity, which a memory does not show."""
        return self.time, self.pose, self.pixels


State = dict[int, Kept]
"""Keyframes by id."""


@dataclass
class Line:
    """A branch: what is in it now, the states that it may be in after a crash, and whom merges brought."""

    now: State = field(default_factory=dict)
    past: list[State] = field(default_factory=lambda: [{}])
    merged: set[int] = field(default_factory=set)

    def changed(self) -> None:
        self.past.append(dict(self.now))

    def committed(self) -> None:
        self.past = [dict(self.now)]


def digest(tensor: torch.Tensor) -> str:
    return sha256(tensor.numpy().tobytes()).hexdigest()[:12]


def pixels(frame: Frame) -> tuple[tuple[str, str], ...]:
    return tuple((name, digest(part)) for name, part in sorted(frame.tensors().items()))


def read(memory: SpatialMemory) -> dict[int, tuple[Any, ...]]:
    """All keyframes, as :attr:`Kept.seen` has them."""
    ids = list(memory.keyframes)
    frames = memory.keyframes.frames(ids)
    return {id: (memory.keyframes[id].time, frame.camera.c2w.numpy().tobytes(), pixels(frame)) for id, frame in zip(ids, frames, strict=True)}  # fmt: skip


def shown(state: State) -> dict[int, tuple[Any, ...]]:
    return {id: kept.seen for id, kept in state.items()}


@cache
def walk(width: int, height: int) -> list[Frame]:
    room = BoxRoom()
    return room.frames(room.walk(8, width=width, height=height), time=0.0)


class MemoryMachine(RuleBasedStateMachine):
    """Calls that a memory in RAM has, too."""

    path: Path | None = None

    @initialize(
        size=st.sampled_from(SIZES),
        commit_every=st.sampled_from([0, 0, 1, 3]),
        novelty=st.sampled_from([0.0, 0.0, 0.0, 0.05]),
        recent=st.sampled_from([0, 1, 3]),
        reach=st.sampled_from([1.0, None]),
        method=st.sampled_from(["covisibility", "covisibility", "surfel-votes", "set-cover"]),
        budget=st.sampled_from([None, None, None, 4]),
        policy=st.sampled_from(["coverage", "recency", "uniform"]),
        features=st.booleans(),
        first=st.sampled_from([4, 3, 2, 0]),
    )
    def begin(
        self,
        size: tuple[int, int],
        commit_every: int,
        novelty: float,
        recent: int,
        reach: float | None,
        method: str,
        budget: int | None,
        policy: str,
        features: bool,
        first: int,
    ) -> None:
        self.frames, self.features = walk(*size), features
        self.cameras = Camera.stack([self.frames[n].camera for n in (1, 4)])
        self.budget, self.novelty = budget, novelty
        self.config = MemoryConfig(
            recent=recent,
            check_poses=False,
            keyframes=KeyframeConfig(novelty=novelty, commit_every=commit_every),
            retrieval=RetrievalConfig(method=method, reach=reach),
            retention=RetentionConfig(budget=budget, policy=policy),
        )
        self.count = 0
        self.identities: dict[tuple[float, Any], int] = {}
        self.lines = {"main": Line()}
        self.known: dict[str, tuple[Any, Any]] = {}  # of snapshots: state and answer
        self.tags: dict[str, str] = {}
        self.used_tags: set[str] = set()
        self.memories = {"main": spmem.open(self.path, config=self.config)}
        self.branch = "main"
        self.store_some(0, first)

    def teardown(self) -> None:
        for memory in getattr(self, "memories", {}).values():
            with suppress(StoreError):
                memory.close()

    # -- what is looked at --------------------------------------------------------------------------

    @property
    def memory(self) -> SpatialMemory:
        return self.memories[self.branch]

    @property
    def line(self) -> Line:
        return self.lines[self.branch]

    def others(self) -> list[str]:
        return sorted(set(self.lines) - {self.branch})

    def open(self, branch: str) -> SpatialMemory:
        return spmem.open(self.path, branch=branch)

    def answer(self, memory: SpatialMemory, k: int = 3) -> Any:
        """All that retrieve says, to be compared."""
        found = memory.retrieve(self.cameras, k=k)
        drawn = found.projection
        parts = (drawn.rgb, drawn.depth, drawn.normal, drawn.mask, found.scores)
        recent = [(frame.time, frame.camera.c2w.numpy().tobytes(), digest(frame.rgb_uint8())) for frame in found.recent]  # fmt: skip
        return (
            [one.id for one in found.keyframes],
            [digest(part) for part in parts],
            recent,
        )

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "memories"):
            return
        memory = self.memory
        assert read(memory) == shown(self.line.now)
        assert memory.views.ids.tolist() == list(self.line.now)
        _, seen = memory.geometry.observers(memory.geometry.ids())
        assert set(seen.tolist()) <= set(self.line.now)
        assert sorted(memory.branches()) == sorted(self.lines)
        assert memory.tags() == self.tags

    def note(self, snapshot: str) -> None:
        """Remember what a snapshot holds; it may never change."""
        with self.memory.at(snapshot) as then:
            found = read(then), self.answer(then)
        assert self.known.setdefault(snapshot, found) == found

    def whole_commit(self, branch: str | None = None) -> None:
        """Everything of the branch is in its last commit."""
        self.lines[branch or self.branch].committed()

    # -- store and look -----------------------------------------------------------------------------

    @rule(
        n=st.integers(0, 7),
        backwards=st.booleans(),
        noise=st.booleans(),
        latent=st.booleans(),
        confidence=st.booleans(),
    )
    def store(
        self,
        n: int,
        backwards: bool,
        noise: bool = True,
        latent: bool = True,
        confidence: bool = True,
    ) -> None:
        self.count += 1
        frame = self.frames[n % len(self.frames)]
        draw = torch.Generator().manual_seed(self.count)
        parts: dict[str, Any] = {"time": float(-self.count if backwards else self.count)}
        if noise:
            parts["rgb"] = torch.randint(0, 255, frame.rgb.shape, generator=draw).to(torch.uint8)
        if latent:
            parts["latent"] = torch.randn(2, 3, generator=draw).half()
        if confidence:
            parts["confidence"] = torch.rand(frame.rgb.shape[:2], generator=draw).round()
        if self.features:
            parts["features"] = torch.rand(*frame.rgb.shape[:2], 2, generator=draw)
        frame = frame.replace(**parts)
        id = self.memory.store(frame)
        if id is None:
            assert self.novelty > 0 or self.budget is not None
        assert id not in self.line.now
        self.keep({} if id is None else {id: self.count}, frame.time)

    @rule(n=st.integers(0, 7), times=st.integers(2, 4))
    def store_some(self, n: int, times: int) -> None:
        for more in range(times):
            self.store(n + more, False, False, False, more % 2 == 1)

    @rule()
    def ask_a_rule_that_fails(self) -> None:
        with pytest.raises(ZeroDivisionError):
            self.memory.retrieve(self.cameras, method=Failing())

    def keep(self, new: dict[int, int], time: float | None = None) -> None:
        """Take in keyframes by id and identity, as they are read; a budget may have dropped some, and others."""
        found, now = read(self.memory), self.line.now
        for id, identity in new.items():
            if id in found:
                assert time in (None, found[id][0])
                self.take_in(id, found[id], identity)
        if self.budget is not None:
            assert len(found) <= self.budget
            for id in set(now) - set(found):
                del now[id]
        self.line.changed()

    @rule(k=st.sampled_from([0, 1, 50]))
    def retrieve(self, k: int) -> None:
        first = self.answer(self.memory, k)
        assert first == self.answer(self.memory, k)
        assert len(first[0]) <= k
        assert set(first[0]) <= set(self.line.now)

    @rule(n=st.integers(0, 7), image=st.booleans())
    def find(self, n: int, image: bool) -> None:
        asked = {"image": self.frames[n].rgb} if image else {"camera": self.frames[n].camera}
        found = self.memory.find(**asked)
        assert {one.keyframe.id for one in found} <= set(self.line.now)
        if image:
            assert len(found) == min(8, len(self.line.now))

    # -- corrections --------------------------------------------------------------------------------

    def some(self, data: st.DataObject, most: int = 2) -> list[int]:
        ids = sorted(self.line.now)
        return data.draw(st.lists(st.sampled_from(ids), unique=True, max_size=most)) if ids else []

    @rule(data=st.data(), step=st.sampled_from([0.0, 0.03, -0.2]))
    def update_poses(self, data: st.DataObject, step: float) -> None:
        poses = {}
        for id in self.some(data):
            poses[id] = self.memory.keyframes[id].camera.c2w.clone()
            poses[id][0, 3] += step
        self.memory.update_poses(poses)
        for id, pose in poses.items():
            self.line.now[id] = replace(self.line.now[id], pose=pose.numpy().tobytes())
        self.line.changed()

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        ids = self.some(data)
        self.memory.remove(ids)
        for id in ids:
            del self.line.now[id]
        self.line.changed()

    @rule()
    def rebuild(self) -> None:
        self.memory.rebuild()
        self.line.changed()

    @rule(data=st.data(), history=st.booleans(), span=st.booleans())
    def forget(self, data: st.DataObject, history: bool, span: bool) -> None:
        ids, time = self.some(data), None
        if span:
            start = data.draw(st.integers(-self.count, self.count))
            time = (float(start), float(start + 1))
        if not ids and time is None:
            return
        history = history and self.can_be_alone()
        gone = {self.line.now[id].identity for id in ids}
        with self.alone(history):
            self.memory.forget(keyframes=ids, time=time, history=history)
        for line in self.lines.values() if history else [self.line]:
            line.now = {
                id: kept
                for id, kept in line.now.items()
                if kept.identity not in gone
                and not (time is not None and time[0] <= kept.time <= time[1])
            }
            line.committed()
        self.forgotten(history)

    @rule(history=st.booleans())
    def forget_a_region(self, history: bool) -> None:
        history = history and self.can_be_alone()
        with self.alone(history):
            self.memory.forget(region=BOX, history=history)
        for branch in self.lines if history else [self.branch]:
            memory, line = self.memories[branch], self.lines[branch]
            found = read(memory)
            left = {id: kept for id, kept in line.now.items() if id in found}
            again = [kept for id, kept in line.now.items() if id not in found]
            assert len(found) == len(line.now)
            new = [id for id in found if id not in line.now]
            line.now = left | {
                id: Kept(kept.identity, *found[id]) for id, kept in zip(new, again, strict=True)
            }
            for id in new:
                self.identities[found[id][0], found[id][2]] = line.now[id].identity
            for id in found:
                frame = memory.keyframes[id].frame
                assert frame.depth is not None
                points = frame.camera.unproject(frame.depth)[frame.depth > 0]
                low, high = (torch.tensor(corner) + 1e-4 * side for corner, side in zip(BOX, (1, -1), strict=True))  # fmt: skip
                assert not bool(((points > low) & (points < high)).all(-1).any())
            line.committed()
        self.forgotten(history)

    def can_be_alone(self) -> bool:
        return self.path is not None or self.branch == "main"

    def alone(self, needed: bool = True) -> Alone:
        return Alone(self, needed)

    def forgotten(self, history: bool) -> None:
        if history:
            self.tags, self.known = {}, {}
            assert len(self.memory.snapshots()) <= 2

    # -- commits and branches -----------------------------------------------------------------------

    @rule()
    def commit(self) -> None:
        snapshot = self.memory.commit()
        if snapshot is not None:
            assert self.memory.snapshots()[0].id == snapshot
            self.note(snapshot)
            assert self.known[snapshot][0] == shown(self.line.now)
        self.whole_commit()
        assert self.memory.commit() is None

    @rule()
    def flush(self) -> None:
        self.memory.flush()

    @rule(data=st.data())
    def at_a_snapshot(self, data: st.DataObject) -> None:
        snapshots = self.memory.snapshots()
        assert len({one.id for one in snapshots}) == len(snapshots)
        if snapshots:
            one = data.draw(st.sampled_from(snapshots))
            self.note(one.id)
            assert len(self.known[one.id][0]) == one.keyframes

    @rule(data=st.data())
    def at_a_tag(self, data: st.DataObject) -> None:
        if self.tags:
            name = data.draw(st.sampled_from(sorted(self.tags)))
            with self.memory.at(tag=name) as then:
                assert (read(then), self.answer(then)) == self.known[self.tags[name]]
        with pytest.raises(SnapshotNotFoundError):
            self.memory.at(tag="nobody")

    @rule(time=st.integers(-5, 20))
    def at_a_time(self, time: int) -> None:
        with suppress(SnapshotNotFoundError), self.memory.at(time=time) as then:
            assert all(one.time <= time for one in then.keyframes.values())

    @rule(data=st.data())
    def at_a_branch(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.lines)))
        self.memories[name].commit()
        self.whole_commit(name)
        with self.memory.at(branch=name) as then:
            assert read(then) == shown(self.lines[name].now)

    @rule(data=st.data(), way=st.sampled_from(["steps", "snapshot", "tag"]))
    def rollback(self, data: st.DataObject, way: str) -> None:
        snapshots = self.memory.snapshots()
        mine = {one.id for one in snapshots}
        if way == "tag":
            for name, tagged in self.tags.items():
                if tagged not in mine:
                    with pytest.raises(SnapshotNotFoundError):
                        self.memory.rollback(tag=name)
        choices = (
            sorted(name for name, tagged in self.tags.items() if tagged in mine)
            if way == "tag"
            else range(min(len(snapshots), 4))
        )
        if not choices:
            return
        chosen: Any = data.draw(st.sampled_from(choices))
        id = self.tags[chosen] if way == "tag" else snapshots[chosen].id
        self.note(id)
        if way == "steps":
            self.memory.rollback(chosen)
        else:
            self.memory.rollback(**{way: chosen if way == "tag" else snapshots[chosen]})
        state, answer = self.known[id]
        assert self.memory.snapshots()[0].id == id
        assert self.answer(self.memory) == answer
        self.line.now = {
            id: Kept(self.identities[seen[0], seen[2]], *seen) for id, seen in state.items()
        }
        self.whole_commit()

    def take_in(self, id: int, seen: tuple[Any, ...], identity: int) -> None:
        """A keyframe as it is read: time and pixels are its own, whatever its id and its pose become."""
        self.identities[seen[0], seen[2]] = identity
        self.line.now[id] = Kept(identity, *seen)

    @rule(name=st.sampled_from(NAMES))
    def fork(self, name: str) -> None:
        if name in self.lines:
            with pytest.raises(InputError):
                self.memory.fork(name)
            return
        forked = self.memory.fork(name)
        self.memories[name] = forked
        self.lines[name] = Line(dict(self.line.now), [*self.line.past], set(self.line.merged))
        assert self.answer(forked) == self.answer(self.memory)

    @rule(data=st.data())
    def switch(self, data: st.DataObject) -> None:
        self.branch = data.draw(st.sampled_from(sorted(self.lines)))

    @rule(data=st.data())
    def drop_a_branch(self, data: st.DataObject) -> None:
        for name in {self.branch, "main"}:
            with pytest.raises(InputError):
                self.memory.drop(branch=name)
        names = [name for name in self.others() if name != "main"]
        if names:
            name = data.draw(st.sampled_from(names))
            self.memories.pop(name).close()
            self.memory.drop(branch=name)
            del self.lines[name]

    @rule(name=st.sampled_from(NAMES))
    def tag(self, name: str) -> None:
        if name in self.used_tags:
            with pytest.raises(InputError):
                self.memory.tag(name)
            if name in self.tags:
                return
            self.whole_commit()  # the tag of a name that is gone is noticed after the commit
            return
        self.memory.tag(name)
        self.used_tags.add(name)
        self.tags[name] = self.memory.tags()[name]
        self.note(self.tags[name])
        self.whole_commit()
        assert self.known[self.tags[name]][0] == shown(self.line.now)

    @rule(data=st.data())
    def drop_a_tag(self, data: st.DataObject) -> None:
        with pytest.raises(SnapshotNotFoundError):
            self.memory.drop(tag="nobody")
        if self.tags:
            name = data.draw(st.sampled_from(sorted(self.tags)))
            self.memory.drop(tag=name)
            del self.tags[name]

    @precondition(lambda self: len(self.lines) > 1)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.others()))
        theirs = self.lines[name]
        self.memories[name].commit()
        self.whole_commit(name)
        before = shown(self.line.now)
        try:
            merged = self.memory.merge(name)
        except ConflictError:
            assert read(self.memory) == before
            return
        here = {kept.identity for kept in self.line.now.values()} | self.line.merged
        for there in merged:
            assert theirs.now[there].identity not in here
        found = read(self.memory)
        for there, new in merged.items():
            if new in found:
                assert found[new] == theirs.now[there].seen
        self.keep({new: theirs.now[there].identity for there, new in merged.items()})
        self.line.merged |= {theirs.now[there].identity for there in merged}
        assert self.memory.merge(name) == {}

    @rule(keep=st.sampled_from([None, 1, 2]))
    def reclaim(self, keep: int | None) -> None:
        with self.alone(self.path is not None):
            self.memory.reclaim(keep)
        self.whole_commit()
        if keep is not None:
            snapshots = self.memory.snapshots()
            assert len(snapshots) <= keep + 1
            stays = {one.id for one in snapshots} | set(self.tags.values())
            self.known = {id: found for id, found in self.known.items() if id in stays}


class Failing:
    """A rule that is shown views, and raises."""

    def observe(self, views: Views, rows: slice) -> None:
        pass

    def select(self, query: Query, views: Views, k: int) -> Selection:
        raise ZeroDivisionError("somebody's rule")


class Alone:
    """Closes the memories of other branches while one of them needs the place for itself."""

    def __init__(self, machine: MemoryMachine, needed: bool) -> None:
        self.machine, self.needed = machine, needed

    def __enter__(self) -> None:
        machine = self.machine
        for name in machine.others() if self.needed else ():
            machine.memories[name].close()
            machine.whole_commit(name)
            if machine.path is None:  # a branch in RAM ends with its memory
                machine.memory.drop(branch=name)
                del machine.memories[name], machine.lines[name]

    def __exit__(self, *error: object) -> None:
        for name in self.machine.others() if self.needed else ():
            self.machine.memories[name] = self.machine.open(name)


class DurableMachine(MemoryMachine):
    """What a memory on disk does besides: it is closed, it crashes, it is opened again, and others read it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spmem-machine-"))
        self.path = self.folder / "0"
        self.reader: SpatialMemory | None = None

    def teardown(self) -> None:
        self.stop_reading()
        super().teardown()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop_reading(self) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    @rule(every=st.booleans())
    def close_and_open(self, every: bool) -> None:
        for name in sorted(self.lines) if every else [self.branch]:
            before = self.answer(self.memories[name])
            self.memories[name].close()
            with pytest.raises(StoreError):
                self.memories[name].commit()
            self.memories[name].close()
            self.memories[name] = self.open(name)
            assert self.answer(self.memories[name]) == before
            self.whole_commit(name)

    @rule()
    def crash(self) -> None:
        """The folder as it is once the automatic commits so far are written."""
        self.stop_reading()
        config = None if self.memory.snapshots() else self.config  # which no commit holds yet
        for memory in self.memories.values():
            memory.flush()
        old, self.path = self.path, self.path.with_name(str(int(self.path.name) + 1))
        shutil.copytree(old, self.path)
        for memory in self.memories.values():
            memory.close()
        shutil.rmtree(old)
        for name, line in self.lines.items():
            self.memories[name] = spmem.open(self.path, branch=name, config=config)
            found = read(self.memories[name])
            states = [past for past in line.past if shown(past) == found]
            assert states, (name, found.keys(), [list(past) for past in line.past])
            line.now = dict(states[-1])
            line.committed()

    @rule()
    def verify(self) -> None:
        self.memory.commit()
        self.whole_commit()
        with closing(ZarrKeyframes.open(self.path, "r", branch=self.branch)) as bank:
            assert [flaw for flaw in flaws(bank) if flaw is not None] == []

    @rule()
    def read_elsewhere(self) -> None:
        """A reader shows its commit until it is told to go on."""
        if self.reader is None or self.reader.branch not in self.lines:
            self.stop_reading()
            self.reader = spmem.open(self.path, mode="r", branch=self.branch)
        name = self.reader.branch
        self.memories[name].flush()
        with self.memory.at(branch=name) as last:
            new = self.reader.refresh()
            assert read(self.reader) == read(last)
        assert not self.reader.refresh()
        assert isinstance(new, bool)


SOME = settings(
    max_examples=4, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
MANY = settings(SOME, max_examples=100, stateful_step_count=30)
MACHINES = [
    pytest.param(MemoryMachine, id="in RAM"),
    pytest.param(DurableMachine, id="on disk"),
]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_few_orders_of_calls(machine: type[MemoryMachine]) -> None:
    run_state_machine_as_test(machine, settings=SOME)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_many_orders_of_calls(machine: type[MemoryMachine]) -> None:
    run_state_machine_as_test(machine, settings=MANY)
