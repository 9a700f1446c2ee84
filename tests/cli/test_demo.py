"""The demo, small: its files and its figures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from spmem.opening import open as open_memory


def test_the_demo_of_a_house(told: Any, tmp_path: Path) -> None:
    answer = told("demo", "--quick", "--frames", 12, "--out", tmp_path)
    assert answer["frames"] == 11  # each tenth is held back
    assert answer["held_back"]["frames"] == 1
    assert 1 <= answer["revisits"]["frames"] <= answer["later"]["frames"] == 6
    again = answer["revisits"]
    assert again["recalled"] > 0.9
    assert again["shown"] > 0.7
    assert again["depth_error"] < 0.01
    assert again["behind"] < 0.01  # walls are not looked through
    assert 0 <= again["before"] < 0.1
    assert again["psnr"] > 15
    assert Image.open(answer["files"]["sheet"]).width == 1600
    assert Path(answer["files"]["video"]).stat().st_size > 0
    with open_memory(answer["files"]["memory"], mode="r") as opened:
        assert len(opened.keyframes) == answer["keyframes"]


@pytest.mark.slow
def test_the_demo_does_not_see_through_walls(told: Any, tmp_path: Path) -> None:
    """House 8 has walls that the way out saw once, before rooms that it saw well."""
    answer = told("demo", "--quick", "--seed", 8, "--out", tmp_path)
    assert answer["later"]["coverage"] > 0.8
    assert answer["later"]["behind"] < 0.0045  # 0.0058 with a ratio of confidences alone


def test_the_demo_of_a_data_set(run: Any, dataset: Path, tmp_path: Path) -> None:
    result = run("demo", "--data", dataset, "--frames", 20, "--out", tmp_path)
    assert result.exit_code == 0
    for words in ("frames remembered", "11", "held back", "house"):  # 60 % of 20, less the sixth
        assert words in result.stdout
    assert {file.stem for file in tmp_path.iterdir()} == {"demo"}


def test_the_demo_needs_depth_to_compare_with(run: Any, dataset: Path, tmp_path: Path) -> None:
    blind = tmp_path / "blind"
    shutil.copytree(dataset, blind)
    shutil.rmtree(blind / "depth")
    refused = run("demo", "--data", blind, "--out", tmp_path / "out")
    assert refused.exit_code == 1
    assert "depth" in refused.stderr
