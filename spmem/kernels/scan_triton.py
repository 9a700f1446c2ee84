"""Every disc to every pixel that it meets, for views of many worlds at once: the two kernels under rendering and fusing.

World w owns rows w x ``room`` to w x ``room`` + ``taken[w]``; view v is of world v // ``each``, and a launch draws those
from ``base`` on. In :func:`small` a lane
takes a disc and walks its box; discs of more than ``SMALL`` pixels go on a list, and :func:`large` gives each of them
rows of lanes. What is done with a hit is told by ``MODE``:

- NEAREST: lower the pixel's depth (in the planes of ``front``) to the hit's, an atomic minimum of float bits
- BLEND: add weighted depth, colour and normal of what lies about the pixel's front (``front``) to its ``sums``, and keep the
  heaviest row in ``best``
- MATCH: keep in ``best`` the row that the pixel meets most centrally, of those that it may show (``seen``)

``best`` packs what is compared (upper 32 bits) with the row, so that among equals the smallest row wins, whatever the
order: one atomic instruction decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from spmem.kernels import fuse_torch
from spmem.kernels.discs_triton import (
    COARSE,
    FAINT,
    box,
    finest,
    form,
    into_camera,
    intrinsics,
    load3,
    meet,
    point_into_camera,
)
from spmem.kernels.front_triton import TOP, level_of
from spmem.kernels.triton_jit import INTERPRETED, constant, jit, lanes, programs, tl

NEAREST, BLEND, MATCH = (constant(mode) for mode in range(3))
SMALL = constant(64)
"""Pixels of a box up to which one lane draws a disc."""
LOW = constant(0xFFFFFFFF)
LAST = constant(0x7FFFFFFF)
ALIGNED = constant(fuse_torch.ALIGNED)
SHARING, SLICES = (2, 1) if INTERPRETED else (264, 8)
"""Programs over the list of large discs, and over the pixels of one; in all sixteen for each multiprocessor of an H200."""


@jit
def describe(
    position, normal, radius, confidence, row, ok, c2w, K, by, width, height, near, share, voxel, MODE
):  # fmt: skip
    """Whether rows are drawn, their boxes, and their discs in camera axes (centre, normal, n x c, radius)."""
    sure = tl.load(confidence + row, mask=ok, other=0.0)
    ok = ok & (sure > 0.0)
    x, y, z = load3(position, row, ok)
    X, Y, Z = point_into_camera(c2w, x, y, z)
    ok = ok & (near < Z)
    Z = tl.where(ok, Z, 1.0)
    whole = tl.load(radius + row, mask=ok, other=1.0)
    r = whole * share
    x, y, z = load3(normal, row, ok)
    nx, ny, nz = into_camera(c2w, x, y, z)
    a = nx * X + ny * Y + nz * Z
    fx, fy, cx, cy = intrinsics(K, by)
    before, x0, y0, x1, y1 = box(X, Y, Z, nx, ny, nz, r, fx, fy, cx, cy, width, height)
    ok = ok & before & (x1 > x0) & (y1 > y0)
    if MODE == MATCH:
        ok = ok & (a < 0.0) & (finest(X, Y, Z, a, fx, voxel) >= COARSE * whole)
    if MODE == BLEND:
        ok = ok & (a <= 0.0)
    return ok, x0, y0, x1, y1, X, Y, Z, nx, ny, nz, a, r, sure


@jit
def touch(
    pixel, hit, z, off, row, a, nx, ny, nz, trust, strength, red, green, blue, seen, front, plane, sums, best, slab,
    merge, MODE,
):  # fmt: skip
    """Do with hits of pixels what ``MODE`` says."""
    if MODE == NEAREST:
        depth = z.to(tl.int32, bitcast=True)
        level = level_of(trust)
        front += tl.where((a > 0.0) & (level > 0), TOP + 1, level) * plane
        nearer = hit & (depth < tl.load(front + pixel, mask=hit, other=0))
        tl.atomic_min(front + pixel, depth, mask=nearer, sem="relaxed")
    if MODE == BLEND:
        first = tl.load(front + pixel, mask=hit, other=0.0)
        use = hit & (tl.abs(z - first) <= first * slab)
        fall = 1.0 - off
        w = tl.where(use, (fall * fall + FAINT) * strength, 0.0)
        k = tl.arange(0, 8)[None, :]
        value = tl.where(
            k == 0,
            1.0,
            tl.where(k == 1, z[:, None], tl.where(k == 2, red[:, None], green[:, None])),
        )
        other = tl.where(
            k == 4,
            blue[:, None],
            tl.where(k == 5, nx[:, None], tl.where(k == 6, ny[:, None], nz[:, None])),
        )
        value = w[:, None] * tl.where(k < 4, value, other)
        tl.atomic_add(sums + pixel[:, None] * 8 + k, value, mask=use[:, None], sem="relaxed")
        code = (w.to(tl.int32, bitcast=True).to(tl.int64) << 32) | (LAST - row)
        better = use & (code > tl.load(best + pixel, mask=use, other=0))
        tl.atomic_max(best + pixel, code, mask=better, sem="relaxed")
    if MODE == MATCH:
        code = (off.to(tl.int32, bitcast=True).to(tl.int64) << 32) | row
        hit = hit & (code < tl.load(best + pixel, mask=hit, other=0))
        at = tl.load(seen + pixel * 8, mask=hit, other=0.0)
        n0 = tl.load(seen + pixel * 8 + 1, mask=hit, other=0.0)
        n1 = tl.load(seen + pixel * 8 + 2, mask=hit, other=0.0)
        n2 = tl.load(seen + pixel * 8 + 3, mask=hit, other=0.0)
        same = (tl.abs(z - at) <= merge * at) & (n0 * nx + n1 * ny + n2 * nz > ALIGNED)
        tl.atomic_min(best + pixel, code, mask=hit & same, sem="relaxed")


@jit
def small(
    position, normal, radius, confidence, colour, taken, voxels, c2w, K, seen, front, sums, best, listed, count,
    room, each, base, by, width, height, plane, near, share, slab, merge,
    MODE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """A lane a disc; larger discs are put on the list [``count``] unless MODE is BLEND, which finds them there."""
    view = tl.program_id(1)
    world = (base + view) // each
    nth = tl.program_id(0) * LANES + tl.arange(0, LANES)
    row = world.to(tl.int64) * room + nth
    voxel = tl.load(voxels + world)
    c2w, K = c2w + (base + view) * 16, K + (base + view) * 9
    ok, x0, y0, x1, y1, X, Y, Z, nx, ny, nz, a, r, sure = describe(
        position, normal, radius, confidence, row, nth < tl.load(taken + world), c2w, K, by, width, height,
        near, share, voxel, MODE,
    )  # fmt: skip
    area = tl.where(ok, (x1 - x0) * (y1 - y0), 0)
    big = area > SMALL
    if MODE != BLEND:
        many = tl.sum(big.to(tl.int32))
        if many > 0:
            place = tl.atomic_add(count, many, sem="relaxed") + tl.cumsum(big.to(tl.int32)) - 1
            tl.store(listed + place, (view.to(tl.int64) << 32) | row, mask=big)
    area = tl.where(big, 0, area)
    fx, fy, cx, cy = intrinsics(K, by)
    u, v, level, lx, ly, nxx, nxy, nyy = form(X, Y, Z, nx, ny, nz, a, r, fx, fy, cx, cy)
    red, green, blue = nx, ny, nz
    strength = sure
    if MODE == BLEND:
        strength = sure / (r * r)
        red, green, blue = load3(colour, row, area > 0)
    origin = view.to(tl.int64) * width * height
    x, y = x0, y0
    for step in range(tl.max(area)):
        dx, dy = x.to(tl.float32) - u, y.to(tl.float32) - v
        hit, z, off = meet(dx, dy, level, lx, ly, nxx, nxy, nyy, a, Z)
        touch(
            origin + y * width + x, hit & (step < area), z, off, row, a, nx, ny, nz, sure, strength, red, green, blue,
            seen, front, plane, sums, best, slab, merge, MODE,
        )  # fmt: skip
        x += 1
        y = tl.where(x == x1, y + 1, y)
        x = tl.where(x == x1, x0, x)


@jit
def large(
    position, normal, radius, confidence, colour, taken, voxels, c2w, K, seen, front, sums, best, listed, count,
    room, each, base, by, width, height, plane, near, share, slab, merge,
    MODE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The discs of the list, a lane a pixel; programs (p, s) share the list by p and a disc's box by s."""
    many = tl.load(count)
    i = tl.program_id(0)
    while i < many:
        code = tl.load(listed + i)
        view, row = (code >> 32).to(tl.int32), code & LOW
        world = (base + view) // each
        here, of = c2w + (base + view) * 16, K + (base + view) * 9
        ok, x0, y0, x1, y1, X, Y, Z, nx, ny, nz, a, r, sure = describe(
            position, normal, radius, confidence, row, row >= 0, here, of, by, width, height,
            near, share, tl.load(voxels + world), MODE,
        )  # fmt: skip
        fx, fy, cx, cy = intrinsics(of, by)
        u, v, level, lx, ly, nxx, nxy, nyy = form(X, Y, Z, nx, ny, nz, a, r, fx, fy, cx, cy)
        same = tl.zeros([LANES], tl.float32)
        strength, red, green, blue = same, same, same, same
        if MODE == BLEND:
            red, green, blue = load3(colour, row, row >= 0)
            strength, red, green, blue = (
                same + sure / (r * r),
                same + red,
                same + green,
                same + blue,
            )
        origin = view.to(tl.int64) * width * height
        across = x1 - x0
        area = tl.where(ok, across * (y1 - y0), 0)
        for start in range(tl.program_id(1) * LANES, area, tl.num_programs(1) * LANES):
            p = start + tl.arange(0, LANES)
            x, y = x0 + p % across, y0 + p // across
            dx, dy = x.to(tl.float32) - u, y.to(tl.float32) - v
            hit, z, off = meet(dx, dy, level, lx, ly, nxx, nxy, nyy, a, Z)
            touch(
                origin + y * width + x, hit & (p < area), z, off, row, same + a, same + nx, same + ny, same + nz,
                same + sure, strength, red, green, blue, seen, front, plane, sums, best, slab, merge, MODE,
            )  # fmt: skip
        i += tl.num_programs(0)


