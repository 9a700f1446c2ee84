"""What somebody's renderer, rule, estimator, segmenter, embedder or policy raises comes through, and leaves the memory as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import spmem
from spmem import Camera, Frame, KeyframeConfig, MemoryConfig, SpatialMemory
from spmem.query import Query, Selection
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.stores.maps.rendering import DiscRenderer
from spmem.testing.box import BoxRoom
from spmem.verification import flaws
from spmem.views import Views

EVERY = MemoryConfig(recent=2, keyframes=KeyframeConfig(novelty=0.0))


class TheirError(Exception):
    """What their code raises."""


class Fuse:
    """Lets calls through until it is lit; they raise then."""

    lit = False

    def check(self) -> None:
        if self.lit:
            raise TheirError("not today")


class Depth(Fuse):
    def __call__(self, rgb: Tensor, cameras: Camera, known: Any = None) -> Tensor:
        self.check()
        return torch.full(rgb.shape[:3], 2.0)


class Segmenter(Fuse):
    def __call__(self, frames: Any, known: Any) -> Tensor:
        self.check()
        return torch.zeros(len(frames), *frames[0].rgb.shape[:2], dtype=torch.bool)


class Embedder(Fuse):
    dim = 4

    def __call__(self, rgb: Tensor) -> Tensor:
        if len(rgb) == 1 and rgb.shape[1] < 96:  # not the picture that tells embedders apart
            self.check()
        return torch.nn.functional.normalize(torch.ones(len(rgb), self.dim), dim=-1)


class Policy(Fuse):
    def __call__(self, held: Any, count: int) -> Any:
        self.check()
        return held.ids[:count]


class Renderer(Fuse):
    def __call__(self, surfels: Any, cameras: Camera) -> Any:
        self.check()
        return DiscRenderer()(surfels, cameras)


class Rule(Fuse):
    seen = 0

    def observe(self, views: Views, rows: slice) -> None:
        self.check()
        self.seen += len(views.ids[rows])

    def select(self, query: Query, views: Views, k: int) -> Selection:
        self.check()
        return Selection(views.ids[:k], np.ones(min(k, len(views)), np.float32))


@pytest.fixture(params=["in RAM", "on disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "in RAM" else tmp_path / "m.spmem"


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    room = BoxRoom()
    return room.frames(room.walk(6, width=32, height=23), time=0.0)


def state(memory: SpatialMemory) -> dict[str, Any]:
    """What a memory shows of itself, to be compared; the map by its surfels."""
    ids = list(memory.keyframes)
    return {
        "keyframes": [(id, memory.keyframes[id].time) for id in ids],
        "views": memory.views.ids.tolist(),
        "recent": [frame.time for frame in memory.recent],
        "map": memory.geometry.surfels().position.tolist(),
    }


def check_whole(place: Path | None) -> None:
    if place is not None:
        bank = ZarrKeyframes.open(place, "r")
        assert [flaw for flaw in flaws(bank) if flaw is not None] == []
        bank.close()


@pytest.mark.parametrize(
    ("seam", "fuse"), [("depth", Depth), ("segmenter", Segmenter)], ids=["depth", "segmenter"]
)
def test_an_estimator_or_segmenter_that_raises_stores_nothing(
    place: Path | None, frames: list[Frame], seam: str, fuse: type[Fuse]
) -> None:
    part = fuse()
    given = [frame.replace(depth=None) for frame in frames] if seam == "depth" else frames
    with spmem.open(place, config=EVERY, **{seam: part}) as memory:  # type: ignore[arg-type]
        for frame in given[:3]:
            memory.store(frame)
        before = state(memory)
        part.lit = True
        with pytest.raises(TheirError):
            memory.store(given[3])
        assert state(memory) == before
        part.lit = False
        assert memory.store(given[3]) == 3
        assert len(memory.retrieve(frames[1].camera).keyframes) > 0
    check_whole(place)


def test_an_embedder_that_raises_keeps_nothing(place: Path | None, frames: list[Frame]) -> None:
    embedder = Embedder()
    with spmem.open(place, config=EVERY, embedder=embedder) as memory:
        for frame in frames[:3]:
            memory.store(frame)
        before = state(memory)
        embedder.lit = True
        with pytest.raises(TheirError):
            memory.store(frames[3])
        after = state(memory)
        assert {name: after[name] for name in ("keyframes", "views", "recent")} == {
            name: before[name] for name in ("keyframes", "views", "recent")
        }
        with pytest.raises(TheirError):
            memory.find(image=frames[0].rgb)
        embedder.lit = False
        id = memory.store(frames[3])
        assert list(memory.keyframes) == [0, 1, 2, id]
        assert len(memory.find(image=frames[0].rgb)) == 4
    check_whole(place)


def test_a_policy_that_raises_keeps_nothing(place: Path | None, frames: list[Frame]) -> None:
    policy = Policy()
    with spmem.open(place, config=EVERY, budget=3, retention=policy) as memory:
        for frame in frames[:3]:
            memory.store(frame)
        policy.lit = True
        with pytest.raises(TheirError):
            memory.store(frames[3])
        assert list(memory.keyframes) == memory.views.ids.tolist() == [0, 1, 2]
        policy.lit = False
        id = memory.store(frames[4])
        assert list(memory.keyframes) == memory.views.ids.tolist() == [1, 2, id]
        memory.retrieve(frames[1].camera)
    check_whole(place)


@pytest.mark.parametrize("late", [False, True], ids=["when it is shown views", "when it selects"])
def test_a_rule_that_raises_changes_nothing(
    place: Path | None, frames: list[Frame], late: bool
) -> None:
    rule = Rule()
    with spmem.open(place, config=EVERY) as memory:
        for frame in frames[:3]:
            memory.store(frame)
        if late:
            memory.retrieve(frames[0].camera, method=rule)
        before, default = state(memory), memory.retrieve(frames[1].camera, k=2)
        rule.lit = True
        with pytest.raises(TheirError):
            memory.retrieve(frames[0].camera, method=rule)
        assert state(memory) == before
        rule.lit = False
        found = memory.retrieve(frames[0].camera, method=rule, k=2)
        assert [one.id for one in found.keyframes] == [0, 1]
        assert rule.seen == 3
        again = memory.retrieve(frames[1].camera, k=2)
        assert [one.id for one in again.keyframes] == [one.id for one in default.keyframes]
        memory.store(frames[3])
        memory.retrieve(frames[0].camera, method=rule)
        assert rule.seen == 4
    check_whole(place)


def test_a_renderer_that_raises_changes_nothing(
    place: Path | None, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = Renderer()
    monkeypatch.setattr("spmem.integrations.renderers.gsplat.GsplatRenderer", lambda: renderer)
    config = MemoryConfig(recent=2, renderer="gsplat", keyframes=KeyframeConfig(novelty=0.0))
    with spmem.open(place, config=config) as memory:
        for frame in frames[:3]:
            memory.store(frame)
        before = state(memory)
        renderer.lit = True
        for ask in (memory.retrieve, lambda camera: memory.find(camera=camera)):
            with pytest.raises(TheirError):
                ask(frames[1].camera)
        assert state(memory) == before
        memory.store(frames[3])  # which draws nothing
        renderer.lit = False
        assert len(memory.retrieve(frames[1].camera, k=2).keyframes) > 0
    check_whole(place)
