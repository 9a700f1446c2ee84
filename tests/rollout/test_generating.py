"""What a generator says about itself, and that rollout fits itself to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import spmem
from spmem.camera import Camera
from spmem.errors import FrameError, InputError
from spmem.generating import FrameCount, Generated, GeneratorSpec
from spmem.protocols import Generator
from spmem.rollout import rollout
from spmem.testing.box import BoxRoom
from spmem.testing.generator import GeneratorTests
from spmem.testing.recorder import Recorder
from spmem.testing.room_memory import RoomMemory
from spmem.types import Frame, Retrieval

WIDTH, HEIGHT = 64, 48


@pytest.fixture
def cameras() -> Camera:
    return BoxRoom().walk(10, width=WIDTH, height=HEIGHT)


def test_latents_are_stored_with_the_frames(cameras: Camera) -> None:
    """As they came, without those of echoed frames."""
    made: list[torch.Tensor] = []

    def function(history: Any, cameras: Camera, context: Retrieval) -> Generated:
        echoed = min(len(history), 1)
        made.append(torch.randn(echoed + len(cameras), 4, 2, 3).bfloat16())
        rgb = torch.full((echoed + len(cameras), HEIGHT, WIDTH, 3), 0.5)
        return Generated(rgb, torch.full(rgb.shape[:3], 2.0), latents=made[-1])

    every = spmem.MemoryConfig(keyframes=spmem.KeyframeConfig(novelty=0.0), check_poses=False)
    with spmem.open(config=every) as memory:
        spec = GeneratorSpec(echoed=1)
        for _ in rollout(spmem.from_function(function, spec), memory, cameras[:5], chunk=3):
            pass
        kept = [frame.latent for frame in memory.keyframes.frames(memory.keyframes)]
    wanted = [*made[0], *made[1][1:]]
    assert len(kept) == len(wanted) == 5
    assert all(a is not None and torch.equal(a, b) for a, b in zip(kept, wanted, strict=True))


def test_a_latent_for_each_frame_is_wanted(cameras: Camera) -> None:
    def short(history: Any, cameras: Camera, context: Retrieval) -> Generated:
        rgb = context.projection.rgb
        return Generated(rgb, context.projection.depth, latents=torch.zeros(1, 4))

    chunks = rollout(spmem.from_function(short), RoomMemory(), cameras, chunk=4)
    with pytest.raises(FrameError, match="1 latents, wanted one for each of 4"):
        next(iter(chunks))


class OddOnes(GeneratorTests):
    """Generators with rules of their own, brought to the same."""

    spec = GeneratorSpec()

    @pytest.fixture
    def generator(self) -> Generator:
        return Recorder(spec=self.spec)


class TestFourAndOneWithEchoes(OddOnes):
    spec = GeneratorSpec(frames=FrameCount(4, 1), echoed=2, history=2)


class TestChannelsFirstFromMinusOne(OddOnes):
    spec = GeneratorSpec(layout="CTHW", value_range=(-1, 1), state=True, callback=True)


del OddOnes


@given(st.integers(1, 12), st.integers(0, 9), st.integers(1, 20), st.integers(1, 60))
def test_a_count_that_fits_is_allowed_and_the_smallest(
    stride: int, offset: int, least: int, wanted: int
) -> None:
    rule = FrameCount(stride, offset, least)
    fit = rule.fit(wanted)
    allowed = [n for n in range(offset, 200, stride) if n >= max(least, wanted)]
    assert fit == allowed[0]


def test_counts_that_no_model_makes_are_refused() -> None:
    with pytest.raises(InputError, match="at most 16"):
        FrameCount.fixed(16).fit(17)
    with pytest.raises(InputError, match="stride"):
        FrameCount(0)


def test_cameras_are_made_up_to_the_rule_and_every_frame_is_its_camera(cameras: Camera) -> None:
    spec = GeneratorSpec(frames=FrameCount(4, 1))
    generator, memory = Recorder(spec=spec), RoomMemory()
    chunks = list(rollout(generator, memory, cameras, chunk=4))
    assert [len(context.cameras) for context in generator.contexts] == [5, 5, 5]
    assert [len(chunk.frames) for chunk in chunks] == [4, 4, 2]
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(0, 4), (4, 8), (8, 10)]
    truth = memory.room.render(cameras)
    for i, frame in enumerate(memory.stored):
        assert torch.allclose(frame.rgb, truth.rgb[i])


def test_echoed_frames_are_dropped_as_far_as_there_were_any(cameras: Camera) -> None:
    spec = GeneratorSpec(frames=FrameCount(4, 1), echoed=2, history=2)
    generator, memory = Recorder(spec=spec), RoomMemory()
    list(rollout(generator, memory, cameras, chunk=3))
    asked = [len(context.cameras) for context in generator.contexts]
    assert asked == [5, 3, 3, 3]  # 5 + 0 echoed, then 3 + 2
    truth = memory.room.render(cameras)
    assert len(memory.stored) == 10
    for i, frame in enumerate(memory.stored):
        assert torch.allclose(frame.rgb, truth.rgb[i])


@pytest.mark.parametrize("layout", ["THWC", "TCHW", "CTHW"])
def test_any_layout_and_range_comes_to_the_same(cameras: Camera, layout: str) -> None:
    memory = RoomMemory()
    spec = GeneratorSpec(layout=layout, value_range=(-1.0, 1.0))
    (chunk,) = rollout(Recorder(spec=spec), memory, cameras, chunk=10)
    assert torch.allclose(chunk.rgb, memory.room.render(cameras).rgb, atol=1e-6)


def test_state_and_callback_go_to_those_that_want_them(cameras: Camera) -> None:
    plain, stateful = Recorder(), Recorder(spec=GeneratorSpec(state=True, callback=True))
    list(rollout(plain, RoomMemory(), cameras, chunk=4))
    assert [call.given for call in plain.calls] == [{"seed": 0}, {"seed": 4}, {"seed": 8}]
    seen: list[int] = []
    chunks = list(
        rollout(
            stateful,
            RoomMemory(),
            cameras,
            chunk=4,
            state=7,
            callback=lambda step, steps, x: seen.append(len(x)),
        )
    )
    assert [call.given["state"] for call in stateful.calls] == [7, 1, 2]
    assert [chunk.state for chunk in chunks] == [1, 2, 3]
    assert seen == [4, 4, 2]


def test_a_callback_can_write_into_latents(cameras: Camera) -> None:
    generator = Recorder(spec=GeneratorSpec(callback=True))
    chunks = rollout(
        generator, RoomMemory(), cameras, callback=lambda step, steps, x: torch.zeros_like(x)
    )
    assert next(chunks).rgb.max() == 0


def test_rollout_goes_on_where_it_stopped(cameras: Camera) -> None:
    whole, parted = RoomMemory(), RoomMemory()
    list(rollout(Recorder(), whole, cameras, chunk=4))
    next(rollout(Recorder(), parted, cameras, chunk=4))
    generator = Recorder()
    list(rollout(generator, parted, cameras, chunk=4, start=4))
    assert [call.given["seed"] for call in generator.calls] == [4, 8]
    for one, other in zip(whole.stored, parted.stored, strict=True):
        assert torch.equal(one.rgb, other.rgb)


def test_a_generator_without_references_searches_no_keyframes(cameras: Camera) -> None:
    for slots, count in (({"projection"}, 0), ({"references"}, 2)):
        generator = Recorder(spec=GeneratorSpec(slots=frozenset(slots)))
        list(rollout(generator, RoomMemory(), cameras, chunk=4, k=2))
        assert len(generator.contexts[-1].keyframes) == count


def test_the_generators_depth_is_stored_unless_an_estimator_is_given(cameras: Camera) -> None:
    def made(history: tuple[Frame, ...], cameras: Camera, context: Retrieval) -> Generated:
        shape = (len(cameras), cameras.height, cameras.width)
        return Generated(torch.full((*shape, 3), 0.5), torch.full(shape, 2.0))

    def flat(rgb: Tensor, cameras: Camera, known: Any = None) -> Tensor:
        return torch.full(rgb.shape[:-1], 3.0)

    for depth, wanted in ((None, 2.0), (flat, 3.0)):
        memory = RoomMemory(unknown=1.0)
        list(rollout(spmem.from_function(made), memory, cameras, depth=depth))
        assert all(bool((frame.depth == wanted).all()) for frame in memory.stored)


def test_a_function_is_a_generator_and_is_given_what_it_names(cameras: Camera) -> None:
    told: list[tuple[int, int, str | None]] = []

    def fog(
        history: tuple[Frame, ...], cameras: Camera, context: Retrieval, seed: int, prompt: str
    ) -> Tensor:
        told.append((len(history), seed, prompt))
        return torch.full((len(cameras), cameras.height, cameras.width, 3), 0.5)

    list(rollout(spmem.from_function(fog), RoomMemory(), cameras, prompt="fog", chunk=4))
    assert told == [(0, 0, "fog"), (2, 4, "fog"), (2, 8, "fog")]


class TestFunction(GeneratorTests):
    @pytest.fixture
    def generator(self) -> Generator:
        return spmem.from_function(lambda history, cameras, context: context.projection.rgb)


def test_what_does_not_fit_is_refused_at_once(cameras: Camera) -> None:
    for spec, words in (
        (GeneratorSpec(size=(64, 64)), "makes 64x64, the cameras are 64x48"),
        (GeneratorSpec(multiple=32), "multiples of 32"),
        (GeneratorSpec(frames=FrameCount(most=4)), "at most 4"),
    ):
        with pytest.raises(InputError, match=words):
            rollout(Recorder(spec=spec), RoomMemory(), cameras)
    with spmem.open() as memory, pytest.raises(InputError, match="recent=9"):
        rollout(Recorder(spec=GeneratorSpec(history=9)), memory, cameras)
    with pytest.raises(InputError, match="start"):
        rollout(Recorder(), RoomMemory(), cameras, start=11)
    for wrong in ({"layout": "HWCT"}, {"axes": "y-up"}, {"slots": frozenset({"smell"})}):
        with pytest.raises(InputError):
            GeneratorSpec(**wrong)  # type: ignore[arg-type]


def test_depth_of_another_shape_is_told(cameras: Camera) -> None:
    def made(history: Any, cameras: Camera, context: Retrieval) -> Generated:
        return Generated(context.projection.rgb, torch.ones(len(cameras), 3, 3))

    with pytest.raises(FrameError, match="returned depth"):
        next(rollout(spmem.from_function(made), RoomMemory(), cameras))
