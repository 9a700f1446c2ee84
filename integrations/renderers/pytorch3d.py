"""PyTorch3D: surfels as ``Pointclouds`` and back, its cameras and back, and a renderer of points."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import CameraError, InputError, MissingExtraError
from spmem.kernels.raster import SLAB
from spmem.kernels.raster_torch import FAINT
from spmem.stores.maps.rendering import drawable, nothing, projection
from spmem.types import Projection, Surfels

PIXEL = 0.71
"""Half a pixel's diagonal, in pixels."""


def pointclouds_from_surfels(surfels: Surfels) -> Any:
    """One cloud ``pytorch3d.structures.Pointclouds`` of positions, normals and, as features, colours; gradients flow.

    Raises:
        MissingPytorch3dError: PyTorch3D is not installed.
    """
    structures = _import_pytorch3d("structures", "point clouds")
    return structures.Pointclouds(
        points=[surfels.position], normals=[surfels.normal], features=[surfels.colour]
    )


def surfels_from_pointclouds(
    clouds: Any,
    radius: Float[Tensor, " n"] | float,
    *,
    ids: Int[Tensor, " n"] | None = None,
    confidence: float = 1.0,
    time: float = 0.0,
) -> Surfels:
    """Surfels of a batch of ``Pointclouds``, its clouds one after the other.

    Args:
        clouds: With normals (made unit here), and features ``[n, 3]`` that are colours in 0..1.
        radius: Radius of the discs, in world units: point clouds do not know it. The distance to the nearest neighbour
            leaves no holes.
        ids: The surfels' names; None counts them from 0.
        confidence: Confidence of every surfel, > 0.
        time: Seconds at which the surfels were seen.

    Raises:
        InputError: No normals, or features that are not ``[n, 3]``.
    """
    position, normal, colour = (
        clouds.points_packed(),
        clouds.normals_packed(),
        clouds.features_packed(),
    )
    if normal is None:
        raise InputError(
            "surfels have normals, the clouds have none; clouds.estimate_normals(assign_to_self=True) makes some"
        )
    if colour is None or colour.shape != position.shape:
        found = "no features" if colour is None else f"features {list(colour.shape)}"
        raise InputError(f"the clouds must have colours [n, 3] in 0..1 as features, got {found}")
    ones = torch.ones_like(position[:, 0])
    return Surfels(
        ids=torch.arange(len(ones), device=ones.device) if ids is None else ids,
        position=position,
        normal=torch.nn.functional.normalize(normal, dim=-1),
        radius=ones * radius,
        colour=colour.clamp(0, 1),
        confidence=ones * confidence,
        first_seen=ones * time,
        last_seen=ones * time,
    )


def perspective_cameras(cameras: Camera) -> Any:
    """``pytorch3d.renderer.PerspectiveCameras`` in pixels (``in_ndc=False``) of one camera or a trajectory ``[T]``.

    Focal length and principal point are those of K; the axes turn to +x left, +y up.

    Raises:
        MissingPytorch3dError: PyTorch3D is not installed.
        CameraError: More than one leading dim.
    """
    if len(cameras.shape) > 1:
        raise CameraError(
            f"PyTorch3D's cameras are a list, ours are {list(cameras.shape)}; index one dim away"
        )
    many = cameras if cameras.shape else cameras[None]
    ndc, K = many.to_pytorch3d(), many.K
    return _import_pytorch3d("renderer", "cameras").PerspectiveCameras(
        R=ndc["R"],
        T=ndc["T"],
        focal_length=torch.stack([K[:, 0, 0], K[:, 1, 1]], -1),
        principal_point=K[:, :2, 2],
        in_ndc=False,
        image_size=ndc["image_size"],
        device=cameras.device,
    )


def camera_from_perspective(cameras: Any) -> Camera:
    """A trajectory ``[T]`` of ``PerspectiveCameras``, given in pixels or in NDC.

    Raises:
        CameraError: No image size, or sizes that differ; a calibration matrix ``K`` in place of focal lengths.
    """
    if cameras.K is not None:
        raise CameraError(
            "these cameras hold a matrix K; give PerspectiveCameras focal_length and principal_point instead"
        )
    sizes = cameras.image_size
    if sizes is None or bool((sizes != sizes[0]).any()):
        raise CameraError(
            f"cameras of one trajectory share an image size, got {sizes}; give PerspectiveCameras image_size=[(H, W)]"
        )
    height, width = (int(side) for side in sizes[0].tolist())
    focal, centre = cameras.focal_length.expand(-1, 2), cameras.principal_point
    if not cameras.in_ndc():
        scale = min(width, height) / 2
        focal, centre = focal / scale, (sizes.flip(-1) / 2 - centre) / scale
    return Camera.from_pytorch3d(cameras.R, cameras.T, focal, centre, width=width, height=height)


class MissingPytorch3dError(MissingExtraError):
    """PyTorch3D is needed and not installed; no extra brings it, because it is built from source."""

    def __init__(self, what: str) -> None:
        ImportError.__init__(
            self,
            f"{what} needs pytorch3d, which is not installed: pip install --no-build-isolation "
            "'git+https://github.com/facebookresearch/pytorch3d.git@stable'",
        )


