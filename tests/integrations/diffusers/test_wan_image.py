"""Wan image-to-video goes on from the last frame, towards the last camera where memory knows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel

from spmem.errors import InputError
from spmem.integrations.diffusers import WanImage
from spmem.testing.box import BoxRoom
from spmem.testing.generator import GeneratorTests
from spmem.testing.room_memory import RoomMemory

CALL: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 1.0, "max_sequence_length": 8}


@pytest.fixture(scope="module")
def pipe(wan_vae: Any, umt5: Any, tokenizer: Any, euler: Any, tiny_wan: dict[str, int]) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        transformer = WanTransformer3DModel(**tiny_wan, in_channels=36, out_channels=16).eval()
    pipe = WanImageToVideoPipeline(
        tokenizer, umt5, wan_vae, euler, transformer=transformer, transformer_2=None
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


class TestWanImage(GeneratorTests):
    width, height = 48, 32

    @pytest.fixture
    def generator(self, pipe: Any) -> WanImage:
        return WanImage(pipe, **CALL)


def shown(image: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).float() / 255


def test_it_goes_from_the_last_frame_to_what_memory_knows(pipe: Any) -> None:
    generator, cameras = WanImage(pipe, least=0.5, **CALL), BoxRoom().walk(4, width=48, height=32)
    known, unknown = RoomMemory(unknown=0.25), RoomMemory(unknown=0.75)
    frames = known.room.frames(cameras[:2])
    for frame in frames:
        known.store(frame)
        unknown.store(frame)
    call = generator.condition(known.retrieve(cameras))
    assert call["num_frames"] == 5
    assert (shown(call["image"]) - frames[1].rgb_float()).abs().max() < 0.01
    projection = known.retrieve(cameras).projection
    seen = projection.mask[-1]
    assert (shown(call["last_image"])[seen] - projection.rgb[-1][seen]).abs().max() < 0.01
    assert generator.condition(unknown.retrieve(cameras))["last_image"] is None


def test_without_frames_it_begins_with_what_memory_renders(pipe: Any) -> None:
    generator, cameras = WanImage(pipe, **CALL), BoxRoom().walk(5, width=48, height=32)
    context = RoomMemory().retrieve(cameras)
    call = generator.condition(context)
    assert call["num_frames"] == 5
    assert (shown(call["image"]) - context.projection.rgb[0]).abs().max() < 0.01


def test_a_share_is_a_share(pipe: Any) -> None:
    with pytest.raises(InputError, match="least is a share"):
        WanImage(pipe, least=0.0)
