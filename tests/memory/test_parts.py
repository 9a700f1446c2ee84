"""Every part of a memory passes the suite that third parties are given; theirs are followed as ours are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spmem
from spmem import Frame, KeyframeConfig, MemoryConfig, RetrievalConfig
from spmem.errors import ReadOnlyError, SpmemError, UnknownNameError
from spmem.integrations.embedding.colour_layout import ColourLayout
from spmem.parts.cache import ViewCache
from spmem.parts.map import Map
from spmem.parts.recent import WorkingMemory
from spmem.parts.views import KeyframeViews
from spmem.protocols import GeometryReader, ImageIndex, Part, PartContext
from spmem.query import Selection
from spmem.retrieval.descriptors import Descriptors
from spmem.retrieval.rules.covisibility import Covisibility
from spmem.retrieval.visibility.free_space import FreeSpace
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.box import BoxRoom
from spmem.testing.part import PartTests
from spmem.testing.retriever import query_of, stand
from spmem.verification import flaws, repair

Make = Callable[[PartContext], Part]


# -- the parts that are shipped ---------------------------------------------------------------------


class TestViews(PartTests):
    @pytest.fixture
    def make(self) -> Make:
        return KeyframeViews


class TestMap(PartTests):
    @pytest.fixture
    def make(self) -> Make:
        return Map


class TestWorkingMemory(PartTests):
    @pytest.fixture
    def make(self) -> Make:
        return WorkingMemory


class TestFreeSpace(PartTests):
    @pytest.fixture
    def make(self) -> Make:
        return FreeSpace

    def answer(self, part: Part) -> Any:
        assert isinstance(part, FreeSpace)
        arrays = part.current().arrays()
        order = np.argsort(arrays["through"])
        looks = {"through": arrays["through"][order].tolist(), "looks": arrays["looks"][order]}
        return {**looks, "depths": arrays["depths"], "edge": arrays["edge"]}


class TestIndexOfTheDefaultRule(PartTests):
    @pytest.fixture
    def make(self) -> Make:
        config = RetrievalConfig(candidates=2)

        def made(context: PartContext) -> Part:
            return ViewCache("rule.covisibility", Covisibility(config, scan=0), context.views)

        return made

    def answer(self, part: Part) -> Any:
        assert isinstance(part, ViewCache)
        rule, views = part.current(), part._views
        query = query_of([stand(0.5, -1.0, 0.4), stand(-0.5, 0.0, 2.0)], room=BoxRoom())
        chosen: Selection = rule.select(query, views, 5)
        return [chosen.ids, chosen.scores]


class TestDescriptors(PartTests):
    embedder = ColourLayout()

    @pytest.fixture
    def make(self) -> Make:
        return Descriptors

    def answer(self, part: Part) -> Any:
        assert isinstance(part, ImageIndex)
        part.complete()
        return part.arrays()


# -- a part of another package ----------------------------------------------------------------------

COUNTER = '''
import numpy as np

class Bright:
    """The mean brightness of each keyframe."""

    name, derived, cache = "bright", True, True

    def __init__(self, context):
        self._bank, self.known = context.bank, {}

    def observe(self, seen):
        if seen.keyframe is not None:
            self.known[seen.keyframe] = float(seen.fused.rgb_float().mean())

    def move(self, ids, c2w):
        pass

    def drop(self, ids, *, keep):
        for id in ids.tolist():
            self.known.pop(id, None)

    def arrays(self):
        ids, values = np.array(list(self.known), np.int64), np.array(list(self.known.values()))
        return {"ids": ids, "values": values}, {}

    def restore(self, kept):
        arrays = {"ids": np.zeros(0, np.int64), "values": np.zeros(0)} if kept is None else kept[0]
        if not np.isfinite(arrays["values"]).all() or not np.isin(arrays["ids"], self._bank.ids()).all():
            raise ValueError("brightness does not fit")
        self.known = dict(zip(arrays["ids"].tolist(), arrays["values"].tolist(), strict=True))
        for id in self._bank.ids().tolist():
            if id not in self.known:
                self.known[id] = float(self._bank.read(id).rgb_float().mean())

    def verify(self, kept):
        self.restore(kept)
        return None


class Latest:
    """A rule with an index of its own: the latest keyframes, by a list that it fills as it is shown views."""

    shown = 0

    def __init__(self, config):
        self.ids = np.zeros(0, np.int64)

    def observe(self, views, rows):
        Latest.shown += rows.stop - rows.start
        self.ids = np.union1d(self.ids, views.ids[rows])

    def select(self, query, views, k):
        from spmem.query import Selection
        here = self.ids[np.isin(self.ids, views.ids) & ~np.isin(self.ids, query.exclude)]
        chosen = here[::-1][:k]
        return Selection(chosen, np.ones(len(chosen), np.float32))

    def arrays(self, views):
        return {"ids": self.ids[np.isin(self.ids, views.ids)]}

    def restore(self, arrays, ids):
        if not np.array_equal(arrays["ids"], ids):
            raise ValueError("an index of other views")
        self.ids = arrays["ids"]
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that registers a part, as an installer leaves it."""
    site = tmp_path / "site"
    about = site / "spmem_bright-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "spmem_bright.py").write_text(COUNTER)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: spmem-bright\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[spmem.part]\nbright = spmem_bright:Bright\n"
        "[spmem.retriever]\nlatest words = spmem_bright:Latest\n"
    )
    monkeypatch.syspath_prepend(site)
    return site


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    room = BoxRoom()
    frames = room.frames(room.walk(6, width=48, height=36, sweep=4.0), time=0.0)
    return [frame.replace(rgb=frame.rgb * (0.5 + 0.1 * i)) for i, frame in enumerate(frames)]


