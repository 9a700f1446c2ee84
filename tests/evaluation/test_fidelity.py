"""PSNR, SSIM and MS-SSIM, by hand where a formula is short."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from spmem.evaluation.fidelity import SCALES, ms_ssim, psnr, ssim


def test_psnr_is_of_the_masked_pixels() -> None:
    error, mask = torch.full((2, 10, 10), 0.01), torch.ones(2, 10, 10, dtype=torch.bool)
    error[:, 5:] = 1.0
    mask[:, 5:] = False
    assert psnr(error, mask) == pytest.approx(20.0, abs=1e-4)
    mask[:] = False
    assert math.isnan(psnr(error, mask))
    mask[0, 0, 0] = True
    assert math.isnan(psnr(error, mask))  # too few
    assert psnr(error, mask, least=0.01) == pytest.approx(20.0, abs=1e-4)


def test_ssim_falls_with_noise() -> None:
    a = torch.rand(2, 24, 24, 3, generator=torch.Generator().manual_seed(0))
    noisy = a + 0.1 * torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    assert float(ssim(a, a)) == pytest.approx(1.0)
    assert 0.5 < float(ssim(a, noisy)) < 0.98
    assert float(ssim(a, 1 - a)) < 0


def test_light_counts_at_the_coarsest_scale_alone() -> None:
    a, b = torch.full((1, 64, 64, 3), 0.3), torch.full((1, 64, 64, 3), 0.6)
    light = (2 * 0.3 * 0.6 + 0.01**2) / (0.3**2 + 0.6**2 + 0.01**2)
    assert float(ms_ssim(a, b)) == pytest.approx(light ** (SCALES[2] / sum(SCALES)), abs=1e-3)


def test_what_halving_takes_away_counts_at_the_finest_scale_alone() -> None:
    fine = torch.arange(64)[:, None] + torch.arange(64)
    board = 0.5 + 0.2 * (2 * (fine % 2) - 1.0)
    a = board[None, ..., None].expand(1, 64, 64, 3)
    b = torch.full_like(a, 0.5)  # the same once pixels are averaged by two
    structure = 0.03**2 / (0.2**2 + 0.03**2)
    assert float(ms_ssim(a, b)) == pytest.approx(structure ** (SCALES[0] / sum(SCALES)), abs=2e-3)


def test_a_shift_costs_less_at_coarser_scales() -> None:
    noise = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    a = F.interpolate(noise, scale_factor=4, mode="bilinear").movedim(1, -1)
    moved = a.roll(1, 2)
    assert float(ssim(a, moved)) < float(ms_ssim(a, moved)) < 1
    assert math.isnan(float(ms_ssim(a[:, :32], moved[:, :32])))  # too small for three scales
