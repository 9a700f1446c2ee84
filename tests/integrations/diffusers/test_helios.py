"""Helios sees the last frames in the newest slots of its history, keyframes in the long ones and as its first frame."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import HeliosPipeline, HeliosScheduler

from spmem.errors import InputError
from spmem.integrations.diffusers import Helios, LatentBlend
from spmem.integrations.diffusers.latent_blend import encoded
from spmem.testing.box import BoxRoom
from spmem.testing.generator import GeneratorTests
from spmem.testing.room_memory import RoomMemory

CALL: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 1.0, "max_sequence_length": 8}


@pytest.fixture(scope="module")
def pipe(wan_vae: Any, umt5: Any, tokenizer: Any, helios_transformer: Any) -> Any:
    scheduler = HeliosScheduler(stages=1, stage_range=[0, 1], use_dynamic_shifting=True)
    pipe = HeliosPipeline(tokenizer, umt5, wan_vae, scheduler, helios_transformer)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class TestHelios(GeneratorTests):
    width, height = 48, 32
    lengths = (4,)

    @pytest.fixture
    def generator(self, pipe: Any) -> Helios:
        return Helios(pipe, tail=5, window=2, **CALL)


def remembering(frames: int) -> RoomMemory:
    return RoomMemory().look(BoxRoom().walk(frames, width=48, height=32))


def test_its_history_is_keyframes_and_the_last_frames(pipe: Any) -> None:
    generator = Helios(pipe, tail=1, window=2, **CALL)
    context = remembering(3).retrieve(BoxRoom().walk(5, width=48, height=32))
    call = generator.condition(context)
    assert call["num_frames"] == 5
    best, second, third = (
        encoded(pipe, keyframe.frame.rgb_uint8()[None] / 255) for keyframe in context.keyframes
    )
    slots = call["video_latents"]
    assert slots.shape == (1, 16, 19, 4, 6)
    assert torch.equal(call["image_latents"], best)
    assert torch.equal(slots[:, :, 8:12], third.expand(1, 16, 4, 4, 6))
    assert torch.equal(slots[:, :, 12:16], second.expand(1, 16, 4, 4, 6))
    assert torch.equal(slots[:, :, 18:], encoded(pipe, context.recent[-1].rgb_float()[None]))
    assert not slots[:, :, :8].any()
    assert not slots[:, :, 16:18].any()


def test_each_slot_changes_the_frames(pipe: Any) -> None:
    generator = Helios(pipe, tail=1, window=2, **CALL)
    cameras = BoxRoom().walk(5, width=48, height=32)
    call = generator.condition(remembering(3).retrieve(cameras))
    made = generator.generate(call, cameras)
    others = [{**call, "image_latents": -call["image_latents"]}]
    for slots in (slice(12, 16), slice(18, 19)):
        changed = call["video_latents"].clone()
        changed[:, :, slots] *= -1
        others.append({**call, "video_latents": changed})
    for other in others:
        assert (generator.generate(other, cameras) - made).abs().max() > 1e-4


def test_a_keyframe_is_encoded_once(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, memory = Helios(pipe, tail=0, window=2, keep=2, **CALL), remembering(2)
    cameras = BoxRoom().walk(5, width=48, height=32)
    calls: list[Any] = []
    encode = pipe.vae.encode
    monkeypatch.setattr(pipe.vae, "encode", lambda x: (calls.append(x), encode(x))[1])
    first = generator.condition(memory.retrieve(cameras))
    again = generator.condition(memory.retrieve(cameras))
    assert len(calls) == 2
    assert torch.equal(first["video_latents"], again["video_latents"])
    other = remembering(2)
    other.stored.reverse()  # the same ids, other pixels
    swapped = generator.condition(other.retrieve(cameras))
    assert len(calls) == 2
    assert torch.equal(swapped["image_latents"], first["video_latents"][:, :, 12:13])


def test_a_window_is_made_at_once(pipe: Any) -> None:
    assert Helios(pipe, **CALL).spec.frames.fit(8) == 33
    with pytest.raises(InputError, match="at most 33 frames"):
        Helios(pipe, **CALL).spec.frames.fit(34)


def test_the_tail_fits_the_history(pipe: Any) -> None:
    with pytest.raises(InputError, match="must be 4n"):
        Helios(pipe, tail=4)
    with pytest.raises(InputError, match="do not fit"):
        Helios(pipe, tail=13, history_sizes=[1, 1, 1])


def test_what_memory_covers_is_written_into_its_latents(pipe: Any) -> None:
    """It has no slot for what memory renders; around it, LatentBlend gives it one."""
    generator, cameras = (
        LatentBlend(Helios(pipe, tail=1, window=2, **CALL)),
        BoxRoom().walk(5, width=48, height=32),
    )
    conditioning = generator.condition(remembering(1).retrieve(cameras))
    first, second = (generator.generate(conditioning, cameras, seed=seed) for seed in (1, 2))
    assert torch.allclose(first, second, atol=1e-4), "memory covers all, nothing is left to draw"
