"""Depth of generated frames: carried on from the map, and aligned to it."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import FrameError, InputError
from spmem.integrations.depth.projection import ProjectionDepth, align_depth, nearest_true
from spmem.kernels import carry_numba, carry_torch
from spmem.testing.box import BoxRoom
from spmem.testing.depth_estimator import DepthEstimatorTests
from spmem.types import Projection


class TestProjectionDepth(DepthEstimatorTests):
    error = 1e-6  # where it covers, the map's depth is the answer

    @pytest.fixture
    def estimator(self) -> ProjectionDepth:
        return ProjectionDepth()


@pytest.fixture
def truth() -> Projection:
    room = BoxRoom()
    return room.render(room.walk(3, width=96, height=72))


def hide(seen: Projection, hidden: Tensor) -> Projection:
    mask = seen.mask & ~hidden
    return replace(seen, mask=mask, depth=seen.depth * mask, normal=seen.normal * mask[..., None])


def test_covered_pixels_keep_the_maps_depth(truth: Projection) -> None:
    known = hide(truth, torch.rand(truth.mask.shape) < 0.3)
    depth = ProjectionDepth()(truth.rgb, truth.cameras, known)
    assert torch.equal(depth[known.mask], known.depth[known.mask])


def test_a_slanted_plane_goes_on_where_memory_ends() -> None:
    room = BoxRoom(room=((-20.0, -5.0, -20.0), (20.0, 1.2, 20.0)), solids=())
    floor = Camera.look_at([0, 0, 0], [0.3, 0.8, 1], width=96, height=72)[None]
    truth = room.render(floor)
    hidden = torch.zeros_like(truth.mask)
    hidden[:, :, 60:] = True
    on_floor = truth.normal[..., 1].abs() > 0.9
    depth = ProjectionDepth()(truth.rgb, floor, hide(truth, hidden))
    beyond = hidden & on_floor
    assert beyond.sum() > 1000
    assert (depth / truth.depth - 1)[beyond].abs().quantile(0.95) < 1e-3


def test_planes_reach_no_farther_than_stretch(truth: Projection) -> None:
    hidden = torch.ones_like(truth.mask)
    hidden[:, 40:60, 20:40] = False
    known = hide(truth, hidden)
    depth = ProjectionDepth(stretch=1.5)(truth.rgb, truth.cameras, known)
    assert depth.max() <= 1.5 * known.depth.max()
    assert depth.min() >= known.depth[known.mask].min() / 1.5


def test_a_frame_without_coverage_takes_the_chunks_median(truth: Projection) -> None:
    hidden = torch.zeros_like(truth.mask)
    hidden[1] = True
    known = hide(truth, hidden)
    depth = ProjectionDepth()(truth.rgb, truth.cameras, known)
    assert (depth[1] == known.depth[known.mask].median()).all()


def test_nothing_known_gives_no_depth(truth: Projection) -> None:
    known = hide(truth, torch.ones_like(truth.mask))
    assert not ProjectionDepth()(truth.rgb, truth.cameras, known).any()


def test_without_a_projection_it_says_what_it_needs(truth: Projection) -> None:
    with pytest.raises(InputError, match="known=None"):
        ProjectionDepth()(truth.rgb, truth.cameras)
    with pytest.raises(InputError, match="stretch must be > 1"):
        ProjectionDepth(stretch=1.0)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
def test_nearest_true_is_nearest(height: int, width: int, share: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(height, width, generator=draw) < share
    found = nearest_true(mask[None])[0]
    if not mask.any():
        assert (found == -1).all()
        return
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    here = torch.stack([y, x], -1).reshape(-1, 2).float()
    distances = torch.cdist(here, here[mask.flatten()]).amin(1)
    chosen = torch.stack([found // width, found % width], -1).reshape(-1, 2).float()
    assert mask.flatten()[found.flatten()].all()
    assert ((chosen - here).norm(dim=-1) - distances).max() <= 0.5  # jump flooding's rare ties


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
def test_the_compiled_nearest_is_exact(height: int, width: int, share: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(height, width, generator=draw) < share
    found = torch.from_numpy(carry_numba.nearest(mask.numpy()).astype(np.int64))
    plain = carry_torch.nearest(mask)
    if not mask.any():
        assert (found == -1).all()
        assert (plain == -1).all()
        return
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    everywhere = torch.nonzero(mask)
    away = (y.flatten()[:, None] - everywhere[:, 0]) ** 2 + (x.flatten()[:, None] - everywhere[:, 1]) ** 2  # fmt: skip
    best = away.amin(1).reshape(height, width)
    square = (found // width - y) ** 2 + (found % width - x) ** 2
    assert mask.flatten()[found.flatten()].all()
    assert torch.equal(square, best)
    plainly = (plain // width - y) ** 2 + (plain % width - x) ** 2
    assert (plainly.sqrt() - best.sqrt()).max() <= 0.5


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_the_compiled_depth_is_the_plain_one(truth: Projection, share: float) -> None:
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(len(truth.mask), 1, 9, 12, generator=draw)
    hidden = torch.nn.functional.interpolate(coarse, truth.mask.shape[1:])[:, 0] > share
    known = hide(truth, hidden)
    depth = ProjectionDepth()(truth.rgb, truth.cameras, known)
    plain = torch.stack(
        [
            carry_torch.carry(mask, depth, normal, camera.K, camera.c2w, 2.0)
            for mask, depth, normal, camera in zip(
                known.mask, known.depth, known.normal, known.cameras, strict=True
            )
        ]
    )
    # Pixels as near to two known ones may take the plane of either.
    same = same_anchor(known.mask)
    assert same.float().mean() > 0.8
    assert (depth / plain - 1)[same].abs().max() < 1e-4


def same_anchor(mask: Tensor) -> Tensor:
    """Where both ways to find the nearest known pixel find the same one."""
    plain = torch.stack([carry_torch.nearest(image) for image in mask])
    return (nearest_true(mask) == plain) & (plain >= 0)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.05, 20), shift=st.floats(-0.5, 5), seed=st.integers(0, 2**16))
def test_alignment_undoes_any_scale_and_shift(scale: float, shift: float, seed: int) -> None:
    room = BoxRoom()
    truth = room.render(room.walk(2, width=48, height=36))
    hidden = torch.rand(truth.mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    estimated = (truth.depth + shift) / scale
    aligned = align_depth(estimated, hide(truth, hidden))
    assert (aligned / truth.depth - 1).abs().max() < 1e-3


def test_alignment_is_not_misled_by_a_third_of_wrong_pixels(truth: Projection) -> None:
    estimated = truth.depth / 2.3 - 0.2
    estimated[:, :24] = 5.0
    aligned = align_depth(estimated, truth)
    assert (aligned / truth.depth - 1)[:, 24:].abs().max() < 0.01


def test_each_frame_has_its_own_scale_and_uncovered_ones_the_common(truth: Projection) -> None:
    wander = torch.tensor([1.0, 1.3, 1.0])[:, None, None]
    hidden = torch.zeros_like(truth.mask)
    hidden[2] = True
    aligned = align_depth(truth.depth * wander, hide(truth, hidden))
    assert (aligned / truth.depth - 1)[:2].abs().max() < 1e-3
    assert (aligned / truth.depth - 1)[2].abs().max() < 0.35


def test_no_depth_stays_none(truth: Projection) -> None:
    estimated = truth.depth.clone()
    estimated[:, :10] = 0
    assert not align_depth(estimated, truth)[:, :10].any()


def test_a_constant_depth_is_scaled(truth: Projection) -> None:
    wall = replace(truth, depth=torch.full_like(truth.depth, 4.0))
    aligned = align_depth(torch.full_like(truth.depth, 0.5), wall)
    assert (aligned - 4).abs().max() < 1e-3


def test_alignment_says_when_there_is_no_scale(truth: Projection) -> None:
    with pytest.raises(InputError, match="gives no scale"):
        align_depth(truth.depth, hide(truth, torch.ones_like(truth.mask)))
    with pytest.raises(FrameError, match="estimate at the cameras' size"):
        align_depth(truth.depth[:, ::2], truth)
