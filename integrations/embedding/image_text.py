"""Image and text descriptors by trained networks: DINOv2 for images, SigLIP for images and words.

:mod:`spmem.integrations.pretrained` says where weights come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.errors import InputError
from spmem.integrations.pretrained import (
    HALF,
    IMAGENET,
    pretrained,
    scaled,
    transformers_package,
)

EMBEDDER = "a trained embedder"

EDGE = 224
"""Pixels of an image's edges where nothing says how many the model wants."""

SCALING = {2: "bilinear", 3: "bicubic"}
"""What the numbers of ``resample`` in a model's files mean (Pillow's)."""


class DinoV2:
    """The class token of DINOv2 (arXiv 2304.07193): which images show the same things, from whatever side.

    Images are scaled to the model's square as a whole, with antialiasing. (DINOv2's own preparation crops the middle; a
    view is to be known by its edges too.) Runs where the model is; descriptors come back to the images' device.

    Args:
        model: A folder or a name on the hub of a ``Dinov2Model``, or such a module.
        device: Where the model is to run; None leaves it where it is (the CPU, if it is read here).

    Raises:
        MissingExtraError: transformers is not installed.
        OSError: No such model, or none in safetensors.
        InputError: A model of another kind.
    """

    def __init__(
        self,
        model: str | Path | torch.nn.Module = "facebook/dinov2-small",
        *,
        device: torch.device | str | None = None,
    ) -> None:
        self._images, self._model = _load_network(model, "Dinov2Model", IMAGENET, device)
        self.dim = int(self._model.config.hidden_size)

    @torch.no_grad()
    def __call__(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n dim"]:
        """Descriptors ``[n, dim]`` float32 of images ``[n, H, W, 3]`` in [0, 1]; raises FrameError for another shape."""
        pixels = self._images(rgb).to(self._model.device, self._model.dtype)
        return _normalize_vectors(self._model(pixel_values=pixels).pooler_output).to(rgb.device)


class Siglip:
    """SigLIP (arXiv 2303.15343) and SigLIP 2 (arXiv 2502.14786): images and words as vectors of one space.

    Images are scaled to the model's square as a whole, as in training, with antialiasing. Words are lower-cased and
    filled up to the model's length, as in training too. Scores of words against images are small; their order counts.

    Args:
        model: A folder or a name on the hub of a ``SiglipModel``, or such a module.
        tokenizer: Tokenizer of transformers; None reads the one beside the model. A module needs one
            only for words.
        device: Where the model is to run; None leaves it where it is (the CPU, if it is read here).

    Raises:
        MissingExtraError: transformers is not installed.
        OSError: No such model, or none in safetensors.
        InputError: A model of another kind.
    """

    def __init__(
        self,
        model: str | Path | torch.nn.Module = "google/siglip2-base-patch16-224",
        *,
        tokenizer: Callable[..., Any] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self._images, self._model = _load_network(model, "SiglipModel", HALF, device)
        self.dim = int(self._model.config.vision_config.hidden_size)
        if tokenizer is None and not isinstance(model, torch.nn.Module):
            tokenizer = transformers_package(EMBEDDER).AutoTokenizer.from_pretrained(
                str(model), trust_remote_code=False
            )
        self._words = tokenizer

    @torch.no_grad()
    def __call__(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n dim"]:
        """Descriptors ``[n, dim]`` float32 of images ``[n, H, W, 3]`` in [0, 1]; raises FrameError for another shape."""
        pixels = self._images(rgb).to(self._model.device, self._model.dtype)
        return _normalize_vectors(self._model.vision_model(pixel_values=pixels).pooler_output).to(
            rgb.device
        )

    @torch.no_grad()
    def text(self, texts: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Descriptors ``[n, dim]`` float32 of words, on the CPU; raises InputError where there is no tokenizer."""
        if self._words is None:
            raise InputError(
                "Siglip(module) has no tokenizer for words: Siglip(module, tokenizer=…)"
            )
        if not texts:
            return torch.zeros(0, self.dim)
        found = self._words(
            [one.lower() for one in texts],
            padding="max_length",
            truncation=True,
            max_length=int(self._model.config.text_config.max_position_embeddings),
            return_tensors="pt",
        )
        # No attention mask: in training the padding was attended to.
        ids = found["input_ids"].to(self._model.device)
        return _normalize_vectors(self._model.text_model(input_ids=ids).pooler_output).cpu()


class _Images:
    """Brings images to what a model takes: ``[n, 3, edge, edge]``, normalised."""

    def __init__(
        self, size: tuple[int, int], mode: str, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.size, self.mode, self.colours = size, mode, (mean, std)

    def __call__(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n 3 edge edge"]:
        return scaled(rgb, self.size, self.colours, self.mode)


def _load_network(
    model: str | Path | torch.nn.Module,
    kind: str,
    colours: tuple[Sequence[float], Sequence[float]],
    device: torch.device | str | None,
) -> tuple[_Images, Any]:
    network = pretrained(model, kind, EMBEDDER, device)
    prepared = {} if isinstance(model, torch.nn.Module) else _read_preparation(str(model))
    vision = getattr(network.config, "vision_config", network.config)
    edge = min(EDGE, int(vision.image_size)) if kind == "Dinov2Model" else int(vision.image_size)
    size = prepared.get("crop_size") or prepared.get("size") or {}
    images = _Images(
        (int(size.get("height", edge)), int(size.get("width", edge))),
        SCALING.get(prepared.get("resample", 3), "bicubic"),
        prepared.get("image_mean", colours[0]),
        prepared.get("image_std", colours[1]),
    )
    return images, network


def _read_preparation(model: str) -> dict[str, Any]:
    """What the model's file says of how images are prepared; empty where it has none."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        prepared: dict[str, Any] = ImageProcessingMixin.get_image_processor_dict(model)[0]
    except OSError:
        return {}
    return prepared


def _normalize_vectors(vectors: Tensor) -> Float[Tensor, "n dim"]:
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
