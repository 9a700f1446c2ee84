"""Blocks retrieve inside modular pipelines, and what they find drives the blocks after them."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from diffusers import (
    ClassifierFreeGuidance,
    HeliosScheduler,
    WanVACETransformer3DModel,
)
from diffusers.modular_pipelines import HeliosAutoBlocks, Wan22VaceBlocks

import spmem
from spmem.errors import InputError
from spmem.integrations.diffusers import HeliosRetrieveBlock, RetrieveBlock
from spmem.integrations.diffusers.helios import HeliosHistory
from spmem.testing.box import BoxRoom
from spmem.testing.room_memory import RoomMemory

CALL: dict[str, Any] = {"num_inference_steps": 2, "max_sequence_length": 8, "output_type": "pt"}


@pytest.fixture(scope="module")
def pipe(wan_vae: Any, umt5: Any, tokenizer: Any, euler: Any, tiny_wan: dict[str, int]) -> Any:
    def transformer(seed: int) -> Any:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return WanVACETransformer3DModel(
                **tiny_wan | {"num_layers": 2}, vace_layers=[0], vace_in_channels=96
            ).eval()

    blocks = Wan22VaceBlocks()
    blocks.sub_blocks.insert("memory", RetrieveBlock(), 0)
    pipe = blocks.init_pipeline()
    guider = ClassifierFreeGuidance(guidance_scale=2.0)  # without guidance 0.42 fails on the prompt
    pipe.update_components(
        vae=wan_vae,
        text_encoder=umt5,
        tokenizer=tokenizer,
        scheduler=euler,
        transformer=transformer(3),
        transformer_2=transformer(4),
        guider=guider,
        guider_2=guider,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def remembering(unknown: float = 0.25) -> RoomMemory:
    return RoomMemory(unknown=unknown).look(BoxRoom().walk(2, width=48, height=32))


def test_memory_drives_the_blocks_after_it(pipe: Any) -> None:
    cameras, memory = BoxRoom().walk(3, width=48, height=32), remembering()
    state = pipe(memory=memory, cameras=cameras, k=1, tail=1, prompt="a room", **CALL)
    retrieval = state.get("retrieval")
    assert state.get("video").shape == (1, 5, 3, 32, 48)
    assert len(retrieval.cameras) == 4, "made up to what the autoencoder takes"
    assert [image.size for image in state.get("reference_images")] == [(48, 32)]
    mask = state.get("mask")[0, 1:, 0].bool()
    assert torch.equal(mask, retrieval.projection.uncovered())
    frames = state.get("videos")[0][state.get("kept")]
    assert frames.shape == (3, 3, 32, 48)


def test_what_memory_says_changes_the_frames(pipe: Any) -> None:
    cameras = BoxRoom().walk(4, width=48, height=32)
    made = [
        pipe(
            memory=remembering(unknown),
            cameras=cameras,
            tail=1,
            prompt="a room",
            generator=torch.Generator().manual_seed(0),
            output="videos",
            **CALL,
        )[0]
        for unknown in (0.0, 1.0)
    ]
    assert (made[0] - made[1]).abs().max() > 1e-3


def test_it_remembers_along_a_rollout(pipe: Any) -> None:
    with spmem.open() as memory:

        def frames(history: Any, cameras: Any, context: Any, seed: int) -> Any:
            made = pipe(
                memory=memory,
                cameras=cameras,
                tail=1,
                prompt="a room",
                generator=torch.Generator().manual_seed(seed),
                output=["videos", "kept"],
                **CALL,
            )
            return made["videos"][0][made["kept"]]

        generator = spmem.from_function(frames, spmem.GeneratorSpec(layout="TCHW"))
        room, way = BoxRoom(), BoxRoom().walk(12, width=48, height=32)
        memory.store(room.frames(way[:1])[0])
        chunks = list(spmem.rollout(generator, memory, way, chunk=4))
        assert [len(chunk.frames) for chunk in chunks] == [4, 4, 4]
        assert chunks[-1].context.keyframes


def test_cameras_are_a_trajectory(pipe: Any) -> None:
    camera = BoxRoom().walk(1, width=48, height=32)
    with pytest.raises(InputError, match=r"a trajectory \[T\]"):
        pipe(memory=remembering(), cameras=camera[0], prompt="a room", **CALL)
    with pytest.raises(InputError, match="multiples of 16"):
        pipe(memory=remembering(), cameras=camera.resize(40, 32), prompt="a room", **CALL)


@pytest.fixture(scope="module")
def helios(wan_vae: Any, umt5: Any, tokenizer: Any, helios_transformer: Any) -> Any:
    blocks = HeliosAutoBlocks()
    blocks.sub_blocks.insert("memory", HeliosRetrieveBlock(), 0)
    pipe = blocks.init_pipeline()
    pipe.update_components(
        vae=wan_vae,
        text_encoder=umt5,
        tokenizer=tokenizer,
        scheduler=HeliosScheduler(stages=1, stage_range=[0, 1], use_dynamic_shifting=True),
        transformer=helios_transformer,
        guider=ClassifierFreeGuidance(guidance_scale=2.0),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_helios_blocks_see_keyframes_and_the_last_frames(helios: Any) -> None:
    cameras, memory, seen = BoxRoom().walk(3, width=48, height=32), remembering(), {}
    hook = helios.transformer.register_forward_pre_hook(
        lambda module, args, given: seen.update(given), with_kwargs=True
    )
    state = helios(
        memory=memory,
        cameras=cameras,
        tail=1,
        num_latent_frames_per_chunk=2,
        prompt="a room",
        **CALL,
    )
    hook.remove()
    assert state.get("videos")[0][state.get("kept")].shape == (3, 3, 32, 48)
    first, slots = HeliosHistory(1, (16, 2, 1))(helios, state.get("retrieval"))
    assert first is not None
    assert slots is not None
    assert torch.allclose(seen["latents_history_long"], slots[:, :, :16])
    assert torch.allclose(seen["latents_history_mid"], slots[:, :, 16:18])
    assert torch.allclose(seen["latents_history_short"], torch.cat([first, slots[:, :, 18:]], 2))


def test_helios_blocks_begin_without_memory(helios: Any) -> None:
    made = helios(
        memory=RoomMemory(),
        cameras=BoxRoom().walk(5, width=48, height=32),
        num_latent_frames_per_chunk=2,
        prompt="a room",
        output="videos",
        **CALL,
    )
    assert made[0].shape == (5, 3, 32, 48)


def test_without_diffusers_the_block_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers.modular_pipelines.modular_pipeline", None)
    monkeypatch.delitem(sys.modules, "spmem.integrations.diffusers.modular", raising=False)
    from spmem.integrations import diffusers

    with pytest.raises(ImportError, match=r"pip install 'spmem\[diffusers\]'"):
        _ = diffusers.RetrieveBlock
