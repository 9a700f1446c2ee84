"""The recorder: what it notes is what was given, and what it passes on comes back unchanged."""

from __future__ import annotations

import pytest
import torch

from spmem.camera import Camera
from spmem.generating import Generated, GeneratorSpec, from_function
from spmem.protocols import Generator
from spmem.rollout import rollout
from spmem.testing.box import BoxRoom
from spmem.testing.generator import GeneratorTests
from spmem.testing.projection_generator import ProjectionGenerator
from spmem.testing.recorder import Recorder
from spmem.testing.room_memory import RoomMemory
from spmem.types import Frame, Retrieval


@pytest.fixture
def cameras() -> Camera:
    return BoxRoom().walk(6, width=32, height=24)


class TestAround(GeneratorTests):
    @pytest.fixture
    def generator(self) -> Generator:
        return Recorder(ProjectionGenerator())


def test_around_a_generator_it_changes_nothing(cameras: Camera) -> None:
    plain, watched = RoomMemory(unknown=0.3), RoomMemory(unknown=0.3)
    list(rollout(ProjectionGenerator(), plain, cameras, chunk=4, seed=3))
    list(rollout(Recorder(ProjectionGenerator()), watched, cameras, chunk=4, seed=3))
    for one, other in zip(plain.stored, watched.stored, strict=True):
        assert torch.equal(one.rgb, other.rgb)


def test_it_notes_what_came_and_what_went(cameras: Camera) -> None:
    def counted(
        history: tuple[Frame, ...], cameras: Camera, context: Retrieval, state: int | None
    ) -> Generated:
        shape = (len(cameras), cameras.height, cameras.width, 3)
        return Generated(torch.zeros(shape), state=(state or 0) + 1)

    spec = GeneratorSpec(state=True, history=2, slots=frozenset({"references", "recent"}))
    generator = Recorder(from_function(counted, spec))
    assert generator.spec is spec
    list(rollout(generator, RoomMemory(), cameras, chunk=4, prompt="a room"))
    first, second = generator.calls
    assert (len(first.cameras), len(second.cameras)) == (4, 2)
    assert (first.given, second.given) == ({"seed": 0, "state": None}, {"seed": 4, "state": 1})
    assert (first.made.state, second.made.state) == (1, 2)
    assert first.prompt == "a room"
    assert [len(context.keyframes) for context in generator.contexts] == [0, 4]
    assert not first.made.rgb.any()


def test_alone_it_shows_what_memory_covers_and_black(cameras: Camera) -> None:
    generator, memory = Recorder(), RoomMemory(unknown=0.25)
    (chunk,) = rollout(generator, memory, cameras)
    assert not chunk.rgb[:, :, :8].any()
    truth = memory.room.render(cameras).rgb
    assert torch.allclose(chunk.rgb[:, :, 8:], truth[:, :, 8:])
