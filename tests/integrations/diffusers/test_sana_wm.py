"""SANA-WM is given the last frame, its camera and the cameras ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTX2Video, SanaWMPipeline, SanaWMTransformer3DModel
from transformers import Gemma2Config, Gemma2ForCausalLM

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.integrations.diffusers import LatentBlend, SanaWm
from spmem.testing.box import BoxRoom
from spmem.testing.generator import GeneratorTests
from spmem.testing.room_memory import RoomMemory

CALL: dict[str, Any] = {
    "num_inference_steps": 2,
    "guidance_scale": 1.0,
    "max_sequence_length": 8,
    "chi_prompt": ["a"],
}
WIDTH, HEIGHT = 64, 32


@pytest.fixture(scope="module")
def pipe(tokenizer: Any, euler: Any) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        vae = AutoencoderKLLTX2Video(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 16, 32),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1),
            spatial_compression_ratio=32,
            temporal_compression_ratio=8,
            decoder_spatial_padding_mode="zeros",  # reflecting takes two rows of latents
        ).eval()
        text_encoder = Gemma2ForCausalLM(
            Gemma2Config(
                vocab_size=16,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
            )
        ).eval()
        transformer = SanaWMTransformer3DModel(
            in_channels=8,
            num_layers=2,
            hidden_size=32,
            num_attention_heads=2,
            softmax_every_n=2,
            linear_head_dim=16,
            caption_channels=16,
            chunk_plucker_post_attn_blocks=2,
        ).eval()
    pipe = SanaWMPipeline(tokenizer, text_encoder, vae, transformer, euler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class TestSanaWm(GeneratorTests):
    width, height = WIDTH, HEIGHT
    lengths = (8,)

    @pytest.fixture
    def generator(self, pipe: Any) -> SanaWm:
        return SanaWm(pipe, **CALL)


def shown(image: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).float() / 255


def remembering(cameras: Camera) -> RoomMemory:
    return RoomMemory().look(cameras)


def test_the_trajectory_begins_with_the_last_frame(pipe: Any) -> None:
    walk = BoxRoom().walk(10, width=WIDTH, height=HEIGHT)
    memory = remembering(walk[:2])
    call = SanaWm(pipe, scale=0.5, **CALL).condition(memory.retrieve(walk[2:]), "a room")
    assert call["prompt"] == "a room"
    assert call["num_frames"] == 9
    assert call["image"].size == (WIDTH, HEIGHT)
    assert (shown(call["image"]) - memory.stored[-1].rgb_float()).abs().max() < 0.01
    ahead = walk[1:]
    assert np.allclose(call["intrinsics"], ahead.K)
    assert np.allclose(call["c2w"][:, :3, :3], ahead.c2w[:, :3, :3])
    assert np.allclose(call["c2w"][:, :3, 3], 0.5 * ahead.position)


def test_the_pipeline_takes_the_cameras_as_ours(pipe: Any) -> None:
    """What the model is told of a latent's camera is our pose relative to the first, and our K in latents."""
    walk = BoxRoom().walk(9, width=WIDTH, height=HEIGHT)
    call = SanaWm(pipe, **CALL).condition(remembering(walk[:1]).retrieve(walk[1:]))
    seen: dict[str, Any] = {}
    hook = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    pipe(**call, **CALL, generator=torch.Generator().manual_seed(0), output_type="pt")
    hook.remove()
    told, K = seen["camera_conditions"][0, -1], walk.K[8] / 32
    assert torch.allclose(told[:16].view(4, 4), walk[0].w2c @ walk[8].c2w, atol=1e-5)
    assert torch.allclose(told[16:], torch.stack([K[0, 0], K[1, 1], K[0, 2], K[1, 2]]))


def test_cameras_change_the_frames(pipe: Any) -> None:
    generator, room = SanaWm(pipe, **CALL), BoxRoom()
    walk = room.walk(9, width=WIDTH, height=HEIGHT)
    turned = room.walk(9, width=WIDTH, height=HEIGHT, sweep=-1.0)
    memory = remembering(walk[:1])
    made = [
        generator.generate(generator.condition(memory.retrieve(ahead)), ahead)
        for ahead in (walk[1:], turned[1:])
    ]
    assert torch.equal(made[0][0], made[1][0])
    assert (made[0][1:] - made[1][1:]).abs().max() > 1e-4


def test_without_frames_it_begins_with_what_memory_renders(pipe: Any) -> None:
    context = RoomMemory().retrieve(BoxRoom().walk(9, width=WIDTH, height=HEIGHT))
    call = SanaWm(pipe, **CALL).condition(context)
    assert call["num_frames"] == len(call["c2w"]) == 9
    assert (shown(call["image"]) - context.projection.rgb[0]).abs().max() < 0.01


def test_a_scale_is_positive(pipe: Any) -> None:
    with pytest.raises(InputError, match="scale must be > 0"):
        SanaWm(pipe, scale=0.0)


def test_what_memory_covers_is_written_into_its_latents(pipe: Any) -> None:
    """It has no slot for what memory renders; around it, LatentBlend gives it one."""
    generator, cameras = (
        LatentBlend(SanaWm(pipe, **CALL)),
        BoxRoom().walk(8, width=WIDTH, height=HEIGHT),
    )
    conditioning = generator.condition(
        remembering(BoxRoom().walk(1, width=WIDTH, height=HEIGHT)).retrieve(cameras)
    )
    first, second = (generator.generate(conditioning, cameras, seed=seed) for seed in (1, 2))
    assert torch.allclose(first, second, atol=1e-4), "memory covers all, nothing is left to draw"
