"""The benchmark of consistency: its measures, and that it tells memory from none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from spmem.errors import UnknownNameError
from spmem.evaluation.consistency import (
    AMONG_MOVERS,
    FOUND,
    FULL,
    MASKED,
    NONE,
    PlayedJourney,
    Scope,
    consistency,
    measure_play,
    play,
)
from spmem.evaluation.journeys import FAMILIES, journey
from spmem.evaluation.matching import Matcher
from spmem.evaluation.paired import aims, drift, paired, summary
from spmem.evaluation.strips import curves, strips
from spmem.integrations.reference.config import NANO
from spmem.integrations.reference.generator import ReferenceGenerator
from spmem.integrations.reference.model import Conditions, WorldModel


class ShowsMemory(WorldModel):
    """Stands for a trained network: the warped pixels, or the projection, or grey."""

    def forward(
        self,
        video_BFCHW: Tensor,
        noise_BF: Tensor,
        given: Conditions,
        state: list[Tensor] | None = None,
        leaving: int = 0,
    ) -> tuple[Tensor, list[Tensor]]:
        there = given.warped[:, :, -1:] > 0
        return torch.where(there, given.warped[:, :, :4], given.projection[:, :, :4]), []


@pytest.fixture(scope="module")
def generator() -> ReferenceGenerator:
    config = replace(NANO, size=32, width=32, layers=1, heads=2, chunk=4)
    return ReferenceGenerator(ShowsMemory(config), steps=1)


def test_journeys_come_back_to_what_was_given() -> None:
    for family in ("rotate-and-return", "reverse"):
        trip = journey(family, 1, chunks=2, size=32)
        assert len(trip.ahead) == 8
        assert trip.revisited.float().mean() > 0.8
        assert (trip.beyond <= trip.revisited).all()
        assert trip.beyond.any()
        assert trip.beyond.sum() < trip.revisited.sum()
    assert set(FAMILIES) == {"rotate-and-return", "reverse", "loop", "closed-loop"}


def test_the_truth_itself_is_perfect() -> None:
    trip = journey("rotate-and-return", 2, chunks=2, size=32)
    ahead = trip.frames[trip.given :]
    rgb = torch.stack([frame.rgb_float() for frame in ahead])
    depth = torch.stack([frame.depth for frame in ahead if frame.depth is not None])
    rows = measure_play(
        PlayedJourney(trip, "truth", rgb, depth, 0.0), structure=True, matcher=Matcher()
    )
    assert len(rows) == 2
    for row in rows:
        assert row["psnr"] == row["psnr_revisited"] == 60.0
        assert row["ssim"] == pytest.approx(1.0)
        assert row["depth_error"] == 0
        assert row["match_accuracy"] == 1


def test_what_moves_is_taken_out_of_the_static_pixels() -> None:
    trip = journey("reverse", 0, chunks=3, size=32, moving=5)
    now, here = trip.movers[trip.given :], trip.revisited
    assert now.any()
    assert trip.covered.any()
    assert torch.equal(trip.static | trip.vacated, here & ~now)
    assert not (trip.static & trip.vacated).any()
    # Painting what moves, now and where it was, changes nothing that the static pixels tell.
    truth = torch.stack([frame.rgb_float() for frame in trip.frames[trip.given :]])
    depth = torch.stack([f.depth for f in trip.frames[trip.given :] if f.depth is not None])
    painted = torch.where((now | trip.covered)[..., None], 1 - truth, truth)
    rows = measure_play(PlayedJourney(trip, "painted", painted, depth, 0.0))
    assert {row["psnr_static"] for row in rows} == {60.0}
    assert min(row["psnr_revisited"] for row in rows) < 30
    still = journey("rotate-and-return", 2, chunks=1, size=32)
    assert torch.equal(still.static, still.revisited)
    assert not still.vacated.any()


def test_masked_things_do_not_come_back(generator: ReferenceGenerator) -> None:
    trip = journey("rotate-and-return", 8, chunks=3, size=32, moving=5)
    truth = torch.stack([frame.rgb_float() for frame in trip.frames[trip.given :]])
    where = trip.vacated
    error = {
        control: float(((play(generator, trip, control).rgb - truth) ** 2)[where].mean())
        for control in (FULL, MASKED, FOUND)
    }
    assert where.any()
    assert error[MASKED] < error[FULL]


def test_scopes_by_name() -> None:
    rules = Scope().with_rules("all")
    assert rules.controls == (FULL,)
    assert {"set-cover", "random", "none"} <= set(rules.rules)
    assert "covisibility" not in rules.rules  # which full memory is
    assert Scope().with_rules("random,recent").rules == ("random", "recent")
    assert Scope().with_movers(3).controls == AMONG_MOVERS
    assert Scope().with_rules("random").with_movers(3).controls == (FULL,)
    assert Scope().with_families("loop").families == ("loop",)
    with pytest.raises(UnknownNameError, match="set-cover"):
        Scope().with_rules("set-covers")
    with pytest.raises(UnknownNameError, match="reverse"):
        Scope().with_families("reversed")


def test_rules_are_compared_with_the_default(generator: ReferenceGenerator) -> None:
    scope = replace(Scope(("rotate-and-return",), (0, 1), 2), matches=True)
    rows, _ = consistency(generator, scope.with_rules("none,pose-nearest"))
    told = {row["rule"]: row for row in summary(rows)}
    assert set(told) == {"covisibility", "none", "pose-nearest"}
    assert list(told)[-1] == "none"  # the best first
    assert told["covisibility"]["covisibility less this, revisited"] == ""
    assert told["none"]["covisibility less this, revisited"] > "0"
    assert all("match_accuracy" in row for row in told.values())
    gain = paired(rows, FULL, "rule none", "psnr_revisited")
    assert min(gain) > 0  # keyframes are worth more than the projection alone


def test_memory_is_worth_what_is_measured(generator: ReferenceGenerator, tmp_path: Path) -> None:
    scope = Scope(("rotate-and-return",), (0, 1), 3, (FULL, "projection only", NONE))
    rows, shown = consistency(generator, scope)
    assert len(rows) == 2 * 3 * 3
    gain = paired(rows, FULL, NONE, "psnr_revisited")
    assert len(gain) == 2
    assert min(gain) > 4
    assert {row["memory"] for row in summary(rows) if "memory" in row} == set(scope.controls)
    assert set(drift(rows)[0]) == {"psnr_revisited by chunk", "1", "2", "3"}
    (told,) = (one for one in aims(rows) if one["name"].startswith("full over none"))
    assert told["ok"] == (told["value"] >= 6.0)
    assert [path.name for path in strips(shown, tmp_path)] == [
        "strip-rotate-and-return-0.png",
        "strip-rotate-and-return-1.png",
    ]
    assert curves(rows, tmp_path).stat().st_size > 10_000
