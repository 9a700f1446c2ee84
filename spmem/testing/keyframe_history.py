"""Conformance of keyframe stores with history: snapshots, branches, tags. Needs pytest."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from spmem.errors import InputError, ReadOnlyError, SnapshotNotFoundError, SpmemError
from spmem.protocols import VersionedStore
from spmem.testing.sample_frames import sample_frame
from spmem.testing.stored_frames import StoredFrameTests


class VersionedStoreTests(StoredFrameTests):
    """What every :class:`spmem.protocols.VersionedStore` does. A subclass gives the fixture ``store``: an empty one."""

    def test_it_has_the_shape_of_the_capability(self, store: VersionedStore) -> None:
        assert isinstance(store, VersionedStore)
        assert store.branch == "main"
        assert store.snapshots() == []
        assert list(store.branches()) == ["main"]
        assert store.tags() == {}

    def test_commits_are_snapshots_latest_first(self, store: VersionedStore) -> None:
        made = []
        for count in range(3):
            store.append(sample_frame(count))
            made.append(store.commit(f"with {count + 1}"))
        again = store.commit("nothing new")
        snapshots = store.snapshots()
        assert [s.id for s in snapshots] == [again, *reversed(made)]
        assert len(set(made) | {again}) == 4
        assert [s.message for s in snapshots] == ["nothing new", "with 3", "with 2", "with 1"]
        assert [s.keyframes for s in snapshots] == [3, 3, 2, 1]
        assert all(a.time >= b.time for a, b in pairwise(snapshots))

    def test_a_snapshot_stays_what_it_was(self, store: VersionedStore) -> None:
        ids = [store.append(sample_frame(n)) for n in range(3)]
        store.write_arrays("map", {"a": np.arange(5)}, {"n": 1})
        first = store.commit("first")
        before = [store.read(id) for id in ids]
        pose = sample_frame(9).camera.c2w.numpy()[None]
        store.move(np.array(ids[1:2]), pose)
        store.remove(np.array(ids[:1]))
        store.write_arrays("map", {"a": np.arange(7)}, {"n": 2})
        store.append(sample_frame(5))
        store.commit("second")
        assert first is not None
        then = store.at(first)
        assert then.ids().tolist() == ids
        for id, frame in zip(ids, before, strict=True):
            read = then.read(id)
            assert torch.equal(read.rgb, frame.rgb)
            assert torch.equal(read.camera.c2w, frame.camera.c2w)
        found = then.read_arrays("map")
        assert found is not None
        assert (found[0]["a"].tolist(), found[1]) == (list(range(5)), {"n": 1})
        assert [s.message for s in then.snapshots()] == ["first"]
        with pytest.raises(ReadOnlyError):
            then.append(sample_frame(0))
        with pytest.raises(ReadOnlyError):
            then.commit("no")
        for name in ("nothing-of-this-name", "main", 7, None):
            with pytest.raises(SnapshotNotFoundError):
                store.at(name)  # type: ignore[arg-type]

    def test_forks_go_on_apart(self, store: VersionedStore) -> None:
        kept = [store.append(sample_frame(n)) for n in range(20)]
        store.commit("kept")
        store.remove(np.array(kept[3:4]))
        store.move(np.array(kept[4:5]), sample_frame(8).camera.c2w.numpy()[None])
        store.write_arrays("map", {"a": np.arange(3)}, {})
        new = [store.append(sample_frame(n)) for n in range(20, 40)]
        fork = store.fork("left")
        assert (store.branch, fork.branch) == ("main", "left")
        assert list(store.branches()) == ["left", "main"]
        assert fork.ids().tolist() == store.ids().tolist()
        for id in store.ids()[::5].tolist():
            here, there = store.read(id), fork.read(id)
            assert torch.equal(here.rgb, there.rgb)
            assert torch.equal(here.camera.c2w, there.camera.c2w)
        a, b = store.append(sample_frame(41)), fork.append(sample_frame(42))
        fork.remove(np.array(new[:1]))
        fork.commit("on the fork")
        store.commit("here")
        assert a == b == new[-1] + 1
        self.check_same(store.read(a), sample_frame(41))
        self.check_same(fork.read(b), sample_frame(42))
        self.check_same(store.read(new[0]), sample_frame(20))
        assert new[0] not in fork.ids()
        found = fork.read_arrays("map")
        assert found is not None
        assert found[0]["a"].tolist() == [0, 1, 2]
        assert [s.message for s in fork.snapshots()] == ["on the fork", "kept"]
        assert [s.message for s in store.snapshots()] == ["here", "kept"]
        for name in ("left", "main", "no/path", "..", ""):
            with pytest.raises(InputError):
                store.fork(name)
        fork.close()

    def test_rolling_back(self, store: VersionedStore) -> None:
        ids = [store.append(sample_frame(n)) for n in range(2)]
        one = store.commit("one")
        store.move(np.array(ids[:1]), sample_frame(7).camera.c2w.numpy()[None])
        store.append(sample_frame(2))
        two = store.commit("two")
        store.append(sample_frame(3))
        assert one is not None
        assert two is not None
        store.rollback(one)
        assert store.ids().tolist() == ids
        self.check_same(store.read(ids[0]), sample_frame(0))
        with pytest.raises(SnapshotNotFoundError):
            store.rollback(two)
        self.check_same(store.read(store.append(sample_frame(4))), sample_frame(4))
        store.commit("another two")
        assert [s.message for s in store.snapshots()] == ["another two", "one"]

    def test_tags_name_snapshots(self, store: VersionedStore) -> None:
        store.append(sample_frame(0))
        one = store.commit("one")
        store.tag("start")
        store.append(sample_frame(1))
        store.commit("two")
        assert store.tags() == {"start": one}
        assert len(store.at(store.tags()["start"])) == 1
        for name in ("start", "a b", "../up"):
            with pytest.raises(InputError):
                store.tag(name)
        store.drop_tag("start")
        assert store.tags() == {}
        for name in ("start", "main"):
            with pytest.raises(SnapshotNotFoundError):
                store.drop_tag(name)

    def test_tags_and_branches_are_apart(self, store: VersionedStore) -> None:
        store.append(sample_frame(0))
        one = store.commit("one")
        store.fork("left").close()
        store.tag("left")
        store.tag("main")
        store.append(sample_frame(1))
        two = store.commit("two")
        assert store.tags() == {"left": one, "main": one}
        assert store.branches() == {"left": one, "main": two}
        store.drop_tag("main")
        store.drop_branch("left")
        assert (store.tags(), store.branches()) == ({"left": one}, {"main": two})
        with pytest.raises(SnapshotNotFoundError):
            store.drop_branch("left")
        with pytest.raises(InputError):
            store.drop_branch("main")
        store.drop_tag("left")
        assert store.tags() == {}

    def test_branches_begin_where_nothing_is_committed(self, store: VersionedStore) -> None:
        store.fork("left").close()
        then = store.at(store.branches()["left"])
        assert len(then) == 0
        assert then.snapshots() == []

    def test_ids_of_snapshots_are_never_given_again(self, store: VersionedStore) -> None:
        store.append(sample_frame(0))
        made = [store.commit("0")]
        store.tag("kept")
        for n in range(1, 4):
            store.append(sample_frame(n))
            made.append(store.commit(str(n)))
            store.reclaim(keep=1)
        assert len(set(made)) == 4
        assert len(store.at(store.tags()["kept"])) == 1
        for gone in made[1:3]:
            with pytest.raises(SpmemError):
                store.at(str(gone))

    def test_reclaiming_keeps_what_is_kept(self, store: VersionedStore) -> None:
        made = []
        for n in range(4):
            store.append(sample_frame(n))
            made.append(store.commit(f"{n}"))
            if n == 1:
                store.tag("two")
        store.remove(np.array([0]))
        made.append(store.commit("without the first"))
        store.reclaim()
        assert len(store.snapshots()) == 5
        store.reclaim(keep=2)
        assert [s.id for s in store.snapshots()] == made[:-3:-1]
        assert len(store.at(store.tags()["two"])) == 2
        assert len(store.at(str(made[3]))) == 4
        for gone in (made[0], made[2]):
            with pytest.raises(SpmemError):
                store.at(str(gone))
        self.check_same(store.read(3), sample_frame(3))
        store.append(sample_frame(4))
        store.commit("goes on")
        assert store.ids().tolist() == [1, 2, 3, 4]
