"""gsplat: surfels as 2D Gaussians and back, and a differentiable renderer on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import DeviceError, InputError, MissingExtraError
from spmem.geometry import matrix_from_quaternion
from spmem.kernels.raster import NEAR
from spmem.stores.maps.rendering import drawable, nothing, projection
from spmem.types import Projection, Surfels

SIGMAS = 2.0
"""A disc's radius in standard deviations of its Gaussian: neighbours a radius apart then leave no holes."""
HALF = 0.05
"""The confidence at which a Gaussian's opacity is one half; a surfel seen once or twice is nearly opaque."""
FLAT = 1e-3
"""Thickness in standard deviations, for those who draw the Gaussians in 3D; 2D Gaussians have none."""
MOST = 1 << 24
"""Surfels that float32 can count."""


class Gaussians(TypedDict):
    """2D Gaussians, as keyword arguments of ``gsplat.rasterization_2dgs``; quaternions wxyz, opacities in 0..1."""

    means: Float[Tensor, "n 3"]
    quats: Float[Tensor, "n 4"]
    scales: Float[Tensor, "n 3"]
    opacities: Float[Tensor, " n"]
    colors: Float[Tensor, "n 3"]


def gaussians_from_surfels(surfels: Surfels) -> Gaussians:
    """Surfels as 2D Gaussians: the third axis is the normal; gradients flow through.

    Standard deviations are the radius / 2; opacity is confidence / (confidence + 0.05).

    Example:
        >>> n, one = torch.tensor([[0.0, 0.6, -0.8]]), torch.ones(1)
        >>> surfels = Surfels(one.long(), n, n, one, n.abs(), one, one, one)
        >>> {name: list(field.shape) for name, field in gaussians_from_surfels(surfels).items()}
        {'means': [1, 3], 'quats': [1, 4], 'scales': [1, 3], 'opacities': [1], 'colors': [1, 3]}
    """
    wide = surfels.radius / SIGMAS
    return {
        "means": surfels.position,
        "quats": _normal_to_quaternion(surfels.normal),
        "scales": torch.stack([wide, wide, FLAT * wide], -1),
        "opacities": surfels.confidence / (surfels.confidence + HALF),
        "colors": surfels.colour,
    }


def surfels_from_gaussians(
    gaussians: Gaussians, *, ids: Int[Tensor, " n"] | None = None, time: float = 0.0
) -> Surfels:
    """Inverse of :func:`gaussians_from_surfels`, for 2D Gaussians whoever made them.

    An ellipse becomes the disc of its area. Quaternions need not be of unit length. Colours are clamped to [0, 1];
    spherical harmonics are not colours: evaluate them first.

    Args:
        gaussians: ``[N]`` of them.
        ids: The surfels' names; None counts them from 0.
        time: Seconds at which the surfels were seen.

    Raises:
        InputError: Colours that are not ``[N, 3]``, opacities outside 0..1 (they may be logits).
    """
    colour, opacity = gaussians["colors"], gaussians["opacities"]
    if colour.shape != gaussians["means"].shape:
        raise InputError(
            f"colors must be [N, 3] in 0..1, got {list(colour.shape)}; evaluate spherical harmonics first"
        )
    if len(opacity) and not bool(((opacity >= 0) & (opacity <= 1)).all()):
        raise InputError("opacities must lie in 0..1; of logits take torch.sigmoid(opacities)")
    odds = opacity.clamp(1e-4, 1 - 1e-5)  # a surfel's confidence is > 0 and finite
    times = torch.full_like(opacity, time)
    return Surfels(
        ids=torch.arange(len(opacity), device=opacity.device) if ids is None else ids,
        position=gaussians["means"],
        normal=matrix_from_quaternion(gaussians["quats"])[..., 2],
        radius=SIGMAS * gaussians["scales"][:, :2].prod(-1).sqrt(),
        colour=colour.clamp(0, 1),
        confidence=HALF * odds / (1 - odds),
        first_seen=times,
        last_seen=times.clone(),
    )