EVERY = MemoryConfig(keyframes=KeyframeConfig(novelty=0.0))


def stored(path: Path, frames: list[Frame]) -> Path:
    with spmem.open(path, config=EVERY) as memory:
        for frame in frames:
            memory.store(frame)
    return path


def kept(path: Path, group: str = "bright") -> list[int] | None:
    bank = ZarrKeyframes.open(path, "r")
    found = bank.read_arrays(group)
    bank.close()
    return None if found is None or not found[0] else found[0]["ids"].tolist()


def test_a_part_of_a_package_is_kept_moved_dropped_and_forgotten(
    installed: Path, tmp_path: Path, frames: list[Frame]
) -> None:
    path = stored(tmp_path / "m", frames)
    assert kept(path) == [0, 1, 2, 3, 4, 5]
    with spmem.open(path) as memory:
        memory.remove([1])
        memory.update_poses({2: frames[3].camera.c2w})
    assert kept(path) == [0, 2, 3, 4, 5]
    with spmem.open(path) as memory:
        memory.store(frames[1].replace(time=9.0))
        memory.rollback(0)
        memory.forget(keyframes=[0])
        part: Any = memory.part("bright")
        assert list(part.known) == list(memory.keyframes)
        with pytest.raises(UnknownNameError, match="did you mean 'bright'"):
            memory.part("brigth")
    assert kept(path) == [2, 3, 4, 5]


def test_a_part_of_a_package_is_verified_and_repaired(
    installed: Path, tmp_path: Path, frames: list[Frame]
) -> None:
    path = stored(tmp_path / "m", frames)
    bank = ZarrKeyframes.open(path)
    arrays, attributes = bank.read_arrays("bright") or ({}, {})
    bank.write_arrays("bright", {**arrays, "values": arrays["values"] * np.nan}, attributes)
    bank.commit("by other hands")
    found = [flaw for flaw in flaws(bank) if flaw is not None]
    assert [(flaw.part, flaw.derivable) for flaw in found] == [("bright", True)]
    assert repair(bank, found) == []
    bank.commit("repaired")
    assert [flaw for flaw in flaws(bank) if flaw is not None] == []
    bank.close()
    assert kept(path) == [0, 1, 2, 3, 4, 5]


