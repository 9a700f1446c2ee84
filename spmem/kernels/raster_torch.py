"""Surfel discs to pixels in plain torch, on any device: the twin that says what the fast kernels compute.

A disc of centre c, unit normal n and radius r (camera axes) is met by the pixel's ray d = (dx, dy, 1) at depth
z = (n.c) / (n.d); it counts where |z d - c| <= r, with the weight (1 - |z d - c|^2 / r^2)^2 + 0.001, or, as discs
may be thinner than a pixel, where c projects within 1/sqrt(2) pixel of the ray, at c's own depth with weight 0.001.
A pixel mixes the hits within a slab about its front that face the camera, by weight x confidence / r^2. Its front is
the nearest hit, but for strays: :mod:`spmem.kernels.front_torch`.

Sources: surface splatting (Zwicker et al. 2001) for the two passes, 2D Gaussian Splatting (arXiv 2403.17888,
section 4.2) for the ray-disc intersection and its screen-space floor.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spmem.kernels.front_torch import LEVELS, around, believed

FAINT = 1e-3
"""Weight at a disc's rim, and of a disc too thin to hit a pixel's ray."""
PAIRS = 1 << 22
"""Disc-pixel pairs handled at once; bounds the memory."""


def cull(
    position: Float[Tensor, "n 3"],
    normal: Float[Tensor, "n 3"],
    radius: Float[Tensor, " n"],
    confidence: Float[Tensor, " n"],
    w2c: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    width: int,
    height: int,
    near: float,
) -> tuple[Int[Tensor, " m"], Float[Tensor, "m 7"], Int[Tensor, "m 4"]]:
    """Discs that touch the image: index, (centre, normal, radius) in camera axes, pixel box x0 y0 x1 y1."""
    centre = position @ w2c[:3, :3].T + w2c[:3, 3]
    n, r2, Z = normal @ w2c[:3, :3].T, radius**2, centre[:, 2]
    C22 = r2 * (1 - n[:, 2] ** 2) - Z**2
    safe = torch.where(C22 < 0, C22, torch.full_like(C22, -1))
    box = []
    for axis, size in ((0, width), (1, height)):
        f, c = K[axis, axis], K[axis, 2]
        Ca2 = -r2 * n[:, axis] * n[:, 2] - centre[:, axis] * Z
        Caa = r2 * (1 - n[:, axis] ** 2) - centre[:, axis] ** 2
        middle = f * Ca2 / safe + c
        half = (f * (Ca2**2 - Caa * safe).clamp(min=0).sqrt() / -safe).clamp(min=0.71)
        box += [
            torch.ceil(middle - half - 0.5).clamp(0, size),
            (torch.floor(middle + half - 0.5) + 1).clamp(0, size),
        ]
    x0, x1, y0, y1 = (side.long() for side in box)
    kept = ((confidence > 0) & (near < Z) & (C22 < 0) & (x1 > x0) & (y1 > y0)).nonzero()[:, 0]
    disc = torch.cat([centre, n, radius[:, None]], -1)[kept]
    return kept, disc, torch.stack([x0, y0, x1, y1], -1)[kept]


def rasterize(
    position: Float[Tensor, "n 3"],
    normal: Float[Tensor, "n 3"],
    radius: Float[Tensor, " n"],
    colour: Float[Tensor, "n 3"],
    confidence: Float[Tensor, " n"],
    w2c: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    width: int,
    height: int,
    *,
    near: float,
    slab: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colour [H, W, 3], depth [H, W], normal [H, W, 3] (camera axes), ids [H, W] of one camera's view."""
    kept, disc, box = cull(position, normal, radius, confidence, w2c, K, width, height, near)
    pixels = width * height
    first = position.new_full((len(LEVELS) + 2, pixels), torch.inf)
    facing = (disc[:, :3] * disc[:, 3:6]).sum(-1) <= 0
    level = torch.bucketize(confidence[kept], confidence.new_tensor(LEVELS), right=True)
    level = torch.where(facing | (level == 0), level, len(LEVELS) + 1)
    for m, pixel, z, _ in hits(disc, box, K, width):
        at = level[m] * pixels + pixel
        first.view(-1).scatter_reduce_(0, at, z, "amin")
    front = believed(first.unflatten(1, (height, width)), around(K), slab).reshape(-1)

    total, best = position.new_zeros(pixels), position.new_zeros(pixels)
    mixed = position.new_zeros(pixels, 7)
    ids = kept.new_full((pixels,), -1)
    for m, pixel, z, off in hits(disc, box, K, width):
        use = facing[m] & ((z - front[pixel]).abs() <= front[pixel] * slab)
        m, pixel, z, off = m[use], pixel[use], z[use], off[use]
        surfel = kept[m]
        w = ((1 - off).square() + FAINT) * confidence[surfel] / disc[m, 6] ** 2
        total.index_add_(0, pixel, w)
        value = torch.cat([z[:, None], colour[surfel], disc[m, 3:6]], -1)
        mixed.index_add_(0, pixel, w[:, None] * value)
        better = w > best[pixel]
        best.scatter_reduce_(0, pixel, w, "amax")
        assign_first(ids, better & (w == best[pixel]), pixel, surfel)

    covered = total > 0
    mixed = mixed / torch.where(covered, total, torch.ones_like(total))[:, None]
    behind = torch.where(torch.isfinite(front), front, torch.zeros_like(front))
    depth = torch.where(covered, mixed[:, 0], behind)
    return (
        mixed[:, 1:4].reshape(height, width, 3),
        depth.reshape(height, width),
        torch.nn.functional.normalize(mixed[:, 4:7], dim=-1).reshape(height, width, 3),
        ids.reshape(height, width),
    )