class PointRenderer:
    """Surfels through PyTorch3D's ``PointsRasterizer``; CPU and CUDA, with gradients.

    A point is a circle on the screen, as wide as its disc seen head-on and never thinner than a pixel. Of the
    ``nearest`` points under a pixel those count whose disc its ray meets, at the depth where it does; and, as discs
    may be thinner than a pixel, those whose centre is within half a pixel's diagonal, at the centre's depth. What faces
    the camera within 1.5 % behind the first is mixed by (1 - d^2 / r^2)^2 and confidence / r^2. The id is the surfel of
    most weight. Gradients reach colour, position, normal, radius and confidence.

    Where more than ``nearest`` circles lie over a pixel, those of the farthest centres are not looked at. On the CPU
    the rasteriser tries every point at every pixel.

    Sources: PyTorch3D (arXiv 2007.08501); what is mixed follows :mod:`spmem.kernels.raster_torch`.

    Args:
        nearest: Points looked at for a pixel, by the depth of their centres.

    Raises:
        MissingPytorch3dError: PyTorch3D is not installed.
        InputError: Cameras that are not a trajectory, ``nearest`` < 1.
        DeviceError: Surfels and cameras on different devices.
    """

    def __init__(self, *, nearest: int = 16) -> None:
        if nearest < 1:
            raise InputError(f"nearest must be >= 1 points a pixel, got {nearest}")
        self.nearest = nearest

    def __call__(self, surfels: Surfels, cameras: Camera) -> Projection:
        """The surfels along a trajectory ``[T]``."""
        if not drawable(surfels, cameras):
            return nothing(surfels, cameras)
        index, centred = self._points_under_pixels(surfels, cameras)
        there, index = index >= 0, index.clamp(min=0)
        depth, off, facing = _intersect_surfels(surfels, cameras, index)
        inside = off <= 1
        depth = torch.where(inside, depth, _centre_depths(surfels, cameras, index))
        off = torch.where(inside, off, 1.0)
        hit = there & (inside | centred)
        front = torch.where(hit, depth, torch.inf).amin(-1)
        used = hit & facing & (depth <= front[..., None] * (1 + SLAB))
        weight = ((1 - off).square() + FAINT) * surfels.confidence[index]
        weight = torch.where(used, weight / surfels.radius[index].square(), 0.0)
        mask = used.any(-1)
        share = weight / torch.where(mask, weight.sum(-1), 1.0)[..., None]
        behind = torch.where(torch.isfinite(front), front, 0.0)
        most = share.argmax(-1, keepdim=True)
        return projection(
            surfels,
            cameras,
            rgb=_weighted_sum(share, surfels.colour[index]),
            depth=torch.where(mask, (share * depth).sum(-1), behind),
            normal=torch.nn.functional.normalize(
                _weighted_sum(share, surfels.normal[index]), dim=-1
            ),
            mask=mask,
            index=index.gather(-1, most)[..., 0],
        )

    def _points_under_pixels(
        self, surfels: Surfels, cameras: Camera
    ) -> tuple[Int[Tensor, "t h w k"], Tensor]:
        """The points under each pixel, -1 = none, and whether their centres are within half a pixel's diagonal."""
        renderer = _import_pytorch3d("renderer", "PointRenderer")
        n, scale = len(surfels), min(cameras.width, cameras.height) / 2
        position = surfels.position.detach()
        _, z = cameras.project(position)
        focal = cameras.K[:, [0, 1], [0, 1]].amax(-1, keepdim=True)
        pixels = surfels.radius.detach() * focal / torch.where(z > 0, z, torch.inf)
        radius = pixels.clamp(min=PIXEL, max=8 * scale) / scale
        settings = renderer.PointsRasterizationSettings(
            image_size=(cameras.height, cameras.width), radius=radius, points_per_pixel=self.nearest
        )
        rasterizer = renderer.PointsRasterizer(perspective_cameras(cameras), settings)
        cloud = _import_pytorch3d("structures", "PointRenderer").Pointclouds([position])
        found = rasterizer(cloud.extend(len(cameras)))
        row = found.idx.long()
        return torch.where(row >= 0, row % n, -1), found.dists * scale**2 <= PIXEL**2


def _intersect_surfels(
    surfels: Surfels, cameras: Camera, index: Int[Tensor, "t h w k"]
) -> tuple[Float[Tensor, "t h w k"], Float[Tensor, "t h w k"], Tensor]:
    """Where pixels' rays meet surfels' planes: depth, square of the distance in radii; and whether those face them."""
    rays, eye = cameras.rays()[:, :, :, None], cameras.position[:, None, None, None]
    centre, normal = surfels.position[index] - eye, surfels.normal[index]
    along, apart = (normal * rays).sum(-1), (normal * centre).sum(-1)
    depth = apart / torch.where(along.abs() > 1e-6, along, torch.full_like(along, 1e-6))
    away = (depth[..., None] * rays - centre).square().sum(-1) / surfels.radius[index].square()
    return depth, torch.where(depth > 0, away, torch.inf), apart < 0


def _centre_depths(
    surfels: Surfels, cameras: Camera, index: Int[Tensor, "t h w k"]
) -> Float[Tensor, "t h w k"]:
    """z-depths of surfels' centres."""
    w2c = cameras.w2c[:, 2]
    z = surfels.position @ w2c[:, :3].mT + w2c[:, 3]  # [n, t]
    return torch.stack([z[at, t] for t, at in enumerate(index)])


def _weighted_sum(
    share: Float[Tensor, "*b k"], values: Float[Tensor, "*b k c"]
) -> Float[Tensor, "*b c"]:
    return (share[..., None] * values).sum(-2)


def _import_pytorch3d(name: str, what: str) -> Any:
    """A module of PyTorch3D."""
    try:
        return import_module(f"pytorch3d.{name}")
    except ImportError as error:
        raise MissingPytorch3dError(what) from error
