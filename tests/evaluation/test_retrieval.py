"""The retrieval benchmark from scenes to tables, small."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from spmem.evaluation import calibration
from spmem.evaluation.episode import Size
from spmem.evaluation.publish import publish
from spmem.evaluation.retrieval import KS, Findings, Scope, retrieval
from spmem.evaluation.tables import aims, by_scenes, claim_table, each_scene, per_scene, summary

METHODS = ("covisibility", "recent", "none")
SCOPE = Scope(
    seeds=2,
    families=("loop",),
    methods=METHODS,
    changed=1,
    worlds=2,
    size=Size(frames=16, targets=2, width=48, height=36),
)


@pytest.fixture(scope="module")
def found() -> Findings:
    return retrieval(SCOPE)


def test_every_rule_is_asked_for_every_target_at_every_k(found: Findings) -> None:
    asked = {(row["seed"], row["target"], row["rule"], row["k"]) for row in found.answers}
    assert len(asked) == len(found.answers) == 2 * 2 * (len(METHODS) + 1) * len(KS)


def test_what_the_controls_must_come_to(found: Findings) -> None:
    for row in found.answers:
        lost = row["retention gap"] + row["retrieval gap"]
        assert row["best"] == pytest.approx(row["coverage"] + lost)
        if row["rule"] == "none":
            assert (row["coverage"], row["recall"], row["any hit"]) == (0, 0, 0)
        if row["rule"] == "oracle":
            assert row["retrieval gap"] == 0
    for scene, ours in per_scene(found.answers, "covisibility", "coverage", 4).items():
        assert ours > per_scene(found.answers, "recent", "coverage", 4)[scene]
        assert ours <= per_scene(found.answers, "covisibility", "coverage", 8)[scene]


def test_memories_that_were_tampered_with(found: Findings) -> None:
    by_memory: dict[str, list[float]] = {}
    for row in found.changes:
        if row["rule"] == "covisibility":
            by_memory.setdefault(row["memory"], []).append(row["coverage"])
        if row["memory"] == "empty":
            assert row["coverage"] == row["claimed"] == 0
    assert len(by_memory) == 10
    means = {memory: sum(values) / len(values) for memory, values in by_memory.items()}
    assert max(means["of another world"], means["empty"]) < means["correct"]
    answers = [
        row["coverage"]
        for row in found.answers
        if (row["seed"], row["rule"], row["k"]) == (0, "covisibility", 4)
    ]
    assert by_memory["correct"] == pytest.approx(answers, abs=0.05)  # in RAM as on disk


def test_differences_are_paired(found: Findings) -> None:
    rows = {row["coverage@4"]: row for row in by_scenes(found.answers)}
    assert list(rows) == ["covisibility", "recent", "none", "oracle"]
    assert rows["covisibility"]["covisibility is ahead by"] == "0.000 ± 0.000"
    ours, others = (per_scene(found.answers, rule, "coverage", 4) for rule in METHODS[:2])
    ahead = [ours[scene] - others[scene] for scene in ours]
    assert rows["recent"]["covisibility is ahead by"].startswith(f"{sum(ahead) / 2:.3f} ± ")


def test_aims_are_per_family_and_say_whether_they_are_met(found: Findings) -> None:
    told = {row["name"]: row for row in aims(found)}
    assert set(told) == {
        "loop: coverage@4, beside recent",
        "loop: coverage@4, share of the oracle's",
        "claimed coverage: mean absolute error",
    }
    assert told["loop: coverage@4, beside recent"]["ok"]
    share = told["loop: coverage@4, share of the oracle's"]
    assert share["ok"] == (share["value"] >= 0.98)


def test_claims_about_targets_are_held_against_what_frames_saw(found: Findings) -> None:
    told = {row["scenes"]: row for row in claim_table(found.answers)}
    assert list(told) == ["loop", "all"]
    seen, says, apart = (
        float(told["loop"][name].split()[0]) for name in ("seen", "claimed", "apart")
    )
    assert 0.3 <= seen <= 1
    assert abs(says - seen) - 0.001 <= apart < 0.25


def test_scenes_as_numbers(found: Findings) -> None:
    rows = each_scene(found.answers)
    assert len(rows) == 2 * (len(METHODS) + 1) * len(KS)
    assert {row["targets"] for row in rows} == {2}


def test_plots_and_a_page(found: Findings, tmp_path: Path) -> None:
    files = publish(found, tmp_path / "new" / "bench")
    assert [file.name for file in files] == [
        "retrieval.png", "absence.png", "calibration.png", "retrieval.md",
    ]  # fmt: skip
    for file in files[:3]:
        assert Image.open(file).width > 500
    page = files[3].read_text(encoding="utf-8")
    assert page.count("\n| covisibility |") == 3
    assert all(f"| {value} |" in page for value in list(summary(found)[0].values())[:1])


def test_claims_are_of_rooms_walked_through_and_of_others() -> None:
    rows = calibration.calibration([0], stored=24, queries=8, width=48, height=36)
    assert {row["where"] for row in rows} == {"walked", "other"}
    assert all(0 <= row["coverage"] <= 1 and 0 <= row["seen"] <= 1 for row in rows)
    bins = calibration.reliability(rows)
    assert sum(row["queries"] for row in bins) == 8
    told = calibration.summary(rows)
    assert told["mean absolute error"] < 0.25
    assert abs(told["bias"]) <= told["mean absolute error"] <= told["worst"]
