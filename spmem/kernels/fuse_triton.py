"""Fusion in Triton: a batch of frames into as many worlds, on the device from end to end.

:mod:`spmem.kernels.fuse_torch`, the plain twin, says what is computed; sums come in any order, so agreement is to
rounding. Torch's own are the allocations, the fills and one ``cumsum``; all else is kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spmem.kernels import create_triton, fuse_torch, prepare_triton
from spmem.kernels.columns import WIDTHS
from spmem.kernels.create_triton import NONE
from spmem.kernels.discs_triton import (
    COARSE,
    finest,
    into_camera,
    into_world,
    intrinsics,
    load3,
    point_into_camera,
)
from spmem.kernels.fuse_torch import CENTRAL, Fusing
from spmem.kernels.prepare_triton import COLOUR, NORMAL, WEIGHT, WIDE
from spmem.kernels.scan_triton import LOW, MATCH, scan
from spmem.kernels.triton_jit import constant, jit, lanes, programs, tl

CARVE = constant(fuse_torch.CARVE)
FORGET = constant(fuse_torch.FORGET)
SHARP, SHARPER = constant(fuse_torch.SHARP), constant(fuse_torch.SHARPER)
BLUNT, ALIKE = constant(fuse_torch.BLUNT), constant(fuse_torch.ALIKE)


@dataclass(frozen=True, eq=False)
class Batch:
    """One frame for each world, all of one size; confidence may be None."""

    rgb: Tensor
    depth: Float[Tensor, "b h w"]
    confidence: Float[Tensor, "b h w"] | None
    K: Float[Tensor, "b 3 3"]
    c2w: Float[Tensor, "b 4 4"]


@jit
def gather(ready, best, K, by, width, height, sums, LANES: tl.constexpr):
    """Sums [rows, 8] over the pixels that show a row: weight, weighted point in camera axes and colour, count."""
    world = tl.program_id(1)
    p = tl.program_id(0) * LANES + tl.arange(0, LANES)
    ok = p < width * height
    at = world.to(tl.int64) * width * height + p
    code = tl.load(best + at, mask=ok, other=NONE)
    ok = ok & (code != NONE)
    fx, fy, cx, cy = intrinsics(K + world * 9, by)
    dx, dy = (p % width + 0.5 - cx) / fx, (p // width + 0.5 - cy) / fy
    z = tl.load(ready + at * WIDE, mask=ok, other=0.0)
    w = tl.load(ready + at * WIDE + WEIGHT, mask=ok, other=0.0)
    red = tl.load(ready + at * WIDE + COLOUR, mask=ok, other=0.0)
    green = tl.load(ready + at * WIDE + COLOUR + 1, mask=ok, other=0.0)
    blue = tl.load(ready + at * WIDE + COLOUR + 2, mask=ok, other=0.0)
    x, y = w * z * dx, w * z * dy
    k = tl.arange(0, 8)[None, :]
    value = tl.where(
        k == 0,
        w[:, None],
        tl.where(k == 1, x[:, None], tl.where(k == 2, y[:, None], (w * z)[:, None])),
    )
    other = tl.where(
        k == 4, (w * red)[:, None], tl.where(k == 5, (w * green)[:, None], (w * blue)[:, None])
    )
    value = tl.where(k < 4, value, tl.where(k == 7, 1.0, other))
    tl.atomic_add(sums + (code & LOW)[:, None] * 8 + k, value, mask=ok[:, None], sem="relaxed")


@jit
def merge(
    position, normal, radius, colour, confidence, last_seen, detail, taken, voxels, c2w, K, ready, sums,
    room, by, width, height, near, tolerance, most, time, AVERAGES: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Update discs by the pixels that show them; take from those that rays pass through or finer pixels replace."""
    world = tl.program_id(1)
    nth = tl.program_id(0) * LANES + tl.arange(0, LANES)
    row = world.to(tl.int64) * room + nth
    c2w, K = c2w + world * 16, K + world * 9
    before = tl.load(confidence + row, mask=nth < tl.load(taken + world), other=0.0)
    ok = before > 0.0
    wx, wy, wz = load3(position, row, ok)
    X, Y, Z = point_into_camera(c2w, wx, wy, wz)
    ok = ok & (near < Z)
    Z = tl.where(ok, Z, 1.0)
    fx, fy, cx, cy = intrinsics(K, by)
    u, v = tl.floor(X / Z * fx + cx), tl.floor(Y / Z * fy + cy)
    inside = ok & (u >= 0.0) & (v >= 0.0) & (u < width) & (v < height)
    at = world.to(tl.int64) * width * height
    at += tl.where(inside, v, 0.0).to(tl.int32) * width + tl.where(inside, u, 0.0).to(tl.int32)
    seen = tl.load(ready + at * WIDE, mask=inside, other=0.0)
    w = tl.load(sums + row * 8, mask=ok, other=0.0)
    met = w > 0.0
    shows = tl.abs(Z - seen) <= tolerance * seen
    mx, my, mz = load3(normal, row, ok)
    nx, ny, nz = into_camera(c2w, mx, my, mz)
    a = nx * X + ny * Y + nz * Z
    size = tl.load(radius + row, mask=ok, other=1.0)
    voxel = tl.load(voxels + world)
    through = ok & ~met & (seen * (1.0 - tolerance) > Z)
    coarse = ok & ~met & shows & (a < 0.0) & (finest(X, Y, Z, a, fx, voxel) < COARSE * size)
    left = tl.where(coarse, 0.0, tl.maximum(before - CARVE, 0.0))
    tl.store(confidence + row, left, mask=through | coarse)
    last = tl.load(last_seen + row, mask=met, other=0.0)
    tl.store(last_seen + row, tl.maximum(last, tl.zeros([LANES], tl.float32) + time), mask=met)
    if AVERAGES:
        share = 1.0 / tl.where(met, w, 1.0)
        mean = w / tl.where(met, tl.load(sums + row * 8 + 7, mask=met, other=1.0), 1.0)
        gain = mean / tl.where(met, before + mean, 1.0)
        sx = tl.load(sums + row * 8 + 1, mask=met, other=0.0)
        sy = tl.load(sums + row * 8 + 2, mask=met, other=0.0)
        sz = tl.load(sums + row * 8 + 3, mask=met, other=0.0)
        step = ((nx * sx + ny * sy + nz * sz) * share - a) * gain
        tl.store(position + 3 * row, wx + mx * step, mask=met)
        tl.store(position + 3 * row + 1, wy + my * step, mask=met)
        tl.store(position + 3 * row + 2, wz + mz * step, mask=met)
        turn = tl.where(shows, gain, 0.0)
        nx += (tl.load(ready + at * WIDE + NORMAL, mask=inside, other=0.0) - nx) * turn
        ny += (tl.load(ready + at * WIDE + NORMAL + 1, mask=inside, other=0.0) - ny) * turn
        nz += (tl.load(ready + at * WIDE + NORMAL + 2, mask=inside, other=0.0) - nz) * turn
        unit = 1.0 / tl.maximum(tl.sqrt(nx * nx + ny * ny + nz * nz), 1e-12)
        nx, ny, nz = into_world(c2w, nx * unit, ny * unit, nz * unit)
        tl.store(normal + 3 * row, nx, mask=met)
        tl.store(normal + 3 * row + 1, ny, mask=met)
        tl.store(normal + 3 * row + 2, nz, mask=met)
        fresh = voxel * fx / Z
        fresh, faded = fresh * fresh, tl.load(detail + row, mask=met, other=1.0) * FORGET
        ratio = fresh / tl.maximum(faded, 1e-30)
        alike = tl.minimum(tl.maximum((ratio - BLUNT) / (ALIKE - BLUNT), 0.0), 1.0) * gain
        sharper = tl.maximum(tl.minimum((ratio - SHARP) / (SHARPER - SHARP), 1.0), alike)
        tl.store(detail + row, tl.maximum(fresh, faded), mask=met)
        for k in tl.static_range(3):
            old = tl.load(colour + 3 * row + k, mask=met, other=0.0)
            now = tl.load(sums + row * 8 + 4 + k, mask=met, other=0.0) * share
            tl.store(colour + 3 * row + k, old + (now - old) * sharper, mask=met)
        tl.store(confidence + row, tl.minimum(before + mean, most), mask=met)


