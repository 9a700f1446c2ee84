"""AnyFlow FAR goes on from keyframes and the last frames, which are its context."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    AnyFlowFARPipeline,
    AnyFlowFARTransformer3DModel,
    FlowMapEulerDiscreteScheduler,
)

from spmem.errors import InputError
from spmem.integrations.diffusers import AnyFlow, LatentBlend
from spmem.testing.box import BoxRoom
from spmem.testing.generator import GeneratorTests
from spmem.testing.room_memory import RoomMemory

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without")

CALL: dict[str, Any] = {"num_inference_steps": 1, "max_sequence_length": 8}
WIDTH, HEIGHT = 64, 32


@pytest.fixture(scope="module")
def pipe(wan_vae: Any, umt5: Any, tokenizer: Any) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        transformer = AnyFlowFARTransformer3DModel(
            num_attention_heads=1,
            attention_head_dim=16,
            text_dim=32,
            freq_dim=32,
            ffn_dim=32,
            num_layers=1,
        ).eval()
    scheduler = FlowMapEulerDiscreteScheduler(shift=5.0)
    pipe = AnyFlowFARPipeline(tokenizer, umt5, transformer, wan_vae, scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class TestAnyFlow(GeneratorTests):
    width, height = WIDTH, HEIGHT
    lengths = (4,)

    @pytest.fixture
    def generator(self, pipe: Any) -> AnyFlow:
        return AnyFlow(pipe, tail=1, keyframes=1, **CALL)


def remembering(frames: int) -> RoomMemory:
    return RoomMemory().look(BoxRoom().walk(frames, width=WIDTH, height=HEIGHT))


def test_its_context_is_keyframes_then_the_last_frames(pipe: Any) -> None:
    generator, memory = AnyFlow(pipe, tail=1, keyframes=2, **CALL), remembering(3)
    context = memory.retrieve(BoxRoom().walk(8, width=WIDTH, height=HEIGHT))
    call = generator.condition(context)
    video = call["video"][0].movedim(1, -1)
    oldest, newest = (keyframe.frame.rgb_float() for keyframe in context.keyframes[1::-1])
    assert torch.equal(video[0], oldest)
    assert all(torch.equal(frame, newest) for frame in video[1:5])
    assert all(torch.equal(frame, context.recent[-1].rgb_float()) for frame in video[5:])
    assert (call["num_frames"], call["chunk_partition"]) == (17, [1, 2, 2])


def test_chunks_of_the_context_end_where_new_latents_begin(pipe: Any) -> None:
    memory = remembering(4)
    for keyframes, latents, chunks in (
        (0, 3, [1, 3]),
        (3, 3, [1, 3, 3]),
        (4, 5, [1, 1, 3, 3, 2]),
    ):
        generator = AnyFlow(pipe, tail=1, keyframes=keyframes, **CALL)
        cameras = BoxRoom().walk(4 * latents, width=WIDTH, height=HEIGHT)
        call = generator.condition(memory.retrieve(cameras))
        assert call["chunk_partition"] == chunks
        assert call["num_frames"] == 4 * (sum(chunks) - 1) + 1
    nothing = AnyFlow(pipe, **CALL).condition(
        RoomMemory().retrieve(BoxRoom().walk(17, width=WIDTH, height=HEIGHT))
    )
    assert (nothing["video"], nothing["chunk_partition"]) == (None, [1, 3, 1])


def test_what_it_returns_begins_with_the_last_frames(pipe: Any) -> None:
    generator, memory = AnyFlow(pipe, tail=1, keyframes=1, **CALL), remembering(2)
    cameras = BoxRoom().walk(4, width=WIDTH, height=HEIGHT)
    call = generator.condition(memory.retrieve(cameras))
    first, second = (generator.generate(call, cameras, seed=seed) for seed in (1, 2))
    assert len(first) == 5
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])


def test_the_model_sees_the_keyframe(pipe: Any) -> None:
    """Changing its latent alone changes the latents that are made, so it is not the decoder that looks back."""
    cameras = BoxRoom().walk(4, width=WIDTH, height=HEIGHT)
    call = AnyFlow(pipe, tail=1, keyframes=1, **CALL).condition(remembering(2).retrieve(cameras))
    del call["before"]
    context = pipe.encode_video(call.pop("video"), height=HEIGHT, width=WIDTH)
    changed = context.clone()
    changed[:, 0] *= -1
    made, other = (
        pipe(
            **call,
            **CALL,
            video_latents=latents,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        ).frames
        for latents in (context, changed)
    )
    assert torch.equal(made[:, :, 1], other[:, :, 1])
    assert (made[:, :, 2] - other[:, :, 2]).abs().max() > 1e-4


def test_its_chunks_are_not_for_latent_blend(pipe: Any) -> None:
    with pytest.raises(InputError, match="an adapter that calls back"):
        LatentBlend(AnyFlow(pipe, **CALL))


def test_a_context_is_needed(pipe: Any) -> None:
    with pytest.raises(InputError, match="tail must be >= 1"):
        AnyFlow(pipe, tail=0)
