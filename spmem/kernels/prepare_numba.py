"""A depth image made ready for fusion on CPU; :mod:`spmem.kernels.fuse_torch` says what is computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.discs_numba import HALF, ONE, ZERO
from spmem.kernels.fuse_torch import SUPPORT, TAPS
from spmem.kernels.jit import njit
from spmem.kernels.simd import (
    LANES,
    PAD,
    TALL,
    WIDE,
    across,
    down,
    least,
    magnitude,
    root,
    spread,
    where,
)
from spmem.kernels.simd_memory import add_to, columns3, load, store, take
from spmem.kernels.threads import Turns, claimed

F32 = NDArray[np.float32]
Image = NDArray[np.float32 | np.uint8]

DEPTH, WEIGHT, NORMAL = 0, 1, 2
"""Where the planes of a prepared frame begin: depth (0 where a pixel is not used), weight, normal (camera axes)."""
PLANES = 5


def framed(image: F32) -> F32:
    """An image with a margin of zeros: a pixel above and left, ``PAD`` to the right, two below."""
    height, width = image.shape
    out = np.zeros((height + 3, width + 1 + PAD), np.float32)
    out[1 : height + 1, 1 : width + 1] = image
    return out


@njit(fastmath=True)
def reduce(
    turns: Turns,
    depth: F32,
    confidence: F32,
    rgb: Image,
    scale: float,
    by: int,
    step: float,
    small: F32,
    sure: F32,
    colour: F32,
    used: NDArray[np.bool_],
) -> None:
    """Means of blocks of ``by`` x ``by`` pixels, a row of blocks a turn, into arrays of zeros.

    depth: With a margin of one pixel above and left, ``PAD`` to the right and two below, 0 there. Pixels beside a step
    are left out. An empty confidence stands for ones. ``small``, ``sure`` [h, w] and ``colour`` [h, w, 3] are the means
    of depth, confidence and colour; ``used`` [H, W] the pixels that went into them.
    """
    height, width, w = depth.shape[0] - 3, depth.shape[1] - 1 - PAD, small.shape[1]
    big, factor = np.float32(step), np.float32(scale)
    flat, known = rgb.reshape(height * width, 3), len(confidence) > 0
    for j in claimed(turns):
        top, bottom = j * by, min((j + 1) * by, height)
        inverse = np.zeros((by + 1, width + PAD), np.float32)
        for y in range(top, bottom, TALL):
            for x in range(0, width, WIDE):
                z = load(depth, y + 1, x + 1)
                most = spread(ZERO)
                for b in range(3):
                    for a in range(3):
                        other = load(depth, y + b, x + a)
                        off = where(other > ZERO, magnitude(other - z), ZERO)
                        most = where(off > most, off, most)
                store(inverse, where((z > ZERO) & (most <= z * big), ONE / z, ZERO), y - top, x)
        # down the columns of pixels first: count, inverse depth, confidence, colour
        columns = np.zeros((6, width), np.float32)
        for y in range(top, bottom):
            at, rest = y - top, width - width % LANES
            for x in range(width):
                used[y, x] = inverse[at, x] > ZERO
                columns[0, x] += ONE if used[y, x] else ZERO
                columns[1, x] += inverse[at, x]
                if known:
                    columns[2, x] += confidence[y, x] if used[y, x] else ZERO
            for x in range(0, rest, LANES):
                red, green, blue = columns3(flat, np.int64(y) * width + x)
                mine = take(inverse, at, x) > ZERO
                add_to(columns, where(mine, red, ZERO), 3, x)
                add_to(columns, where(mine, green, ZERO), 4, x)
                add_to(columns, where(mine, blue, ZERO), 5, x)
            for x in range(rest, width):
                for k in range(3):
                    columns[3 + k, x] += np.float32(rgb[y, x, k]) if used[y, x] else ZERO
        for i in range(w):
            n = q = c = red = green = blue = ZERO
            for x in range(i * by, min((i + 1) * by, width)):
                n, q, c = n + columns[0, x], q + columns[1, x], c + columns[2, x]
                red, green, blue = red + columns[3, x], green + columns[4, x], blue + columns[5, x]
            if n > ZERO:
                share = ONE / n
                small[j, i], sure[j, i] = n / q, c * share if known else ONE
                share *= factor
                colour[j, i, 0], colour[j, i, 1] = red * share, green * share
                colour[j, i, 2] = blue * share


@njit(fastmath=True)
def inverses(turns: Turns, depth: F32, inverse: F32) -> None:
    """1 / depth, 0 where there is none, a row a turn, into the middle of zeros [H + 2 m + 1, W + 2 m + PAD].

    depth: With a margin of one pixel above and left, ``PAD`` to the right and two below.
    """
    height, width = depth.shape[0] - 3, depth.shape[1] - 1 - PAD
    margin = (inverse.shape[0] - 1 - height) // 2
    for y in claimed(turns):
        for x in range(width):
            z = depth[y + 1, x + 1]
            inverse[y + margin, x + margin] = ONE / z if z > ZERO else ZERO


@njit(fastmath=True)
def planes(
    turns: Turns,
    depth: F32,
    inverse: F32,
    confidence: F32,
    K: F32,
    spacing: int,
    step: float,
    grazing: float,
    reference: float,
    edges: bool,
    out: F32,
) -> None:
    """Depth, weight and normal of each pixel, ``TALL`` rows a turn; depth and weight 0 where not used.

    depth: With a margin of one pixel above and left, ``PAD`` to the right and two below, 0 there. inverse: See
    :func:`inverses`. out: Of shape [5, H + 1, W + PAD]. ``edges`` leaves out pixels beside a step.
    """
    width = out.shape[2] - PAD
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    gx, gy = fx / np.float32(spacing), fy / np.float32(spacing)
    far, steep, big = np.float32(reference), np.float32(grazing), np.float32(step)
    reach, tiny, support = np.float32(1.5) * big, np.float32(1e-30), np.float32(SUPPORT)
    margin = TAPS * spacing
    for tile in claimed(turns):
        y = tile * TALL
        dy = (down() + (np.float32(y) + HALF - cy)) * (ONE / fy)
        for x in range(0, width, WIDE):
            z, q0 = load(depth, y + 1, x + 1), load(inverse, y + margin, x + margin)
            n = sx = sy = sxx = sxy = syy = sq = sxq = syq = spread(ZERO)
            for j in range(-TAPS, TAPS + 1):
                fj = np.float32(j)
                for i in range(-TAPS + (j & 1), TAPS + 1, 2):
                    fi = np.float32(i)
                    q = load(inverse, y + margin + j * spacing, x + margin + i * spacing)
                    off = q - q0
                    use = where((q > ZERO) & (magnitude(off) <= q * reach), ONE, ZERO)
                    off = off * use
                    n, sx, sy = n + use, sx + use * fi, sy + use * fj
                    sxx, sxy, syy = (
                        sxx + use * (fi * fi),
                        sxy + use * (fi * fj),
                        syy + use * (fj * fj),
                    )
                    sq, sxq, syq = sq + off, sxq + off * fi, syq + off * fj
            share = ONE / (n + tiny)
            cxx, cxy, cyy = sxx - sx * sx * share, sxy - sx * sy * share, syy - sy * sy * share
            cxq, cyq = sxq - sx * sq * share, syq - sy * sq * share
            det = cxx * cyy - cxy * cxy
            sure = (q0 > ZERO) & (n >= support) & (det > ONE)
            inverted = where(sure, ONE / det, ZERO)
            a = (cyy * cxq - cxy * cyq) * inverted * gx
            b = (cxx * cyq - cxy * cxq) * inverted * gy
            dx = (across() + (np.float32(x) + HALF - cx)) * (ONE / fx)
            c = q0 - a * dx - b * dy
            unit = where(sure, spread(-ONE) / root(a * a + b * b + c * c + tiny), ZERO)
            a, b, c = a * unit, b * unit, c * unit
            cosine = q0 * unit * (spread(-ONE) / root(dx * dx + dy * dy + ONE))
            near = q0 * far
            w = cosine * least(near * near, spread(ONE))
            if len(confidence) > 0:
                w = w * load(confidence, y + 1, x + 1)
            use = (cosine > steep) & (w > ZERO)
            if edges:
                most = spread(ZERO)
                for j in range(3):
                    for i in range(3):
                        other = load(depth, y + j, x + i)
                        off = where(other > ZERO, magnitude(other - z), ZERO)
                        most = where(off > most, off, most)
                use = use & (most <= z * big)
            store(out, where(use, z, ZERO), DEPTH, y, x)
            store(out, where(use, w, ZERO), WEIGHT, y, x)
            store(out, a, NORMAL, y, x)
            store(out, b, NORMAL + 1, y, x)
            store(out, c, NORMAL + 2, y, x)
