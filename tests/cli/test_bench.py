"""``spmem bench``, small."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from spmem.evaluation.episode import Size
from spmem.evaluation.retrieval import Scope

AIM = {"name", "value", "target", "unit", "better", "ok"}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick run that takes seconds."""
    size = Size(frames=12, targets=2, width=48, height=36)
    scope = Scope(
        seeds=1, families=("rotate-and-return",), methods=("covisibility", "recent"), changed=1,
        worlds=1, size=size,
    )  # fmt: skip
    monkeypatch.setattr(Scope, "quick", staticmethod(lambda: scope))


def test_one_json_object_with_environment_rows_and_aims(told: Any, tmp_path: Path) -> None:
    answer = told("bench", "retrieval", "--quick", "--out", tmp_path)
    assert set(answer) == {"environment", "rows", "aims"}
    assert {"cpu", "cores", "gpu", "python", "versions", "commit"} <= set(answer["environment"])
    assert all(set(row) == AIM for row in answer["aims"])
    scenes = [row for row in answer["rows"] if "seed" in row]
    assert {(row["rule"], row["k"]) for row in scenes} == {
        (rule, k) for rule in ("covisibility", "recent", "oracle") for k in (1, 4, 8, 20)
    }
    assert all((row["ms"] is None) == (row["rule"] == "oracle") for row in scenes)
    assert {file.suffix for file in tmp_path.iterdir()} == {".png", ".md"}


def test_a_recorded_walk_is_one_more_scene(run: Any, dataset: Path, tmp_path: Path) -> None:
    result = run("bench", "retrieval", "--quick", "--walk", dataset, "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    for words in ("coverage@4", "rotate-and-return", "house", "retention gap", "empty"):
        assert words in result.stdout


def test_a_walk_without_depth_is_refused_at_once(run: Any, dataset: Path, tmp_path: Path) -> None:
    blind = tmp_path / "blind"
    shutil.copytree(dataset, blind)
    shutil.rmtree(blind / "depth")
    refused = run("bench", "retrieval", "--quick", "--walk", blind, "--out", tmp_path / "out")
    assert refused.exit_code == 1
    assert "depth" in refused.stderr
    assert not (tmp_path / "out").exists()