def scan(
    mode: Any,
    columns: Mapping[str, Tensor],
    taken: Tensor,
    voxels: Tensor,
    c2w: Tensor,
    K: Tensor,
    seen: Tensor,
    front: Tensor,
    sums: Tensor,
    best: Tensor,
    *,
    each: int,
    base: int,
    views: int,
    by: int,
    width: int,
    height: int,
    near: float,
    share: float,
    slab: float = 0.0,
    merge: float = 0.0,
    big: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a mode over so many views from ``base`` on; what it does not use may be anything.

    big: The list of large discs, as an earlier mode returned it for these views; else a new one is made.
    """
    room = len(columns["radius"]) // len(taken)
    listed, count = big or (
        torch.empty(views * room, dtype=torch.long, device=c2w.device),
        torch.zeros(1, dtype=torch.int32, device=c2w.device),
    )
    fields = (columns[name] for name in ("position", "normal", "radius", "confidence", "colour"))
    given = (
        *fields, taken, voxels, c2w, K, seen, front, sums, best, listed, count,
        room, each, base, by, width, height, front.stride(0), near, share, slab, merge,
    )  # fmt: skip
    side = lanes(32)
    small[programs(room, side), views](*given, MODE=mode, LANES=side, num_warps=1)
    large[SHARING, SLICES](*given, MODE=mode, LANES=lanes(128), num_warps=4)
    return listed, count
