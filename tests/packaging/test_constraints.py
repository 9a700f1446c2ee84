"""The pinned versions, and that nothing drags CUDA packages beside a CPU build of torch."""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

import pytest
import torch

CUDA = re.compile(r"^(nvidia|cuda|triton|torchvision|torchaudio)\b")


def pins(root: Path) -> dict[str, str]:
    lines = (root / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_line_pins_one_version(root: Path) -> None:
    lines = (root / "constraints.txt").read_text().splitlines()
    for line in lines[1:]:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


def test_no_cuda_package_is_pinned(root: Path) -> None:
    assert not [name for name in pins(root) if CUDA.match(name.lower())]


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch is a CUDA build here")
def test_nothing_brings_cuda_packages_beside_cpu_torch() -> None:
    installed = {(one.metadata["Name"] or "").lower() for one in distributions()}
    assert not [name for name in installed if CUDA.match(name)]
