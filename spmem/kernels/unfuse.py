"""Taking frames back out of columns of surfels, with the kernels of the device that they live on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from spmem.kernels import unfuse_torch
from spmem.kernels.columns import Columns
from spmem.kernels.fuse import prepare
from spmem.kernels.fuse_torch import Fusing
from spmem.kernels.raster import kernel_for
from spmem.types import Frame

STEADY = 4.0
"""What is taken back moves a surfel by at most so many times the distance at which it was seen."""


class Unfusing:
    """What frames gave to surfels, summed up frame by frame, and then taken back at once.

    At once, because the frames' weights together say how much of each surfel is others'. Columns change in
    :meth:`take` only.

    Args:
        columns: Of the map.
        rows: Per frame the rows of the surfels that it may have given to, each once.
        count: How many frames saw each of given rows; those that no other frame saw go.
        kernel: ``numba`` (the default on CPU), else torch; both compute what :mod:`spmem.kernels.unfuse_torch` says.
    """

    def __init__(
        self,
        columns: Columns,
        rows: Sequence[Int[Tensor, " r"]],
        count: Callable[[Int[Tensor, " s"]], Int[Tensor, " s"]],
        *,
        kernel: str | None = None,
    ) -> None:
        self._columns, self._fast = columns, kernel_for(columns.device, kernel) == "numba"
        times = torch.zeros(columns.n, dtype=torch.int32, device=columns.device)
        for some in rows:
            times[some] += 1
        seen = ((times > 0) & (columns.confidence > 0)).nonzero()[:, 0]
        others = count(seen) - times[seen]
        self._gone, self._rows, self._others = (
            seen[others == 0],
            seen[others > 0],
            others[others > 0],
        )
        self._place = torch.full((columns.n,), -1, device=columns.device)
        self._place[self._rows] = torch.arange(len(self._rows), device=columns.device)
        self._sums = torch.zeros(len(self._rows), unfuse_torch.SUMS, device=columns.device)
        known = columns.features
        self._features = None if known is None else known.new_zeros(len(self._rows), known.shape[1])

    def add(self, rows: Int[Tensor, " r"], frame: Frame, how: Fusing) -> None:
        """Sum up what a frame gave to surfels, each named once."""
        columns, place = self._columns, self._place
        before = self._sums[:, 1].clone() if self._features is not None else self._sums[:0, 1]
        if self._fast:
            from spmem.kernels import unfuse_numba
            from spmem.kernels.threads import shared

            ready = prepare(frame, how)
            shared(unfuse_numba.add, len(rows), 0.1)(
                columns.position.numpy(), columns.normal.numpy(), rows.numpy(), place.numpy(), ready.planes, ready.K, ready.c2w, how.merge, self._sums.numpy(),
            )  # fmt: skip
        else:
            rows = rows[place[rows] >= 0]
            self._sums[place[rows]] += unfuse_torch.read(columns, rows, frame, how)
        if self._features is not None and frame.features is not None:
            camera, weight = frame.camera, self._sums[:, 1] - before
            at, _ = camera.project(columns.position[self._rows])
            x, y = at.nan_to_num().floor().long().unbind(-1)
            x, y = x.clamp(0, camera.width - 1), y.clamp(0, camera.height - 1)
            self._features += weight[:, None] * frame.features[y, x]

    def take(self, max_confidence: float) -> None:
        """Take back what was summed up.

        What a running mean of weight c was without frames of weight w is the same mean's formula with c - w. Where
        confidence has reached its bound it no longer tells what all frames gave; c - w is then what the others gave if
        each of them gave as much as those taken back.
        """
        columns, rows, sums = self._columns, self._rows, self._sums
        columns.confidence[self._gone] = 0
        gave, before = sums[:, 0] > 0, columns.confidence[rows]
        left = torch.maximum(before - sums[:, 1], sums[:, 1] / STEADY)
        full = gave & (before >= max_confidence * (1 - 1e-6))
        like = sums[full, 1] / sums[full, 0] * self._others[full]
        left[full] = torch.maximum(left[full], like)
        if self._fast:
            from spmem.kernels import unfuse_numba

            unfuse_numba.subtract(
                rows.numpy(), sums.numpy(), left.numpy(), max_confidence,
                *(getattr(columns, name).numpy() for name in ("position", "normal", "confidence", "detail")),
            )  # fmt: skip
        else:
            unfuse_torch.subtract(columns, rows, sums, left, max_confidence)
        if self._features is not None:
            column = columns.with_features(self._features.shape[1])
            off = self._features[gave] - sums[gave, 1:2] * column[rows[gave]]
            column[rows[gave]] -= off / left[gave, None]
        columns.widen(rows)
