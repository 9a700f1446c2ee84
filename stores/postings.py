"""Postings: which keyframes saw each surfel, appended in constant time, answered as CSR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.kernels.columns import grow
from spmem.kernels.jit import njit

I32 = NDArray[np.int32]


@njit()
def link(
    surfels: NDArray[np.int64], name: int, head: I32, keyframe: I32, previous: I32, count: int
) -> int:
    """Add an entry for each surfel (-1 = none) whose latest is not of this keyframe; how many there are then."""
    for surfel in surfels:
        if surfel < 0 or (head[surfel] >= 0 and keyframe[head[surfel]] == name):
            continue
        keyframe[count], previous[count], head[surfel] = name, head[surfel], count
        count += 1
    return count


@njit()
def follow(
    surfels: NDArray[np.int64], head: I32, keyframe: I32, previous: I32
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The keyframes of the surfels' chains as CSR, earliest first; a surfel that has none may be -1, or too new."""
    entry, offsets = np.empty(len(surfels), np.int32), np.zeros(len(surfels) + 1, np.int64)
    for i in range(len(surfels)):
        known = 0 <= surfels[i] < len(head)
        entry[i] = head[surfels[i]] if known else -1
        length, at = 0, entry[i]
        while at >= 0:
            length, at = length + 1, previous[at]
        offsets[i + 1] = offsets[i] + length
    keyframes = np.empty(offsets[-1], np.int64)
    for i in range(len(surfels)):
        place, at = offsets[i + 1], entry[i]
        while at >= 0:
            place -= 1
            keyframes[place], at = keyframe[at], previous[at]
    return offsets, keyframes


class Postings:
    """Per surfel a chain of entries (keyframe, previous entry); any device, no rebuild ever.

    An entry costs 8 bytes. Heads are -1 for surfels that no keyframe saw.
    """

    def __init__(self, device: torch.device) -> None:
        empty = torch.zeros(0, dtype=torch.int32, device=device)
        self._head, self._keyframe, self._previous = empty, empty.clone(), empty.clone()
        self._count = 0

    def append(self, keyframe: int, surfels: Int[Tensor, " n"]) -> None:
        """Note that a keyframe saw these surfels; -1 and repetitions are skipped. Keyframes come in ascending order."""
        if surfels.device.type != "cpu":
            surfels = torch.unique(surfels[surfels >= 0])
        if not len(surfels) or int(surfels.max()) < 0:
            return
        room = self._count + len(surfels)
        self._head = grow(self._head, int(surfels.max()) + 1, fill=-1)
        self._keyframe = grow(self._keyframe, room)
        self._previous = grow(self._previous, room)
        if surfels.device.type == "cpu":
            head, names, previous = (
                part.numpy() for part in (self._head, self._keyframe, self._previous)
            )
            self._count = link(surfels.numpy(), keyframe, head, names, previous, self._count)
            return
        new = slice(self._count, room)
        self._keyframe[new] = keyframe
        self._previous[new] = self._head[surfels]
        self._head[surfels] = torch.arange(*new.indices(room)[:2], dtype=torch.int32, device=surfels.device)  # fmt: skip
        self._count = room

    def seen(self, surfels: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Whether some keyframe saw it; False for -1."""
        return self._heads(surfels) >= 0

    def of(self, surfels: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n1"], Int[Tensor, " m"]]:
        """CSR offsets [n + 1] and keyframes [m], within each surfel in the order of their appending."""
        if surfels.device.type == "cpu":
            chains = (part.numpy() for part in (self._head, self._keyframe, self._previous))
            offsets, keyframes = follow(surfels.numpy(), *chains)
            return torch.from_numpy(offsets), torch.from_numpy(keyframes)
        return self.of_plain(surfels)

    def of_plain(self, surfels: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n1"], Int[Tensor, " m"]]:
        """What :meth:`of` answers, all chains a step at a time: torch, on any device."""
        entry, n = self._heads(surfels), len(surfels)
        rows, keyframes = [], []
        row = torch.arange(n, device=entry.device)
        while True:
            alive = entry >= 0
            if not bool(alive.any()):
                break
            row, entry = row[alive], entry[alive]
            rows.append(row)
            keyframes.append(self._keyframe[entry].long())
            entry = self._previous[entry].long()
        offsets = torch.zeros(n + 1, dtype=torch.long, device=entry.device)
        if not rows:
            return offsets, offsets[:0]
        offsets[1:] = torch.bincount(torch.cat(rows), minlength=n).cumsum(0)
        out = torch.empty(int(offsets[-1]), dtype=torch.long, device=entry.device)
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
