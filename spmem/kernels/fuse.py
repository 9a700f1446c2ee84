"""Fusing a frame into columns of surfels, with the kernels of the device that they live on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.kernels import fuse_torch, triton_jit
from spmem.kernels.columns import WIDTHS, Columns
from spmem.kernels.fuse_torch import CENTRAL, TAPS, Fusing
from spmem.kernels.raster import NEAR, kernel_for
from spmem.types import Frame

NOTHING = np.zeros((0, 0), np.float32)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame ready for numba's kernels, in blocks of pixels where these are averaged first.

    planes: As :func:`spmem.kernels.prepare_numba.planes` says, with margins; rgb ``[h, w, 3]``, in [0, 1] after
    ``scale``; used ``[H, W]``: which pixels went into blocks; K in pixels of the blocks.
    """

    planes: NDArray[np.float32]
    rgb: NDArray[Any]
    scale: float
    used: NDArray[np.bool_]
    K: NDArray[np.float32]
    c2w: NDArray[np.float32]


def fuse(
    columns: Columns, frame: Frame, how: Fusing, *, kernel: str | None = None
) -> Int[Tensor, "h w"]:
    """Merge a frame with depth; the row of each pixel, -1 where it went into none.

    kernel: One of ``KERNELS``, see :func:`spmem.kernels.raster.kernel_for`; all compute what
    :mod:`spmem.kernels.fuse_torch` says.
    """
    which = kernel_for(columns.device, kernel)
    if which == "torch":
        return fuse_torch.fuse(columns, frame, how)
    return (_numba if which == "numba" else _triton)(columns, frame, how)


def _triton(columns: Columns, frame: Frame, how: Fusing) -> Int[Tensor, "h w"]:
    """One world of a batch of one; rows are counted on the device."""
    from spmem.kernels import fuse_triton

    assert columns.chunks is None
    assert frame.depth is not None
    camera, confidence = frame.camera, frame.confidence
    batch = fuse_triton.Batch(
        rgb=frame.rgb[None],
        depth=frame.depth[None],
        confidence=None if confidence is None else confidence[None],
        K=camera.K[None],
        c2w=camera.c2w[None],
    )
    blocks = -(-camera.width // how.by) * -(-camera.height // how.by)
    voxels = torch.full((1,), how.voxel, device=columns.device)
    fields = columns.reserve(blocks)
    with triton_jit.on(columns.device):
        return fuse_triton.fuse(fields, columns.taken, batch, voxels, how, near=NEAR)[0]


def _numba(columns: Columns, frame: Frame, how: Fusing) -> Int[Tensor, "h w"]:
    from spmem.kernels import create_numba, discs_numba, fuse_numba
    from spmem.kernels.prepare_numba import DEPTH
    from spmem.kernels.threads import shared

    assert columns.chunks is not None
    ready, camera = prepare(frame, how), frame.camera
    planes, rgb, scale, K, c2w = ready.planes, ready.rgb, ready.scale, ready.K, ready.c2w
    w2c, (height, width, _) = discs_numba.world_to_camera(c2w), rgb.shape

    low, high = columns.chunks.low, columns.chunks.high
    chunks = discs_numba.in_view(low, high, w2c, K, width, height, NEAR)
    far = discs_numba.farthest(planes[DEPTH : DEPTH + 1], width, height, how.merge)
    chunks = np.sort(discs_numba.unhidden(chunks, low, high, w2c, K, width, height, far))
    record, box, span = discs_numba.Discs.room(len(chunks))
    known = columns.whole()
    position, normal, radius, colour, confidence, last_seen, detail = (
        known[name]
        for name in ("position", "normal", "radius", "colour", "confidence", "last_seen", "detail")
    )
    shared(discs_numba.describe, len(chunks), 2.0)(
        position, normal, radius, confidence, w2c, K, width, height, NEAR, CENTRAL, how.voxel,
        chunks, 0, record, box, span,
    )  # fmt: skip
    shown, sums = fuse_numba.match(record, box, span, K, planes, rgb, scale, how.merge)
    shared(fuse_numba.merge, len(chunks), 2.0)(
        record, chunks, planes, sums, K, c2w, how.voxel, how.merge, how.max_confidence, how.time,
        how.averages, position, normal, radius, colour, confidence, last_seen, detail, low, high,
    )  # fmt: skip

    cell, new = create_numba.gather(planes, rgb, scale, shown, K, c2w, how.voxel)
    rows = columns.take(len(cell), torch.from_numpy(cell))
    known = columns.whole()  # with room for the new ones
    create_numba.write(new, rows.numpy(), how.time, *(known[name] for name in WIDTHS))
    columns.widen(rows)
    named = np.empty((height, width), np.int64)
    shared(create_numba.name, height, 0.002 * width)(shown, chunks, rows.numpy(), named)
    if how.by == 1:
        return torch.from_numpy(named)
    ids = np.empty((camera.height, camera.width), np.int64)
    shared(create_numba.spell_out, height, 0.001 * width * how.by**2)(
        named, ready.used, how.by, ids
    )
    return torch.from_numpy(ids)


def prepare(frame: Frame, how: Fusing) -> Prepared:
    """A frame with depth on the CPU, ready for numba's kernels."""
    from spmem.kernels import prepare_numba
    from spmem.kernels.simd import PAD, TALL
    from spmem.kernels.threads import shared

    assert frame.depth is not None
    K, c2w = _numpy(frame.camera.K), _numpy(frame.camera.c2w)
    step = how.step(frame.camera.K)
    depth, rgb = prepare_numba.framed(_numpy(frame.depth)), _numpy(frame.rgb)
    confidence = NOTHING if frame.confidence is None else _numpy(frame.confidence)
    scale, used = 1 / 255 if rgb.dtype == np.uint8 else 1.0, np.zeros((0, 0), np.bool_)
    if how.by > 1:
        h, w = -(-len(rgb) // how.by), -(-rgb.shape[1] // how.by)
        small, sure = np.zeros((h, w), np.float32), np.zeros((h, w), np.float32)
        colour, used = np.zeros((h, w, 3), np.float32), np.zeros(rgb.shape[:2], np.bool_)
        shared(prepare_numba.reduce, h, 0.005 * how.by * rgb.shape[1])(
            depth, confidence, rgb, scale, how.by, step, small, sure, colour, used
        )
        depth, scale, K = prepare_numba.framed(small), 1.0, K / [[how.by], [how.by], [1]]
        confidence, rgb, K = sure, colour, K.astype(np.float32)
    height, width, _ = rgb.shape
    spacing = max(1, round(width / 320))
    around = 2 * TAPS * spacing
    inverse = np.zeros((height + around + 1, width + around + PAD), np.float32)
    shared(prepare_numba.inverses, height, 0.0005 * width)(depth, inverse)
    planes = np.empty((prepare_numba.PLANES, height + 1, width + PAD), np.float32)
    shared(prepare_numba.planes, -(-height // TALL), 0.006 * TALL * width)(
        depth, inverse, prepare_numba.framed(confidence) if len(confidence) else NOTHING, K,
        spacing, step, how.grazing, how.voxel * float(K[0, 0]), how.by == 1, planes,
    )  # fmt: skip
    planes[:, height], planes[:, :, width:] = 0, 0
    return Prepared(planes, rgb, scale, used, K, c2w)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.contiguous().numpy()
