"""Which of a pixel's hits is its front, in plain torch: the twin that says what the fast kernels compute.

The front is the nearest hit, unless that is a stray: a disc that errors of poses and depth put before the surface that it is of.
A surface that was seen in more frames is *surer*; ``LEVELS`` tell how sure. A hit is looked through if something two
levels surer lies behind it, and one of these is the evidence:

- both are one surface: they lie within the share ``SAME`` of the depth
- it is a rim: something two levels surer, which nothing surer than the hit hides, lies beside it at its own depth, no
  farther off than ``SAME``: a wrong pose moved a copy of that
- it is a speck: all around it (``SPECK``) everything lies farther away

So a wall that was seen seldom is not looked through, however often the room behind it was seen, and a new thing shows at once.
Nothing is looked through beyond the nearest disc that faces away: nobody saw from this side what lies there. (Those of the lowest level,
which are specks as often as walls, do not count as that.)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LEVELS = (1.0, 3.0, 9.0, 27.0)
"""Confidences from which discs are one level surer; those below the first are of level 0."""
SURER = 2
"""So many levels surer is what a stray is looked through for."""
SAME = 0.03
"""Share of the depth by which errors of poses and depth put one surface apart, along a ray as to its side; fusion has the same
bound (``FusionConfig.merge``)."""
SPECK = 0.1
"""How far from a pixel of a speck everything lies farther away, as a share of the depth."""
WAYS, RIM_RINGS, SPECK_RINGS = 8, 3, 2
"""Where it is looked for: so many directions, at so many distances up to ``SAME`` and up to ``SPECK``."""


def around(K: Float[Tensor, "*v 3 3"]) -> Int[Tensor, "*v rings ways 2"]:
    """Whole pixels (x, y) from a pixel to where rims' surfaces are looked for, then to what lies around specks, ring by ring."""
    rim, speck = (torch.arange(1.0, n + 1, device=K.device) / n for n in (RIM_RINGS, SPECK_RINGS))
    reach = torch.cat([rim * SAME, speck * SPECK])[:, None]
    angle = torch.arange(WAYS, device=K.device) * (2 * math.pi / WAYS)
    off = torch.stack([reach * angle.cos(), reach * angle.sin()], -1)
    focal = torch.stack([K[..., 0, 0], K[..., 1, 1]], -1)[..., None, None, :]
    return (off * focal + 0.5).floor().int()


def believed(
    first: Float[Tensor, "planes h w"], around: Int[Tensor, "rings ways 2"], slab: float
) -> Float[Tensor, "h w"]:
    """The front; infinity where nothing is met.

    first: The nearest hits of each level's discs (inf = none), and last of those that face away; slab: share of the
    depth within which hits are mixed.
    """
    *levels, back = first
    nearest, rings = first.amin(0), around.tolist()
    front, sure = torch.full_like(back, torch.inf), torch.zeros_like(back)
    for level in reversed(range(len(levels))):
        z = levels[level]
        through = (sure >= level + SURER) & torch.isfinite(front)
        if level + SURER < len(levels):
            beside = clear(first, level, slab)
            stray = (front < z * (1 + SAME)) | rim(z, beside, rings) | speck(z, nearest, rings)
            through &= stray
        nearer = ~through & (z * (1 + slab) < front) & (z <= back * (1 + slab))
        front, sure = torch.where(nearer, z, front), sure.masked_fill(nearer, level)
    return torch.where(back * (1 + slab) < front, back, front)


def clear(first: Float[Tensor, "planes h w"], level: int, slab: float) -> Float[Tensor, "h w"]:
    """The nearest hit of discs two levels surer, infinity where one that is a level surer, or faces away, hides it."""
    *levels, back = first
    surer = torch.stack(levels[level + SURER :]).amin(0)
    hides = torch.stack([*levels[level + 1 : level + SURER], back]).amin(0)
    return torch.where(surer <= hides * (1 + slab), surer, torch.full_like(surer, torch.inf))


def rim(
    z: Float[Tensor, "h w"], beside: Float[Tensor, "h w"], rings: list[list[list[int]]]
) -> Bool[Tensor, "h w"]:
    """Whether something surer lies beside a hit, at its own depth."""
    found = torch.zeros_like(z, dtype=torch.bool)
    for x, y in (way for ring in rings[:RIM_RINGS] for way in ring):
        found |= (shifted(beside, x, y) - z).abs() <= SAME * z
    return found


def speck(
    z: Float[Tensor, "h w"], nearest: Float[Tensor, "h w"], rings: list[list[list[int]]]
) -> Bool[Tensor, "h w"]:
    """Whether all that is met around a hit, on one of the rings, lies farther away."""
    found = torch.zeros_like(z, dtype=torch.bool)
    for ring in rings[RIM_RINGS:]:
        alone = torch.ones_like(found)
        for x, y in ring:
            other = shifted(nearest, x, y)
            alone &= (other > z * (1 + SAME)) & torch.isfinite(other)
        found |= alone
    return found


def shifted(image: Float[Tensor, "h w"], x: int, y: int) -> Float[Tensor, "h w"]:
    """For each pixel the value that is (x, y) pixels away, infinity outside the image."""
    h, w = image.shape
    out = torch.full_like(image, torch.inf)
    if abs(x) < w and abs(y) < h:
        out[max(-y, 0) : h - max(y, 0), max(-x, 0) : w - max(x, 0)] = image[
            max(y, 0) : h + min(y, 0), max(x, 0) : w + min(x, 0)
        ]
    return out
