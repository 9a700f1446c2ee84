"""What reconstruction networks answer, laid out as their documentation says, becomes cameras and depth of the memory's world."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spmem import Camera, geometry
from spmem.errors import CameraError, FrameError, InputError
from spmem.integrations.depth.pointmaps import (
    PointmapDepth,
    align_to_cameras,
    from_depth_anything_3,
    from_mapanything,
    from_vggt,
)
from spmem.protocols import DepthEstimator, PointmapEstimator
from spmem.testing.box import BoxRoom
from spmem.testing.pointmaps import PointmapEstimatorTests
from spmem.testing.room_memory import RoomMemory
from spmem.types import Pointmaps

W, H, N = 64, 48, 4
SCALE = 0.37
ROOM = BoxRoom()
WAY = ROOM.walk(N, width=W, height=H)
TRUTH = ROOM.render(WAY)


def elsewhere() -> Camera:
    """The same cameras in a world that is turned, moved and scaled."""
    turn = torch.eye(4)
    turn[:3, :3] = geometry.matrix_from_quaternion(torch.tensor([0.5, 0.3, -0.7, 0.4]))
    c2w = turn @ WAY.c2w
    c2w[:, :3, 3] = SCALE * c2w[:, :3, 3] + torch.tensor([3.0, -1.0, 2.0])
    return Camera(WAY.K, c2w, width=W, height=H)


def vggt() -> dict[str, Tensor]:
    cameras = elsewhere()
    w2c = cameras.w2c
    w, x, y, z = geometry.quaternion_from_matrix(w2c[:, :3, :3]).unbind(-1)
    fov = [2 * torch.atan(size / 2 / cameras.K[:, i, i]) for i, size in ((1, H), (0, W))]
    pose = torch.stack([*w2c[:, :3, 3].unbind(-1), x, y, z, w, *fov], -1)
    depth = SCALE * TRUTH.depth
    return {"pose_enc": pose[None], "depth": depth[None, ..., None], "depth_conf": 1 + depth[None]}


def mapanything() -> list[dict[str, Tensor]]:
    cameras = elsewhere()
    return [
        {
            "depth_z": SCALE * TRUTH.depth[i, ..., None][None],
            "intrinsics": camera.K[None],
            "camera_poses": camera.c2w[None],
            "conf": torch.ones(1, H, W),
            "mask": torch.ones(1, H, W, 1, dtype=torch.bool),
            "metric_scaling_factor": torch.ones(1),
        }
        for i, camera in enumerate(cameras)
    ]


def depth_anything_3() -> Any:
    cameras = elsewhere()
    return SimpleNamespace(
        depth=(SCALE * TRUTH.depth).numpy(),
        conf=np.ones((N, H, W), np.float32),
        extrinsics=cameras.w2c[:, :3].numpy(),
        intrinsics=cameras.K.numpy(),
    )


ANSWERS = {
    "vggt": lambda: from_vggt(vggt()),
    "mapanything": lambda: from_mapanything(mapanything()),
    "depth-anything-3": lambda: from_depth_anything_3(depth_anything_3()),
}


@pytest.mark.parametrize("network", ANSWERS)
def test_answers_are_read(network: str) -> None:
    found = ANSWERS[network]()
    torch.testing.assert_close(found.cameras.c2w, elsewhere().c2w, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.cameras.K, WAY.K, atol=1e-2, rtol=0)
    torch.testing.assert_close(found.depth, SCALE * TRUTH.depth)
    assert found.confidence.median() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("network", ANSWERS)
def test_they_are_placed_in_the_world_of_known_cameras(network: str) -> None:
    found = align_to_cameras(ANSWERS[network](), WAY)
    assert torch.equal(found.cameras.c2w, WAY.c2w)
    assert (found.depth / TRUTH.depth - 1).abs().max() < 1e-3
    assert (found.points - WAY.unproject(TRUTH.depth)).norm(dim=-1).max() < 0.01


def estimator(rgb: Tensor, cameras: Camera | None = None) -> Pointmaps:
    return from_vggt(vggt())


class TestReadAnswers(PointmapEstimatorTests):
    """With an answer that is exact up to a similarity."""

    error = 1e-3

    @pytest.fixture
    def estimator(self) -> PointmapEstimator:
        return estimator


def test_as_a_depth_estimator_it_takes_the_scale_from_the_map_or_the_cameras() -> None:
    estimate = PointmapDepth(estimator)
    assert isinstance(estimator, PointmapEstimator)
    assert isinstance(estimate, DepthEstimator)
    known = RoomMemory(unknown=0.4).retrieve(WAY).projection
    for told in (known, None):
        depth = estimate(TRUTH.rgb, WAY, told)
        assert (depth / TRUTH.depth - 1).abs().max() < 0.01


def test_smaller_maps_are_sampled_and_other_aspects_refused() -> None:
    def half(rgb: Tensor, cameras: Camera | None = None) -> Pointmaps:
        found = from_vggt(vggt())
        small = found.cameras.resize(W // 2, H // 2)
        return Pointmaps(small, found.depth[:, 1::2, 1::2], found.confidence[:, 1::2, 1::2])

    depth = PointmapDepth(half)(TRUTH.rgb, WAY)
    assert (depth / TRUTH.depth - 1).abs().median() < 0.02
    with pytest.raises(FrameError, match="gave maps"):
        PointmapDepth(half)(TRUTH.rgb[:, : H // 2], WAY)


def test_pixels_outside_the_mask_have_no_depth() -> None:
    views = mapanything()
    views[1]["mask"][0, :10] = False
    found = from_mapanything(views)
    assert not found.depth[1, :10].any()
    assert found.depth[1, 10:].all()


def test_wrong_answers_are_named() -> None:
    with pytest.raises(InputError, match="lacks 'pose_enc'; it has depth"):
        from_vggt({"depth": torch.ones(1, 2, 3, 4, 1)})
    two = {name: value.expand(2, *value.shape[1:]) for name, value in vggt().items()}
    with pytest.raises(InputError, match="one scene at a time"):
        from_vggt(two)
    with pytest.raises(InputError, match="Depth Anything 3's answer lacks 'conf'"):
        from_depth_anything_3({"depth": np.ones((1, 2, 2))})
    with pytest.raises(InputError, match="got none"):
        from_mapanything([])


def test_cameras_that_stand_still_give_no_scale() -> None:
    found = from_vggt(vggt())
    with pytest.raises(CameraError, match="wanted 4 cameras"):
        align_to_cameras(found, WAY[:2])
    still = Camera(found.cameras.K, found.cameras.c2w[:1], width=W, height=H)
    with pytest.raises(InputError, match="stand still"):
        align_to_cameras(Pointmaps(still, found.depth, found.confidence), WAY)


def test_fields_of_view_are_radians_in_height_and_width() -> None:
    answer = vggt()
    answer["pose_enc"][..., 7] = math.pi / 2
    assert from_vggt(answer).cameras.K[0, 1, 1] == pytest.approx(H / 2)
