"""Rendering surfels: picks the kernel of the device that the surfels live on."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import DeviceError, MissingExtraError, UnknownNameError
from spmem.kernels import front_torch, raster_torch, triton_jit
from spmem.kernels.columns import Columns

KERNELS = ("numba", "torch", "triton")
NEAR = 1e-6
"""z-depth in world units at or below which nothing is drawn."""
SLAB = 0.015
"""Share of the depth behind the nearest hit that is still the same surface."""
FIRST = 128
"""Chunks that are drawn before the others are tested against what they hide; then twice as many, and so on."""

F32 = NDArray[np.float32]
Images = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def kernel_for(device: torch.device, kernel: str | None) -> str:
    """``kernel`` if named, else the fast one of the device: ``numba`` on CPU, ``triton`` elsewhere, or without it ``torch``.

    Raises:
        UnknownNameError: No kernel goes by this name.
        DeviceError: It does not run on this device.
        MissingExtraError: ``triton`` is named and not installed.
    """
    on_cpu = device.type == "cpu"
    if kernel is None:
        return "numba" if on_cpu else "triton" if find_spec("triton") else "torch"
    if kernel not in KERNELS:
        raise UnknownNameError("kernel", kernel, KERNELS)
    if kernel == "numba" and not on_cpu:
        raise DeviceError(f"kernel 'numba' runs on the CPU, not on {device}; leave it out")
    if kernel == "triton" and find_spec("triton") is None:
        raise MissingExtraError("triton", "gpu", "kernel 'triton'")
    if kernel == "triton" and on_cpu and not triton_jit.INTERPRETED:
        raise DeviceError(
            "kernel 'triton' runs on CUDA; leave it out on the CPU (its interpreter, for tests, takes TRITON_INTERPRET=1)"
        )
    return kernel


def rasterize(columns: Columns, cameras: Camera, *, kernel: str | None = None) -> Images:
    """Views of cameras [T]: colour [T, H, W, 3], z-depth, world normal [T, H, W, 3], mask, row (-1 = not covered).

    kernel: One of ``KERNELS``, see :func:`kernel_for`; all compute what :mod:`spmem.kernels.raster_torch` says.
    """
    which = kernel_for(columns.device, kernel)
    if which == "triton" and len(cameras):
        from spmem.kernels import raster_triton

        with triton_jit.on(columns.device):
            return raster_triton.rasterize(
                *columns.worlds(), cameras.K, cameras.c2w, cameras.width, cameras.height, near=NEAR, slab=SLAB
            )  # fmt: skip
    shape, device = (len(cameras), cameras.height, cameras.width), columns.device
    rgb, normal = (torch.empty(*shape, 3, device=device) for _ in range(2))
    depth, mask = (
        torch.empty(shape, device=device),
        torch.empty(shape, dtype=torch.bool, device=device),
    )
    rows = torch.empty(shape, dtype=torch.long, device=device)
    if which == "numba":
        K, c2w = (m.contiguous().numpy() for m in (cameras.K, cameras.c2w))
        images = (image.numpy() for image in (rgb, depth, normal, mask, rows))
        for one in zip(K, c2w, *images, strict=True):
            _numba(columns, *one)
        return rgb, depth, normal, mask, rows
    for t, camera in enumerate(cameras):
        rgb[t], depth[t], inwards, rows[t] = raster_torch.rasterize(
            columns.position, columns.normal, columns.radius, columns.colour, columns.confidence, camera.w2c,
            camera.K, camera.width, camera.height, near=NEAR, slab=SLAB,
        )  # fmt: skip
        normal[t], mask[t] = inwards @ camera.c2w[:3, :3].T, rows[t] >= 0
    return rgb, depth, normal, mask, rows


def _numba(columns: Columns, K: F32, c2w: F32, *out: NDArray[Any]) -> None:
    """Chunks nearest first, each round tested against what is in front already; then all that is left is mixed."""
    from spmem.kernels import discs_numba, front_numba, raster_numba
    from spmem.kernels.simd import PAD, TALL
    from spmem.kernels.threads import shared

    assert columns.chunks is not None
    height, width = out[1].shape
    bands = raster_numba.bands_of(height)
    low, high = columns.chunks.low, columns.chunks.high
    w2c, rows = discs_numba.world_to_camera(c2w), columns.whole()
    radius, confidence = rows["radius"], rows["confidence"]
    waiting = discs_numba.in_view(low, high, w2c, K, width, height, NEAR)
    # never looked through, and so hiding what is behind: what is as sure as the surest or a level less, and what faces away
    top = raster_numba.surest(confidence, waiting)
    front = raster_numba.infinite(top + 2, height + 1, width + PAD)
    record, box, span = discs_numba.Discs.room(len(waiting))
    drawn, done, start, size = [], 0, 0, FIRST
    while start < len(waiting):
        chunks = waiting[start : start + size]
        if start:
            far = discs_numba.farthest(front[max(top - 1, 0) :], width, height, SLAB)
            chunks = discs_numba.unhidden(chunks, low, high, w2c, K, width, height, far)
        start, size = start + size, 2 * size
        shared(discs_numba.describe, len(chunks), 2.0)(
            rows["position"], rows["normal"], radius, confidence, w2c, K, width, height, NEAR, 1.0, 0.0,
            chunks, done, record, box, span,
        )  # fmt: skip
        shared(raster_numba.nearest, bands, 2.0 * len(chunks) / bands)(
            record, box, span, chunks, done, confidence, front
        )
        drawn.append(chunks)
        done += len(chunks)
    chunks = np.concatenate(drawn or [waiting])
    order = np.argsort(chunks).astype(np.int32)  # sums come out the same whatever was drawn first
    around = front_torch.around(torch.from_numpy(K)).numpy()
    middle = np.full((height + 1, front.shape[2]), np.inf, np.float32)
    tiles = -(-height // TALL)
    shared(front_numba.fronts, tiles, 0.004 * TALL * width)(front, around, SLAB, middle)
    shared(raster_numba.blend, bands, (4.0 * done + 0.01 * height * width) / bands)(
        record, box, span[:done], chunks, order, rows["colour"], confidence, radius, c2w, middle, SLAB,
        *out,
    )  # fmt: skip
