"""What spmem uses of Zarr beyond its public API: one name, in one file."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import zarr

import spmem
from spmem.stores.keyframes.zarr import chunks

RUN_WITH = ("3.1.2", "3.1.6")
"""The versions of Zarr with which the tests of this folder were run."""

FILE = "stores/keyframes/zarr/chunks.py"


def private_imports(source: Path) -> list[str]:
    """The private modules of Zarr that a file imports."""
    found = []
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
        elif isinstance(node, ast.Import):
            found += [name.name for name in node.names]
    return [name for name in found if name.startswith("zarr.core") or name.startswith("zarr._")]


def test_one_file_imports_one_private_module() -> None:
    root = Path(spmem.__file__).parents[1]
    rooms = [root / room for room in ("spmem", "stores", "retrieval", "integrations")]
    files = {file.resolve() for room in rooms for file in room.rglob("*.py")}
    private = {
        file.relative_to(root.resolve()).as_posix(): names
        for file in files
        if (names := private_imports(file))
    }
    assert private == {FILE: ["zarr.core.sync"]}


def test_the_private_name_is_what_it_was() -> None:
    """If this fails with a new version of Zarr, mend chunks.py, run this folder's tests, and add the version above."""
    parameters = list(inspect.signature(chunks.sync).parameters)
    assert parameters[0] == "coro", zarr.__version__

    async def answer() -> int:
        return 42

    assert chunks.run(answer()) == 42


def test_the_version_is_one_that_was_tried() -> None:
    if zarr.__version__ not in RUN_WITH:
        pytest.skip(f"Zarr {zarr.__version__} is new here; tried were {', '.join(RUN_WITH)}")
