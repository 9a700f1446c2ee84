"""Known free space: where views looked through, so that a render is not believed through walls that nobody saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.arrays import ArraySchema, require
from spmem.camera import LARGEST
from spmem.kernels.hashing import FREE, find, scattered
from spmem.kernels.jit import njit
from spmem.kernels.threads import Turns, claimed, shared
from spmem.limits import FINEST
from spmem.parts.cache import ViewCache
from spmem.protocols import Arrays, PartContext
from spmem.retrieval.indices.voxels import SEED, voxel_key
from spmem.retrieval.visibility.exact import cells, stride_of
from spmem.retrieval.visibility.walls import WALLS, walls
from spmem.types import Projection
from spmem.views import THUMB, Views

EDGE = 0.15
"""Edge of the free-space voxels, as a share of the median depth of the first view."""

STRIDE = 2
"""Every second pixel of every second row of a thumbnail marks free space: its rays lie closer than voxels."""

BEYOND = 2
"""Unseen space that begins behind seen space counts so many times: a wall may stand there, since nobody looked past it,
while a camera that stands in unseen space has at least nothing before its eyes."""

STEPS = 256
"""A ray is followed over so many steps of half a voxel at most."""

FAR = STEPS
WIDE = 2 * FAR
"""Voxels, along each axis, around a camera, of which no ray leaves those in the middle: it is ``STEPS`` halves at most."""

BITS = 2
"""Voxels lie in the table block by block, ``1 << BITS`` along each axis, since rays go from one to the next."""

NEXT = (1 << 3 * BITS) + 1
"""How much further a voxel is sought whose place is taken: its block's others move as far, and odd steps reach all."""

WITHIN, TOP = np.uint64((1 << 3 * BITS) - 1), np.uint64(1 << 63)

BATCH = 256
"""Views noted at once; bounds the memory that their voxels take."""

SCHEMA = {
    "edge": ArraySchema("float64", "1", least=0, most=LARGEST),
    "depths": ArraySchema("float64", "views", least=0, most=LARGEST),
    "through": ArraySchema("uint64", "voxels", least=1),
    "looks": ArraySchema("int32", "voxels", least=1),
}
"""What the arrays that are kept must be before kernels look into them."""

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
U64: TypeAlias = NDArray[np.uint64]


