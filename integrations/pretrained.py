"""Trained networks of transformers (extra ``perception``), and how images are made ready for them.

Weights are read from safetensors files alone, and no code that comes with them is run. A folder is read as it is; a name
is fetched from the Hugging Face hub where it is not in its cache (``HF_HUB_OFFLINE=1`` forbids that).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.errors import FrameError, InputError, MissingExtraError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of colours that DINOv2 was trained with (arXiv 2304.07193; ``make_normalize_transform`` of its code)."""

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Those of SigLIP (arXiv 2303.15343): colours in [-1, 1]."""


def transformers_package(what: str) -> Any:
    """The package. Raises MissingExtraError, which says that ``what`` needs it."""
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "perception", what) from error
    return transformers


def pretrained(
    model: str | Path | torch.nn.Module,
    kind: str,
    what: str,
    device: torch.device | str | None = None,
) -> Any:
    """A network of the class ``kind`` of transformers, ready to run.

    Args:
        model: A folder or a name on the hub, or such a module.
        kind: The class's name.
        what: Needs it, as an error says.
        device: Where it is to run; None leaves it where it is (the CPU, if it is read here).

    Raises:
        MissingExtraError: transformers is not installed.
        OSError: No such model, or none in safetensors.
        InputError: A model of another kind.
    """
    network_class = getattr(transformers_package(what), kind)
    network: Any = model
    if not isinstance(model, torch.nn.Module):
        network, loading = network_class.from_pretrained(
            str(model), use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        if loading["missing_keys"]:  # transformers would go on with random weights
            raise InputError(
                f"{model} holds no {kind}: {len(loading['missing_keys'])} of its weights are missing, "
                f"as {min(loading['missing_keys'])}"
            )
    elif not isinstance(model, network_class):
        raise InputError(f"wanted a {kind} of transformers, got {type(model).__name__}")
    return network.eval() if device is None else network.eval().to(device)


def scaled(
    rgb: Float[Tensor, "n h w 3"],
    size: tuple[int, int],
    colours: tuple[Sequence[float], Sequence[float]],
    mode: str = "bicubic",
) -> Float[Tensor, "n 3 h2 w2"]:
    """Images ``[n, H, W, 3]`` in [0, 1] in another size (height, width), with antialiasing, and normalised.

    Raises FrameError for another shape.
    """
    if rgb.ndim != 4 or rgb.shape[-1] != 3 or not rgb.is_floating_point():
        raise FrameError(f"wanted float images [n, H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    smooth = torch.nn.functional.interpolate(
        rgb.float().movedim(-1, 1), size, mode=mode, antialias=True
    ).clamp(0, 1)  # bicubic weights overshoot
    mean, std = (
        torch.tensor(list(v), dtype=torch.float32, device=rgb.device)[:, None, None]
        for v in colours
    )
    return (smooth - mean) / std
