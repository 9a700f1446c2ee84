"""SkyReels-V2 goes on from the last frames, keyframes may stand before them, and only ours of its frames are kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)

from spmem.errors import InputError
from spmem.integrations.diffusers import LatentBlend, SkyReels
from spmem.testing.box import BoxRoom
from spmem.testing.generator import GeneratorTests
from spmem.testing.room_memory import RoomMemory

CALL: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 1.0, "max_sequence_length": 8}


@pytest.fixture(scope="module")
def pipe(wan_vae: Any, umt5: Any, tokenizer: Any, tiny_wan: dict[str, int]) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        transformer = SkyReelsV2Transformer3DModel(**tiny_wan).eval()
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0
    )
    pipe = SkyReelsV2DiffusionForcingVideoToVideoPipeline(
        tokenizer, umt5, transformer, wan_vae, scheduler
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


class TestSkyReels(GeneratorTests):
    width, height = 48, 32
    lengths = (4,)

    @pytest.fixture
    def generator(self, pipe: Any) -> SkyReels:
        return SkyReels(pipe, tail=5, addnoise_condition=20, **CALL)


def remembering(frames: int) -> RoomMemory:
    return RoomMemory().look(BoxRoom().walk(frames, width=48, height=32))


def test_the_last_frames_are_its_history(pipe: Any) -> None:
    generator, memory = SkyReels(pipe, tail=1, **CALL), remembering(2)
    context = memory.retrieve(BoxRoom().walk(4, width=48, height=32))
    call = generator.condition(context)
    assert (call["overlap_history"], call["num_frames"]) == (1, 5)
    assert torch.equal(call["video"][0, 0].movedim(0, -1), context.recent[-1].rgb_float())


def test_what_it_returns_begins_with_the_last_frames(pipe: Any) -> None:
    """Its first frames are the decoded history, the same whatever is drawn, and fit the frames that went in."""
    generator, memory = SkyReels(pipe, tail=1, **CALL), remembering(2)
    cameras = BoxRoom().walk(4, width=48, height=32)
    call = generator.condition(memory.retrieve(cameras))
    first, second = (generator.generate(call, cameras, seed=seed) for seed in (1, 2))
    assert len(first) == 5
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    latents = pipe.vae.encode(call["video"].movedim(1, 2) * 2 - 1).latent_dist.mode()
    decoded = pipe.vae.decode(latents).sample[0, :, 0].detach() / 2 + 0.5
    assert torch.allclose(first[0], decoded.clamp(0, 1), atol=1e-4)


def test_keyframes_stand_before_the_last_frames(pipe: Any) -> None:
    generator, memory = SkyReels(pipe, tail=1, keyframes=2, **CALL), remembering(3)
    cameras = BoxRoom().walk(4, width=48, height=32)
    context = memory.retrieve(cameras)
    call = generator.condition(context)
    video = call["video"][0].movedim(1, -1)
    oldest, newest = (keyframe.frame.rgb_float() for keyframe in context.keyframes[1::-1])
    assert torch.equal(video[0], oldest)
    assert all(torch.equal(frame, newest) for frame in video[1:5])
    assert all(torch.equal(frame, context.recent[-1].rgb_float()) for frame in video[5:])
    assert (call["overlap_history"], call["num_frames"]) == (9, 13)
    made = generator.generate(call, cameras)
    assert len(made) == 5
    memory.stored[1] = memory.room.frames(cameras)[3]
    others = generator.generate(generator.condition(memory.retrieve(cameras)), cameras)
    assert (made[1:] - others[1:]).abs().max() > 1e-3


def test_latents_come_in_whole_blocks(pipe: Any) -> None:
    """Each block a step of denoising behind the one before; what was made to fill them up is dropped."""
    transformer = SkyReelsV2Transformer3DModel.from_config(pipe.transformer.config).eval()
    own = type(pipe)(**{**pipe.components, "transformer": transformer})
    own.set_progress_bar_config(disable=True)
    generator = SkyReels(own, tail=1, keyframes=2, ar_step=1, causal_block_size=2, **CALL)
    context = remembering(3).retrieve(BoxRoom().walk(4, width=48, height=32))
    call = generator.condition(context)
    assert (call["overlap_history"], call["num_frames"]) == (13, 21)  # 4 latents, 6 latents
    TestSkyReels().test_remembers_along_a_rollout(generator)


def test_a_history_is_needed(pipe: Any) -> None:
    with pytest.raises(InputError, match="tail must be >= 1"):
        SkyReels(pipe, tail=0)


def test_what_memory_covers_is_written_into_its_latents(pipe: Any) -> None:
    """It has no slot for what memory renders; around it, LatentBlend gives it one."""
    generator, cameras = (
        LatentBlend(SkyReels(pipe, tail=1, **CALL)),
        BoxRoom().walk(4, width=48, height=32),
    )
    conditioning = generator.condition(remembering(1).retrieve(cameras))
    first, second = (generator.generate(conditioning, cameras, seed=seed) for seed in (1, 2))
    assert torch.allclose(first, second, atol=1e-4), "memory covers all, nothing is left to draw"
