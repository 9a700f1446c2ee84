"""The project's tree, and the distributions built from a copy of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("spmem", "stores", "retrieval", "integrations")


@dataclass(frozen=True)
class Built:
    """A wheel and an sdist made from the tree, and the wheel made from that sdist."""

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    base = tmp_path_factory.mktemp("distributions")
    tree = base / "tree"  # a copy: what an earlier build left behind would end up in the wheel
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in (*ROOMS, "tests", "docs", "notebooks"):
        skip = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=skip)
    _build(tree, base / "dist", "--sdist", "--wheel")
    (sdist,) = (base / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(base / "unpacked", filter="data")
    (unpacked,) = (base / "unpacked").iterdir()
    _build(unpacked, base / "again", "--wheel")
    (wheel,) = (base / "dist").glob("*.whl")
    (again,) = (base / "again").glob("*.whl")
    return Built(wheel, sdist, again)


def _build(tree: Path, out: Path, *kinds: str) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, *kinds, tree]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
