"""Conformance of parts: subclass, give the fixture, and pytest proves that derived state stays in step with the keyframes.

Needs pytest. Example::

    class TestMyPart(PartTests):
        @pytest.fixture
        def make(self):
            return MyPart  # called with a spmem.protocols.PartContext
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spmem.checkpoint import RESERVED, WRONG
from spmem.config import MemoryConfig
from spmem.keyframes import new_uid
from spmem.parts.map import Map
from spmem.parts.views import KeyframeViews
from spmem.protocols import Embedder, Kept, KeyframeStore, Observation, Part, PartContext
from spmem.stores.keyframes.ram import RamKeyframes
from spmem.testing.box import BoxRoom
from spmem.types import Frame
from spmem.views import Views

Make = Callable[[PartContext], Part]


class Walked:
    """A bank and the parts made of it, kept in step as a memory keeps them, with one part under test among them."""

    def __init__(self, make: Make, bank: KeyframeStore, embedder: Embedder | None) -> None:
        self.context = PartContext(
            config=MemoryConfig(recent=2),
            bank=bank,
            views=Views(),
            device=torch.device("cpu"),
            embedder=embedder,
        )
        self.part = make(self.context)
        others: list[Part] = [KeyframeViews(self.context), Map(self.context)]
        named = {part.name: part for part in (*others, self.part)}
        self.map = named.pop("geometry")
        self.views = named.pop("views")
        self.rest = list(named.values())

    @property
    def parts(self) -> list[Part]:
        """The views first, the map last."""
        return [self.views, *self.rest, self.map]

    def restore(self, kept: dict[str, Kept] | None = None) -> Walked:
        """Restore all parts, with what was kept of them by name."""
        for part in self.parts:
            part.restore((kept or {}).get(part.name))
        return self

    def take(self, frame: Frame, *, keep: bool = True, live: bool = True) -> int | None:
        """Let all parts observe a frame; the keyframe's id."""
        assert isinstance(self.map, Map)
        seen = Observation(frame, frame, self.map.fuse(frame), live=live)
        if keep:
            uid = new_uid()
            id = self.context.bank.append(frame, uid)
            seen = replace(seen, keyframe=id, uid=uid)
        for part in self.parts:
            part.observe(seen)
        return seen.keyframe

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Give keyframes other poses."""
        self.map.move(ids, c2w)
        self.context.bank.move(ids, c2w)
        for part in (*self.rest, self.views):
            part.move(ids, c2w)

    def drop(self, ids: NDArray[np.int64], *, keep: bool) -> None:
        """Drop keyframes."""
        self.map.drop(ids, keep=keep)
        self.context.bank.remove(ids)
        for part in (*self.rest, self.views):
            part.drop(ids, keep=keep)


class PartTests:
    """What every :class:`spmem.protocols.Part` does, on a walk through an analytic room. A subclass gives ``make``."""

    embedder: Embedder | None = None
    """What the context has to describe images with."""

    @pytest.fixture
    def make(self) -> Make:
        """Override: makes the part in a context."""
        raise AssertionError("subclasses give the fixture `make`: called with a PartContext")

    def answer(self, part: Part) -> Any:
        """What the part says of all keyframes, to compare two: nested dicts, lists, numbers and arrays.

        By default what it keeps. Override it if the order of what is kept depends on the way that led there.
        """
        return part.arrays()

    @pytest.fixture
    def frames(self) -> list[Frame]:
        """Six frames that turn by most of a circle, a second apart."""
        room = BoxRoom()
        return room.frames(room.walk(6, width=48, height=36, sweep=4.0), time=0.0)

    @pytest.fixture
    def walked(self, make: Make, frames: list[Frame]) -> Walked:
        """Five keyframes, and between them a frame that is none."""
        walked = Walked(make, RamKeyframes(), self.embedder).restore()
        for i, frame in enumerate(frames):
            walked.take(frame, keep=i != 2)
        return walked

    def test_is_a_part_with_a_name_that_a_group_can_bear(self, walked: Walked) -> None:
        part = walked.part
        assert isinstance(part, Part)
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", part.name)
        assert part.name not in (*RESERVED, "keyframes")
        assert isinstance(part.derived, bool)
        assert isinstance(part.cache, bool)
        assert part.derived or not part.cache, "what is no derived state is no cache"

    def test_a_part_of_nothing_can_be_kept(self, make: Make) -> None:
        empty = Walked(make, RamKeyframes(), self.embedder).restore()
        kept = self._kept(empty)
        Walked(make, empty.context.bank, self.embedder).restore(kept)

    def test_what_is_kept_is_taken_back(self, make: Make, walked: Walked) -> None:
        again = Walked(make, walked.context.bank, self.embedder).restore(self._kept(walked))
        assert_same(self.answer(again.part), self.answer(walked.part))

    def test_keyframes_that_came_since_are_added(
        self, make: Make, walked: Walked, frames: list[Frame]
    ) -> None:
        kept = self._kept(walked)
        walked.take(frames[1].replace(time=9.0), live=False)
        again = Walked(make, walked.context.bank, self.embedder).restore(kept)
        assert_same(self.answer(again.part), self.answer(walked.part))

    def test_a_cache_is_made_again_from_the_keyframes(self, make: Make, walked: Walked) -> None:
        if walked.part.cache:
            again = Walked(make, walked.context.bank, self.embedder).restore()
            assert_same(self.answer(again.part), self.answer(walked.part))

    def test_moved_keyframes_are_as_if_they_had_come_so(
        self, make: Make, walked: Walked, frames: list[Frame]
    ) -> None:
        ids = walked.context.bank.ids()
        self.answer(walked.part)  # it has seen them where they were
        there = np.stack([frames[i].camera.c2w.numpy() for i in (5, 4)])
        walked.move(ids[[1, 2]], there)
        walked.move(ids[[1]], there[1:])  # twice, before anybody asks
        self._require_step(make, walked)

    def test_dropped_keyframes_are_gone(self, make: Make, walked: Walked) -> None:
        ids = walked.context.bank.ids()
        self.answer(walked.part)
        walked.move(ids[[3]], walked.context.views.c2w[[0]].copy())
        walked.drop(ids[[1, 3]], keep=False)  # the first stays: parts may take their scale from it
        self._require_step(make, walked)

    def test_what_a_budget_drops_leaves_a_part_that_can_be_kept(
        self, make: Make, walked: Walked, frames: list[Frame]
    ) -> None:
        walked.drop(walked.context.bank.ids()[[0, 1]], keep=True)
        walked.take(frames[0].replace(time=9.0))
        again = Walked(make, walked.context.bank, self.embedder).restore(self._kept(walked))
        assert_same(self.answer(again.part), self.answer(walked.part))

    def test_arrays_of_other_kinds_are_refused_or_made_again(
        self, make: Make, walked: Walked
    ) -> None:
        kept = self._kept(walked)
        if walked.part.name not in kept:
            return
        arrays, attributes = kept[walked.part.name]
        for name, array in arrays.items():
            less = {other: one for other, one in arrays.items() if other != name}
            for wrong in (less, {**arrays, name: array[:0]}, {**arrays, name: array[..., None]}):
                again = Walked(make, walked.context.bank, self.embedder)
                again.views.restore(None)
                if again.part is not again.views:
                    try:
                        again.part.restore((wrong, attributes))
                    except WRONG:
                        again.part.restore(None)
                    self.answer(again.part)

    def test_what_is_kept_verifies(self, make: Make, walked: Walked) -> None:
        kept = self._kept(walked)
        for part in Walked(make, walked.context.bank, self.embedder).parts:
            if part.name == "views":
                part.restore(None)  # a verifier's views are made from the keyframes
            elif part.name in kept:
                assert part.verify(kept[part.name]) is None

    def _kept(self, walked: Walked) -> dict[str, Kept]:
        """What all parts keep, through the bank."""
        kept: dict[str, Kept] = {}
        for part in walked.parts:
            arrays = part.arrays()
            if arrays is not None:
                walked.context.bank.write_arrays(part.name, *arrays)
                stored = walked.context.bank.read_arrays(part.name)
                if stored is not None and stored[0]:
                    kept[part.name] = stored
        return kept

    def _require_step(self, make: Make, walked: Walked) -> None:
        """A cache says the same as one that is made of the keyframes as they are; each can be kept as it is."""
        if walked.part.cache:
            fresh = Walked(make, walked.context.bank, self.embedder).restore()
            assert_same(self.answer(walked.part), self.answer(fresh.part))
        again = Walked(make, walked.context.bank, self.embedder).restore(self._kept(walked))
        assert_same(self.answer(again.part), self.answer(walked.part))


def assert_same(one: Any, other: Any) -> None:
    """Nested dicts, lists and tuples of the same numbers; floats to within a rounding."""
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert sorted(one) == sorted(other)
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray) or (isinstance(one, float) and one == one):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    else:
        assert one == other
