"""Known free space: where views looked through, so that a render is not believed through walls that nobody saw."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.kernels.jit import njit, prange
from spmem.retrieval.views import Views
from spmem.retrieval.visibility import cells, stride_of
from spmem.retrieval.voxels import SEED, voxel_key
from spmem.types import Projection

EDGE = 0.15
"""Edge of the free-space voxels, as a share of the median depth of the first view."""

STRIDE = 2
"""Every second pixel of every second row of a thumbnail marks free space: its rays lie closer than voxels."""

BEYOND = 4
"""Unseen space that begins behind seen space counts so many times: a wall may stand there, since nobody looked past it,
while a camera that stands in unseen space has at least nothing before its eyes."""

STEPS = 256
"""A ray is followed over so many steps of half a voxel at most."""

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
U64: TypeAlias = NDArray[np.uint64]


class FreeSpace:
    """Voxels that views looked through, and how often, so that a view can be taken out again.

    A map of surfaces is transparent where nobody looked: seen from an unknown room, the known room next door shows
    through the wall between. The longer a ray runs through space that no view saw to be empty, the less likely is what
    it meets to be what is there; ``python -m spmem.bench.calibration`` measures how well that tells. Occupancy grids tell
    the three states apart (free, occupied, unknown: Hornung et al. 2013, OctoMap, section 3); here the map of surfels
    has the occupied, and this set the free space.

    Args:
        reach: How long a ray may run through unseen space, in median depths of the views; None believes everything.
    """

    def __init__(self, reach: float | None = 1.0) -> None:
        self._reach = reach
        self._edge = 0.0
        self._depths: list[float] = []  # ascending
        self._table, self._used = np.zeros(1 << 12, np.uint64), 0
        self._looks = np.zeros(1 << 12, np.int32)

    def observe(self, views: Views, rows: slice) -> None:
        """Note what these rows looked through."""
        for row in range(*rows.indices(len(views))):
            self._note(views, row, 1)

    def forget(self, views: Views, rows: I64) -> None:
        """Take back what these rows, as they are, were observed to look through."""
        for row in rows.tolist():
            self._note(views, row, -1)

    def _note(self, views: Views, row: int, times: int) -> None:
        depth = views.depth[row]
        known = depth[depth > 0]
        if not len(known):
            return
        median = float(np.median(known))
        self._edge = self._edge or EDGE * median
        if times > 0:
            insort(self._depths, median)
        else:
            self._depths.pop(bisect_left(self._depths, median))
        self._table, self._looks, self._used = _mark(
            self._table, self._looks, self._used, depth, views.K[row], views.c2w[row], self._edge, times
        )  # fmt: skip

    def believed(self, projection: Projection) -> Projection:
        """The projection, not covering what is seen through more unseen space than ``reach``; depth and colour stay."""
        if not self._depths or self._reach is None:
            return projection
        n = len(self._depths)
        limit = self._reach * (self._depths[(n - 1) // 2] + self._depths[n // 2]) / 2
        return replace(projection, mask=projection.mask & (self.unseen(projection) <= limit))

    def unseen(self, projection: Projection) -> Float[Tensor, "t h w"]:
        """World units of unseen space before what each pixel shows; 0 where it shows nothing.

        What lies behind seen space counts four times (``BEYOND``).

        Followed for one pixel of each cell of a grid (as :func:`spmem.retrieval.visibility.visible_points` does), and
        interpolated between them.
        """
        t, h, w = projection.mask.shape
        stride = stride_of(t, h, w)
        y, x = cells(h, stride)[0], cells(w, stride)[0]
        depth = projection.depth[:, y][:, :, x].cpu().numpy()
        K, c2w = (part.cpu().double().numpy() for part in (projection.cameras.K, projection.cameras.c2w))  # fmt: skip
        lengths = _unseen(self._table, self._looks, depth, K, c2w, y, x, self._edge)
        coarse = torch.from_numpy(lengths).to(projection.depth.device)[:, None]
        fine = torch.nn.functional.interpolate(coarse, scale_factor=float(stride), mode="bilinear")
        rest = (0, max(w - fine.shape[3], 0), 0, max(h - fine.shape[2], 0))  # less than a cell
        return torch.nn.functional.pad(fine, rest, mode="replicate")[:, 0, :h, :w]


@njit()
def _mark(
    table: U64, looks: I32, used: int, depth: F32, K: F32, c2w: F32, edge: float, times: int
) -> tuple[U64, I32, int]:
    for y in range(STRIDE // 2, depth.shape[0], STRIDE):
        for x in range(STRIDE // 2, depth.shape[1], STRIDE):
            right, down = (x + 0.5 - K[0, 2]) / K[0, 0], (y + 0.5 - K[1, 2]) / K[1, 1]
            long = np.sqrt(right * right + down * down + 1.0)
            step = edge / 2 / long
            last = min(
                depth[y, x] - edge / long, STEPS * step
            )  # the surface's own voxel is not free
            z = 0.0
            while z < last:
                key = _voxel(c2w, right * z, down * z, z, edge)
                at = _find(table, key)
                if table[at] == 0:
                    table[at] = key
                    used += 1
                    if 2 * used > len(table):
                        table, looks = _wider(table, looks)
                        at = _find(table, key)
                looks[at] += times
                z += step
    return table, looks, used


@njit(parallel=True)
def _unseen(
    table: U64, looks: I32, depth: F32, K: F64, c2w: F64, y: I64, x: I64, edge: float
) -> NDArray[np.float32]:
    lengths = np.zeros(depth.shape, np.float32)
    for t in range(len(depth)):
        for i in prange(len(y)):
            for j in range(len(x)):
                right = (x[j] + 0.5 - K[t, 0, 2]) / K[t, 0, 0]
                down = (y[i] + 0.5 - K[t, 1, 2]) / K[t, 1, 1]
                long = np.sqrt(right * right + down * down + 1.0)
                last = depth[t, i, j] - edge / long
                step = max(edge / 2 / long, last / STEPS)
                z, unseen, counts = step / 2, 0, 1
                while z < last:
                    key = _voxel(c2w[t], right * z, down * z, z, edge)
                    if looks[_find(table, key)] == 0:
                        unseen += counts
                    else:
                        counts = BEYOND
                    z += step
                lengths[t, i, j] = unseen * step * long
    return lengths


@njit()
def _voxel(c2w: F32 | F64, x: float, y: float, z: float, edge: float) -> np.uint64:
    """The key of the voxel at a point in camera axes."""
    px = c2w[0, 0] * x + c2w[0, 1] * y + c2w[0, 2] * z + c2w[0, 3]
    py = c2w[1, 0] * x + c2w[1, 1] * y + c2w[1, 2] * z + c2w[1, 3]
    pz = c2w[2, 0] * x + c2w[2, 1] * y + c2w[2, 2] * z + c2w[2, 3]
    return voxel_key(np.floor(px / edge), np.floor(py / edge), np.floor(pz / edge), SEED)


@njit()
def _find(table: U64, key: np.uint64) -> np.int64:
    last = len(table) - 1
    at = np.int64(key >> np.uint64(8)) & last
    while table[at] != 0 and table[at] != key:
        at = (at + 1) & last
    return at


@njit()
def _wider(table: U64, looks: I32) -> tuple[U64, I32]:
    wider, more = np.zeros(2 * len(table), np.uint64), np.zeros(2 * len(table), np.int32)
    for i in range(len(table)):
        if table[i] != 0:
            at = _find(wider, table[i])
            wider[at], more[at] = table[i], looks[i]
    return wider, more
