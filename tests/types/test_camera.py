"""Camera: conventions, projection, batch dims, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spmem import Camera, geometry
from spmem.errors import CameraError, DeviceError

K = [[50.0, 0, 32], [0, 52.0, 24], [0, 0, 1]]


@st.composite
def cameras(draw: st.DrawFn) -> Camera:
    numbers = st.floats(-3, 3, allow_nan=False, width=32)
    q = torch.tensor([draw(numbers) for _ in range(4)])
    q = q if q.norm() > 0.1 else torch.tensor([1.0, 0, 0, 0])
    c2w = torch.eye(4)
    c2w[:3, :3] = geometry.matrix_from_quaternion(q)
    c2w[:3, 3] = torch.tensor([draw(numbers) for _ in range(3)])
    intrinsics = torch.tensor(K)
    intrinsics[0, 0] += draw(st.floats(0, 30))
    intrinsics[0, 2] += draw(st.floats(-8, 8))
    return Camera(intrinsics, c2w, width=64, height=48)


@given(cameras())
def test_unproject_and_project_are_inverse(camera: Camera) -> None:
    depth = torch.linspace(0.5, 9, 64 * 48).reshape(48, 64)
    uv, z = camera.project(camera.unproject(depth).reshape(-1, 3))
    assert torch.allclose(z, depth.reshape(-1), atol=1e-3)
    assert torch.allclose(uv, geometry.pixel_centres(64, 48).reshape(-1, 2), atol=2e-2)


@given(cameras())
def test_every_convention_comes_back(camera: Camera) -> None:
    size = {"width": 64, "height": 48}
    p3d = camera.to_pytorch3d()
    colmap, gsplat = camera.to_colmap(), camera.to_gsplat()
    back = [
        Camera.from_opengl(camera.K, camera.to_opengl(), **size),
        Camera.from_nerfstudio(camera.to_nerfstudio()["transform_matrix"], camera.to_nerfstudio()),
        Camera.from_pytorch3d(
            p3d["R"], p3d["T"], p3d["focal_length"], p3d["principal_point"], **size
        ),
        Camera.from_gsplat(gsplat["viewmats"], gsplat["Ks"], **size),
        Camera.from_colmap(colmap["params"], colmap["qvec"], colmap["tvec"], **size),
    ]
    for other in back:
        assert torch.allclose(other.c2w, camera.c2w, atol=1e-4)
        assert torch.allclose(other.K, camera.K, atol=1e-3)


@given(cameras())
def test_pytorch3d_projects_to_the_same_pixel(camera: Camera) -> None:
    """PyTorch3D's own formula (row vectors, NDC by the shorter side, +x left, +y up) against ours."""
    points = camera.unproject(torch.full((48, 64), 2.0)).reshape(-1, 3)[::97]
    p = camera.to_pytorch3d()
    view = points @ p["R"] + p["T"]
    ndc = p["focal_length"] * view[:, :2] / view[:, 2:] + p["principal_point"]
    pixel = torch.tensor([64.0, 48]) / 2 - ndc * min(64, 48) / 2
    assert torch.allclose(pixel, camera.project(points)[0], atol=1e-2)


def test_opengl_looks_along_minus_z() -> None:
    camera = Camera.look_at([0.0, 0, 0], [0.0, 0, 5], up=[0, -1, 0], width=8, height=8)
    assert torch.allclose(-camera.to_opengl()[:3, 2], torch.tensor([0.0, 0, 1]), atol=1e-6)
    assert torch.allclose(camera.to_opengl()[:3, 1], torch.tensor([0.0, -1, 0]), atol=1e-6)


def test_look_at_puts_the_target_in_the_middle_and_up_upwards() -> None:
    camera = Camera.look_at([1.0, 2, 3], [4.0, 1, 7], up=[0, 0, 1], fov_x=1.0, width=64, height=48)
    uv, z = camera.project(torch.tensor([[4.0, 1, 7], [4.0, 1, 8]]))
    assert torch.allclose(uv[0], torch.tensor([32.0, 24]), atol=1e-3)
    assert uv[1, 1] < uv[0, 1]
    assert z[0] == pytest.approx(math.sqrt(26), rel=1e-5)


def test_fov() -> None:
    camera = Camera.from_fov(math.pi / 2, torch.eye(4), width=100, height=50)
    assert camera.K[0, 0] == pytest.approx(50)
    edge = camera.rays()[25, 0]
    assert edge[0] == pytest.approx(-0.99)


def test_plucker_rays_are_lines() -> None:
    camera = Camera.look_at([1.0, 2, 3], [0.0, 0, 0], width=6, height=4)
    direction, moment = camera.plucker().split(3, -1)
    assert torch.allclose(direction.norm(dim=-1), torch.ones(4, 6), atol=1e-5)
    assert torch.allclose((direction * moment).sum(-1), torch.zeros(4, 6), atol=1e-5)
    point = camera.unproject(torch.full((4, 6), 2.5))
    assert torch.allclose(torch.linalg.cross(point, direction), moment, atol=1e-5)


def test_batches() -> None:
    poses = torch.eye(4).repeat(2, 3, 1, 1)
    poses[..., 0, 3] = torch.arange(6.0).reshape(2, 3)
    camera = Camera(K, poses, width=64, height=48)
    assert camera.shape == (2, 3)
    assert len(camera) == 2
    assert camera[1].shape == (3,)
    assert camera[1, 2].position[0] == 5
    assert camera[:, 0].position[:, 0].tolist() == [0, 3]
    assert camera[None].shape == (1, 2, 3)
    assert camera.rays().shape == (2, 3, 48, 64, 3)
    assert camera.unproject(torch.ones(2, 3, 48, 64)).shape == (2, 3, 48, 64, 3)
    assert [c.shape for c in camera] == [torch.Size([3])] * 2
    single = camera[0, 1]
    assert Camera.stack([single, single]).shape == (2,)
    with pytest.raises(TypeError, match="no length"):
        len(single)


