"""Walls seen from behind: where they are in a picture, what shows beside them shows through walls that nobody saw."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spmem.retrieval.visibility.exact import cells, stride_of
from spmem.types import Projection

F32: TypeAlias = NDArray[np.float32]

WALLS, ABOUT = 12, 8
"""Surfaces seen from behind are walls mostly, and walls go on where nobody looked. So unseen space counts ``1 + WALLS * share``
times, with the share of such surfaces in a square about the pixel, as far to each side as an ``ABOUT``-th of the rows. Those
count that are whole in squares of three samples: a real sensor's noise has specks that turn away."""


def walls(projection: Projection, stride: int) -> F32:
    """The share ``[t, rows, columns]`` of surfaces seen from behind about each of the samples, ``stride`` pixels apart."""
    h, w = projection.mask.shape[1:]
    fine = stride_of(1, h, w)  # as of a single camera, however many there are
    y, x = cells(h, fine)[0], cells(w, fine)[0]
    depth, mask = (image[:, y[0] :: fine, x[0] :: fine] for image in (projection.depth, projection.mask))  # fmt: skip
    behind = ((depth > 0) & ~mask).cpu().numpy()
    behind = _grown(~_grown(~behind))
    sums = np.pad(behind.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    near, at = max(1, round(len(y) / ABOUT)), [cells(n, stride)[0] // fine for n in (h, w)]
    row, column = at[0].clip(max=len(y) - 1)[:, None], at[1].clip(max=len(x) - 1)
    top, bottom = (row - near).clip(0), (row + near + 1).clip(max=len(y))
    left, right = (column - near).clip(0), (column + near + 1).clip(max=len(x))
    inside = sums[:, bottom, right] - sums[:, top, right]
    inside += sums[:, top, left] - sums[:, bottom, left]
    share: F32 = (inside / ((bottom - top) * (right - left))).astype(np.float32)
    return share


def _grown(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The masks ``[t, h, w]`` and all that touches them."""
    for axis in (1, 2):
        one, other = ((slice(None),) * axis + (part,) for part in (np.s_[1:], np.s_[:-1]))
        grown = masks.copy()
        grown[one] |= masks[other]
        grown[other] |= masks[one]
        masks = grown
    return masks
