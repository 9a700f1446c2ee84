"""Conformance of generators: subclass, give the fixture, and pytest proves the generator.

Needs pytest. Example::

    class TestMyModel(GeneratorTests):
        width, height = 256, 192

        @pytest.fixture(scope="class")
        def generator(self):
            return MyModel.load("weights.safetensors")
"""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from spmem.camera import Camera
from spmem.protocols import Generator
from spmem.testing.box import BoxRoom
from spmem.testing.room_memory import RoomMemory
from spmem.types import Retrieval


class GeneratorTests:
    """What every :class:`spmem.protocols.Generator` does, however good its pictures are."""

    width: int = 64
    height: int = 48
    """The image size to ask for."""
    lengths: tuple[int, ...] = (4, 1)
    """Numbers of cameras that the model takes; the last chunk of a rollout is a short one."""
    device: str = "cpu"

    @pytest.fixture
    def generator(self) -> Generator:
        """Override: the generator."""
        raise AssertionError("subclasses give the fixture `generator`")

    @pytest.fixture(params=["partly covered", "nothing known"])
    def memory(self, request: pytest.FixtureRequest) -> RoomMemory:
        """One that knows most of the room and has two keyframes, and one that knows nothing yet."""
        if request.param == "nothing known":
            return RoomMemory(unknown=1.0)
        memory = RoomMemory(unknown=0.3)
        for frame in memory.room.frames(self.cameras(2)):
            memory.store(frame)
        return memory

    def cameras(self, n: int) -> Camera:
        """A trajectory of n cameras."""
        return BoxRoom().walk(n, width=self.width, height=self.height).to(self.device)

    def made(self, generator: Generator, context: Retrieval, *, seed: int = 0) -> Tensor:
        """The frames that a context gives."""
        return generator.generate(generator.condition(context), context.cameras, seed=seed)

    def test_is_a_generator(self, generator: Generator) -> None:
        assert isinstance(generator, Generator)

    def test_makes_a_frame_for_each_camera(self, generator: Generator, memory: RoomMemory) -> None:
        for n in self.lengths:
            rgb = self.made(generator, memory.retrieve(self.cameras(n)))
            assert rgb.shape == (n, self.height, self.width, 3)
            assert rgb.is_floating_point()
            assert rgb.device.type == torch.device(self.device).type
            assert torch.isfinite(rgb).all(), "frames must be finite"
            assert rgb.min() >= 0, "frames are in [0, 1]"
            assert rgb.max() <= 1, "frames are in [0, 1]"

    def test_the_same_seed_gives_the_same_frames(
        self, generator: Generator, memory: RoomMemory
    ) -> None:
        context = memory.retrieve(self.cameras(self.lengths[0]))
        first, second = (self.made(generator, context, seed=7) for _ in range(2))
        assert torch.equal(first, second)

    def test_takes_a_prompt(self, generator: Generator, memory: RoomMemory) -> None:
        context = memory.retrieve(self.cameras(self.lengths[0]))
        conditioning = generator.condition(context, "a room in the evening")
        rgb = generator.generate(conditioning, context.cameras)
        assert rgb.shape == (self.lengths[0], self.height, self.width, 3)

    def test_leaves_the_context_as_it_was(self, generator: Generator, memory: RoomMemory) -> None:
        context = memory.retrieve(self.cameras(self.lengths[0]))
        tensors = {
            field.name: value.clone()
            for field in fields(context.projection)
            if isinstance(value := getattr(context.projection, field.name), Tensor)
        }
        self.made(generator, context)
        for name, before in tensors.items():
            assert torch.equal(getattr(context.projection, name), before), name

    def test_leaves_torchs_random_state_as_it_was(
        self, generator: Generator, memory: RoomMemory
    ) -> None:
        before = torch.get_rng_state()
        self.made(generator, memory.retrieve(self.cameras(self.lengths[0])))
        assert torch.equal(torch.get_rng_state(), before), "draw from a torch.Generator of your own"
