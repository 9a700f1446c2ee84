"""The benchmark of consistency: its measures, and that it tells memory from none."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spmem.bench.consistency import (
    FULL,
    NONE,
    Played,
    Scope,
    aims,
    consistency,
    drift,
    measured,
    paired,
    psnr,
    ssim,
    summary,
)
from spmem.bench.journeys import FAMILIES, journey
from spmem.bench.strips import curves, strips
from spmem.integrations.reference.generator import ReferenceGenerator
from spmem.integrations.reference.model import NANO, Conditions, WorldModel


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


def test_psnr_is_of_the_masked_pixels() -> None:
    error, mask = torch.full((2, 10, 10), 0.01), torch.ones(2, 10, 10, dtype=torch.bool)
    error[:, 5:] = 1.0
    mask[:, 5:] = False
    assert psnr(error, mask) == pytest.approx(20.0, abs=1e-4)
    mask[:] = False
    assert math.isnan(psnr(error, mask))


def test_ssim_falls_with_noise() -> None:
    a = torch.rand(2, 24, 24, 3, generator=torch.Generator().manual_seed(0))
    noisy = a + 0.1 * torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    assert float(ssim(a, a)) == pytest.approx(1.0)
    assert 0.5 < float(ssim(a, noisy)) < 0.98
    assert float(ssim(a, 1 - a)) < 0


def test_the_truth_itself_is_perfect() -> None:
    trip = journey("rotate-and-return", 2, chunks=2, size=32)
    ahead = trip.frames[trip.given :]
    rgb = torch.stack([frame.rgb_float() for frame in ahead])
    depth = torch.stack([frame.depth for frame in ahead if frame.depth is not None])
    rows = measured(Played(trip, "truth", rgb, depth, 0.0))
    assert len(rows) == 2
    for row in rows:
        assert row["psnr"] == row["psnr_revisited"] == 60.0
        assert row["ssim"] == pytest.approx(1.0)
        assert row["depth_error"] == 0


def test_memory_is_worth_what_is_measured(generator: ReferenceGenerator, tmp_path: object) -> None:
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
    from pathlib import Path

    folder = Path(str(tmp_path))
    assert [path.name for path in strips(shown, folder)] == [
        "strip-rotate-and-return-0.png",
        "strip-rotate-and-return-1.png",
    ]
    assert curves(rows, folder).stat().st_size > 10_000
