"""The notebooks run, also on a recorded walk, and what is committed was made from their text sources."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spmem import worlds
from spmem.integrations.writers import write_nerfstudio

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
WALK = re.compile(r"^WALK = None  #.*$", re.MULTILINE)
LESS = {
    "house, 100, width": "house, 40, width",
    "frames=40, targets=4": "frames=16, targets=2",
    "frames=48, targets=5": "frames=20, targets=2",
    "STEPS = 100": "STEPS = 2",
    "samples=3": "samples=1",
    "clips=5": "clips=1",
}
"""Of what takes long, for a test."""
IN_TURN = """
import runpy, sys
for name in sys.argv[1:]:
    runpy.run_path(name, run_name="__main__")
    sys.modules.pop("test_parts", None)  # that a notebook had pytest run
"""
LARGEST = 3_000_000
"""Bytes of an executed notebook."""


def run(place: Path, *sources: str) -> str:
    """Run sources as plain programs, without a screen and with less of all; what they print."""
    for n, source in enumerate(sources):
        for much, little in LESS.items():
            source = source.replace(much, little)
        (place / f"notebook_{n}.py").write_text(source)
    names = [f"notebook_{n}.py" for n in range(len(sources))]
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN, *names],
        cwd=place,
        env={**os.environ, "MPLBACKEND": "Agg", "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def on(walk: Path, source: Path) -> str:
    """A source with the path of a walk put in."""
    changed, count = WALK.subn(lambda _: f"WALK = {str(walk)!r}", source.read_text())
    assert count == 1, f"{source.name}: one line begins with WALK = None"
    return changed


def executed(source: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(source.with_suffix(".ipynb").read_text())
    return notebook


def text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def test_there_are_notebooks() -> None:
    assert [source.stem[:2] for source in SOURCES] == ["01", "02", "03", "04", "05"]


@pytest.fixture(scope="module")
def small_walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of a few small frames that comes back to where it began."""
    house = worlds.House(seed=1, rooms=2)
    cameras = worlds.rotate_and_return(house, 20, width=48, height=36)
    folder = tmp_path_factory.mktemp("recorded") / "walk"
    write_nerfstudio(folder, list(house.frames(cameras)))
    return folder


def test_the_first_notebook_runs(tmp_path: Path) -> None:
    assert run(tmp_path, SOURCES[0].read_text())


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_runs_as_it_is_and_on_a_walk_of_ones_own(
    source: Path, small_walk: Path, tmp_path: Path
) -> None:
    assert run(tmp_path, source.read_text(), on(small_walk, source))


def test_what_takes_long_is_still_there() -> None:
    sources = [source.read_text() for source in SOURCES]
    assert not [much for much in LESS if not any(much in source for source in sources)]


@pytest.mark.slow
def test_a_notebook_runs_on_a_real_walk(real_walks: Path, tmp_path: Path) -> None:
    assert run(tmp_path, on(real_walks / "hololens_dvmvs", SOURCES[0]))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_an_executed_notebook_is_its_sources(source: Path) -> None:
    jupytext = pytest.importorskip("jupytext")
    written = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    kept = [(cell["cell_type"], text(cell["source"])) for cell in executed(source)["cells"]]
    assert kept == written, "make notebooks"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_an_executed_notebook_is_clean(source: Path) -> None:
    notebook = executed(source)
    assert source.with_suffix(".ipynb").stat().st_size < LARGEST
    assert set(notebook["metadata"]) == {"kernelspec"}
    assert not any(cell["metadata"] for cell in notebook["cells"])
    outputs = [one for cell in notebook["cells"] for one in cell.get("outputs", [])]
    assert any("image/png" in one.get("data", {}) for one in outputs)
    for one in outputs:
        assert one["output_type"] != "error"
        assert one.get("name") != "stderr"
        told = text(one.get("text", one.get("data", {}).get("text/plain", "")))
        assert not re.search(r"(^|[\s'\"(])/\w+/", told), "an absolute path"
        assert " at 0x" not in told, "an address differs from run to run"