def fuse(
    columns: Mapping[str, Tensor],
    taken: Int[Tensor, " b"],
    batch: Batch,
    voxels: Float[Tensor, " b"],
    how: Fusing,
    *,
    near: float,
) -> Int[Tensor, "b h w"]:
    """Merge a frame into each of b worlds; the row in its world of each pixel, -1 where it went into none.

    columns: Those of all worlds one after the other, each with the same room, and with enough of it for a row a block
    of pixels; taken: rows in use, which the call adds to; voxels: edges, which stand for ``how.voxel``, 0 = unknown.
    """
    worlds, height, width = batch.depth.shape
    across, down = programs(width, how.by), programs(height, how.by)
    room, pixels, device = len(columns["radius"]) // worlds, across * down, taken.device
    side = lanes(128)
    full, blocks = (programs(width * height, side), worlds), (programs(pixels, side), worlds)
    depth, rgb, K, c2w = (part.contiguous() for part in (batch.depth, batch.rgb, batch.K, batch.c2w))  # fmt: skip
    confidence = depth if batch.confidence is None else batch.confidence.contiguous()

    ready, small = torch.empty(worlds, pixels, 8, device=device), torch.empty(worlds, pixels, device=device)  # fmt: skip
    used = torch.empty(worlds, height, width, dtype=torch.bool, device=device)
    prepare_triton.reduce[blocks](
        depth, confidence, rgb, K, how.edge, 1 / 255 if rgb.dtype == torch.uint8 else 1.0, width, height,
        small, used, ready, BY=how.by, SURE=batch.confidence is not None, LANES=side,
    )  # fmt: skip
    prepare_triton.fit[blocks](
        small, K, how.edge, how.grazing, voxels, how.by, across, down, max(1, round(across / 320)), ready, LANES=side,
    )  # fmt: skip

    best = torch.full((worlds, pixels), torch.iinfo(torch.long).max, device=device)
    sums = torch.zeros(worlds * room, 8, device=device)
    scan(
        MATCH, columns, taken, voxels, c2w, K, ready, best, sums, best, each=1, base=0, views=worlds, by=how.by,
        width=across, height=down, near=near, share=CENTRAL, merge=how.merge,
    )  # fmt: skip
    gather[blocks](ready, best, K, how.by, across, down, sums, LANES=side)
    merge[programs(room, side), worlds](
        *(columns[field] for field in ("position", "normal", "radius", "colour", "confidence", "last_seen", "detail")),
        taken, voxels, c2w, K, ready, sums, room, how.by, across, down, near, how.merge, how.max_confidence, how.time,
        AVERAGES=how.averages, LANES=side,
    )  # fmt: skip

    size = 1 << (2 * pixels - 1).bit_length()
    table = torch.full((worlds, size), -1, dtype=torch.long, device=device)
    first = torch.full((worlds, size), pixels, dtype=torch.int32, device=device)
    slot, begins = (torch.empty(worlds, pixels, dtype=torch.int32, device=device) for _ in range(2))
    create_triton.insert[blocks](
        ready, best, K, c2w, voxels, how.by, across, down, size, table, first, slot, LANES=side
    )
    create_triton.begin[blocks](slot, first, pixels, size, begins, LANES=side)
    count = begins.cumsum(1, dtype=torch.int32)
    new = torch.zeros(worlds, pixels, 16, device=device)
    create_triton.accumulate[blocks](
        ready, K, c2w, voxels, how.by, across, down, size, slot, first, count, new, LANES=side
    )
    create_triton.write[blocks](
        new, count, taken, room, pixels, how.time, *(columns[field] for field in WIDTHS), LANES=side
    )
    ids = torch.empty(worlds, height, width, dtype=torch.long, device=device)
    create_triton.name[full](
        best, slot, first, count, taken, used, room, size, width, height, ids, BY=how.by, LANES=side
    )
    taken += count[:, -1]
    return ids