def test_what_an_uninstalled_package_kept_is_forgotten_too(
    installed: Path, tmp_path: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(tmp_path / "m", frames)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part != str(installed)])
    with spmem.open(path) as memory:
        memory.store(frames[0].replace(time=9.0))
    assert kept(path) == [0, 1, 2, 3, 4, 5]
    with spmem.open(path) as memory:
        memory.forget(keyframes=[0])
    assert kept(path) is None


def test_the_index_of_a_packages_rule_is_kept(
    installed: Path, tmp_path: Path, frames: list[Frame]
) -> None:
    """A rule that has `arrays` and `restore` is all that it takes; its name need not be one that a group can bear."""
    from spmem_bright import Latest  # type: ignore[import-not-found]

    path = stored(tmp_path / "m", frames)
    with spmem.open(path) as memory:
        found = memory.retrieve(frames[0].camera, k=2, method="latest words")
        assert [one.id for one in found.keyframes] == [5, 4]
        memory.store(frames[1].replace(time=9.0))
    assert kept(path, "rule.latest_words") == [0, 1, 2, 3, 4, 5, 6]
    Latest.shown = 0
    with spmem.open(path) as memory:
        memory.update_poses({0: frames[3].camera.c2w})
        found = memory.retrieve(frames[0].camera, k=2, method="latest words")
        assert [one.id for one in found.keyframes] == [6, 5]
        memory.remove(6)
        found = memory.retrieve(frames[0].camera, k=2, method="latest words")
        assert [one.id for one in found.keyframes] == [5, 4]
    assert kept(path, "rule.latest_words") == [0, 1, 2, 3, 4, 5]
    Latest.shown = 0
    with spmem.open(path, mode="r") as memory:
        found = memory.retrieve(frames[0].camera, k=2, method="latest words")
        assert [one.id for one in found.keyframes] == [5, 4]
        assert Latest.shown == 0


# -- the map, to read -------------------------------------------------------------------------------


def test_reading_the_map_makes_no_commit(tmp_path: Path, frames: list[Frame]) -> None:
    path = stored(tmp_path / "m", frames)
    with spmem.open(path) as memory:
        before = len(memory.snapshots())
        assert len(memory.geometry) == len(memory.geometry.surfels()) == len(memory.geometry.ids())
        assert memory.geometry.render(frames[0].camera[None]).coverage[0] > 0.9
        assert memory.commit() is None
    with spmem.open(path) as memory:
        assert len(memory.snapshots()) == before


def test_the_map_is_changed_by_methods_of_the_memory_alone(frames: list[Frame]) -> None:
    memory = spmem.open(config=EVERY)
    memory.store(frames[0])
    assert isinstance(memory.geometry, GeometryReader)
    for name in ("fuse", "edit", "remove", "unfuse", "observe", "restore", "add"):
        assert not hasattr(memory.geometry, name)
    ids = memory.geometry.ids()
    red = memory.geometry.surfels().colour[:10] * 0 + memory.geometry.surfels().colour.new_tensor(
        [1.0, 0.0, 0.0]
    )
    memory.edit_surfels(ids[:10], colour=red)
    memory.remove_surfels(ids[20:])
    assert (memory.geometry.surfels().colour[:10] == red).all()
    assert memory.geometry.ids().tolist() == ids[:20].tolist()
    with pytest.raises(SpmemError):
        memory.edit_surfels(ids[:10], shininess=red)


def test_a_reader_edits_nothing(tmp_path: Path, frames: list[Frame]) -> None:
    with spmem.open(stored(tmp_path / "m", frames), mode="r") as memory:
        ids = memory.geometry.ids()
        with pytest.raises(ReadOnlyError):
            memory.remove_surfels(ids)
        with pytest.raises(ReadOnlyError):
            memory.edit_surfels(ids, radius=memory.geometry.surfels().radius)
