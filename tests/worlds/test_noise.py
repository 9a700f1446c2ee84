"""The depth sensor's noise against its formulas."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from spmem import Camera, worlds
from spmem.errors import FrameError, InputError
from spmem.worlds import DepthNoise, House
from spmem.worlds.noise import BASELINE, FOCAL

CAMERA = Camera.from_fov(0.2, torch.eye(4), width=640, height=480)
QUIET = DepthNoise(
    axial=0, lateral=0, disparity_step=0, edge_holes=0, steepest=math.pi / 2, nearest=0
)


def plane(z: float, tilt: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth and normals of a plane through (0, 0, z), turned by ``tilt`` radians about the y axis."""
    normal = torch.tensor([math.sin(tilt), 0.0, -math.cos(tilt)])
    depth = z * normal[2] / (CAMERA.rays() @ normal)
    return depth, normal.expand(480, 640, 3)


def spoiled(noise: DepthNoise, depth: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    return noise.spoil(depth, normal, CAMERA, index=0)


def test_all_off_is_exact() -> None:
    assert torch.equal(spoiled(QUIET, *plane(2.0)), plane(2.0)[0])


@pytest.mark.parametrize("z", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_axial_noise_has_its_deviation(z: float, tilt: float) -> None:
    exact, normal = plane(z, tilt)
    middle = slice(200, 280), slice(300, 340)  # where depth and angle hardly change
    error = (spoiled(replace(QUIET, axial=1.0), exact, normal) - exact)[middle]
    expected = (
        0.0012 + 0.0019 * (z - 0.4) ** 2 + 0.0001 / z**0.5 * (tilt / (math.pi / 2 - tilt)) ** 2
    )
    assert error.std().item() == pytest.approx(expected, rel=0.06)
    assert abs(error.mean().item()) < 4 * expected / math.sqrt(error.numel())


def test_lateral_noise_frays_an_edge_by_its_deviation() -> None:
    # Left of the edge at column 320 is near, right is far. A pixel d columns right of it shows the near side where
    # its draw, rounded to whole pixels, is below -d.
    depth = torch.full((480, 640), 3.0)
    depth[:, :320] = 2.0
    normal = torch.tensor([0.0, 0.0, -1.0]).expand(480, 640, 3)
    seen = spoiled(replace(QUIET, lateral=1.0), depth, normal)
    for d in (0, 1):
        chance = 0.5 * math.erfc((d + 0.5) / 0.8 / math.sqrt(2))
        assert (seen[:, 320 + d] == 2.0).float().mean().item() == pytest.approx(chance, abs=0.06)
    assert torch.equal(seen[:, 340:], depth[:, 340:])


def test_quantised_depth_has_whole_steps_of_disparity() -> None:
    exact, normal = plane(3.0, 0.5)
    seen = spoiled(replace(QUIET, disparity_step=0.125), exact, normal)
    steps = (BASELINE * FOCAL / seen.double() / 0.125).numpy()
    assert np.abs(steps - steps.round()).max() < 1e-3
    # Half a step of disparity is z² / (b f) / 16 of depth.
    assert ((seen - exact).abs() < 1.05 * exact**2 / (BASELINE * FOCAL) / 16).all()
    assert len(seen.unique()) < 100


def test_range_and_grazing_angles_leave_holes() -> None:
    noise = replace(QUIET, nearest=1.0, farthest=3.0, steepest=1.2)
    assert not spoiled(noise, *plane(0.9)).any()
    assert spoiled(noise, *plane(2.0)).all()
    assert not spoiled(noise, *plane(3.5)).any()
    assert not spoiled(noise, *plane(2.0, 1.4))[:, 310:330].any()


def test_holes_lie_beside_edges_in_the_share_asked_for() -> None:
    depth = torch.full((480, 640), 3.0)
    depth[:, :320] = 2.0
    normal = torch.tensor([0.0, 0.0, -1.0]).expand(480, 640, 3)
    seen = spoiled(replace(QUIET, edge_holes=0.3), depth, normal)
    holes = seen == 0
    assert holes[:, 319:321].float().mean().item() == pytest.approx(0.3, abs=0.06)
    assert not holes[:, :319].any()
    assert not holes[:, 321:].any()


def test_what_has_no_depth_gets_none() -> None:
    depth, normal = plane(2.0)
    depth = depth.clone()
    depth[100:200] = 0
    assert not spoiled(DepthNoise(lateral=0), depth, normal)[100:200].any()


def test_draws_are_the_seeds_and_the_frames() -> None:
    exact, normal = plane(2.0)
    one, same = (DepthNoise(seed=1).spoil(exact, normal, CAMERA, index=4) for _ in range(2))
    assert torch.equal(one, same)
    assert not torch.equal(one, DepthNoise(seed=2).spoil(exact, normal, CAMERA, index=4))
    assert not torch.equal(one, DepthNoise(seed=1).spoil(exact, normal, CAMERA, index=5))


def test_noise_scales_with_the_world() -> None:
    exact, normal = plane(2.0)
    small = spoiled(DepthNoise(), exact, normal)
    large = DepthNoise(metre=100.0).spoil(100 * exact, normal, CAMERA, index=0)
    assert torch.allclose(large, 100 * small, rtol=1e-4)


def test_frames_carry_the_noise() -> None:
    house = House(rooms=1)
    cameras = worlds.walk(house, 3, width=64, height=48)
    exact = house.render(cameras)
    for i, frame in enumerate(house.frames(cameras, noise=DepthNoise())):
        assert frame.depth is not None
        kept = frame.depth > 0
        assert 0.5 < kept.float().mean() < 1
        error = (frame.depth - exact.depth[i])[kept].abs()
        assert 0 < error.median() < 0.02
        assert torch.equal(frame.rgb, exact.rgb[i])


def test_wrong_values_and_sizes() -> None:
    wrongs: list[dict[str, Any]] = [
        {"axial": -1.0},
        {"edge_holes": 1.5},
        {"steepest": 2.0},
        {"farthest": 0.1},
        {"metre": 0.0},
    ]
    for wrong in wrongs:
        with pytest.raises(InputError):
            DepthNoise(**wrong)
    with pytest.raises(FrameError, match="normal"):
        DepthNoise().spoil(torch.ones(480, 640), torch.ones(480, 640), CAMERA, index=0)
