"""``spmem train``, ``generate`` and ``bench consistency``, small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spmem.evaluation.consistency import FULL, NONE, Scope
from spmem.integrations.reference.config import NANO, SIZES
from spmem.integrations.reference.episodes import Episodes, in_house
from spmem.integrations.reference.generator import ReferenceGenerator
from spmem.integrations.reference.model import WorldModel
from spmem.integrations.writers import write_nerfstudio
from spmem.testing.box import BoxRoom

TINY = replace(NANO, size=32, width=32, layers=1, heads=2, keyframes=2)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "nano", TINY)
    scope = Scope(("rotate-and-return",), (0, 1), 1, (FULL, NONE))
    monkeypatch.setattr(Scope, "quick", staticmethod(lambda: scope))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    return ReferenceGenerator(WorldModel(TINY)).save_pretrained(folder / "tiny")


def test_training_on_a_walk_writes_weights_and_goes_on(told: Any, run: Any, tmp_path: Path) -> None:
    room = BoxRoom()
    write_nerfstudio(tmp_path / "walk", room.frames(room.walk(96, width=48, height=36), time=0.0))
    out = tmp_path / "run"
    given = ("train", "--out", out, "--walk", tmp_path / "walk", "--batch", 2, "--stages", "1,2")
    first = told(*given, "--steps", 2)
    assert (first["episodes"], first["held-out episodes"]) == (1, 1)  # of two stretches
    trained, held = Episodes(out / "episodes"), Episodes(out / "held_out")
    assert len(trained) == len(held) == 1
    assert not np.array_equal(trained[0].c2w, held[0].c2w)
    assert first["PSNR with memory, held out, dB"] > 0
    assert first["steps"] == 2
    sheet = np.asarray(Image.open(out / "samples" / "000002.png"))
    assert sheet.shape == (4 * 32, 3 * 4 * 32, 3)
    again = told(*given, "--steps", 3)
    assert again["steps"] == 3
    assert (out / "log.csv").read_text().count("\n") == 3
    tuned = told("train", "--out", tmp_path / "tuned", "--walk", tmp_path / "walk", "--steps", 1,
                 "--batch", 1, "--init", out / "model", "--memory-only")  # fmt: skip
    assert tuned["steps"] == 1
    refused = run("train", "--out", tmp_path / "x", "--walk", tmp_path / "walk", "--stride", 9)
    assert refused.exit_code == 1
    assert "--stride" in refused.stderr
    refused = run(*given, "--stages", "one")
    assert refused.exit_code == 1
    assert "as 1,2,4" in refused.stderr


def test_training_draws_houses(told: Any, tmp_path: Path) -> None:
    drawn = told("train", "--out", tmp_path, "--houses", 1, "--moving", 1, "--steps", 1, "--batch", 1)  # fmt: skip
    assert (drawn["episodes"], drawn["held-out episodes"]) == (1, 2)
    seeds = [in_house(seed, size=32, moving=1.0).rgb for seed in (998, 999, 1000)]
    for rgb, kept in zip(seeds, [*Episodes(tmp_path / "held_out"), *Episodes(tmp_path / "episodes")], strict=True):  # fmt: skip
        assert np.array_equal(rgb, kept.rgb)


def test_a_single_stretch_is_trained_on_and_samples_say_so(told: Any, tmp_path: Path) -> None:
    room = BoxRoom()
    write_nerfstudio(tmp_path / "walk", room.frames(room.walk(48, width=48, height=36), time=0.0))
    given = ("--walk", tmp_path / "walk", "--batch", 1, "--steps", 1)
    answer = told("train", "--out", tmp_path / "run", *given)
    assert (answer["episodes"], answer["held-out episodes"]) == (1, 0)
    assert "PSNR with memory, of what was trained on, dB" in answer


def test_generating_writes_a_video_side_by_side(told: Any, weights: Path, tmp_path: Path) -> None:
    answer = told("generate", "--out", tmp_path / "v.gif", "--model", weights, "--chunks", 1)
    assert set(answer["psnr_revisited"]) == {"full memory", "recent only"}
    with Image.open(tmp_path / "v.gif") as video:
        assert video.size == (3 * 4 * 32, 4 * 32)
        assert getattr(video, "n_frames", 1) == 4


def test_an_unknown_path_or_model_is_one_line(run: Any, tmp_path: Path) -> None:
    for options, words in (
        (("--path", "spiral"), "rotate-and-return"),
        (("--model", "vast"), "nano"),
    ):
        refused = run("generate", "--out", tmp_path / "v.gif", *options)
        assert refused.exit_code == 1
        assert words in refused.stderr


def test_consistency_tells_rows_and_aims(told: Any, weights: Path, tmp_path: Path) -> None:
    answer = told("bench", "consistency", "--quick", "--model", weights, "--out", tmp_path / "b")
    assert set(answer) == {"environment", "rows", "aims"}
    assert {row["control"] for row in answer["rows"] if "control" in row} == {FULL, NONE}
    assert (tmp_path / "b" / "consistency.md").read_text().startswith("| family |")
    assert len(list((tmp_path / "b").glob("*.png"))) == 3


def test_consistency_by_rules_wants_names_that_exist(run: Any, weights: Path) -> None:
    quick = ("bench", "consistency", "--quick", "--model", weights)
    for option, given, words in (
        ("--rules", "set-covers", "set-cover"),
        ("--families", "spiral", "reverse"),
        ("--lpips", weights / "config.json", "holds no weights"),
    ):
        refused = run(*quick, option, given)
        assert refused.exit_code == 1
        assert words in refused.stderr
