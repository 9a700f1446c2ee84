"""Rendering surfels: picks the kernel of the device that the surfels live on."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.kernels import raster_numba, raster_torch

F32 = NDArray[np.float32]

NEAR = 1e-6
"""z-depth in world units at or below which nothing is drawn."""
SLAB = 0.015
"""Share of the depth behind the nearest hit that is still the same surface."""


class Discs(Protocol):
    """The columns that rendering reads; rows with confidence 0 are not drawn."""

    @property
    def position(self) -> Float[Tensor, "n 3"]: ...
    @property
    def normal(self) -> Float[Tensor, "n 3"]: ...
    @property
    def radius(self) -> Float[Tensor, " n"]: ...
    @property
    def colour(self) -> Float[Tensor, "n 3"]: ...
    @property
    def confidence(self) -> Float[Tensor, " n"]: ...


def cull(discs: Discs, camera: Camera) -> tuple[NDArray[np.int64], F32, NDArray[np.int32]]:
    """Rows, discs in camera axes and pixel boxes of what may touch the image (numba)."""
    return raster_numba.cull(
        discs.position.numpy(), discs.normal.numpy(), discs.radius.numpy(), discs.confidence.numpy(),
        camera.w2c.contiguous().numpy(), camera.K.contiguous().numpy(),
        camera.width, camera.height, NEAR,
    )  # fmt: skip


def kernel_for(device: torch.device, kernel: str | None) -> str:
    """``kernel`` if named, else the fast one of the device: ``numba`` on CPU, ``torch`` elsewhere."""
    return kernel or ("numba" if device.type == "cpu" else "torch")


def rasterize(
    discs: Discs, camera: Camera, *, kernel: str | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colour [H, W, 3], z-depth [H, W], world normal [H, W, 3] and row [H, W] (-1 = not covered) of one camera.

    kernel: ``numba`` (the default on CPU) or ``torch`` (elsewhere); both compute what
    :mod:`spmem.kernels.raster_torch` says.
    """
    if kernel_for(discs.position.device, kernel) == "torch":
        rgb, depth, normal, rows = raster_torch.rasterize(
            discs.position, discs.normal, discs.radius, discs.colour, discs.confidence, camera.w2c, camera.K,
            camera.width, camera.height, near=NEAR, slab=SLAB,
        )  # fmt: skip
        return rgb, depth, normal @ camera.c2w[:3, :3].T, rows
    K, shape = camera.K.contiguous().numpy(), (camera.height, camera.width)
    kept, disc, box = cull(discs, camera)
    front = np.empty(shape, np.float32)
    raster_numba.nearest(disc, box, K, front)
    rgb_, normal_ = np.zeros((*shape, 3), np.float32), np.zeros((*shape, 3), np.float32)
    depth_, rows_ = np.zeros(shape, np.float32), np.full(shape, -1, np.int64)
    raster_numba.blend(
        disc,
        box,
        kept,
        discs.colour.numpy(),
        discs.confidence.numpy(),
        K,
        front,
        SLAB,
        rgb_,
        depth_,
        normal_,
        rows_,
    )
    world = torch.from_numpy(normal_) @ camera.c2w[:3, :3].T
    return torch.from_numpy(rgb_), torch.from_numpy(depth_), world, torch.from_numpy(rows_)
