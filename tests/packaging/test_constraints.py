"""The pinned versions, and that nothing drags CUDA packages beside a CPU build of torch."""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CUDA = re.compile(r"^(nvidia|cuda|triton|torchvision|torchaudio)\b")


def pins(root: Path) -> dict[str, str]:
    lines = (root / "constraints.txt").read_text().splitlines()
    named = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in named}


def test_every_line_pins_one_version(root: Path) -> None:
    lines = (root / "constraints.txt").read_text().splitlines()
    for line in lines[1:]:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


def test_no_cuda_package_is_pinned(root: Path) -> None:
    assert not [name for name in pins(root) if CUDA.match(name)]


def needed(name: str, extras: frozenset[str], seen: dict[str, str]) -> dict[str, str]:
    """Versions of all that is installed because a package and its extras ask for it."""
    for line in distribution(name).requires or []:
        wanted = Requirement(line)
        chosen = [{"extra": extra} for extra in extras] or [{"extra": ""}]
        if wanted.marker and not any(wanted.marker.evaluate(choice) for choice in chosen):
            continue
        found = canonicalize_name(wanted.name)
        again = found in seen and not wanted.extras
        try:
            seen[found] = distribution(found).version
        except PackageNotFoundError:
            continue  # an optional one that this machine lacks
        if not again:
            needed(found, frozenset(wanted.extras), seen)
    return seen


def test_everything_that_development_installs_is_pinned(root: Path) -> None:
    wanted = needed("spmem", frozenset({"dev"}), {})
    wanted.pop("spmem")
    assert "torch" in wanted
    assert "pytest" in wanted
    assert not set(wanted) - set(pins(root))


@pytest.mark.skipif("CI" not in os.environ, reason="other versions are fine outside CI")
def test_ci_has_the_pinned_versions(root: Path) -> None:
    for name, version in needed("spmem", frozenset({"dev"}), {}).items():
        if name != "spmem":
            assert Version(version).public == pins(root)[name], name


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch is a CUDA build here")
def test_nothing_brings_cuda_packages_beside_cpu_torch() -> None:
    installed = {(one.metadata["Name"] or "").lower() for one in distributions()}
    assert not [name for name in installed if CUDA.match(name)]