class KnownFreeSpace:
    """Voxels that views looked through, and how many did, so that a view can be taken out again.

    A map of surfaces is transparent where nobody looked: seen from an unknown room, the known room next door shows
    through the wall between. The longer a ray runs through space that no view saw to be empty, the less likely is what
    it meets to be what is there; ``python -m spmem.evaluation.calibration`` measures how well that tells. Occupancy grids tell
    the three states apart (free, occupied, unknown: Hornung et al. 2013, OctoMap, section 3); here the map of surfels
    has the occupied, and this set the free space.

    Args:
        reach: How long a ray may run through unseen space, in median depths of the views; None believes everything.
    """

    def __init__(self, reach: float | None = 1.0) -> None:
        self._reach = reach
        self._edge = 0.0
        self._depths = np.zeros(0)  # the views' median depths, ascending
        self._table, self._used = np.zeros(1 << 12, np.uint64), 0
        self._looks = np.zeros(1 << 12, np.int32)

    def observe(self, views: Views, rows: slice) -> None:
        """Note what these rows looked through."""
        self._note(views, np.arange(len(views))[rows], 1)

    def forget(self, views: Views, rows: I64) -> None:
        """Take back what these rows, as they are, were observed to look through."""
        self._note(views, rows, -1)

    def _note(self, views: Views, rows: I64, times: int) -> None:
        for row in rows if self._edge == 0 else ():
            known = views.depth[row][views.depth[row] > 0]
            if len(known):
                self._edge = EDGE * float(np.median(known))
                break
        for part in np.split(rows, range(BATCH, len(rows), BATCH)) if self._edge else ():
            depth, K, c2w = views.depth[part], views.K[part], views.c2w[part]
            shared(_fill_holes, len(part), 20.0)(views.depth, part, depth)
            starts = np.concatenate([[0], np.cumsum(_steps(depth, K, self._edge))])
            keys, counts = np.empty(starts[-1], np.uint64), np.zeros(len(part), np.int64)
            medians = np.zeros(len(part))
            shared(_look_through, len(part), 200.0)(
                depth, K, c2w, self._edge, starts, keys, counts, medians
            )
            medians = np.sort(medians[medians > 0])
            at = np.searchsorted(self._depths, medians)
            if times > 0:
                self._depths = np.insert(self._depths, at, medians)
            else:
                at += np.arange(len(at)) - np.searchsorted(medians, medians)  # among equals
                known = np.append(self._depths, 0)[at.clip(max=len(self._depths))] == medians
                self._depths = np.delete(self._depths, at[known])
            self._table, self._looks, self._used = _post(
                self._table, self._looks, self._used, keys, starts, counts, times
            )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that was noted, for a cache."""
        seen = self._looks > 0
        return {
            "edge": np.array([self._edge]),
            "depths": self._depths,
            "through": self._table[seen],
            "looks": self._looks[seen],
        }

    @classmethod
    def restore(
        cls, arrays: Mapping[str, NDArray[Any]], reach: float | None = 1.0
    ) -> KnownFreeSpace:
        """Inverse of :meth:`arrays`.

        Raises:
            ValueError: Arrays that no free space gives.
        """
        require(arrays, SCHEMA)
        edge, depths, key, looks = (arrays[name] for name in SCHEMA)
        sorted_ = bool((depths > 0).all() and (np.diff(depths) >= 0).all())
        if not sorted_ or (edge[0] < FINEST and bool(len(depths) or edge[0] or len(key))):
            raise ValueError("the cached free space does not fit together")
        free = cls(reach)
        free._edge, free._depths = float(edge[0]), depths.copy()
        free._table = np.zeros(1 << max(12, int(2 * len(key)).bit_length()), np.uint64)
        free._looks, free._used = np.zeros(len(free._table), np.int32), len(key)
        if not _fill(free._table, free._looks, key, looks):
            raise ValueError("the cached free space does not fit together: a voxel comes twice")
        return free

    def believed(self, projection: Projection) -> Projection:
        """The projection, not covering what is seen through more unseen space than ``reach``; depth and colour stay.

        Beside surfaces that are seen from behind unseen space counts more (:mod:`spmem.retrieval.visibility.walls`).
        """
        if not len(self._depths) or self._reach is None:
            return projection
        n = len(self._depths)
        limit = self._reach * float(self._depths[(n - 1) // 2] + self._depths[n // 2]) / 2
        lengths, stride = self._lengths(projection)
        lengths *= 1 + WALLS * walls(projection, stride)
        near = _near(projection.mask.cpu().numpy(), lengths, stride, limit)
        return replace(projection, mask=torch.from_numpy(near).to(projection.mask.device))

    def unseen(self, projection: Projection) -> Float[Tensor, "t h w"]:
        """World units of unseen space before what each pixel shows; 0 where it shows nothing.

        What lies behind seen space counts twice (``BEYOND``).

        Followed for one pixel of each cell of a grid (as :func:`spmem.retrieval.visibility.exact.visible_points` does), and
        interpolated between them.
        """
        lengths, stride = self._lengths(projection)
        h, w = projection.mask.shape[1:]
        coarse = torch.from_numpy(lengths).to(projection.depth.device)[:, None]
        fine = torch.nn.functional.interpolate(coarse, scale_factor=float(stride), mode="bilinear")
        rest = (0, max(w - fine.shape[3], 0), 0, max(h - fine.shape[2], 0))  # less than a cell
        return torch.nn.functional.pad(fine, rest, mode="replicate")[:, 0, :h, :w]

    def _lengths(self, projection: Projection) -> tuple[F32, int]:
        """World units of unseen space for the samples, and how many pixels they are apart."""
        t, h, w = projection.mask.shape
        stride = stride_of(t, h, w)
        y, x = cells(h, stride)[0], cells(w, stride)[0]
        depth = projection.depth[:, y[0] :: stride, x[0] :: stride].cpu().numpy()
        K, c2w = (part.cpu().double().numpy() for part in (projection.cameras.K, projection.cameras.c2w))  # fmt: skip
        lengths = np.zeros(depth.shape, np.float32)
        shared(_unseen, t * len(y), 0.15 * len(x))(
            self._table, self._looks, depth, K, c2w, y, x, self._edge, lengths
        )
        return lengths, stride


class FreeSpace(ViewCache[KnownFreeSpace]):
    """Known free space as a part of a memory, which filters what it renders.

    A :class:`spmem.protocols.Part` and :class:`spmem.protocols.ProjectionFilter`. Nothing is kept if
    ``config.retrieval.reach`` is None: then nobody asks.
    """

    def __init__(self, context: PartContext) -> None:
        self._reach = context.config.retrieval.reach
        super().__init__("free", KnownFreeSpace(self._reach), context.views)

    def believed(self, projection: Projection) -> Projection:
        """The projection, not covering what is seen through more unseen space than ``reach``."""
        return projection if self._reach is None else self.current().believed(projection)

    def to_arrays(self, views: Views) -> Arrays | None:
        """What the views looked through."""
        return None if self._reach is None else self.current().arrays()

    def from_arrays(self, arrays: Arrays, ids: I64) -> KnownFreeSpace:
        """What was looked through."""
        return KnownFreeSpace.restore(arrays, self._reach)


@njit()
def _fill_holes(turns: Turns, depth: F32, rows: I64, whole: F32) -> None:
    """How far each pixel of ``whole``, which is ``depth[rows]``, surely looked.

    If it has no depth, that is as far as the nearest one beside it that has. Beside it are four, in its row and in its
    column, and the least of their depths counts.
    """
    for i in claimed(turns):
        given = depth[rows[i]]
        for flip in range(2):
            of, to = (given.T, whole[i].T) if flip else (given, whole[i])
            for y in range(of.shape[0]):
                for step in (1, -1):
                    last = np.float32(0)
                    for n in range(of.shape[1]):
                        x = n if step > 0 else of.shape[1] - 1 - n
                        if of[y, x] > 0:
                            last = of[y, x]
                        elif last > 0 and (to[y, x] == 0 or last < to[y, x]):
                            to[y, x] = last


def _steps(depth: F32, K: F32, edge: float) -> I64:
    """How many steps of half a voxel the rays of each view take at most."""
    near = np.s_[STRIDE // 2 :: STRIDE]
    depth = depth[:, near, near]
    y, x = np.mgrid[: THUMB[0], : THUMB[1]][:, near, near] + 0.5
    right = (x - K[:, 0, 2, None, None]) / K[:, 0, 0, None, None]
    down = (y - K[:, 1, 2, None, None]) / K[:, 1, 1, None, None]
    steps = 2 / edge * depth * np.sqrt(right**2 + down**2 + 1)
    whole: I64 = (steps.clip(max=STEPS) + 2).sum((1, 2)).astype(np.int64)
    return whole


@njit()
def _look_through(
    turns: Turns, depth: F32, K: F32, c2w: F32, edge: float, starts: I64, keys: U64, counts: I64, medians: F64
) -> None:  # fmt: skip
    """The voxels that each view looked through, each once, how many they are, and the view's median depth (0 = none).

    Those of the i-th view begin at ``starts[i]``.
    """
    for i in claimed(turns):
        medians[i] = _median(depth[i])
        counts[i] = _of_view(depth[i], K[i], c2w[i], edge, keys[starts[i] : starts[i + 1]])


@njit()
def _median(depth: F32) -> float:
    flat = depth.ravel()
    known = flat[flat > 0]
    return float(np.median(known)) if len(known) else 0.0


@njit()
def _of_view(depth: F32, K: F32, c2w: F32, edge: float, keys: U64) -> int:
    pose, size, found = c2w.astype(np.float64), 1 << 10, 0
    base = np.floor(pose[:3, 3] / edge)
    eye = pose[:3, 3] / edge - base + FAR
    # What was found: cells around the camera packed into one number, and a table of them.
    packed, table = np.empty(len(keys), np.int64), np.zeros(size, np.uint64)
    for y in range(STRIDE // 2, depth.shape[0], STRIDE):
        for x in range(STRIDE // 2, depth.shape[1], STRIDE):
            right, down = (x + 0.5 - K[0, 2]) / K[0, 0], (y + 0.5 - K[1, 2]) / K[1, 1]
            long = np.sqrt(right * right + down * down + 1.0)
            step = edge / 2 / long
            last = min(depth[y, x] - edge / long, STEPS * step)  # not the surface's own voxel
            dx = (pose[0, 0] * right + pose[0, 1] * down + pose[0, 2]) / edge
            dy = (pose[1, 0] * right + pose[1, 1] * down + pose[1, 2]) / edge
            dz = (pose[2, 0] * right + pose[2, 1] * down + pose[2, 2]) / edge
            z, before = 0.0, -1
            while z < last:
                i, j, k = int(eye[0] + dx * z), int(eye[1] + dy * z), int(eye[2] + dz * z)
                cell = (i * WIDE + j) * WIDE + k
                z += step
                if cell == before:
                    continue
                before = cell
                key = np.uint64(cell + 1)
                at = find(table, key, scattered(key), 1)
                if table[at] != FREE:
                    continue
                table[at], packed[found] = key, cell
                found += 1
                if 2 * found > size:
                    size *= 2
                    table = np.zeros(size, np.uint64)
                    for n in range(found):
                        key = np.uint64(packed[n] + 1)
                        table[find(table, key, scattered(key), 1)] = key
    x, y, z = int(base[0]) - FAR, int(base[1]) - FAR, int(base[2]) - FAR
    for n in range(found):
        i, j, k = packed[n] // (WIDE * WIDE), packed[n] // WIDE % WIDE, packed[n] % WIDE
        keys[n] = _block(x + i, y + j, z + k) | _within(x + i, y + j, z + k)
    return found


@njit()
def _block(i: int, j: int, k: int) -> np.uint64:
    """The hash of the block that a voxel is of, with room below for the voxel's number in it; never 0."""
    key = voxel_key(np.float64(i >> BITS), np.float64(j >> BITS), np.float64(k >> BITS), SEED)
    return (key | TOP) & ~WITHIN


