"""Parts of other packages, found by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spmem.errors import SpmemError, UnknownNameError
from spmem.registry import SHIPPED, find, names
from spmem.stores.maps.rendering import DiscRenderer

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "1.0"
[project.entry-points."spmem.retriever"]
{entries}
[tool.setuptools]
py-modules = ["{module}"]
"""


def project(work: Path, name: str, source: str, entries: str) -> Path:
    """The sources of a one-module package."""
    folder, module = work / name, name.replace("-", "_")
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        PYPROJECT.format(name=name, module=module, entries=entries)
    )
    (folder / f"{module}.py").write_text(source)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two packages, installed as their users would, that register retrievers: one sound, one broken."""
    work = tmp_path_factory.mktemp("plugins")
    target = work / "site"
    sound = project(
        work,
        "nearest-first",
        "LENGTH = 3\ndef make():\n    return 'made by nearest_first'\n",
        'nearest = "nearest_first:make"\npose-nearest = "nearest_first:make"\nlength = "nearest_first:LENGTH"\ntwice = "nearest_first:make"',
    )
    broken = project(
        work,
        "broken-part",
        "import a_module_that_nobody_has\n",
        'broken = "broken_part:Part"\ntwice = "broken_part:Part"',
    )
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    pip += ["--no-index", "--disable-pip-version-check", "--no-compile", "--target", str(target)]
    subprocess.run([*pip, sound, broken], check=True, capture_output=True)
    return target


ASKED = (
    "find('retriever', 'nearest')()",
    "find('retriever', 'pose-nearest').__qualname__",
    "find('generator', 'nearest')",
    "find('retriever', 'broken')",
    "find('retriever', 'length')",
    "find('retriever', 'twice')",
    "find('retriever', 'nearst')",
)
PROGRAM = """
import json, sys
from spmem.registry import find, names
answers = {"names": str(names("retriever")), "imported": "nearest_first" in sys.modules}
for asked in json.loads(sys.argv[1]):
    try:
        answers[asked] = eval(asked)
    except Exception as error:
        answers[asked] = f"{type(error).__name__}: {error}"
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(site: Path) -> dict[str, str | bool]:
    """What a process that has the two packages installed answers."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(ASKED)],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    given: dict[str, str | bool] = json.loads(done.stdout)
    return given


def test_a_shipped_part_is_found() -> None:
    assert find("renderer", "discs") is DiscRenderer


@pytest.mark.parametrize(
    ("seam", "name"), [(seam, name) for seam, named in SHIPPED.items() for name in named]
)
def test_every_shipped_reference_leads_to_a_part(seam: str, name: str) -> None:
    assert callable(find(seam, name))


def test_an_installed_part_is_found(answers: dict[str, str | bool]) -> None:
    assert answers[ASKED[0]] == "made by nearest_first"


def test_a_shipped_name_cannot_be_taken_over(answers: dict[str, str | bool]) -> None:
    assert answers[ASKED[1]] == "Baseline.configured"


def test_names_lists_without_importing(answers: dict[str, str | bool]) -> None:
    assert answers["names"] == str(
        sorted({*SHIPPED["retriever"], "broken", "length", "nearest", "twice"})
    )
    assert answers["imported"] is False


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (ASKED[2], ["UnknownNameError", "no generator is called 'nearest'"]),
        (ASKED[3], ["PluginError", "broken-part", "a_module_that_nobody_has"]),
        (ASKED[4], ["PluginError", "nearest-first", "int", "class or a function"]),
        (ASKED[5], ["PluginError", "broken-part, nearest-first", "uninstall"]),
        (ASKED[6], ["UnknownNameError", "did you mean 'nearest'", "covisibility"]),
    ],
)
def test_what_cannot_be_had_says_why(
    answers: dict[str, str | bool], asked: str, words: list[str]
) -> None:
    assert all(word in str(answers[asked]) for word in words), answers[asked]


def test_an_unknown_name_lists_the_shipped_parts() -> None:
    with pytest.raises(UnknownNameError, match=r"no view index is called 'x'.*flat") as caught:
        find("view_index", "x")
    assert isinstance(caught.value, SpmemError)
    assert names("view_index") == ["faiss", "flat"]
