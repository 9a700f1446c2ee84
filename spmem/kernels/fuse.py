"""The per-pixel work of fusion: picks the kernel of the device that the frame lives on."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.kernels import fuse_numba, fuse_torch
from spmem.kernels.raster import NEAR, Discs, cull, kernel_for


def prepare(
    depth: Float[Tensor, "h w"],
    confidence: Float[Tensor, "h w"] | None,
    camera: Camera,
    *,
    edge: float,
    grazing: float,
    reference: float,
    kernel: str | None = None,
) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"]]:
    """Normals (camera axes) and weights of a depth image; see :func:`spmem.kernels.fuse_torch.prepare`."""
    stride = max(1, round(camera.width / 320))
    confidence = torch.ones_like(depth) if confidence is None else confidence
    if kernel_for(depth.device, kernel) == "torch":
        return fuse_torch.prepare(
            depth,
            confidence,
            camera.K,
            edge=edge,
            grazing=grazing,
            reference=reference,
            stride=stride,
        )
    normal, weight = fuse_numba.prepare(
        _numpy(depth), _numpy(confidence), _numpy(camera.K), edge, grazing, reference, stride
    )
    return torch.from_numpy(normal), torch.from_numpy(weight)


def match(
    discs: Discs,
    camera: Camera,
    depth: Float[Tensor, "h w"],
    normal: Float[Tensor, "h w 3"],
    weight: Float[Tensor, "h w"],
    *,
    merge: float,
    kernel: str | None = None,
) -> tuple[Int[Tensor, "h w"], Int[Tensor, "h w"]]:
    """Surfels shown and seen through; see :func:`spmem.kernels.fuse_torch.match`."""
    columns = (discs.position, discs.normal, discs.radius, discs.confidence, camera.w2c, camera.K)
    if kernel_for(depth.device, kernel) == "torch":
        return fuse_torch.match(*columns, depth, normal, weight, near=NEAR, merge=merge)
    rows, disc, box = cull(discs, camera)
    shown, through = fuse_numba.match(
        rows, disc, box, _numpy(camera.K), _numpy(depth), _numpy(normal), _numpy(weight), merge
    )
    return torch.from_numpy(shown), torch.from_numpy(through)


def group(keys: Int[Tensor, "p c"], *, kernel: str | None = None) -> tuple[int, Int[Tensor, " p"]]:
    """Number of distinct rows, and each row's group, numbered by first occurrence."""
    if kernel_for(keys.device, kernel) == "torch":
        return fuse_torch.group(keys)
    count, segment = fuse_numba.group(_numpy(keys))
    return count, torch.from_numpy(segment)


def segment_sum(
    values: Float[Tensor, "p c"],
    segment: Int[Tensor, " p"],
    count: int,
    *,
    kernel: str | None = None,
) -> Float[Tensor, "count c"]:
    """Sum of the rows of each segment."""
    if kernel_for(values.device, kernel) == "torch":
        return fuse_torch.segment_sum(values, segment, count)
    return torch.from_numpy(fuse_numba.segment_sum(_numpy(values), _numpy(segment), count))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.contiguous().numpy()
