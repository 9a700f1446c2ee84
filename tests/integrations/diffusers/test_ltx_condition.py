"""LTX goes on from a clip of the last frames, and passes the keyframes that its cameras pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import LTXConditionPipeline

from spmem.errors import InputError
from spmem.integrations.diffusers import LtxCondition
from spmem.testing.box import BoxRoom
from spmem.testing.generator import GeneratorTests
from spmem.testing.room_memory import RoomMemory

CALL: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 1.0, "max_sequence_length": 8}


@pytest.fixture(scope="module")
def pipe(ltx_vae: Any, ltx_transformer: Any, t5: Any, tokenizer: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    pipe = LTXConditionPipeline(
        FlowMatchEulerDiscreteScheduler(), ltx_vae, t5, tokenizer, ltx_transformer
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


class TestLtxCondition(GeneratorTests):
    width, height = 64, 32

    @pytest.fixture
    def generator(self, pipe: Any) -> LtxCondition:
        return LtxCondition(pipe, tail=9, **CALL)


def test_keyframes_stand_where_the_camera_passes_them(pipe: Any) -> None:
    generator = LtxCondition(pipe, tail=1, strength=0.5, reach=0.05, **CALL)
    memory, walk = RoomMemory(), BoxRoom().walk(12, width=64, height=32, sweep=2.0)
    for frame in memory.room.frames(walk[torch.tensor([7, 0])]):
        memory.store(frame)
    call = generator.condition(memory.retrieve(walk[4:]))
    assert call["num_frames"] == 9
    assert call["frame_index"] == [0, 1 + 3], (
        "camera 7 is the fourth of these, after one echoed frame"
    )
    assert call["strength"] == [1.0, 0.5]
    assert torch.equal(call["video"][0][0, 0].movedim(0, -1), memory.stored[-1].rgb_float())
    assert call["image"][0] is None
    assert call["image"][1].size == (64, 32)
    far = LtxCondition(pipe, tail=1, reach=100.0, **CALL).condition(memory.retrieve(walk[4:]))
    assert far["frame_index"] == [0, 1, 4], "camera 0 is nearest to the first"


def test_a_still_changes_the_frames(pipe: Any) -> None:
    walk = BoxRoom().walk(9, width=64, height=32)
    empty, memory = RoomMemory(unknown=1.0), RoomMemory(unknown=1.0)
    memory.store(memory.room.frames(walk[4:5])[0])
    generator = LtxCondition(pipe, tail=0 + 1, **CALL)
    without, with_one = (
        generator.generate(
            {**generator.condition(one.retrieve(walk)), "num_frames": 9}, walk, seed=1
        )
        for one in (empty, memory)
    )
    assert (without - with_one).abs().max() > 1e-3


def test_strength_and_reach_are_checked(pipe: Any) -> None:
    with pytest.raises(InputError, match="strength"):
        LtxCondition(pipe, strength=0.0)
    with pytest.raises(InputError, match="reach"):
        LtxCondition(pipe, reach=-1.0)
