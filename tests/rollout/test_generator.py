"""The projection generator, by the generators' conformance tests."""

from __future__ import annotations

import pytest
import torch

from spmem.errors import InputError
from spmem.testing.generator import GeneratorTests
from spmem.testing.projection_generator import ProjectionGenerator
from spmem.testing.room_memory import RoomMemory


class TestProjectionGenerator(GeneratorTests):
    @pytest.fixture
    def generator(self) -> ProjectionGenerator:
        return ProjectionGenerator()


def test_it_shows_the_projection_and_one_colour_elsewhere() -> None:
    memory = RoomMemory(unknown=0.25)
    context = memory.retrieve(memory.room.walk(2, width=64, height=48))
    generator = ProjectionGenerator()
    made = [generator.generate(context.projection, context.cameras, seed=seed) for seed in (1, 2)]
    mask = context.projection.mask
    for rgb in made:
        assert torch.equal(rgb[mask], context.projection.rgb[mask])
        assert len(rgb[~mask].unique(dim=0)) == 1
    assert not torch.equal(made[0][~mask], made[1][~mask])


def test_it_refuses_other_cameras_than_it_was_conditioned_on() -> None:
    memory = RoomMemory()
    cameras = memory.room.walk(3, width=64, height=48)
    with pytest.raises(InputError, match="asked for"):
        ProjectionGenerator().generate(memory.retrieve(cameras).projection, cameras[:2])