@njit()
def _within(i: int, j: int, k: int) -> np.uint64:
    """The number of a voxel in its block."""
    edge = (1 << BITS) - 1
    return np.uint64((((i & edge) << BITS | (j & edge)) << BITS) | (k & edge))


@njit()
def _post(
    table: U64, looks: I32, used: int, keys: U64, starts: I64, counts: I64, times: int
) -> tuple[U64, I32, int]:
    for i in range(len(counts)):
        for n in range(starts[i], starts[i] + counts[i]):
            at = _find(table, keys[n])
            if table[at] == 0:
                table[at] = keys[n]
                used += 1
                if 2 * used > len(table):
                    table, looks = _wider(table, looks)
                    at = _find(table, keys[n])
            looks[at] += times
    return table, looks, used


@njit()
def _fill(table: U64, looks: I32, keys: U64, counts: I32) -> bool:
    """Whether each key came once. (Telling so by np.unique would take a second for a million.)"""
    for i in range(len(keys)):
        at = _find(table, keys[i])
        if table[at] != 0:
            return False
        table[at], looks[at] = keys[i], counts[i]
    return True


@njit()
def _unseen(
    turns: Turns, table: U64, looks: I32, depth: F32, K: F64, c2w: F64, y: I64, x: I64, edge: float, lengths: F32
) -> None:  # fmt: skip
    """World units of unseen space before the samples ``lengths`` [t, h, w], a row of samples a turn."""
    for turn in claimed(turns):
        t, i = turn // len(y), turn % len(y)
        ox, oy, oz = c2w[t, 0, 3] / edge, c2w[t, 1, 3] / edge, c2w[t, 2, 3] / edge
        for j in range(len(x)):
            right = (x[j] + 0.5 - K[t, 0, 2]) / K[t, 0, 0]
            down = (y[i] + 0.5 - K[t, 1, 2]) / K[t, 1, 1]
            long = np.sqrt(right * right + down * down + 1.0)
            dx = (c2w[t, 0, 0] * right + c2w[t, 0, 1] * down + c2w[t, 0, 2]) / edge
            dy = (c2w[t, 1, 0] * right + c2w[t, 1, 1] * down + c2w[t, 1, 2]) / edge
            dz = (c2w[t, 2, 0] * right + c2w[t, 2, 1] * down + c2w[t, 2, 2]) / edge
            last = depth[t, i, j] - edge / long
            step = max(edge / 2 / long, last / STEPS)
            z, unseen, counts = step / 2, 0, 1
            bi, bj, bk, block = 0, 0, 0, np.uint64(0)
            while z < last:
                vx, vy, vz = int(np.floor(ox + dx * z)), int(np.floor(oy + dy * z)), int(np.floor(oz + dz * z))  # fmt: skip
                if block == 0 or vx >> BITS != bi or vy >> BITS != bj or vz >> BITS != bk:
                    bi, bj, bk, block = vx >> BITS, vy >> BITS, vz >> BITS, _block(vx, vy, vz)
                if looks[_find(table, block | _within(vx, vy, vz))] == 0:
                    unseen += counts
                else:
                    counts = BEYOND
                z += step
            lengths[t, i, j] = unseen * step * long


