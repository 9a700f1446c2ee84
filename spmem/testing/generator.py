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
from typing import Any

import pytest
import torch
from torch import Tensor

import spmem
from spmem.camera import Camera
from spmem.generating import Generated, GeneratorSpec, retrieve_for, run_generator, spec_of
from spmem.protocols import Generator
from spmem.testing.box import BoxRoom
from spmem.testing.room_memory import RoomMemory
from spmem.types import Retrieval


class GeneratorTests:
    """What every :class:`spmem.protocols.Generator` does, however good its pictures are.

    Numbers of frames, echoed frames, layout and range of values are those of its ``spec``, where it has one.
    """

    width: int = 64
    height: int = 48
    """The image size to ask for."""
    lengths: tuple[int, ...] = (4, 1)
    """Numbers of cameras wanted; the last chunk of a rollout is a short one. They are made up to what the spec allows."""
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
        return RoomMemory(unknown=0.3).look(self.cameras(2))

    def cameras(self, n: int) -> Camera:
        """A trajectory of n cameras."""
        return BoxRoom().walk(n, width=self.width, height=self.height).to(self.device)

    def context(self, generator: Generator, memory: RoomMemory, n: int | None = None) -> Retrieval:
        """What memory says about n cameras, or as many more as the generator has to make at once."""
        cameras = self.cameras(self.lengths[0] if n is None else n)
        return retrieve_for(memory.retrieve, cameras, spec_of(generator))[0]

    def made(
        self,
        generator: Generator,
        context: Retrieval,
        *,
        seed: int = 0,
        prompt: str | None = None,
        **more: Any,
    ) -> Generated:
        """What a context gives, without echoed frames and in [0, 1]."""
        conditioning = generator.condition(context, prompt)
        echoed = spec_of(generator).echoes(len(context.recent))
        return run_generator(
            generator, conditioning, context.cameras, echoed=echoed, seed=seed, **more
        )

    def test_is_a_generator(self, generator: Generator) -> None:
        assert isinstance(generator, Generator)
        assert isinstance(spec_of(generator), GeneratorSpec)

    def test_makes_a_frame_for_each_camera(self, generator: Generator, memory: RoomMemory) -> None:
        for n in self.lengths:
            context = self.context(generator, memory, n)
            made = self.made(generator, context)
            assert made.rgb.shape == (len(context.cameras), self.height, self.width, 3)
            assert made.rgb.is_floating_point()
            assert made.rgb.device.type == torch.device(self.device).type
            assert torch.isfinite(made.rgb).all(), "frames must be finite"
            assert made.rgb.min() >= 0, "frames are in the spec's value_range"
            assert made.rgb.max() <= 1, "frames are in the spec's value_range"

    def test_depth_is_depth(self, generator: Generator, memory: RoomMemory) -> None:
        depth = self.made(generator, self.context(generator, memory)).depth
        if depth is not None:
            assert depth.is_floating_point()
            assert torch.isfinite(depth).all(), "depth must be finite"
            assert depth.min() >= 0, "depth is z-depth in world units, 0 = none"

    def test_the_same_seed_gives_the_same_frames(
        self, generator: Generator, memory: RoomMemory
    ) -> None:
        context = self.context(generator, memory)
        first, second = (self.made(generator, context, seed=7).rgb for _ in range(2))
        assert torch.equal(first, second)

    def test_the_same_state_gives_the_same_frames(
        self, generator: Generator, memory: RoomMemory
    ) -> None:
        if not spec_of(generator).state:
            pytest.skip("the generator carries nothing from chunk to chunk")
        context = self.context(generator, memory)
        state = self.made(generator, context).state
        assert state is not None, "what is returned as Generated.state comes back as state="
        first, second = (self.made(generator, context, state=state).rgb for _ in range(2))
        assert torch.equal(first, second), "a state that was handed over must not change"

    def test_calls_back(self, generator: Generator, memory: RoomMemory) -> None:
        if not spec_of(generator).callback:
            pytest.skip("the generator calls nothing back")
        calls: list[tuple[int, int]] = []

        def noted(step: int, steps: int, latents: Tensor) -> None:
            calls.append((step, steps))

        context = self.context(generator, memory)
        watched = self.made(generator, context, callback=noted).rgb
        steps = len(calls)
        assert calls == [(step, steps) for step in range(steps)]
        assert steps > 0, "the callback was never called"
        assert torch.equal(watched, self.made(generator, context).rgb), "watching changes nothing"
        zeros = self.made(generator, context, callback=lambda i, n, x: torch.zeros_like(x)).rgb
        assert not torch.equal(zeros, watched), "what a callback returns takes the latents' place"

    def test_remembers_along_a_rollout(self, generator: Generator) -> None:
        spec, n = spec_of(generator), self.lengths[0]
        recent = max(spec.history, spec.echoed, 4)
        there = self.cameras(2 * n)
        back = there[torch.arange(n, device=there.device).flip(0)]  # and what the first chunk saw
        first = BoxRoom().frames(there[:1])[0]
        with spmem.open(config=spmem.MemoryConfig(recent=recent)) as memory:
            memory.store(first)
            chunks = [
                *spmem.rollout(generator, memory, there, chunk=n),
                *spmem.rollout(generator, memory, back, chunk=n),
            ]
            assert [len(chunk.frames) for chunk in chunks] == [n, n, n]
            assert len(chunks[-1].context.recent) == min(2 * n + 1, recent)
            assert chunks[-1].context.coverage.mean() > 0.2, "it comes back to where it has been"
            if {"references", "warp"} & spec.slots:
                assert chunks[-1].context.keyframes

    def test_takes_a_prompt(self, generator: Generator, memory: RoomMemory) -> None:
        context = self.context(generator, memory)
        rgb = self.made(generator, context, prompt="a room in the evening").rgb
        assert rgb.shape == (len(context.cameras), self.height, self.width, 3)

    def test_leaves_the_context_as_it_was(self, generator: Generator, memory: RoomMemory) -> None:
        context = self.context(generator, memory)
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
        context = self.context(generator, memory)
        before = torch.get_rng_state()
        self.made(generator, context)
        assert torch.equal(torch.get_rng_state(), before), "draw from a torch.Generator of your own"
