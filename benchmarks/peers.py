"""What the geometry is compared with: Open3D's volume and point projection, and a z-buffer in torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spmem import Camera, Frame
from spmem.types import Surfels

FAR = 20.0
"""Metres beyond which the peers leave depth out; nothing here is farther."""


class VoxelBlockGrid:
    """Open3D's ``t.geometry.VoxelBlockGrid``, float32: block coordinates and integration of each frame."""

    def __init__(self, voxel: float, blocks: int = 40_000) -> None:
        import open3d as o3d

        self._o3d, core = o3d, o3d.core
        self.grid = o3d.t.geometry.VoxelBlockGrid(
            ("tsdf", "weight", "color"), (core.float32,) * 3, ((1), (1), (3)), voxel, 16, blocks, core.Device("CPU:0")
        )  # fmt: skip

    def fuse(self, frame: Frame) -> None:
        """Integrate a frame."""
        assert frame.depth is not None
        image, tensor = self._o3d.t.geometry.Image, self._o3d.core.Tensor
        depth, colour = image(tensor(frame.depth.numpy())), image(tensor(frame.rgb_float().numpy()))
        K, w2c = matrices(frame.camera, tensor)
        blocks = self.grid.compute_unique_block_coordinates(depth, K, w2c, 1.0, FAR)
        self.grid.integrate(blocks, depth, colour, K, K, w2c, 1.0, FAR)

    def render(self, camera: Camera, least_weight: float) -> tuple[Tensor, Tensor]:
        """Colour ``[h, w, 3]`` and depth ``[h, w]`` (0 = none) by ray casting voxels seen at least so often."""
        K, w2c = matrices(camera, self._o3d.core.Tensor)
        table = self.grid.hashmap()
        blocks = table.key_tensor()[table.active_buf_indices().to(self._o3d.core.int64)]
        size, kinds = (camera.width, camera.height), ["color", "depth"]
        found = self.grid.ray_cast(blocks, K, w2c, *size, kinds, 1.0, 0.1, FAR, least_weight)
        colour, depth = (torch.from_numpy(found[kind].numpy().copy()) for kind in kinds)
        return colour.clamp(0, 1), depth[..., 0]

    def points(self, least_weight: float) -> Tensor:
        """The point cloud [n, 3] of voxels seen at least so often."""
        cloud = self.grid.extract_point_cloud(least_weight)
        return torch.from_numpy(cloud.point.positions.numpy().copy())


class PointProjection:
    """Open3D's ``project_to_rgbd_image`` of points: a pixel each, no normals, no index."""

    def __init__(self, surfels: Surfels) -> None:
        import open3d as o3d

        self._tensor = o3d.core.Tensor
        self._cloud = o3d.t.geometry.PointCloud(self._tensor(surfels.position.numpy()))
        self._cloud.point.colors = self._tensor(surfels.colour.numpy())

    def __call__(self, camera: Camera) -> Any:
        """Colour and depth."""
        K, w2c = matrices(camera, self._tensor)
        return self._cloud.project_to_rgbd_image(camera.width, camera.height, K, w2c, 1.0, FAR)


def matrices(camera: Camera, tensor: Any) -> tuple[Any, Any]:
    """Intrinsics and world-to-camera as Open3D wants them."""
    return tensor(camera.K.double().numpy()), tensor(camera.w2c.double().numpy())


def scatter(surfels: Surfels, camera: Camera) -> tuple[Tensor, Tensor]:
    """Colour and depth of points, a pixel each, by ``scatter_reduce`` of depth and index packed into one number."""
    points = surfels.position @ camera.w2c[:3, :3].T + camera.w2c[:3, 3]
    z = points[:, 2]
    x = (camera.K[0, 0] * points[:, 0] / z + camera.K[0, 2]).floor().long()
    y = (camera.K[1, 1] * points[:, 1] / z + camera.K[1, 2]).floor().long()
    inside = (z > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    which = inside.nonzero()[:, 0]
    packed = z[which].view(torch.int32).long() << 32 | which
    none = torch.iinfo(torch.int64).max
    nearest = torch.full((camera.width * camera.height,), none, device=z.device)
    nearest.scatter_reduce_(0, y[which] * camera.width + x[which], packed, "amin")
    hit = nearest != none
    which = (nearest & 0xFFFFFFFF)[hit]
    rgb, depth = z.new_zeros(len(hit), 3), z.new_zeros(len(hit))
    rgb[hit], depth[hit] = surfels.colour[which], z[which]
    return rgb, depth