@njit()
def _near(mask: NDArray[np.bool_], lengths: F32, stride: int, limit: float) -> NDArray[np.bool_]:
    """The mask, without the pixels whose length, interpolated between the samples, is more than the limit."""
    near = np.zeros(mask.shape, np.bool_)
    t, h, w = mask.shape
    rows, columns = lengths.shape[1:]
    left, across = _between(w, columns, stride)
    top, down = _between(h, rows, stride)
    for line in range(t * h):
        i, y = line // h, line % h
        one, other = lengths[i, top[y]], lengths[i, min(top[y] + 1, rows - 1)]
        mixed = one + down[y] * (other - one)
        for x in range(w):
            if mask[i, y, x]:
                a, b = mixed[left[x]], mixed[min(left[x] + 1, columns - 1)]
                near[i, y, x] = a + across[x] * (b - a) <= limit
    return near


@njit()
def _between(pixels: int, samples: int, stride: int) -> tuple[I64, F32]:
    """For each pixel the sample before it, and how far it is towards the next one: 0..1."""
    at = (np.minimum(np.arange(pixels), samples * stride - 1) + 0.5) / stride - 0.5
    before = np.floor(at.clip(0, samples - 1)).astype(np.int64)
    return before, (at.clip(0, samples - 1) - before).astype(np.float32)


@njit()
def _find(table: U64, key: np.uint64) -> np.int64:
    """Where a voxel is in the table, or would be; its key is a hash already."""
    return find(table, key, np.int64(key), NEXT)


@njit()
def _wider(table: U64, looks: I32) -> tuple[U64, I32]:
    wider, more = np.zeros(2 * len(table), np.uint64), np.zeros(2 * len(table), np.int32)
    for i in range(len(table)):
        if table[i] != 0:
            at = _find(wider, table[i])
            wider[at], more[at] = table[i], looks[i]
    return wider, more
