"""What the wheel and the sdist hold, and that the package runs from the wheel alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest


def setuptools_table(root: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["tool"][
        "setuptools"
    ]
    return table


def files(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def source_folder(package: str, folders: dict[str, str]) -> str:
    """Where a package's sources lie, by the longest mapping that fits."""
    home = max((p for p in folders if package == p or package.startswith(p + ".")), key=len)
    return folders[home] + package[len(home) :].replace(".", "/")


def test_the_package_list_is_the_tree(root: Path) -> None:
    table = setuptools_table(root)
    found = set()
    for name, folder in table["package-dir"].items():
        for source in (root / folder).rglob("*.py"):  # does not follow the links in spmem/
            inside = source.parent.relative_to(root / folder).parts
            found.add(".".join((name, *inside)))
            assert (source.parent / "__init__.py").exists(), f"{source.parent} lacks __init__.py"
    assert found == set(table["packages"])


def test_the_links_lead_to_the_mapped_folders(root: Path) -> None:
    for name, folder in setuptools_table(root)["package-dir"].items():
        if name != "spmem":
            link = root / name.replace(".", "/")
            assert link.is_symlink()
            assert os.readlink(link) == f"../{folder}"


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(root: Path, built: Any) -> None:
    table = setuptools_table(root)
    wanted = set()
    for package in table["packages"]:
        folder = root / source_folder(package, table["package-dir"])
        inside = package.replace(".", "/")
        sources = [*folder.glob("*.py")]
        for pattern in table.get("package-data", {}).get(package, []):
            sources += folder.glob(pattern)
        wanted |= {f"{inside}/{path.relative_to(folder).as_posix()}" for path in sources}
    held = files(built.wheel)
    meta = {name for name in held if name.split("/")[0].endswith(".dist-info")}
    assert held - meta == wanted
    assert "spmem/py.typed" in held
    assert any(name.endswith("licenses/LICENSE") for name in meta)
    assert {name.split("/")[0] for name in held - meta} == {"spmem"}


@pytest.mark.slow
def test_the_wheel_holds_no_links(built: Any) -> None:
    for entry in zipfile.ZipFile(built.wheel).infolist():
        assert entry.external_attr >> 28 != 0xA, entry.filename  # the file type bits of a link


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(built: Any) -> None:
    assert files(built.wheel_of_sdist) == files(built.wheel)


@pytest.mark.slow
def test_the_sdist_holds_the_three_rooms_as_folders(built: Any) -> None:
    with tarfile.open(built.sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
        assert not [member.name for member in archive if member.issym() or member.islnk()]
    rooms = {f"{room}/__init__.py" for room in ("stores", "retrieval", "integrations")}
    assert rooms | {"pyproject.toml", "LICENSE", "README.md"} <= held


@pytest.mark.slow
def test_the_wheel_alone_imports(built: Any, root: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, built.wheel], check=True, capture_output=True)
    packages = setuptools_table(root)["packages"]
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    print(importlib.import_module(name).__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *packages],
        env={**os.environ, "PYTHONPATH": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    places = done.stdout.split()
    assert len(places) == len(packages)
    assert all(Path(place).is_relative_to(target) for place in places)
