"""Low-rank adapters on the network's attention (LoRA, arXiv 2106.09685), by peft, and their weights put into the network's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from spmem.errors import MissingExtraError
from spmem.integrations.reference.model import WorldModel

TARGETS = ["q", "kv", "out"]
BASE, DOWN, UP = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"


def adapt(model: WorldModel, rank: int) -> None:
    """Freeze a model and put adapters of a rank beside all its attention; they add nothing at first.

    Raises:
        MissingExtraError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError("peft", "train", "LoRA") from error
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS), model)
    for name, value in model.named_parameters():
        value.requires_grad_("lora_" in name)


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the plain network that does what the one with adapters does; without adapters, the same weights."""
    plain: dict[str, Tensor] = {}
    for name, value in state.items():
        if ".lora_" in name:
            continue
        stem = name.removesuffix(f"{BASE}weight")
        if stem != name:
            value = value + state[stem + UP] @ state[stem + DOWN]
        plain[name.replace(BASE, ".")] = value
    return plain
