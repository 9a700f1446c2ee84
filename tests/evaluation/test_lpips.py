"""LPIPS: the distance itself on random weights, and which files are taken for weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from spmem.errors import FormatError, InputError
from spmem.evaluation.lpips import Lpips, load


def alexnet() -> dict[str, Tensor]:
    """Random weights under the names of torchvision's AlexNet."""
    torch.manual_seed(0)
    shapes = {
        0: (64, 3, 11),
        3: (192, 64, 5),
        6: (384, 192, 3),
        8: (256, 384, 3),
        10: (256, 256, 3),
    }
    found = {}
    for place, (out, into, width) in shapes.items():
        found[f"features.{place}.weight"] = torch.randn(out, into, width, width) / width
        found[f"features.{place}.bias"] = torch.randn(out) / 10
    return found | {"classifier.6.bias": torch.zeros(1000)}


def linear() -> dict[str, Tensor]:
    """Random weights under the names of the authors' file."""
    widths = enumerate((64, 192, 384, 256, 256))
    return {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in widths}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("lpips")
    save_file(alexnet(), folder / "alexnet.safetensors")
    save_file(linear(), folder / "alex.safetensors")
    return [folder / "alexnet.safetensors", folder / "alex.safetensors"]


def pictures(seed: int, size: int = 64) -> Tensor:
    return torch.rand(2, size, size, 3, generator=torch.Generator().manual_seed(seed))


def by_hand(a: Tensor, b: Tensor) -> list[float]:
    """Equation 1 of the paper, a pair of pictures and a layer at a time, straight from the published names."""
    net, heads, told = alexnet(), list(linear().values()), []
    for pair in zip(a, b, strict=True):
        seen: list[list[Tensor]] = []
        for rgb in pair:
            mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
            x, layers = ((rgb - mean) / spread).permute(2, 0, 1), []
            for place, stride, margin in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
                if place in (3, 6):
                    x = F.max_pool2d(x[None], 3, 2)[0]
                weight, bias = (net[f"features.{place}.{kind}"] for kind in ("weight", "bias"))
                x = F.conv2d(x[None], weight, bias, stride, margin)[0].clamp(min=0)
                layers.append(x)
            seen.append(layers)
        total = 0.0
        for p, q, head in zip(*seen, heads, strict=True):
            unit = [y / torch.linalg.vector_norm(y, dim=0).clamp(min=1e-10) for y in (p, q)]
            squares = (unit[0] - unit[1]).square().permute(1, 2, 0)
            total += float((squares @ head.flatten()).mean())
        told.append(total)
    return told


def test_it_is_the_papers_equation(pair: list[Path]) -> None:
    metric, a, b = load(pair), pictures(0), pictures(1)
    assert metric(a, a).tolist() == [0, 0]
    assert torch.equal(metric(a, b), metric(b, a))
    # The authors' shift and scale are ImageNet's mean and spread, rounded to three digits in -1..1.
    assert metric(a, b).tolist() == pytest.approx(by_hand(a, b), rel=5e-3)
    near = metric(a, (a + 0.02 * b).clamp(0, 1))
    assert (near < metric(a, b)).all()


def test_one_file_of_the_whole_network_is_the_same(pair: list[Path], tmp_path: Path) -> None:
    slices = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
    whole = {}
    for key, value in alexnet().items():
        kind, place, name = key.split(".")
        if kind == "features":
            whole[f"net.slice{slices[int(place)]}.{place}.{name}"] = value
    for key, value in linear().items():
        whole |= {key: value, key.replace("lin", "lins."): value.clone()}
    whole["scaling_layer.shift"] = torch.zeros(1, 3, 1, 1)
    save_file(whole, tmp_path / "lpips.safetensors")
    a, b = pictures(2), pictures(3)
    assert torch.equal(load([tmp_path / "lpips.safetensors"])(a, b), load(pair)(a, b))


def test_wrong_files_are_told(pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"alexnet.*lin0\.model\.1\.weight is not there"):
        load(pair[:1])
    vgg = alexnet() | linear() | {"features.0.weight": torch.zeros(64, 3, 3, 3)}
    save_file(vgg, tmp_path / "vgg.safetensors")
    with pytest.raises(FormatError, match=r"is \[64, 3, 3, 3\], wanted \[64, 3, 11, 11\]"):
        load([tmp_path / "vgg.safetensors"])
    torch.save(linear(), tmp_path / "alex.pth")  # a pickle is not read, and it is said what to do
    (tmp_path / "noise.safetensors").write_bytes(b"no weights at all")
    for name in ("alex.pth", "noise.safetensors"):
        with pytest.raises(FormatError, match="weights_only=True"):
            load([tmp_path / name])
    with pytest.raises(FormatError, match="cannot be read"):
        load([tmp_path / "absent.safetensors"])


def test_pictures_of_other_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="one size"):
        Lpips()(pictures(0), pictures(0, 48))
    with pytest.raises(InputError, match="at least 31"):
        Lpips()(pictures(0, 24), pictures(1, 24))
    assert Lpips()(pictures(0, 31), pictures(1, 31)).shape == (2,)
