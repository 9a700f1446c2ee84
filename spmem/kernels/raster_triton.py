"""Rendering with Triton: views of many worlds in one batch, on the device from end to end.

Four passes: the depths of each pixel's nearest hits, its front, the sums of the hits within a slab about it, and their means. What
is computed is told by :mod:`spmem.kernels.raster_torch`, the plain twin, to rounding: sums come in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spmem.kernels.discs_triton import into_world
from spmem.kernels.front_torch import LEVELS, around
from spmem.kernels.front_triton import INFINITE, fronts
from spmem.kernels.scan_triton import BLEND, LAST, LOW, NEAREST, scan
from spmem.kernels.triton_jit import jit, lanes, programs, tl

PIXELS = 1 << 24
"""Pixels whose sums are held at once: half a gigabyte."""
ROWS = 1 << 26
"""Places for large discs at once: half a gigabyte."""
Images = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@jit
def resolve(
    sums,
    middle,
    best,
    c2w,
    room,
    each,
    base,
    pixels,
    rgb,
    depth,
    normal,
    mask,
    rows,
    LANES: tl.constexpr,
):
    """The images of a view; a row is counted from its world's first."""
    view = tl.program_id(1)
    p = tl.program_id(0) * LANES + tl.arange(0, LANES)
    ok = p < pixels
    at, to = view.to(tl.int64) * pixels + p, (base + view).to(tl.int64) * pixels + p
    total = tl.load(sums + 8 * at, mask=ok, other=0.0)
    covered = total > 0.0
    share = 1.0 / tl.where(covered, total, 1.0)
    first = tl.load(middle + at, mask=ok, other=0.0)
    z = tl.load(sums + 8 * at + 1, mask=ok, other=0.0) * share
    tl.store(depth + to, tl.where(covered, z, tl.where(first < float("inf"), first, 0.0)), mask=ok)
    for k in tl.static_range(3):
        tl.store(
            rgb + 3 * to + k, tl.load(sums + 8 * at + 2 + k, mask=ok, other=0.0) * share, mask=ok
        )
    x = tl.load(sums + 8 * at + 5, mask=ok, other=0.0)
    y = tl.load(sums + 8 * at + 6, mask=ok, other=0.0)
    z = tl.load(sums + 8 * at + 7, mask=ok, other=0.0)
    length = tl.sqrt(x * x + y * y + z * z)
    unit = tl.where(length > 0.0, 1.0 / tl.where(length > 0.0, length, 1.0), 0.0)
    x, y, z = into_world(c2w + (base + view) * 16, x * unit, y * unit, z * unit)
    tl.store(normal + 3 * to, x, mask=ok)
    tl.store(normal + 3 * to + 1, y, mask=ok)
    tl.store(normal + 3 * to + 2, z, mask=ok)
    tl.store(mask + to, covered, mask=ok)
    heaviest = LAST - (tl.load(best + at, mask=ok, other=0) & LOW)
    start = ((base + view) // each).to(tl.int64) * room
    tl.store(rows + to, tl.where(covered, heaviest - start, -1), mask=ok)


def rasterize(
    columns: Mapping[str, Tensor],
    taken: Int[Tensor, " b"],
    K: Float[Tensor, "v 3 3"],
    c2w: Float[Tensor, "v 4 4"],
    width: int,
    height: int,
    *,
    near: float,
    slab: float,
) -> Images:
    """Views of b worlds, v / b of each in order: colour [v, H, W, 3], z-depth, world normal, mask, row in its world.

    columns: Those of all worlds one after the other, each with the same room; taken: rows of it in use.
    """
    views, worlds = len(c2w), len(taken)
    shape, device = (views, height, width), c2w.device
    room = len(columns["radius"]) // worlds
    rgb, normal = (torch.empty(*shape, 3, device=device) for _ in range(2))
    depth, mask = torch.empty(shape, device=device), torch.empty(shape, dtype=torch.bool, device=device)  # fmt: skip
    rows = torch.empty(shape, dtype=torch.long, device=device)
    each = views // worlds
    voxels = torch.empty(worlds, device=device)  # matching reads them, drawing does not
    at_once = min(views, max(1, min(PIXELS // (width * height), ROWS // max(room, 1))))
    front = torch.empty(len(LEVELS) + 2, at_once, height, width, dtype=torch.int32, device=device)
    middle = torch.empty(at_once, height, width, device=device)
    sums = torch.empty(at_once, height, width, 8, device=device)
    best = torch.empty(at_once, height, width, dtype=torch.long, device=device)
    K, c2w = K.contiguous(), c2w.contiguous()
    beside, each_lane = around(K).contiguous(), lanes(256)
    for base in range(0, views, at_once):
        part = min(at_once, views - base)
        front.fill_(INFINITE.value)
        sums.zero_()
        best.zero_()
        scanned = (columns, taken, voxels, c2w, K, sums)
        how: dict[str, Any] = {
            "each": each, "base": base, "views": part, "by": 1, "width": width, "height": height,
            "near": near, "share": 1.0, "slab": slab,
        }  # fmt: skip
        big = scan(NEAREST, *scanned, front, sums, best, **how)
        fronts[programs(width * height, each_lane), part](
            front, front.stride(0), beside, base, width, height, slab, middle, LANES=each_lane
        )
        scan(BLEND, *scanned, middle, sums, best, **how, big=big)
        resolve[programs(width * height, each_lane), part](
            sums, middle, best, c2w, room, each, base, width * height, rgb, depth, normal, mask, rows, LANES=each_lane,
        )  # fmt: skip
    return rgb, depth, normal, mask, rows
