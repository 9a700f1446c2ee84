"""Depth of networks in the scale of the map: how it is fitted, when it is refused, and that the models of transformers run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import spmem
from spmem import Camera
from spmem.errors import FrameError, InputError
from spmem.integrations.depth.alignment import DepthMisfitError, align_inverse
from spmem.integrations.depth.network import DepthAnything, DepthPro, InverseDepth
from spmem.testing.box import BoxRoom
from spmem.testing.depth_estimator import DepthEstimatorTests
from spmem.types import Projection

transformers = pytest.importorskip("transformers")


@pytest.fixture
def truth() -> Projection:
    room = BoxRoom()
    return room.render(room.walk(3, width=64, height=48))


def hide(seen: Projection, hidden: Tensor) -> Projection:
    mask = seen.mask & ~hidden
    return replace(seen, mask=mask, depth=seen.depth * mask, normal=seen.normal * mask[..., None])


class TestInverseDepth(DepthEstimatorTests):
    """With a network that is right up to scale and shift, as the real ones are at their best."""

    error = 0.01

    @pytest.fixture
    def estimator(self, truth: Projection) -> InverseDepth:
        return InverseDepth(lambda rgb, cameras: 3 / truth.depth[: len(rgb)] + 0.4)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.05, 50), shift=st.floats(-0.1, 5), seed=st.integers(0, 2**16))
def test_alignment_undoes_scale_and_shift_of_inverse_depth(
    scale: float, shift: float, seed: int
) -> None:
    room = BoxRoom()
    truth = room.render(room.walk(2, width=48, height=36))
    hidden = torch.rand(truth.mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    inverse = scale / truth.depth + shift
    assume(bool((inverse > 0).all()))
    found = align_inverse(inverse, hide(truth, hidden))
    assert (found.depth / truth.depth - 1).abs().max() < 1e-2
    assert found.error.max() < 1e-3
    assert found.agreement.min() > 0.99
    torch.testing.assert_close(found.scale, torch.full((2,), 1 / scale), rtol=2e-2, atol=0)


def test_a_third_of_wrong_pixels_does_not_mislead(truth: Projection) -> None:
    inverse = 2 / truth.depth + 0.1
    inverse[:, :16] = 3.0
    found = align_inverse(inverse, truth)
    assert (found.depth / truth.depth - 1)[:, 16:].abs().max() < 0.01
    assert (found.agreement < 0.75).all()
    assert (found.agreement > 0.6).all()


def test_what_does_not_fit_is_refused(truth: Projection) -> None:
    with pytest.raises(DepthMisfitError, match="swapped"):
        align_inverse(truth.depth, truth)  # depth where inverse depth was wanted
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(truth.depth.shape, generator=draw) + 0.01
    with pytest.raises(DepthMisfitError, match="frame 0 does not fit"):
        align_inverse(noise, truth, agreement=0.9)
    with pytest.raises(InputError, match="gives no scale"):
        align_inverse(1 / truth.depth, hide(truth, torch.ones_like(truth.mask)))
    with pytest.raises(FrameError, match="infinite"):
        align_inverse(truth.depth / 0, truth)


def test_a_frame_that_memory_does_not_know_takes_the_common_fit(truth: Projection) -> None:
    hidden = torch.zeros_like(truth.mask)
    hidden[2] = True
    found = align_inverse(2 / truth.depth + 0.1, hide(truth, hidden))
    assert (found.depth / truth.depth - 1).abs().max() < 0.01
    assert found.agreement.isnan().tolist() == [False, False, True]


def test_a_metric_network_starts_a_memory_and_a_relative_one_does_not() -> None:
    room = BoxRoom()
    way = room.walk(3, width=64, height=48)
    truth = {float(camera.c2w[0, 3]): room.render(camera[None]).depth[0] for camera in way}

    def network(rgb: Tensor, cameras: Camera) -> Tensor:
        return torch.stack([1 / truth[float(camera.c2w[0, 3])] for camera in cameras])

    frames = [frame.replace(depth=None) for frame in room.frames(way)]
    with spmem.open(depth=InverseDepth(network, metric=True)) as memory:
        for frame in frames:
            memory.store(frame)
        known = memory.retrieve(way).projection
    exact = torch.stack(list(truth.values()))
    assert known.coverage.min() > 0.8
    assert ((known.depth / exact - 1).abs()[known.mask]).median() < 0.02
    with (
        spmem.open(depth=InverseDepth(network)) as memory,
        pytest.raises(InputError, match="gives no scale"),
    ):
        memory.store(frames[0])


def test_a_network_of_another_shape_is_said(truth: Projection) -> None:
    with pytest.raises(FrameError, match=r"returned \[3, 5\]"):
        InverseDepth(lambda rgb, cameras: torch.ones(3, 5))(truth.rgb, truth.cameras, truth)
    with pytest.raises(InputError, match="known=None"):
        InverseDepth(lambda rgb, cameras: 1 / truth.depth)(truth.rgb, truth.cameras)


def backbone(patch: int) -> dict[str, object]:
    return {
        "model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
        "image_size": 4 * patch, "patch_size": patch,
    }  # fmt: skip


@pytest.fixture(scope="module")
def depth_anything() -> torch.nn.Module:
    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone(14) | {"out_features": stages, "reshape_hidden_states": False},
        patch_size=14,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=4,
        depth_estimation_type="metric",
        max_depth=10,
    )
    return transformers.DepthAnythingForDepthEstimation(config)


@pytest.fixture(scope="module")
def depth_pro() -> torch.nn.Module:
    torch.manual_seed(0)
    part = backbone(8) | {"image_size": 32, "num_hidden_layers": 2, "use_mask_token": False}
    config = transformers.DepthProConfig(
        fusion_hidden_size=16,
        patch_size=32,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.2],
        scaled_images_feature_dims=[16, 16],
        image_model_config=part,
        patch_model_config=part,
        fov_model_config=part,
        use_fov_model=False,
    )
    return transformers.DepthProForDepthEstimation(config)


def test_depth_anything_gives_metric_depth(
    depth_anything: torch.nn.Module, truth: Projection
) -> None:
    estimate = DepthAnything(depth_anything)
    assert estimate.metric
    depth = estimate(truth.rgb, truth.cameras)
    assert depth.shape == (3, 48, 64)
    assert depth.dtype == torch.float32
    assert torch.isfinite(depth).all()
    assert depth.min() > 0
    assert depth.max() <= 10 + 1e-3
    assert torch.equal(depth, estimate(truth.rgb, truth.cameras))
    one = estimate(truth.rgb[1:2], truth.cameras[1:2])
    torch.testing.assert_close(one[0], depth[1])


def test_depth_pro_is_metric_by_the_cameras_focal_length(
    depth_pro: torch.nn.Module, truth: Projection
) -> None:
    estimate = DepthPro(depth_pro)
    depth = estimate(truth.rgb, truth.cameras)
    assert depth.shape == (3, 48, 64)
    assert torch.isfinite(depth).all()
    zoom = truth.cameras.K * torch.tensor([[2.0], [2.0], [1.0]])
    longer = Camera(zoom, truth.cameras.c2w, width=64, height=48)
    near = (depth > 0) & (depth < 1e3)
    if near.any():
        torch.testing.assert_close(estimate(truth.rgb, longer)[near], 2 * depth[near], rtol=1e-4, atol=0)  # fmt: skip


def test_what_a_random_network_says_is_refused(
    depth_anything: torch.nn.Module, truth: Projection
) -> None:
    with pytest.raises(DepthMisfitError):
        DepthAnything(depth_anything, tolerance=0.02)(truth.rgb, truth.cameras, truth)


def test_models_of_another_kind_are_refused(depth_pro: torch.nn.Module) -> None:
    with pytest.raises(InputError, match="wanted a DepthAnythingForDepthEstimation"):
        DepthAnything(depth_pro)
    with pytest.raises(OSError, match="nowhere"):
        DepthPro("/nowhere/at/all")
