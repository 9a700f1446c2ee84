"""Which of a pixel's hits is its front, in Triton; :mod:`spmem.kernels.front_torch` says what is computed."""

from __future__ import annotations

from spmem.kernels import front_torch
from spmem.kernels.triton_jit import constant, jit, tl

LEVELS = constant(front_torch.LEVELS)
TOP = constant(len(front_torch.LEVELS))
SURER = constant(front_torch.SURER)
SAME = constant(front_torch.SAME)
RIMS = constant(front_torch.RIM_RINGS * front_torch.WAYS)
WAYS, SPECK_RINGS = constant(front_torch.WAYS), constant(front_torch.SPECK_RINGS)
INFINITE = constant(0x7F800000)
"""The bits of infinity; those of positive floats are ordered as the floats are."""


@jit
def level_of(confidence):
    """How many of ``LEVELS`` a confidence reaches."""
    level = (confidence >= LEVELS[0]).to(tl.int32)
    for k in tl.static_range(1, TOP):
        level += (confidence >= LEVELS[k]).to(tl.int32)
    return level


@jit
def hit(front, plane, level, pixel, ok):
    """The nearest hit of a level's discs, of those that face away at level TOP + 1; infinity where not ``ok``."""
    bits = tl.load(front + level * plane + pixel, mask=ok, other=INFINITE)
    return bits.to(tl.float32, bitcast=True)


@jit
def clear(front, plane, pixel, ok, slab, LEVEL: tl.constexpr):
    """The nearest hit of discs two levels surer, infinity where one that is a level surer, or faces away, hides it."""
    surer = hit(front, plane, LEVEL + SURER, pixel, ok)
    for k in tl.static_range(LEVEL + SURER + 1, TOP + 1):
        surer = tl.minimum(surer, hit(front, plane, k, pixel, ok))
    hides = hit(front, plane, TOP + 1, pixel, ok)
    for k in tl.static_range(LEVEL + 1, LEVEL + SURER):
        hides = tl.minimum(hides, hit(front, plane, k, pixel, ok))
    return tl.where(surer <= hides * (1.0 + slab), surer, float("inf"))


@jit
def beside(around, k, x, y, width, height, ok):
    """The pixel that is the k-th of ``around`` away, counted from (x, y)'s, and whether it is in the image."""
    dx, dy = tl.load(around + 2 * k), tl.load(around + 2 * k + 1)
    u, v = x + dx, y + dy
    return dy * width + dx, ok & (u >= 0) & (v >= 0) & (u < width) & (v < height)


@jit
def rim(front, plane, around, z, pixel, x, y, width, height, ok, slab, LEVEL: tl.constexpr):
    """Whether something surer lies beside a hit, at its own depth."""
    found = z < 0.0
    for k in range(RIMS):
        off, inside = beside(around, k, x, y, width, height, ok)
        other = clear(front, plane, pixel + off, inside, slab, LEVEL)
        found = found | (inside & (tl.abs(other - z) <= SAME * z))
    return found


@jit
def speck(front, plane, around, z, pixel, x, y, width, height, ok):
    """Whether all that is met around a hit, on one of the rings, lies farther away."""
    found = z < 0.0
    for ring in range(SPECK_RINGS):
        alone = z >= 0.0
        for way in range(WAYS):
            off, inside = beside(around, RIMS + ring * WAYS + way, x, y, width, height, ok)
            nearest = hit(front, plane, 0, pixel + off, inside)
            for k in tl.static_range(1, TOP + 2):
                nearest = tl.minimum(nearest, hit(front, plane, k, pixel + off, inside))
            alone = alone & inside & (nearest > z * (1.0 + SAME)) & (nearest < float("inf"))
        found = found | alone
    return found


@jit
def believed(front, plane, around, pixel, x, y, width, height, ok, slab):
    """The front of pixels, infinity where nothing is met."""
    back = hit(front, plane, TOP + 1, pixel, ok)
    at, sure = hit(front, plane, TOP, pixel, ok), tl.zeros(back.shape, tl.int32) + TOP
    at = tl.where(at <= back * (1.0 + slab), at, float("inf"))
    for down in tl.static_range(1, TOP + 1):
        z = hit(front, plane, TOP - down, pixel, ok)
        may = ok & (z * (1.0 + slab) < at) & (z <= back * (1.0 + slab))
        through = may & (at < float("inf")) & (sure >= TOP - down + SURER)
        if down >= SURER:
            asked = through & (at >= z * (1.0 + SAME))
            if tl.max(asked.to(tl.int32)) > 0:
                stray = rim(
                    front, plane, around, z, pixel, x, y, width, height, asked, slab, TOP - down
                )
                stray = stray | speck(front, plane, around, z, pixel, x, y, width, height, asked)
                through = through & (stray | (at < z * (1.0 + SAME)))
        nearer = may & (through == 0)
        at, sure = tl.where(nearer, z, at), tl.where(nearer, TOP - down, sure)
    return tl.where(back * (1.0 + slab) < at, back, at)


@jit
def fronts(front, plane, around, base, width, height, slab, middle, LANES: tl.constexpr):
    """The front of every pixel of a view, from the planes of its hits."""
    view = tl.program_id(1)
    p = tl.program_id(0) * LANES + tl.arange(0, LANES)
    ok = p < width * height
    pixel = view.to(tl.int64) * width * height + p
    around += (base + view) * (2 * (RIMS + SPECK_RINGS * WAYS))
    z = believed(front, plane, around, pixel, p % width, p // width, width, height, ok, slab)
    tl.store(middle + pixel, z, mask=ok)
