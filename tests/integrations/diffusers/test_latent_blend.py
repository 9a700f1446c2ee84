"""What memory covers ends as memory's latents, in each layout that pipelines denoise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    LTXConditionPipeline,
    LTXPipeline,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from torch import Tensor

from spmem.errors import InputError
from spmem.integrations.diffusers import LatentBlend, LtxCondition, TextToVideo
from spmem.integrations.diffusers.latent_blend import covers, encoded, mixed
from spmem.testing.box import BoxRoom
from spmem.testing.generator import GeneratorTests
from spmem.testing.room_memory import RoomMemory

CALL: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 1.0}
WIDTH, HEIGHT = 64, 32


@pytest.fixture(scope="module")
def wan(wan_vae: Any, umt5: Any, tokenizer: Any, tiny_wan: dict[str, int]) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        transformer = WanTransformer3DModel(**tiny_wan).eval()
    schedule = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return quiet(WanPipeline(tokenizer, umt5, wan_vae, schedule, transformer))


@pytest.fixture(scope="module")
def ltx(ltx_vae: Any, ltx_transformer: Any, t5: Any, tokenizer: Any) -> Any:
    schedule = FlowMatchEulerDiscreteScheduler()
    return quiet(LTXPipeline(schedule, ltx_vae, t5, tokenizer, ltx_transformer))


@pytest.fixture(scope="module")
def ltx_condition(ltx_vae: Any, ltx_transformer: Any, t5: Any, tokenizer: Any) -> Any:
    schedule = FlowMatchEulerDiscreteScheduler()
    return quiet(LTXConditionPipeline(schedule, ltx_vae, t5, tokenizer, ltx_transformer))


@pytest.fixture(scope="module")
def cog(t5: Any, tokenizer: Any) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        vae = AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
        ).eval()
        transformer = CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            time_embed_dim=8,
            text_embed_dim=32,
            num_layers=1,
            sample_width=8,
            sample_height=4,
            sample_frames=9,
            max_text_seq_length=8,
        ).eval()
    return quiet(CogVideoXPipeline(tokenizer, t5, vae, transformer, CogVideoXDDIMScheduler()))


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(params=["wan", "ltx", "cog", "ltx_condition"])
def generator(request: pytest.FixtureRequest) -> LatentBlend:
    pipe = request.getfixturevalue(request.param)
    words = {"max_sequence_length": 8}
    if request.param == "ltx_condition":
        return LatentBlend(LtxCondition(pipe, tail=1, reach=10.0, **CALL, **words))
    return LatentBlend(TextToVideo(pipe, tail=1, **CALL, **words))


class TestLatentBlend(GeneratorTests):
    width, height = WIDTH, HEIGHT

    @pytest.fixture
    def generator(self, wan: Any) -> LatentBlend:
        return LatentBlend(TextToVideo(wan, tail=5, **CALL, max_sequence_length=8))


def last_latents(generator: Any, memory: RoomMemory, seed: int) -> tuple[Tensor, Any]:
    """What a pipeline decodes in the end, and what it was conditioned on."""
    cameras = BoxRoom().walk(8, width=WIDTH, height=HEIGHT)
    if not memory.stored:
        memory.store(memory.room.frames(cameras[:1])[0])
    conditioning = generator.condition(memory.retrieve(cameras))
    seen: list[Tensor] = []
    generator.generate(conditioning, cameras, seed=seed, callback=lambda i, n, x: seen.append(x))
    return seen[-1], conditioning


def test_what_is_covered_ends_as_memory_and_the_rest_is_invented(generator: LatentBlend) -> None:
    memory, pipe = RoomMemory(unknown=0.5), generator.generator.pipe
    (one, conditioning), (two, _) = (last_latents(generator, memory, seed) for seed in (1, 2))
    wanted = encoded(pipe, conditioning.rgb)
    covered = covers(conditioning.known, generator.spec.latent_stride, 1.0).expand_as(wanted)
    assert 0.3 < covered.float().mean() < 0.8
    inside = mixed(pipe, torch.zeros_like(one), torch.ones_like(wanted), covered.float()).bool()
    memorised = mixed(pipe, one, wanted, covered.float())
    assert torch.allclose(one[inside], memorised[inside], atol=1e-4)
    outside = ~inside
    if one.ndim == 3:  # tokens of conditions, which come first, are the pipeline's own
        outside[:, : one.shape[1] - wanted.flatten(2).shape[2]] = False
    assert ((one - two).abs() > 1e-3)[outside].float().mean() > 0.9


def test_in_the_last_steps_the_model_may_have_its_own_way(wan: Any) -> None:
    inner = TextToVideo(wan, tail=1, **CALL, max_sequence_length=8)
    memory = RoomMemory()
    kept, conditioning = last_latents(LatentBlend(inner), memory, 1)
    loose, _ = last_latents(LatentBlend(inner, until=0.5), memory, 1)
    alone, _ = last_latents(inner, memory, 1)
    wanted = encoded(wan, conditioning.rgb)
    assert torch.allclose(kept, wanted, atol=1e-4)
    assert (loose - wanted).abs().mean() > 1e-2
    assert (loose - alone).abs().mean() > 1e-2


def test_misuse_is_told(wan: Any) -> None:
    with pytest.raises(InputError, match="goes around an adapter"):
        LatentBlend(wan)
    with pytest.raises(InputError, match="shares"):
        LatentBlend(TextToVideo(wan), until=0.0)
    with pytest.raises(InputError, match="knows"):
        mixed(wan, torch.zeros(1, 3), torch.zeros(1, 16, 1, 4, 8), torch.zeros(1, 16, 1, 4, 8))
