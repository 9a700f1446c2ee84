"""PyTorch3D's types and back, against its own projection; its point rasteriser as a renderer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from spmem.camera import Camera
from spmem.errors import CameraError, InputError
from spmem.integrations.renderers.pytorch3d import (
    PointRenderer,
    camera_from_perspective,
    perspective_cameras,
    pointclouds_from_surfels,
    surfels_from_pointclouds,
)
from spmem.testing.box import BoxRoom
from spmem.testing.renderer import RendererTests
from spmem.types import Surfels

structures = pytest.importorskip("pytorch3d.structures", reason="PyTorch3D is not installed")
renderer = pytest.importorskip("pytorch3d.renderer", reason="PyTorch3D is not installed")


class TestPointRenderer(RendererTests):
    @pytest.fixture
    def make(self) -> Callable[[], PointRenderer]:
        return PointRenderer


@pytest.mark.gpu
class TestPointRendererOnCuda(RendererTests):
    device = "cuda"

    @pytest.fixture
    def make(self) -> Callable[[], PointRenderer]:
        return PointRenderer


@pytest.fixture(params=[(48, 36), (36, 48), (40, 40)])
def cameras(request: pytest.FixtureRequest) -> Camera:
    """Three poses, focal lengths that differ, and a principal point off the middle."""
    width, height = request.param
    K = torch.tensor([[41.0, 0, 22], [0, 39, 19.5], [0, 0, 1]])
    poses = BoxRoom().walk(3, width=width, height=height, sweep=2.0).c2w
    return Camera(K, poses, width=width, height=height)


@pytest.fixture
def surfels() -> Surfels:
    view = BoxRoom().walk(2, width=48, height=36)
    return RendererTests().room(view)


def test_its_cameras_put_points_into_the_same_pixels(cameras: Camera) -> None:
    points = 4 * torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) - 2
    ahead = cameras.project(points)[1] > 0.5
    ours, _ = cameras.project(points)
    theirs = perspective_cameras(cameras).transform_points_screen(points.expand(3, -1, 3))
    assert ahead.any(-1).all()
    assert torch.allclose(theirs[..., :2][ahead], ours[ahead], atol=1e-3, rtol=1e-4)


def test_cameras_come_back(cameras: Camera) -> None:
    ndc = renderer.PerspectiveCameras(**cameras.to_pytorch3d())
    for theirs in (perspective_cameras(cameras), ndc):
        back = camera_from_perspective(theirs)
        assert (back.width, back.height) == (cameras.width, cameras.height)
        assert torch.allclose(back.K, cameras.K, atol=1e-4)
        assert torch.allclose(back.c2w, cameras.c2w, atol=1e-5)


def test_one_camera_is_a_trajectory_of_one(cameras: Camera) -> None:
    assert camera_from_perspective(perspective_cameras(cameras[1])).shape == (1,)
    with pytest.raises(CameraError, match="index one dim away"):
        perspective_cameras(cameras[None])


def test_cameras_that_say_too_little_are_refused(cameras: Camera) -> None:
    given = cameras.to_pytorch3d()
    no_size = {**given, "image_size": None}
    with pytest.raises(CameraError, match="image_size"):
        camera_from_perspective(renderer.PerspectiveCameras(**no_size))
    with pytest.raises(CameraError, match="focal_length"):
        camera_from_perspective(
            renderer.PerspectiveCameras(R=given["R"], T=given["T"], K=torch.eye(4).expand(3, 4, 4))
        )


def test_surfels_come_back_from_point_clouds(surfels: Surfels) -> None:
    clouds = pointclouds_from_surfels(surfels)
    assert isinstance(clouds, structures.Pointclouds)
    back = surfels_from_pointclouds(clouds, surfels.radius, ids=surfels.ids)
    for name, field in vars(surfels).items():
        if field is not None:
            assert torch.allclose(getattr(back, name), field, atol=1e-6), name


def test_clouds_of_a_batch_come_one_after_the_other() -> None:
    points = [torch.rand(3, 3), torch.rand(5, 3)]
    clouds = structures.Pointclouds(points, normals=points, features=points)
    found = surfels_from_pointclouds(clouds, 0.1, confidence=3.0, time=7.0)
    assert torch.equal(found.position, torch.cat(points))
    assert torch.equal(found.ids, torch.arange(8))
    assert (found.normal.norm(dim=-1) - 1).abs().max() < 1e-5
    for field, value in (("radius", 0.1), ("confidence", 3.0), ("first_seen", 7.0)):
        assert torch.allclose(getattr(found, field), torch.full((8,), value))


def test_clouds_that_are_no_surfels_are_refused() -> None:
    points = [torch.rand(4, 3)]
    with pytest.raises(InputError, match="estimate_normals"):
        surfels_from_pointclouds(structures.Pointclouds(points, features=points), 0.1)
    with pytest.raises(InputError, match="no features"):
        surfels_from_pointclouds(structures.Pointclouds(points, normals=points), 0.1)


def test_gradients_reach_colour_and_position(surfels: Surfels) -> None:
    view = BoxRoom().walk(1, width=48, height=36)
    for wanted in (surfels.colour, surfels.position, surfels.normal):
        wanted.requires_grad_()
    seen = PointRenderer()(surfels, view)
    pixels = torch.arange(48) + 0.5
    (seen.rgb.sum(-1) * pixels).sum().backward()
    assert surfels.colour.grad is not None
    assert surfels.position.grad is not None
    assert torch.isfinite(surfels.position.grad).all()
    assert surfels.position.grad.abs().max() > 0
    assert surfels.colour.grad.max() > 0
    surfels.position.grad = None
    PointRenderer()(surfels, view).depth.sum().backward()
    assert surfels.position.grad is not None
    outwards = (surfels.position.grad * -surfels.normal).sum(-1)  # walls moved out are farther
    assert outwards.sum() > 0


def test_more_points_a_pixel_change_little(surfels: Surfels) -> None:
    view = BoxRoom().walk(1, width=48, height=36)
    few, many = PointRenderer(nearest=8)(surfels, view), PointRenderer(nearest=24)(surfels, view)
    both = few.mask & many.mask
    assert (few.depth / many.depth - 1).abs()[both].median() < 0.003
    with pytest.raises(InputError, match="nearest"):
        PointRenderer(nearest=0)
