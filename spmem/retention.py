"""Keeping to a budget: what a policy chooses from, and how many keyframes it is to name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spmem.config import budget_bytes
from spmem.protocols import GeometryReader
from spmem.returned import dropped_from, name_of

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class RetentionCandidates:
    """What a policy chooses from: n keyframes by ascending id.

    ids ``[n]``; times ``[n]`` seconds; bytes ``[n]`` that each takes in the bank; ``geometry`` knows which keyframes saw
    which surfels.
    """

    ids: I64
    times: NDArray[np.float64]
    bytes: I64
    geometry: GeometryReader


Policy = Callable[[RetentionCandidates, int], I64]
"""Names at least so many keyframes to drop (``policy(held, count)`` gives ``count`` ids of ``held.ids``)."""


def over(held: RetentionCandidates, budget: int | str) -> int:
    """How many keyframes are too many; where any is, a sixteenth more than needed, so that not every one costs a search."""
    size, n = budget_bytes(budget), len(held.ids)
    if size is None:
        excess = n - int(budget)
    else:
        mean = max(1.0, float(held.bytes.mean())) if n else 1.0
        excess = int(np.ceil((held.bytes.sum() - size) / mean))
    return min(excess + n // 16, n - 1) if excess > 0 else 0


def choose(held: RetentionCandidates, budget: int | str, policy: Policy) -> I64:
    """The keyframes to drop so that what stays keeps to the budget. Raises InputError where a policy names others."""
    dropped = held.ids[:0]
    while count := over(held, budget):
        named = dropped_from(policy(held, count), held.ids, count, name_of(policy))
        dropped, stays = np.concatenate([dropped, named]), ~np.isin(held.ids, named)
        held = RetentionCandidates(
            held.ids[stays], held.times[stays], held.bytes[stays], held.geometry
        )
    return dropped
