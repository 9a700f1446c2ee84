"""Postings: which keyframes saw each surfel, and which surfels each keyframe saw; appended in constant time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.arrays import ArraySchema, require
from spmem.kernels.chains import GONE, I32, chain, collect, link, look_up, repeats
from spmem.kernels.columns import grow, owned
from spmem.kernels.raster import kernel_for

SCHEMA = {
    "posting_surfel": ArraySchema("int32", "entries", least=0, below="surfels"),
    "posting_keyframe": ArraySchema("int32", "runs", least=0),
    "posting_start": ArraySchema("int64", "runs", least=0, below="entries", rising=True),
}
"""What postings must be before kernels follow them; runs begin at 0, and name a surfel once."""


class Postings:
    """Per surfel a chain of entries (surfel, previous entry); those of one keyframe lie in a run, so a run is its list.

    An entry costs 8 bytes, on any device, a surfel 8 more. What was dropped is passed over in the chains, and cleared
    away when it is half of all entries.

    The chains are made when they are first asked for: opening a memory to look at keyframes needs none.

    kernel: ``numba`` (the default on CPU), else torch, with the same answers.
    """

    _chained = True

    def __init__(self, device: torch.device, kernel: str | None = None) -> None:
        self._fast = kernel_for(device, kernel) == "numba"
        empty = torch.zeros(0, dtype=torch.int32, device=device)
        self._head, self._times = empty, empty.clone()  # of surfels: the latest entry, how many
        self._surfel, self._previous = empty.clone(), empty.clone()  # of entries
        self._count = self._dropped = 0
        self._names: list[int] = []
        self._starts: list[int] = []  # of the runs, each up to the next one's

    def append(self, keyframe: int, surfels: Int[Tensor, " n"]) -> None:
        """Note that a keyframe saw these surfels; -1 and repetitions are skipped."""
        if not self._fast:
            surfels = torch.unique(surfels[surfels >= 0])
        if keyframe in self._names[:-1]:  # it has an earlier run
            surfels = surfels[~torch.isin(surfels, self.saw(keyframe))]
        self._chain()
        last = int((surfels.numpy() if self._fast else surfels).max()) if len(surfels) else -1
        if last < 0:
            return
        room = self._count + len(surfels)
        self._head = grow(self._head, last + 1, fill=-1)
        self._times = grow(self._times, len(self._head))
        self._surfel = grow(self._surfel, room)
        self._previous = grow(self._previous, room)
        if not self._names or self._names[-1] != keyframe:
            self._names.append(keyframe)
            self._starts.append(self._count)
        start = self._starts[-1]
        if self._fast:
            self._count = link(
                surfels.numpy(), start, *self._chains(), self._times.numpy(), self._count
            )
            return
        surfels = surfels[self._head[surfels] < start]
        self._times[surfels] += 1
        new = slice(self._count, self._count + len(surfels))
        self._surfel[new] = surfels.int()
        self._previous[new] = self._head[surfels]
        self._head[surfels] = torch.arange(new.start, new.stop, dtype=torch.int32, device=surfels.device)  # fmt: skip
        self._count = new.stop

    def drop(self, keyframes: Iterable[int]) -> None:
        """Forget that these keyframes saw anything."""
        self._chain()
        for run in self._runs(keyframes):
            entries = slice(self._starts[run], self._stop(run))
            self._times[self._surfel[entries].long()] -= 1
            self._surfel[entries] = GONE
            self._dropped += entries.stop - entries.start
            self._names[run] = GONE
        if 2 * self._dropped > self._count:
            self._clear()

    def saw(self, keyframe: int) -> Int[Tensor, " n"]:
        """The surfels that a keyframe saw, each once."""
        runs = self._runs([keyframe])
        parts = [self._surfel[self._starts[run] : self._stop(run)] for run in runs]
        return torch.cat([self._surfel[:0], *parts]).long()

    def seen(self, surfels: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Whether some keyframe saw it; False for -1."""
        count = self.count(surfels)
        return torch.from_numpy(count.numpy() > 0) if self._fast else count > 0

    def count(self, surfels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """How many keyframes saw each; 0 for -1."""
        self._chain()
        return self._at(self._times, surfels, 0)

    def of(self, surfels: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n1"], Int[Tensor, " m"]]:
        """CSR offsets [n + 1] and keyframes [m], ascending within each surfel."""
        self._chain()
        heads, device = self._at(self._head, surfels, -1).long(), surfels.device
        names, starts = (
            torch.tensor(part, dtype=torch.long) for part in (self._names, self._starts)
        )
        offsets = torch.zeros(len(surfels) + 1, dtype=torch.long, device=device)
        offsets[1:] = self.count(surfels).cumsum(0)
        if self._fast:
            order = names.numpy(), starts.numpy(), offsets.numpy()
            return offsets, torch.from_numpy(collect(heads.numpy(), *self._chains()[1:], *order))
        return offsets, self._collect(heads, names.to(device), starts.to(device))

    def _collect(
        self, entry: Int[Tensor, " n"], names: Int[Tensor, " r"], starts: Int[Tensor, " r"]
    ) -> Int[Tensor, " m"]:
        """What :func:`collect` finds, step by step along all chains at once."""
        row = torch.arange(len(entry), device=entry.device)
        span, pairs = int(names.amax()) + 1 if len(names) else 0, [row[:0]]
        while True:
            row, entry = row[entry >= 0], entry[entry >= 0]
            if not len(entry):
                break
            found = self._surfel[entry] != GONE
            run = torch.searchsorted(starts, entry[found], right=True) - 1
            pairs.append(row[found] * span + names[run])
            entry = self._previous[entry].long()
        ordered = torch.cat(pairs).sort().values  # by surfel, then keyframe
        return ordered % max(span, 1)

    def _runs(self, keyframes: Iterable[int]) -> list[int]:
        wanted = set(keyframes) - {GONE}
        return [run for run, name in enumerate(self._names) if name in wanted]

    def _stop(self, run: int) -> int:
        return self._starts[run + 1] if run + 1 < len(self._starts) else self._count

    def _chain(self) -> None:
        """Make the chains, where only the runs were restored."""
        if self._chained:
            return
        device, surfel = self._surfel.device, self._surfel.cpu().numpy()
        head = np.full(int(surfel.max(initial=-1)) + 1, -1, np.int32)
        times, previous = np.zeros(len(head), np.int32), np.empty(len(surfel), np.int32)
        chain(surfel, head, previous, times)
        self._head, self._previous, self._times = (
            torch.from_numpy(part).to(device) for part in (head, previous, times)
        )
        self._chained = True

    def _chains(self) -> tuple[I32, I32, I32]:
        return self._head.numpy(), self._surfel.numpy(), self._previous.numpy()

    def _at(self, column: Tensor, surfels: Int[Tensor, "*b"], none: int) -> Int[Tensor, "*b"]:
        """The column's values at surfels; ``none`` where it has no row."""
        if self._fast:
            found = look_up(column.numpy(), surfels.reshape(-1).numpy(), none)
            return torch.from_numpy(found).reshape(surfels.shape)
        if not len(column):
            return torch.full_like(surfels, none)
        known = (surfels >= 0) & (surfels < len(column))
        return torch.where(known, column[surfels * known], none)

    def _living(self, entries: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Of each entry itself, or the latest before it in its chain, that was not dropped; -1 = none."""
        while True:
            known = entries.clamp(min=0)
            gone = (entries >= 0) & (self._surfel[known] == GONE)
            if not bool(gone.any()):
                return entries
            entries = torch.where(gone, self._previous[known].long(), entries)

    def _clear(self) -> None:
        """Close the gaps that dropped runs left."""
        kept = [run for run, name in enumerate(self._names) if name != GONE]
        lengths = [self._stop(run) - self._starts[run] for run in kept]
        alive = self._surfel[: self._count] != GONE
        place = alive.new_full((self._count + 1,), -1, dtype=torch.int32)  # and -1 stays -1
        place[:-1] = alive.cumsum(0) - 1
        self._head = place[self._living(self._head.long())]
        self._previous = place[self._living(self._previous[: self._count][alive].long())]
        self._surfel = self._surfel[: self._count][alive]
        self._names = [self._names[run] for run in kept]
        self._starts = np.cumsum([0, *lengths])[:-1].tolist()
        self._count, self._dropped = len(self._surfel), 0

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint: the surfel of each entry, and of each run its keyframe and where it starts."""
        if self._dropped:
            self._clear()
        return {
            "posting_surfel": self._surfel[: self._count].cpu().numpy(),
            "posting_keyframe": np.array(self._names, np.int32),
            "posting_start": np.array(self._starts, np.int64),
        }

    @classmethod
    def restore(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        device: torch.device,
        kernel: str | None = None,
        *,
        surfels: int,
    ) -> Postings:
        """Inverse of :meth:`arrays`, over so many surfels; ValueError where they do not fit together."""
        require(arrays, SCHEMA, surfels=surfels)
        surfel, names, starts = (np.asarray(arrays[name]) for name in SCHEMA)
        if len(surfel) and not (len(starts) and starts[0] == 0):
            raise ValueError("the first postings are in no run")
        if repeats(surfel, starts, surfels):
            raise ValueError("postings name a surfel twice in a run")
        postings = cls(device, kernel)
        postings._names, postings._starts = names.tolist(), starts.tolist()
        postings._surfel, postings._count = owned(surfel, np.int32).to(device), len(surfel)
        postings._chained = False
        return postings