def assign_first(which: Tensor, winner: Tensor, at: Tensor, index: Tensor) -> None:
    """Write ``index`` at the winners' places; among equals the smallest, so that the result is one."""
    at, index = at[winner], index[winner]
    which[at] = torch.iinfo(which.dtype).max
    which.scatter_reduce_(0, at, index, "amin")


def hits(
    disc: Tensor, box: Tensor, K: Tensor, width: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Of all hits the disc's place, the pixel, the depth, and the square of the distance from the disc's centre in radii.

    Some ``PAIRS`` candidates at a time. A disc too thin to be hit counts as hit at its rim.
    """
    across, down = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    area = across * down
    ends = area.cumsum(0)
    start = 0
    while start < len(disc):
        done = ends[start - 1] if start else 0
        stop = max(int(torch.searchsorted(ends, done + PAIRS, right=True)), start + 1)
        counts = area[start:stop]
        m = torch.repeat_interleave(torch.arange(start, stop, device=disc.device), counts)
        nth = torch.arange(len(m), device=disc.device)
        nth = nth - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        x, y = box[m, 0] + nth % across[m], box[m, 1] + nth // across[m]
        start = stop
        d = torch.stack([(x + 0.5 - K[0, 2]) / K[0, 0], (y + 0.5 - K[1, 2]) / K[1, 1]], -1)
        d = torch.cat([d, torch.ones_like(d[:, :1])], -1)
        c, n, r2 = disc[m, :3], disc[m, 3:6], disc[m, 6] ** 2
        along = (n * d).sum(-1)
        z = torch.where(along != 0, (n * c).sum(-1) / along, torch.zeros_like(along))
        rho2 = (z[:, None] * d - c).square().sum(-1)
        inside = (z > 0) & (rho2 <= r2)
        focal = torch.stack([K[0, 0], K[1, 1]])
        centred = ((c[:, :2] / c[:, 2:] - d[:, :2]) * focal).square().sum(-1) <= 0.5
        z, off = (
            torch.where(inside, z, c[:, 2]),
            torch.where(inside, rho2 / r2, torch.ones_like(r2)),
        )
        hit = inside | centred
        yield m[hit], (y * width + x)[hit], z[hit], off[hit]
