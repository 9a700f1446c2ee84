"""The per-pixel work of fusion: picks the kernel of the device that the frame lives on."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.kernels import fuse_numba, fuse_torch
from spmem.kernels.fuse_torch import Observed
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


def classify(
    seen: Observed,
    shown: Int[Tensor, "h w"],
    radius: Float[Tensor, " n"],
    *,
    kernel: str | None = None,
) -> Int[Tensor, " hw"]:
    """What becomes of each pixel; see :func:`spmem.kernels.fuse_torch.classify`."""
    if kernel_for(shown.device, kernel) == "torch":
        return fuse_torch.classify(seen, shown, radius)
    depth, normal, weight, K, c2w = _arrays(seen)
    kind = fuse_numba.classify(
        depth, normal, weight, K, c2w, seen.voxel, _numpy(shown), _numpy(radius)
    )
    return torch.from_numpy(kind)


def cells(
    seen: Observed, pixels: Int[Tensor, " p"], *, kernel: str | None = None
) -> Int[Tensor, "p 4"]:
    """Voxel and main direction of each pixel's point."""
    if kernel_for(pixels.device, kernel) == "torch":
        return fuse_torch.cells(seen, pixels)
    depth, normal, _, K, c2w = _arrays(seen)
    return torch.from_numpy(fuse_numba.cells(depth, normal, K, c2w, seen.voxel, _numpy(pixels)))


def sums(
    seen: Observed,
    pixels: Int[Tensor, " p"],
    segment: Int[Tensor, " p"],
    count: int,
    *,
    kernel: str | None = None,
) -> Float[Tensor, "count c"]:
    """Sums over the pixels of each segment; see :func:`spmem.kernels.fuse_torch.sums`."""
    if kernel_for(pixels.device, kernel) == "torch":
        return fuse_torch.sums(seen, pixels, segment, count)
    depth, normal, weight, K, c2w = _arrays(seen)
    features = seen.rgb[..., :0] if seen.features is None else seen.features
    total = fuse_numba.sums(
        depth, normal, weight, _numpy(seen.rgb), _numpy(features), K, c2w, seen.voxel,
        _numpy(pixels), _numpy(segment), count,
    )  # fmt: skip
    return torch.from_numpy(total)


def _arrays(seen: Observed) -> tuple[NDArray[Any], ...]:
    return tuple(_numpy(t) for t in (seen.depth, seen.normal, seen.weight, seen.K, seen.c2w))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.contiguous().numpy()
