"""LPIPS: how different two pictures look, by the features of a network that was trained to recognise things.

Zhang, Isola, Efros, Shechtman, Wang, *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric*, CVPR 2018,
section 3, equation 1, on the five convolutions of AlexNet (version 0.1 of the authors' weights). No weights come with spmem.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from spmem.errors import FormatError, InputError

CONVOLUTIONS = {
    0: (3, 64, 11, 4, 2), 3: (64, 192, 5, 1, 2), 6: (192, 384, 3, 1, 1),
    8: (384, 256, 3, 1, 1), 10: (256, 256, 3, 1, 1),
}  # fmt: skip
"""Channels in and out, width, stride and margin of each, by its place in AlexNet's published weights."""
POOLED = (3, 6)
"""Before these, every second pixel is left, the largest of 3x3."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and deviation of the channels, in -1..1, that AlexNet was trained on."""
HOW = 'safetensors.torch.save_file(torch.load("alex.pth", weights_only=True), "alex.safetensors") makes it of a .pth'
SMALLEST = 31
"""Pixels a side, for one pixel to be left at the end."""


class Lpips(nn.Module):
    """The distance of pictures, 0 for the same. Random weights at first: :func:`load` those that were published."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict(
            {
                str(place): nn.Conv2d(into, out, width, stride, margin)
                for place, (into, out, width, stride, margin) in CONVOLUTIONS.items()
            }
        )
        widths = (out for _, out, *_ in CONVOLUTIONS.values())
        self.weights = nn.ParameterList([nn.Parameter(torch.rand(width)) for width in widths])
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)

    @torch.no_grad()
    def forward(
        self, a: Float[Tensor, "t h w 3"], b: Float[Tensor, "t h w 3"]
    ) -> Float[Tensor, " t"]:
        """The distance of each pair of pictures in [0, 1], of at least :data:`SMALLEST` pixels a side."""
        if a.shape != b.shape or min(a.shape[1:3]) < SMALLEST:
            raise InputError(
                f"LPIPS compares pictures [T, H, W, 3] of one size, at least {SMALLEST} pixels a side; "
                f"got {list(a.shape)} and {list(b.shape)}"
            )
        total = torch.zeros(len(a))
        for weight, p, q in zip(
            self.weights, self._compute_activations(a), self._compute_activations(b), strict=True
        ):
            difference = (_normalize_channels(p) - _normalize_channels(q)) ** 2
            total += torch.einsum("tchw,c->thw", difference, weight).mean((1, 2))
        return total

    def _compute_activations(self, rgb: Float[Tensor, "t h w 3"]) -> list[Tensor]:
        """What each convolution answers, negative values cut off."""
        x = (2 * rgb.movedim(-1, 1) - 1 - self.shift) / self.scale
        answers = []
        for place, convolution in self.features.items():
            if int(place) in POOLED:
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(convolution(x))
            answers.append(x)
        return answers


def load(files: Sequence[str | Path]) -> Lpips:
    """The metric with published weights, of one file that holds all or of two.

    Either way of publishing them is read: the two files of torchvision's AlexNet (``features.0.weight``, …) and of the
    authors' linear weights (``lin0.model.1.weight``, …), or one of the authors' whole network (``net.slice1.0.weight``, …,
    ``lin0.model.1.weight``, …), as safetensors. They are published as pickles, which spmem does not read:
    ``safetensors.torch.save_file(torch.load("alex.pth", weights_only=True), "alex.safetensors")`` writes one.

    Raises:
        FormatError: A file that holds no tensors, or weights that are missing or of another shape: another network's.
    """
    found: dict[str, Tensor] = {}
    for file in files:
        found |= {
            _to_metric_key(key): value.float() for key, value in _read_tensors(Path(file)).items()
        }
    metric = Lpips()
    state = metric.state_dict()
    for name, old in state.items():
        got = found.get(name)
        if got is not None and name.startswith("weights."):
            got = got.flatten()
        if got is None or got.shape != old.shape:
            came = "is not there" if got is None else f"is {list(got.shape)}"
            raise FormatError(
                Path(files[-1]),
                f"is not LPIPS on AlexNet: {_to_published_key(name)} {came}, wanted {list(old.shape)}; among "
                f"{len(found)} tensors are {', '.join(sorted(found)[:3]) or 'none'}. Give AlexNet's weights and the linear "
                "weights, in one file or two",
            )
        state[name] = got
    metric.load_state_dict(state)
    return metric.eval()


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error}") from error
    except SafetensorError as error:
        raise FormatError(path, f"holds no weights in safetensors: {HOW}") from error


def _to_metric_key(key: str) -> str:
    """The metric's own name of a published weight."""
    parts = key.split(".")
    if parts[0] == "net":  # net.slice1.0.weight
        return ".".join(["features", *parts[2:]])
    if parts[0].startswith("lin") and parts[-1] == "weight" and parts[0] != "lins":
        return f"weights.{parts[0].removeprefix('lin')}"
    return key


def _to_published_key(name: str) -> str:
    """The other way round, for errors."""
    kind, place = name.split(".", 1)
    return f"lin{place}.model.1.weight" if kind == "weights" else name


def _normalize_channels(x: Float[Tensor, "t c h w"]) -> Float[Tensor, "t c h w"]:
    """Each pixel's channels at length 1."""
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
