"""The examples run, one after the other, and stay short."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from spmem.integrations.writers import write_nerfstudio
from spmem.testing.box import BoxRoom

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """A data set of a few small frames."""
    room = BoxRoom()
    frames = room.frames(room.walk(6, width=48, height=36, sweep=2.0), time=0.0)
    write_nerfstudio(tmp_path / "walk", frames)
    return tmp_path / "walk"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(
    example: Path,
    walk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", [str(example), str(walk)] if "walk" in example.stem else [str(example)]
    )
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_shows(example: Path) -> None:
    lines = example.read_text().splitlines()
    assert len(lines) < 60
    assert lines[0].startswith('"""')
