"""Which keyframes may be answered: by time, by place, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spmem.arguments import keyframe_ids, span
from spmem.errors import InputError
from spmem.kernels.jit import njit
from spmem.kernels.threads import Turns, claimed, shared
from spmem.views import Views

Corner: TypeAlias = Sequence[float]


@dataclass(frozen=True)
class Where:
    """A restriction of what is searched; its parts hold together.

    time: Keyframes of these seconds, both ends included; None at an end leaves it open.
    region: Keyframes that saw a surface within the box between two corners (low, high), world units and axes.
    exclude: Keyframe ids that may not be answered.

    Raises:
        InputError: A span that ends before it begins, corners that are not three finite numbers, low above high, ids that
            are no whole numbers.

    Example:
        >>> Where(time=(60, None), region=((0, -2, 0), (4, 0, 3))).time
        (60, None)
    """

    time: tuple[float | None, float | None] = (None, None)
    region: tuple[Corner, Corner] | None = None
    exclude: Sequence[int] = ()

    def __post_init__(self) -> None:
        span(self.time, "where.time")
        object.__setattr__(self, "exclude", tuple(keyframe_ids(self.exclude).tolist()))
        if self.region is not None:
            try:
                box = np.array([list(corner) for corner in self.region], np.float64)
            except (TypeError, ValueError):
                box = np.empty(0)
            if box.shape != (2, 3) or not np.isfinite(box).all() or (box[0] > box[1]).any():
                raise InputError(
                    f"where.region is (low, high), corners of x, y and z with low <= high, got {self.region}"
                )

    def hides(self, views: Views) -> NDArray[np.int64]:
        """The ids of the views that it leaves out."""
        start, end = self.time
        if not self.exclude and start is None and end is None and self.region is None:
            return views.ids[:0]
        out = np.isin(views.ids, np.array(self.exclude, np.int64))
        if start is not None:
            out |= views.times < start
        if end is not None:
            out |= views.times > end
        if self.region is not None:
            open_ = np.flatnonzero(~out)
            low, high = (np.asarray(corner, np.float64) for corner in self.region)
            saw = np.zeros(len(open_), np.bool_)
            shared(_saw_within, len(open_), 10.0)(
                views.K, views.c2w, views.depth, open_, low, high, saw
            )
            out[open_] = ~saw
        return views.ids[out]


@njit()
def _saw_within(
    turns: Turns,
    K: NDArray[np.float32],
    c2w: NDArray[np.float32],
    depth: NDArray[np.float32],
    rows: NDArray[np.int64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    saw: NDArray[np.bool_],
) -> None:
    for i in claimed(turns):
        v = rows[i]
        for y in range(depth.shape[1]):
            if saw[i]:
                break
            for x in range(depth.shape[2]):
                z = depth[v, y, x]
                if z <= 0:
                    continue
                right = (x + 0.5 - K[v, 0, 2]) / K[v, 0, 0] * z
                down = (y + 0.5 - K[v, 1, 2]) / K[v, 1, 1] * z
                within = True
                for axis in range(3):
                    at = c2w[v, axis, 0] * right + c2w[v, axis, 1] * down + c2w[v, axis, 2] * z
                    at += c2w[v, axis, 3]
                    within &= low[axis] <= at <= high[axis]
                if within:
                    saw[i] = True
                    break
