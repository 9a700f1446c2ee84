"""Drawing surfels that are not in a map: our disc renderer, and what renderers share."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import DeviceError, InputError
from spmem.kernels.columns import Columns
from spmem.kernels.raster import rasterize
from spmem.types import Projection, Surfels


class DiscRenderer:
    """The surfel map's own renderer as a :class:`spmem.protocols.Renderer`; gives no gradients.

    Discs are exact, and mixed by weight where several lie on one surface: see :mod:`spmem.kernels.raster_torch`.

    Args:
        kernel: ``numba`` (CPU), ``torch`` or ``triton`` (CUDA); None takes the device's fast one.

    Example:
        >>> from spmem.stores.maps.surfels import SurfelMap
        >>> from spmem.testing.box import BoxRoom
        >>> room, map = BoxRoom(), SurfelMap()
        >>> cameras = room.walk(1, width=48, height=36)
        >>> ids = map.fuse(room.frames(cameras)[0])
        >>> bool(DiscRenderer()(map.surfels(), cameras).coverage > 0.95)
        True
    """

    def __init__(self, *, kernel: str | None = None) -> None:
        self._kernel = kernel

    def __call__(self, surfels: Surfels, cameras: Camera) -> Projection:
        """The surfels along a trajectory ``[T]``; raises InputError, DeviceError."""
        if not drawable(surfels, cameras):
            return nothing(surfels, cameras)
        columns = Columns(surfels.position.device)
        fields = ("position", "normal", "radius", "colour", "confidence")
        cell = (surfels.position.detach() / surfels.radius.detach().median()).floor().long()
        rows = columns.append({name: getattr(surfels, name).detach() for name in fields}, cell)
        rgb, depth, normal, mask, at = rasterize(columns, cameras, kernel=self._kernel)
        index = at.new_full((columns.n + 1,), -1)  # the last place is what -1 leads to
        index[rows] = torch.arange(len(rows), device=rows.device)
        return projection(surfels, cameras, rgb, depth, normal, mask, index[at])


def drawable(surfels: Surfels, cameras: Camera) -> bool:
    """Whether there is anything to draw.

    Raises:
        InputError: The cameras are not a trajectory.
        DeviceError: Surfels and cameras on different devices.
    """
    if len(cameras.shape) != 1:
        raise InputError(
            f"a renderer takes a trajectory [T] of cameras, got {list(cameras.shape)}; camera[None]"
        )
    if len(surfels) and surfels.position.device != cameras.device:
        raise DeviceError(
            f"the surfels are on {surfels.position.device}, the cameras on {cameras.device}; .to(...) one"
        )
    return bool(len(surfels) and len(cameras))


def projection(
    surfels: Surfels,
    cameras: Camera,
    rgb: Float[Tensor, "t h w 3"],
    depth: Float[Tensor, "t h w"],
    normal: Float[Tensor, "t h w 3"],
    mask: Bool[Tensor, "t h w"],
    index: Int[Tensor, "t h w"],
) -> Projection:
    """What was drawn, with the ids and features of the surfels that ``index`` counts; read where ``mask``."""
    index = index.clamp(min=0)
    ids = torch.where(mask, surfels.ids[index], -1)
    features = None if surfels.features is None else surfels.features[index] * mask[..., None]
    return Projection(cameras, rgb, depth, normal, mask, ids, features)


def nothing(surfels: Surfels, cameras: Camera) -> Projection:
    """What no surfels look like."""
    shape, device = (len(cameras), cameras.height, cameras.width), cameras.device
    zeros = torch.zeros(*shape, 3, device=device)
    known = surfels.features
    return Projection(
        cameras=cameras,
        rgb=zeros,
        depth=zeros[..., 0].clone(),
        normal=zeros.clone(),
        mask=torch.zeros(shape, dtype=torch.bool, device=device),
        surfel_ids=torch.full(shape, -1, device=device),
        features=None if known is None else zeros.new_zeros(*shape, known.shape[-1]),
    )
