"""The bundled generator keeps the seam, whatever its backbone; and its rollout goes on exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import spmem
from spmem.errors import FormatError, InputError, UnknownNameError
from spmem.integrations.reference.config import NANO, ModelConfig
from spmem.integrations.reference.generator import FORMS, ReferenceGenerator
from spmem.integrations.reference.model import WorldModel
from spmem.protocols import Generator
from spmem.testing.box import BoxRoom
from spmem.testing.generator import GeneratorTests
from spmem.testing.room_memory import RoomMemory

TINY = replace(NANO, size=32, width=32, layers=2, heads=2, states=4)


def random_model(config: ModelConfig = TINY) -> WorldModel:
    """All weights random: none of the zeros that training begins with, so that every path counts."""
    draw = torch.Generator().manual_seed(3)
    model = WorldModel(config)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(0.1 * torch.randn(value.shape, generator=draw))
    return model


class OfTheSeam(GeneratorTests):
    width = height = 32
    config = TINY

    @pytest.fixture
    def generator(self) -> Generator:
        return ReferenceGenerator(random_model(self.config), steps=2)


class TestAttention(OfTheSeam):
    pass


class TestStateSpace(OfTheSeam):
    config = replace(TINY, backbone="state-space")


class TestColourAlone(OfTheSeam):
    config = replace(TINY, depth=False)


del OfTheSeam


def room_walk(n: int) -> tuple[BoxRoom, spmem.Camera]:
    room = BoxRoom()
    return room, room.walk(n, width=32, height=32)


@pytest.mark.parametrize("backbone", ["attention", "state-space"])
def test_a_rollout_that_was_closed_goes_on_exactly(tmp_path: Path, backbone: str) -> None:
    room, cameras = room_walk(11)
    generator = ReferenceGenerator(random_model(replace(TINY, backbone=backbone)), steps=2)

    def begun(name: str) -> spmem.SpatialMemory:
        memory = spmem.open(tmp_path / name)
        memory.store(room.frames(cameras)[0])
        return memory

    with begun("whole") as memory:
        whole = list(spmem.rollout(generator, memory, cameras, chunk=4, seed=9))
    with begun("parted") as memory:
        first = next(spmem.rollout(generator, memory, cameras, chunk=4, seed=9))
    with spmem.open(tmp_path / "parted") as memory:
        rest = list(
            spmem.rollout(
                generator, memory, cameras, chunk=4, seed=9, start=first.stop, state=first.state
            )
        )
    assert [chunk.start for chunk in [first, *rest]] == [0, 4, 8]
    for one, other in zip(whole, [first, *rest], strict=True):
        assert torch.equal(one.rgb, other.rgb)


def test_a_fork_goes_on_as_the_original_does_until_it_is_asked_otherwise(tmp_path: Path) -> None:
    room, cameras = room_walk(8)
    generator = ReferenceGenerator(random_model(replace(TINY, backbone="state-space")), steps=1)
    with spmem.open(tmp_path / "world") as memory:
        memory.store(room.frames(cameras)[0])
        first = next(spmem.rollout(generator, memory, cameras, chunk=4))
        memory.commit("after chunk 1")

        def onwards(memory: spmem.SpatialMemory, seed: int) -> torch.Tensor:
            (chunk,) = spmem.rollout(
                generator, memory, cameras, chunk=4, seed=seed, start=4, state=first.state
            )
            return chunk.rgb

        with memory.fork("same") as same, memory.fork("other") as other:
            forked, turned = onwards(same, 0), onwards(other, 1)
        assert torch.equal(onwards(memory, 0), forked)
    assert not torch.equal(forked, turned)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_memory_counts_and_can_be_left_out(form: str) -> None:
    memory = RoomMemory()
    room, cameras = room_walk(6)
    for frame in room.frames(cameras[:2]):
        memory.store(frame)
    context = memory.retrieve(cameras[2:])
    model = random_model()

    def made(forms: tuple[str, ...]) -> torch.Tensor:
        generator = ReferenceGenerator(model, steps=1, forms=forms)
        return generator.generate(generator.condition(context), context.cameras).rgb

    full, without = made(FORMS), made(tuple(set(FORMS) - {form}))
    assert not torch.equal(full, without)
    nothing, alone = made(()), made((form,))
    assert not torch.equal(nothing, alone)


def test_the_scale_of_the_world_does_not_count() -> None:
    """The same room twice as large is the same to the model, and its depth is twice as large."""
    generator = ReferenceGenerator(random_model(), steps=2)
    made = []
    for scale in (1.0, 4.0):
        room, cameras = room_walk(6)
        c2w = cameras.c2w.clone()
        c2w[:, :3, 3] *= scale
        larger = spmem.Camera(cameras.K, c2w, width=32, height=32)
        memory = spmem.open(config=spmem.MemoryConfig(check_poses=False))
        for frame, camera in zip(room.frames(cameras[:2]), larger, strict=False):
            assert frame.depth is not None
            memory.store(frame.replace(depth=frame.depth * scale, camera=camera))
        context = memory.retrieve(larger[2:])
        made.append(generator.generate(generator.condition(context), context.cameras))
    assert made[0].depth is not None
    assert made[1].depth is not None
    assert torch.allclose(made[0].rgb, made[1].rgb, atol=2e-3)
    assert torch.allclose(4 * made[0].depth, made[1].depth, rtol=1e-2)


def test_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    generator = ReferenceGenerator(random_model().half().float(), steps=2)
    again = ReferenceGenerator.from_pretrained(generator.save_pretrained(tmp_path / "w"), steps=2)
    assert again.model.config == generator.model.config
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, generator.model.state_dict()[name]), name


def test_weights_that_are_damaged_are_refused(tmp_path: Path) -> None:
    folder = ReferenceGenerator(random_model()).save_pretrained(tmp_path / "w")
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(FormatError, match="SHA-256"):
        ReferenceGenerator.from_pretrained(folder)
    (folder / "config.json").write_text('{"model": {"colour": 1}, "sha256": ""}')
    with pytest.raises(FormatError, match="describes no model"):
        ReferenceGenerator.from_pretrained(folder)
    with pytest.raises(UnknownNameError, match="huge"):
        ReferenceGenerator.from_pretrained("huge")


def test_other_sizes_and_forms_are_refused() -> None:
    generator = ReferenceGenerator(random_model())
    room, _ = room_walk(1)
    with pytest.raises(InputError, match="32x32"):
        spmem.rollout(generator, RoomMemory(), room.walk(4, width=64, height=48))
    with pytest.raises(InputError, match="at most 4"):
        spmem.rollout(generator, RoomMemory(), room.walk(8, width=32, height=32), chunk=8)
    with pytest.raises(InputError, match="no \\['smell'\\]"):
        ReferenceGenerator(random_model(), forms=("smell",))