def test_resize_keeps_the_view() -> None:
    camera = Camera(K, torch.eye(4), width=64, height=48)
    points = torch.tensor([[0.3, -0.2, 2.0]])
    small = camera.resize(32, 12)
    assert torch.allclose(
        small.project(points)[0], camera.project(points)[0] * torch.tensor([0.5, 0.25])
    )


def test_is_immutable() -> None:
    camera = Camera(K, torch.eye(4), width=64, height=48)
    with pytest.raises(AttributeError, match="immutable"):
        camera.width = 3  # type: ignore[misc]


def test_takes_numpy_and_lists_and_keeps_gradients() -> None:
    assert Camera(np.array(K), np.eye(4), width=64, height=48).K.dtype == torch.float32
    pose = torch.eye(4, requires_grad=True)
    camera = Camera(K, pose, width=64, height=48)
    camera.project(torch.ones(1, 3))[0].sum().backward()
    assert pose.grad is not None


NOT_RIGID = torch.diag(torch.tensor([2.0, 2, 2, 1]))
TRANSPOSED = torch.eye(4)
TRANSPOSED[3, :3] = torch.tensor([1.0, 2, 3])
MIRRORED = torch.diag(torch.tensor([1.0, 1, -1, 1]))


@pytest.mark.parametrize(
    ("k", "c2w", "says"),
    [
        (np.zeros((3, 3)), torch.eye(4), "singular"),
        ([[50, 0, 32], [0, -50, 24], [0, 0, 1]], torch.eye(4), "mirrored"),
        ([[50, 3, 32], [0, 50, 24], [0, 0, 1]], torch.eye(4), "skew"),
        (np.array(K).T, torch.eye(4), "transpose"),
        ([[0.8, 0, 0.5], [0, 1.1, 0.5], [0, 0, 1]], torch.eye(4), "normalised"),
        ([[math.nan, 0, 32], [0, 50, 24], [0, 0, 1]], torch.eye(4), "finite"),
        ([50.0, 50, 32, 24], torch.eye(4), r"\[\.\.\., 3, 3\]"),
        (K, torch.eye(4)[:3], "append the row"),
        (K, NOT_RIGID, "rigid"),
        (K, MIRRORED, "rigid"),
        (K, TRANSPOSED, "transposed"),
        (K, torch.full((4, 4), math.inf), "finite"),
        (K, "pose.txt", "tensor or array"),
        (np.stack([K] * 3), torch.eye(4).repeat(2, 1, 1), "broadcast"),
    ],
)
def test_refuses(k: object, c2w: object, says: str) -> None:
    with pytest.raises(CameraError, match=says):
        Camera(k, c2w, width=64, height=48)


def test_refuses_sizes_and_directions() -> None:
    with pytest.raises(CameraError, match="positive integers"):
        Camera(K, torch.eye(4), width=0, height=48)
    with pytest.raises(CameraError, match="radians"):
        Camera.from_fov(60, torch.eye(4), width=64, height=48)
    with pytest.raises(CameraError, match="parallel"):
        Camera.look_at([0.0, 0, 0], [0.0, 1, 0], width=64, height=48)
    camera = Camera(K, torch.eye(4), width=64, height=48)
    with pytest.raises(CameraError, match="image size"):
        Camera.stack([camera, camera.resize(32, 24)])
    with pytest.raises(CameraError, match="lack"):
        Camera.from_nerfstudio(torch.eye(4), {"fl_x": 50})


def test_mixed_devices_are_refused() -> None:
    with pytest.raises(DeviceError, match="meta"):
        Camera(torch.eye(3, device="meta"), torch.eye(4), width=4, height=4)


def test_a_nearly_rigid_pose_can_be_cleaned() -> None:
    c2w = Camera.look_at([0.0, 0, 0], [1.0, 2, 3], width=4, height=4).c2w * 1.01
    c2w[3, 3] = 1
    with pytest.raises(CameraError, match="nearest_rotation"):
        Camera(K, c2w, width=64, height=48)
    assert Camera(K, geometry.nearest_rotation(c2w), width=64, height=48).shape == ()


@given(cameras(), cameras(), st.floats(0, 1))
def test_interpolated_poses_are_rigid_and_hit_the_ends(a: Camera, b: Camera, w: float) -> None:
    poses = torch.stack([a.c2w, b.c2w])
    path = geometry.interpolate(poses, torch.tensor([0.0, w, 1.0]))
    assert geometry.rigid_error(path).max() < 1e-4
    assert torch.allclose(path[0], a.c2w, atol=1e-4)
    assert torch.allclose(path[2], b.c2w, atol=1e-4)


@given(cameras())
def test_quaternions_come_back(camera: Camera) -> None:
    R = camera.c2w[:3, :3]
    q = geometry.quaternion_from_matrix(R)
    assert q[0] >= 0
    assert torch.allclose(geometry.matrix_from_quaternion(q), R, atol=1e-5)


def test_normals_of_a_slanted_plane() -> None:
    camera = Camera(K, torch.eye(4), width=64, height=48)
    n = torch.nn.functional.normalize(torch.tensor([0.3, -0.2, -1.0]), dim=0)
    depth = -2.0 / (camera.rays() @ n)
    found = geometry.normals_from_depth(depth, camera.K)
    assert torch.allclose(found, n.expand_as(found), atol=1e-3)
    depth[10, 10] = 0
    assert (geometry.normals_from_depth(depth, camera.K)[10, 10] == 0).all()
