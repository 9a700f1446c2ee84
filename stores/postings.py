"""Postings: which keyframes saw each surfel, appended in constant time, answered as CSR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.kernels.columns import grow


class Postings:
    """Per surfel a chain of entries (keyframe, previous entry); any device, no rebuild ever.

    An entry costs 8 bytes. Heads are -1 for surfels that no keyframe saw.
    """

    def __init__(self, device: torch.device) -> None:
        empty = torch.zeros(0, dtype=torch.int32, device=device)
        self._head, self._keyframe, self._previous = empty, empty.clone(), empty.clone()
        self._count = 0

    def append(self, keyframe: int, surfels: Int[Tensor, " n"]) -> None:
        """Note that a keyframe saw these surfels (distinct, >= 0)."""
        if not len(surfels):
            return
        n = len(surfels)
        self._head = grow(self._head, int(surfels.max()) + 1, fill=-1)
        self._keyframe = grow(self._keyframe, self._count + n)
        self._previous = grow(self._previous, self._count + n)
        new = slice(self._count, self._count + n)
        self._keyframe[new] = keyframe
        self._previous[new] = self._head[surfels]
        self._head[surfels] = torch.arange(
            self._count, self._count + n, dtype=torch.int32, device=surfels.device
        )
        self._count += n

    def seen(self, surfels: Int[Tensor, " n"]) -> Tensor:
        """[n] bool: some keyframe saw it."""
        return self._heads(surfels) >= 0

    def of(self, surfels: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n1"], Int[Tensor, " m"]]:
        """CSR offsets [n + 1] and keyframes [m], within each surfel in the order of their appending."""
        entry = self._heads(surfels)
        rows, keyframes = [], []
        row = torch.arange(len(surfels), device=surfels.device)
        while True:
            alive = entry >= 0
            if not bool(alive.any()):
                break
            row, entry = row[alive], entry[alive]
            rows.append(row)
            keyframes.append(self._keyframe[entry].long())
            entry = self._previous[entry].long()
        offsets = torch.zeros(len(surfels) + 1, dtype=torch.long, device=surfels.device)
        if not rows:
            return offsets, offsets[:0]
        offsets[1:] = torch.bincount(torch.cat(rows), minlength=len(surfels)).cumsum(0)
        out = torch.empty(int(offsets[-1]), dtype=torch.long, device=surfels.device)
        for step, (row, keyframe) in enumerate(zip(rows, keyframes, strict=True)):
            out[offsets[row + 1] - 1 - step] = keyframe  # chains run from the latest backwards
        return offsets, out

    def _heads(self, surfels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        known = (surfels >= 0) & (surfels < len(self._head))
        heads = torch.full_like(surfels, -1)
        heads[known] = self._head[surfels[known]].long()
        return heads

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint."""
        return {
            "posting_head": self._head.cpu().numpy(),
            "posting_keyframe": self._keyframe[: self._count].cpu().numpy(),
            "posting_previous": self._previous[: self._count].cpu().numpy(),
        }

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> Postings:
        """Inverse of :meth:`arrays`."""
        postings = cls(device)
        postings._head, postings._keyframe, postings._previous = (
            torch.tensor(arrays[f"posting_{name}"], device=device)
            for name in ("head", "keyframe", "previous")
        )
        postings._count = len(postings._keyframe)
        return postings
