"""New discs in Triton, and the rows that pixels went into; :mod:`spmem.kernels.fuse_torch` says what is computed.

Pixels that show nothing known find their voxel and main direction in a hash table of their world: open addressing, a
place is taken by compare-and-swap. Discs are numbered by their first pixels, so that rows do not depend on who came
first; the running count of first pixels is torch's ``cumsum``.
"""

from __future__ import annotations

from spmem.kernels.discs_triton import REACH, STEEP, into_world, intrinsics
from spmem.kernels.prepare_triton import COLOUR, NORMAL, WEIGHT, WIDE
from spmem.kernels.scan_triton import LOW
from spmem.kernels.triton_jit import constant, jit, tl

NONE = constant(0x7FFFFFFFFFFFFFFF)
"""In ``best``: the pixel shows no disc."""
FREE = constant(-1)
BITS = constant(0xFFFFF)
"""Bits of a voxel's coordinate that tell it from the others in view."""
SUMS = constant(16)
"""Floats of a new disc's sums: count, weight, and weighted point, normal, colour, radius, detail; 13 are used."""


@jit
def place(ready, K, c2w, by, width, p, at, new):
    """World points and normals of pixels."""
    fx, fy, cx, cy = intrinsics(K, by)
    z = tl.load(ready + at, mask=new, other=0.0)
    n0 = tl.load(ready + at + NORMAL, mask=new, other=0.0)
    n1 = tl.load(ready + at + NORMAL + 1, mask=new, other=0.0)
    n2 = tl.load(ready + at + NORMAL + 2, mask=new, other=0.0)
    dx, dy = (p % width + 0.5 - cx) / fx, (p // width + 0.5 - cy) / fy
    x, y, far = into_world(c2w, dx * z, dy * z, z)
    nx, ny, nz = into_world(c2w, n0, n1, n2)
    cosine = -(n0 * dx + n1 * dy + n2) / tl.sqrt(dx * dx + dy * dy + 1.0)
    x, y, far = x + tl.load(c2w + 3), y + tl.load(c2w + 7), far + tl.load(c2w + 11)
    return x, y, far, nx, ny, nz, z / fx, cosine


@jit
def insert(
    ready, best, K, c2w, voxels, by, width, height, size, table, first, slot, LANES: tl.constexpr
):
    """The place in its world's table [size] of each new pixel, -1 for the others; each place's first pixel."""
    world = tl.program_id(1)
    p = tl.program_id(0) * LANES + tl.arange(0, LANES)
    at = world.to(tl.int64) * width * height + p
    new = p < width * height
    new = new & (tl.load(ready + at * WIDE + WEIGHT, mask=new, other=0.0) > 0.0)
    new = new & (tl.load(best + at, mask=new, other=0) == NONE)
    x, y, z, nx, ny, nz, _, _ = place(
        ready, K + world * 9, c2w + world * 16, by, width, p, at * WIDE, new
    )
    voxel = tl.load(voxels + world)
    voxel = tl.where(voxel > 0.0, voxel, 1.0)  # a world without one has no new pixels
    i, j = tl.floor(x / voxel).to(tl.int64) & BITS, tl.floor(y / voxel).to(tl.int64) & BITS
    k = tl.floor(z / voxel).to(tl.int64) & BITS
    ax, ay, az = tl.abs(nx), tl.abs(ny), tl.abs(nz)
    side = tl.where((ax >= ay) & (ax >= az), 0, tl.where(ay >= az, 1, 2))
    up = tl.where(side == 0, nx, tl.where(side == 1, ny, nz)) > 0.0
    key = ((i << 40 | j << 20 | k) << 3) | (2 * side + up.to(tl.int32)).to(tl.int64)
    mixed = key ^ (key >> 31)
    mixed = mixed * 0x7FB5D329728EA185
    mixed = mixed ^ (mixed >> 29)
    here = (mixed & (size - 1)).to(tl.int32)
    own = table + world.to(tl.int64) * size
    searching = new
    while tl.max(searching.to(tl.int32)) > 0:
        # lanes that search no more compare with what is never there, as compare-and-swap has no mask
        found = tl.atomic_cas(
            own + here, tl.where(searching, FREE, FREE - 1).to(tl.int64), key, sem="relaxed"
        )
        searching = searching & (found != FREE) & (found != key)
        here = tl.where(searching, (here + 1) & (size - 1), here)
    tl.atomic_min(first + world.to(tl.int64) * size + here, p, mask=new, sem="relaxed")
    tl.store(slot + at, tl.where(new, here, -1), mask=p < width * height)


@jit
def begin(slot, first, pixels, size, begins, LANES: tl.constexpr):
    """Whether a pixel is its new disc's first."""
    world = tl.program_id(1)
    p = tl.program_id(0) * LANES + tl.arange(0, LANES)
    at, ok = world.to(tl.int64) * pixels + p, p < pixels
    here = tl.load(slot + at, mask=ok, other=-1)
    least = tl.load(first + world.to(tl.int64) * size + here, mask=ok & (here >= 0), other=-1)
    tl.store(begins + at, (least == p).to(tl.int32), mask=ok)


@jit
def nth(slot, first, count, world, at, pixels, size, ok):
    """The number of each new pixel's disc among its world's new ones, -1 for pixels that are not new."""
    here = tl.load(slot + at, mask=ok, other=-1)
    new = ok & (here >= 0)
    least = tl.load(first + world.to(tl.int64) * size + here, mask=new, other=0)
    return tl.load(count + world.to(tl.int64) * pixels + least, mask=new, other=0) - 1


@jit
def accumulate(
    ready, K, c2w, voxels, by, width, height, size, slot, first, count, sums, LANES: tl.constexpr
):
    """Sums over the pixels of each new disc."""
    world = tl.program_id(1)
    pixels = width * height
    p = tl.program_id(0) * LANES + tl.arange(0, LANES)
    at = world.to(tl.int64) * pixels + p
    disc = nth(slot, first, count, world, at, pixels, size, p < pixels)
    new = disc >= 0
    x, y, z, nx, ny, nz, footprint, cosine = place(
        ready, K + world * 9, c2w + world * 16, by, width, p, at * WIDE, new
    )
    voxel = tl.load(voxels + world)
    w = tl.load(ready + at * WIDE + WEIGHT, mask=new, other=0.0)
    red = tl.load(ready + at * WIDE + COLOUR, mask=new, other=0.0)
    green = tl.load(ready + at * WIDE + COLOUR + 1, mask=new, other=0.0)
    blue = tl.load(ready + at * WIDE + COLOUR + 2, mask=new, other=0.0)
    radius = tl.maximum(REACH * footprint / tl.maximum(cosine, STEEP), voxel)
    finer = voxel / tl.where(new, footprint, 1.0)
    to = sums + (world.to(tl.int64) * pixels + disc) * SUMS
    tl.atomic_add(to, tl.where(new, 1.0, 0.0), mask=new, sem="relaxed")
    tl.atomic_add(to + 1, w, mask=new, sem="relaxed")
    tl.atomic_add(to + 2, w * x, mask=new, sem="relaxed")
    tl.atomic_add(to + 3, w * y, mask=new, sem="relaxed")
    tl.atomic_add(to + 4, w * z, mask=new, sem="relaxed")
    tl.atomic_add(to + 5, w * nx, mask=new, sem="relaxed")
    tl.atomic_add(to + 6, w * ny, mask=new, sem="relaxed")
    tl.atomic_add(to + 7, w * nz, mask=new, sem="relaxed")
    tl.atomic_add(to + 8, w * red, mask=new, sem="relaxed")
    tl.atomic_add(to + 9, w * green, mask=new, sem="relaxed")
    tl.atomic_add(to + 10, w * blue, mask=new, sem="relaxed")
    tl.atomic_add(to + 11, w * radius, mask=new, sem="relaxed")
    tl.atomic_add(to + 12, w * finer * finer, mask=new, sem="relaxed")


@jit
def write(
    sums, count, taken, room, pixels, time,
    position, normal, radius, colour, confidence, first_seen, last_seen, detail, LANES: tl.constexpr,
):  # fmt: skip
    """The new discs, means of their pixels, in the rows after those taken."""
    world = tl.program_id(1)
    k = tl.program_id(0) * LANES + tl.arange(0, LANES)
    own = world.to(tl.int64) * pixels
    new = k < tl.load(count + own + pixels - 1)
    row = world.to(tl.int64) * room + tl.load(taken + world) + k
    at = sums + (own + k) * SUMS
    w = tl.load(at + 1, mask=new, other=1.0)
    share = 1.0 / w
    for c in tl.static_range(3):
        tl.store(position + 3 * row + c, tl.load(at + 2 + c, mask=new, other=0.0) * share, mask=new)
        tl.store(colour + 3 * row + c, tl.load(at + 8 + c, mask=new, other=0.0) * share, mask=new)
    x = tl.load(at + 5, mask=new, other=1.0) * share
    y = tl.load(at + 6, mask=new, other=0.0) * share
    z = tl.load(at + 7, mask=new, other=0.0) * share
    unit = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)
    tl.store(normal + 3 * row, x * unit, mask=new)
    tl.store(normal + 3 * row + 1, y * unit, mask=new)
    tl.store(normal + 3 * row + 2, z * unit, mask=new)
    tl.store(radius + row, tl.load(at + 11, mask=new, other=0.0) * share, mask=new)
    tl.store(detail + row, tl.load(at + 12, mask=new, other=0.0) * share, mask=new)
    tl.store(confidence + row, w / tl.load(at, mask=new, other=1.0), mask=new)
    tl.store(first_seen + row, tl.zeros([LANES], tl.float32) + time, mask=new)
    tl.store(last_seen + row, tl.zeros([LANES], tl.float32) + time, mask=new)


@jit
def name(
    best, slot, first, count, taken, used, room, size, width, height, ids,
    BY: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The row in its world of each full pixel, -1 where it went into none."""
    world = tl.program_id(1)
    across, down = (width + BY - 1) // BY, (height + BY - 1) // BY
    p = tl.program_id(0) * LANES + tl.arange(0, LANES)
    ok = p < width * height
    at = world.to(tl.int64) * across * down + p // width // BY * across + p % width // BY
    code = tl.load(best + at, mask=ok, other=0)
    fresh = nth(slot, first, count, world, at, across * down, size, ok)
    row = tl.where(fresh >= 0, tl.load(taken + world) + fresh, -1)
    row = tl.where(code == NONE, row, (code & LOW) - world.to(tl.int64) * room)
    full = world.to(tl.int64) * width * height + p
    if BY > 1:
        row = tl.where(tl.load(used + full, mask=ok, other=0) != 0, row, -1)
    tl.store(ids + full, row, mask=ok)