class GsplatRenderer:
    """Surfels through gsplat's rasteriser of 2D Gaussians; needs CUDA, and gives gradients.

    Colour and normals are gsplat's blends; a pixel is covered where opacity reaches one half. The id is the surfel
    that brings it there: gsplat returns the last channel of that Gaussian unmixed (its median depth), so the surfels
    are counted in that channel. Depth is where the pixel's ray meets that surfel's plane. Gradients reach colour,
    position, normal, radius and confidence through the colours, and the plane of each pixel's surfel through its depth.

    Sources: 2D Gaussian Splatting (arXiv 2403.17888), sections 4.2 and 5 (median depth); gsplat (arXiv 2409.06765).

    Args:
        rasterization: What draws; None is ``gsplat.rasterization_2dgs``. Anything that is called and answers as it does
            can stand in, on its own devices.

    Raises:
        MissingExtraError: gsplat is not installed.
        DeviceError: Surfels that are not on a CUDA device, or on another than the cameras.
        InputError: Cameras that are not a trajectory, more than 16,777,216 surfels.
    """

    def __init__(self, rasterization: Callable[..., Any] | None = None) -> None:
        self._rasterization = rasterization

    def __call__(self, surfels: Surfels, cameras: Camera) -> Projection:
        """The surfels along a trajectory ``[T]``."""
        if not drawable(surfels, cameras):
            return nothing(surfels, cameras)
        if len(surfels) > MOST:
            raise InputError(f"gsplat draws at most {MOST} surfels here, got {len(surfels)}")
        draw = self._rasterization or _import_rasterization(cameras.device)
        gaussians = gaussians_from_surfels(surfels)
        count = torch.arange(len(surfels), device=cameras.device).to(torch.float32)
        counted = torch.cat([gaussians["colors"], count[:, None]], -1)
        mixed, opacity, normal, _, _, median, _ = draw(
            **{**gaussians, "colors": counted.expand(len(cameras), -1, -1)},
            **cameras.to_gsplat(),
            near_plane=NEAR,
        )
        index = median[..., 0].detach().long()
        solid = opacity[..., 0] >= 0.5
        depth, facing = _intersect_planes(surfels, cameras, index)
        mask = solid & facing
        shown = mask[..., None]
        rgb = torch.where(shown, mixed[..., :3] / opacity.clamp(min=0.5), 0.0)
        normal = torch.where(shown, torch.nn.functional.normalize(normal, dim=-1), 0.0)
        depth = torch.where(solid, depth, 0.0)
        return projection(surfels, cameras, rgb, depth, normal, mask, index)


def _import_rasterization(device: torch.device) -> Callable[..., Any]:
    try:
        from gsplat import rasterization_2dgs  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        raise MissingExtraError("gsplat", "gpu", "GsplatRenderer") from error
    if device.type != "cuda":
        raise DeviceError(
            f"gsplat draws on CUDA, and the surfels are on {device}; open the memory with device='cuda', "
            'or draw with renderer="discs"'
        )
    draw: Callable[..., Any] = rasterization_2dgs
    return draw


def _normal_to_quaternion(normal: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """The shortest turn of +z into the normal, as quaternions wxyz; for a normal below, after half a turn about x."""
    x, y, z = normal.unbind(-1)
    zero = torch.zeros_like(x)
    above = torch.stack([1 + z, -y, x, zero], -1)
    below = torch.stack([-y, 1 - z, zero, x], -1)
    return torch.nn.functional.normalize(torch.where(z[:, None] >= 0, above, below), dim=-1)


def _intersect_planes(
    surfels: Surfels, cameras: Camera, index: Int[Tensor, "t h w"]
) -> tuple[Float[Tensor, "t h w"], Tensor]:
    """The depth at which pixels' rays meet the planes of surfels, and whether those face the camera.

    Where a ray misses the disc by far (one seen edge-on, or smaller than a pixel), the depth is the centre's.
    """
    rays, eye = cameras.rays(), cameras.position[:, None, None]
    centre, normal = surfels.position[index] - eye, surfels.normal[index]
    along, apart = (normal * rays).sum(-1), (normal * centre).sum(-1)
    depth = apart / torch.where(along.abs() > 1e-6, along, torch.full_like(along, 1e-6))
    away = (depth[..., None] * rays - centre).detach().norm(dim=-1)
    middle = (centre * cameras.forward[:, None, None]).sum(-1)
    return torch.where(away <= 2 * surfels.radius[index], depth, middle), apart < 0
