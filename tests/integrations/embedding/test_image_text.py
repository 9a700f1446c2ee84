"""DINOv2 and SigLIP on tiny random configurations, saved and loaded as any checkpoint is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from spmem.errors import FrameError, InputError, MissingExtraError
from spmem.integrations.embedding.colour_layout import ColourLayout
from spmem.integrations.embedding.image_text import HALF, DinoV2, Siglip
from spmem.protocols import TextEmbedder
from spmem.testing.embedder import EmbedderTests

transformers = pytest.importorskip(
    "transformers", reason="trained embedders need transformers: pip install 'spmem[perception]'"
)

EDGE, PATCH = 56, 8
LAYERS = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
WORDS = ("[UNK]", "[PAD]", "red", "green", "blue", "chair", "wall")


@pytest.fixture(scope="session")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny DINOv2."""
    path = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(**LAYERS, mlp_ratio=2, image_size=EDGE, patch_size=PATCH)
    transformers.Dinov2Model(config).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny SigLIP and its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = tmp_path_factory.mktemp("siglip")
    torch.manual_seed(0)
    layers = LAYERS | {"intermediate_size": 128}
    words = {"vocab_size": len(WORDS), "max_position_embeddings": 8, "pad_token_id": 1}
    words |= {"bos_token_id": 0, "eos_token_id": 1}
    config = transformers.SiglipConfig(
        text_config=layers | words,
        vision_config=layers | {"image_size": EDGE, "patch_size": PATCH},
    )
    transformers.SiglipModel(config).save_pretrained(path)
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(path)
    prepared = {
        "size": {"height": EDGE, "width": EDGE},
        "image_mean": HALF[0],
        "image_std": HALF[1],
    }
    (path / "preprocessor_config.json").write_text(json.dumps(prepared | {"resample": 2}))
    return path


class TestDinoV2(EmbedderTests):
    @pytest.fixture
    def embedder(self, dino: Path) -> DinoV2:
        return DinoV2(dino)


class TestSiglip(EmbedderTests):
    @pytest.fixture
    def embedder(self, siglip: Path) -> Siglip:
        return Siglip(siglip)


def test_words_and_images_share_a_space(siglip: Path) -> None:
    embedder = Siglip(siglip)
    assert isinstance(embedder, TextEmbedder)
    assert not isinstance(ColourLayout(), TextEmbedder)
    found = embedder.text(["a red chair", "A RED CHAIR", "blue wall"])
    assert found.shape == (3, embedder.dim)
    assert found.dtype == torch.float32
    assert (found.norm(dim=-1) - 1).abs().max() < 1e-5
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=1e-3)
    assert embedder.text([]).shape == (0, embedder.dim)
    assert (embedder.text(["blue wall"])[0] - found[2]).abs().max() < 1e-5


def test_they_are_the_models_own_features(siglip: Path) -> None:
    # transformers' features of an image that needs no scaling, and of the same words.
    model = transformers.SiglipModel.from_pretrained(siglip).eval()
    image = torch.rand(1, EDGE, EDGE, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        told = model(
            input_ids=torch.tensor([[2, 5, 1, 1, 1, 1, 1, 1]]),
            pixel_values=(image.movedim(-1, 1) - 0.5) / 0.5,
        )
    assert (Siglip(siglip)(image) - told.image_embeds).abs().max() < 1e-5
    assert (Siglip(siglip).text(["red chair"]) - told.text_embeds).abs().max() < 1e-5


def test_a_module_is_taken_as_it_is(dino: Path, siglip: Path) -> None:
    image = torch.rand(2, 30, 40, 3, generator=torch.Generator().manual_seed(0))
    module = transformers.Dinov2Model.from_pretrained(dino)
    assert torch.equal(DinoV2(module)(image), DinoV2(dino)(image))
    wordless = Siglip(transformers.SiglipModel.from_pretrained(siglip))
    assert wordless(image).shape == (2, wordless.dim)
    with pytest.raises(InputError, match="no tokenizer"):
        wordless.text(["red"])


def test_another_model_is_refused(dino: Path, siglip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no Dinov2Model: \d+ of its weights are missing"):
        DinoV2(siglip)
    with pytest.raises(InputError, match="wanted a SiglipModel of transformers, got Dinov2Model"):
        Siglip(transformers.Dinov2Model.from_pretrained(dino))
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((dino / "config.json").read_bytes())
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        DinoV2(pickled)


def test_another_shape_is_refused(dino: Path) -> None:
    with pytest.raises(FrameError, match=r"float images \[n, H, W, 3\]"):
        DinoV2(dino)(torch.zeros(1, 3, 48, 64))


def test_without_transformers_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"spmem\[perception\]"):
        DinoV2("anything")
