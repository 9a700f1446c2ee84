"""Tiny randomly initialised parts of diffusers pipelines: the code is the real one, the pictures are noise."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

if find_spec("diffusers") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from diffusers import (
        AutoencoderKLLTXVideo,
        AutoencoderKLWan,
        FlowMatchEulerDiscreteScheduler,
        HeliosTransformer3DModel,
        LTXVideoTransformer3DModel,
    )
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import (
        PreTrainedTokenizerFast,
        T5Config,
        T5EncoderModel,
        UMT5Config,
        UMT5EncoderModel,
    )

WORDS = ("<pad>", "</s>", "<unk>", "a", "room", "in", "the", "evening")


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Knows eight words."""
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def umt5() -> Any:
    """A text encoder of 32 channels."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        return UMT5EncoderModel(
            UMT5Config(vocab_size=16, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
        ).eval()


@pytest.fixture(scope="session")
def wan_vae() -> Any:
    """Wan's causal autoencoder: 8 times smaller images, 4 times fewer frames, 16 channels."""
    with torch.random.fork_rng([]):
        torch.manual_seed(2)
        return AutoencoderKLWan(
            base_dim=3,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        ).eval()


@pytest.fixture(scope="session")
def tiny_wan() -> dict[str, int]:
    """Arguments of Wan's transformer and of those made after it: one layer of 24 channels."""
    return {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "text_dim": 32,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 1,
    }


@pytest.fixture(scope="session")
def euler() -> Any:
    """A flow-matching schedule."""
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


@pytest.fixture(scope="session")
def t5() -> Any:
    """LTX's and CogVideoX's kind of text encoder, of 32 channels."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        return T5EncoderModel(
            T5Config(vocab_size=16, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
        ).eval()


@pytest.fixture(scope="session")
def ltx_vae() -> Any:
    """LTX's causal autoencoder: 32 times smaller images, 8 times fewer frames, 4 channels."""
    with torch.random.fork_rng([]):
        torch.manual_seed(2)
        return AutoencoderKLLTXVideo(
            latent_channels=4,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
        ).eval()


@pytest.fixture(scope="session")
def ltx_transformer() -> Any:
    """Of 16 channels."""
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        return LTXVideoTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            num_layers=1,
            caption_channels=32,
        ).eval()


@pytest.fixture(scope="session")
def helios_transformer(tiny_wan: dict[str, int]) -> Any:
    """Of 24 channels."""
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        return HeliosTransformer3DModel(**tiny_wan, rope_dim=(4, 4, 4)).eval()
