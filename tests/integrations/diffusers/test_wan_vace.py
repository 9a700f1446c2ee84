"""Wan VACE is given the last frames, the rendered memory, what it does not know, and keyframes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import WanVACEPipeline, WanVACETransformer3DModel

import spmem
from spmem.errors import InputError
from spmem.integrations.diffusers import WanVace
from spmem.testing.box import BoxRoom
from spmem.testing.generator import GeneratorTests
from spmem.testing.room_memory import RoomMemory

CALL: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 1.0, "max_sequence_length": 8}


@pytest.fixture(scope="module")
def pipe(wan_vae: Any, umt5: Any, tokenizer: Any, euler: Any, tiny_wan: dict[str, int]) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        transformer = WanVACETransformer3DModel(
            **tiny_wan | {"num_layers": 2}, vace_layers=[0], vace_in_channels=96
        ).eval()
    pipe = WanVACEPipeline(tokenizer, umt5, wan_vae, euler, transformer)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class TestWanVace(GeneratorTests):
    width, height = 48, 32

    @pytest.fixture
    def generator(self, pipe: Any) -> WanVace:
        return WanVace(pipe, tail=5, **CALL)


def test_memory_fills_video_mask_and_references(pipe: Any) -> None:
    generator, cameras = WanVace(pipe, tail=1, **CALL), BoxRoom().walk(4, width=48, height=32)
    memory = RoomMemory(unknown=0.25)
    frame = memory.room.frames(cameras[:1])[0]
    memory.store(frame)
    context = memory.retrieve(cameras)
    call = generator.condition(context, "a room")
    assert call["prompt"] == "a room"
    assert call["num_frames"] == 5
    video, mask = call["video"][0].movedim(1, -1), call["mask"][0].movedim(1, -1)
    assert torch.equal(video[0], frame.rgb_float())
    assert not mask[0].any(), "the last frame is kept"
    assert torch.equal(mask[1:, ..., 0].bool(), context.projection.uncovered())
    known = context.projection.mask
    assert torch.equal(video[1:][known], context.projection.rgb[known])
    assert (video[1:][~known] == 0.5).all()
    assert [image.size for image in call["reference_images"]] == [(48, 32)]


def test_there_are_as_many_references_as_frames_of_latents(pipe: Any) -> None:
    generator, cameras = WanVace(pipe, tail=5, **CALL), BoxRoom().walk(4, width=48, height=32)
    with spmem.open(config=spmem.MemoryConfig(recent=5)) as memory:
        for frame in BoxRoom().frames(BoxRoom().walk(9, width=48, height=32, sweep=6.0)):
            memory.store(frame)
        context = memory.retrieve(cameras, k=8, method="recent")
        call = generator.condition(context)
    assert len(context.keyframes) > 3
    assert call["num_frames"] == 9
    assert len(call["reference_images"]) == 3
    assert generator.generate(call, cameras).shape == (9, 3, 32, 48)


def test_what_memory_says_changes_the_frames(pipe: Any) -> None:
    generator, cameras = WanVace(pipe, tail=1, **CALL), BoxRoom().walk(5, width=48, height=32)
    made = [
        generator.generate(
            generator.condition(RoomMemory(unknown=share).retrieve(cameras)), cameras
        )
        for share in (0.0, 1.0)
    ]
    assert (made[0] - made[1]).abs().max() > 1e-3


def test_settings_are_checked_at_once(pipe: Any) -> None:
    with pytest.raises(InputError, match=r"takes no \['num_steps'\]"):
        WanVace(pipe, num_steps=3)
    with pytest.raises(InputError, match=r"fills \['video'\] itself"):
        WanVace(pipe, video=[])
    with pytest.raises(InputError, match="wants a diffusers"):
        WanVace(pipe.vae)
