"""The surfels that a query sees, and how well: what the rules go by in which surfels vote for keyframes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.jit import njit
from spmem.types import Projection

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def seen_surfels(
    projection: Projection, scale: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct surfels of the covered pixels, in the order in which they come, and the weight of each.

    A surfel's weight is the sum, over its pixels in all cameras, of cos / (1 + depth / scale): cos of the angle at which
    the pixel's ray meets the surface, depth and scale in world units. Pixels seen from behind have none.

    Returns:
        ids ``[s]`` and weights ``[s]`` > 0.
    """
    cameras = projection.cameras
    images = (projection.surfel_ids, projection.mask, projection.depth, projection.normal)
    ids, mask, depth, normal = (image.cpu().numpy() for image in images)
    K, c2w = cameras.K.cpu().numpy(), cameras.c2w.cpu().numpy()
    return _weigh(ids, mask, depth, normal, K, c2w, np.float32(scale))


@njit()
def _weigh(
    ids: NDArray[np.int64],
    mask: NDArray[np.bool_],
    depth: NDArray[np.float32],
    normal: NDArray[np.float32],
    K: NDArray[np.float32],
    c2w: NDArray[np.float32],
    scale: np.float32,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    cameras, height, width = ids.shape
    covered = 0
    for t in range(cameras):
        for y in range(height):
            for x in range(width):
                covered += mask[t, y, x]
    bits = 4
    while (1 << bits) < 2 * covered:
        bits += 1
    slots = np.full(1 << bits, -1, np.int32)  # open addressing: where in `names` a surfel stands
    names, weights, n = np.empty(covered, np.int64), np.zeros(covered, np.float64), 0
    half, one, zero = np.float32(0.5), np.float32(1), np.float32(0)
    for t in range(cameras):
        R = c2w[t]
        for y in range(height):
            down = (np.float32(y) + half - K[t, 1, 2]) / K[t, 1, 1]
            last = np.int32(-1)
            for x in range(width):
                if not mask[t, y, x] or ids[t, y, x] < 0:
                    continue
                right = (np.float32(x) + half - K[t, 0, 2]) / K[t, 0, 0]
                against = zero
                for axis in range(3):
                    ray = R[axis, 0] * right + R[axis, 1] * down + R[axis, 2]
                    against -= ray * normal[t, y, x, axis]
                if against <= zero:
                    continue
                cos = against / np.sqrt(right * right + down * down + one)
                id = ids[t, y, x]
                if last < 0 or names[last] != id:  # neighbours mostly show the same surfel
                    slot = np.int64((np.uint64(id) * _GOLDEN) >> np.uint64(64 - bits))
                    while slots[slot] >= 0 and names[slots[slot]] != id:
                        slot = (slot + 1) & ((1 << bits) - 1)
                    if slots[slot] < 0:
                        slots[slot] = n
                        names[n] = id
                        n += 1
                    last = slots[slot]
                weights[last] += cos / (one + depth[t, y, x] / scale)
    return names[:n].copy(), weights[:n].copy()
