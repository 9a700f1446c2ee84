"""Coverage-greedy selection: at each step the view that shows most of what is not shown yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError
from spmem.kernels.jit import njit


@dataclass(frozen=True)
class Terms:
    """What selection counts; each can be switched off on its own.

    pre_cover: What the generator holds already (its recent frames) counts as shown (Lyra 2.0, arXiv 2604.13036).
    diversity: A view's gain is what it adds to the chosen ones. Off, every view counts alone, as in a plain top-k of
        visible points (Memory Forcing, arXiv 2510.03198).
    staleness: What a view's gain loses at the age of the oldest view, linearly in its age; 0..1. (WorldMem, arXiv
        2504.12369, subtracts 0.2 at that age.) 0 is off: old views are as good as new ones.
    min_gain: Coverage is exhausted when the best gain falls below this share of all that the query sees.
    fill: Once coverage is exhausted, go on with the views that see most, until there are k: generators take a fixed
        number of references, and another view of the same place steadies them. Off, fewer are returned.
    """

    pre_cover: bool = True
    diversity: bool = True
    staleness: float = 0.0
    min_gain: float = 0.01
    fill: bool = True

    def __post_init__(self) -> None:
        if not (0 <= self.staleness <= 1 and 0 <= self.min_gain <= 1):
            raise InputError(
                f"staleness and min_gain are shares in 0..1, got {self.staleness} and {self.min_gain}"
            )


def shown(seen: NDArray[np.bool_], weight: NDArray[np.int64]) -> NDArray[np.int64]:
    """The weight ``[v]`` that each view sees, of ``seen [v, p]`` and the points' ``weight [p]``."""
    return _shown(seen, weight)


def greedy(
    seen: NDArray[np.bool_],
    weight: NDArray[np.int64],
    times: NDArray[np.float64],
    k: int,
    *,
    covered: NDArray[np.bool_] | None = None,
    terms: Terms = Terms(),
) -> NDArray[np.int64]:
    """Rows of at most k views that together see most, best first; a view that sees nothing is never chosen.

    Weighted maximum coverage by the greedy rule, which reaches at least 1 - 1/e of the best (Nemhauser, Wolsey,
    Fisher 1978). Ties go to the view that sees more in all, then to the latest, then to the last row.

    Args:
        seen: ``[v, p]``, which points each view sees.
        weight: ``[p]`` >= 0.
        times: ``[v]`` seconds.
        k: How many views are wanted.
        covered: ``[p]``, points shown already, or None.
        terms: See :class:`Terms`.

    Example:
        >>> seen = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]], bool)
        >>> greedy(seen, np.ones(4, np.int64), np.zeros(3), 2).tolist()
        [0, 2]
    """
    total, value = shown(seen, weight), _freshness(times, terms.staleness)
    left = np.where(covered, 0, weight) if covered is not None and terms.pre_cover else weight
    enough = max(terms.min_gain * float(weight.sum()), np.finfo(float).tiny)
    chosen: list[int] = _greedy(seen, left.copy(), total, value, times, k, enough, terms.diversity).tolist()  # fmt: skip
    if terms.fill and len(chosen) < k:
        rest, taken = np.lexsort((times, total * value))[::-1], set(chosen)
        more = [row for row in rest.tolist() if row not in taken and total[row] > 0]
        chosen += more[: k - len(chosen)]
    return np.array(chosen, np.int64)


def _freshness(times: NDArray[np.float64], staleness: float) -> NDArray[np.float64]:
    span = np.ptp(times) if len(times) else 0.0
    return 1 - staleness * (times.max() - times) / span if span > 0 else np.ones(len(times))


@njit()
def _shown(seen: NDArray[np.bool_], weight: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.zeros(len(seen), np.int64)
    for v in range(len(seen)):
        row, sum_ = seen[v], np.int64(0)
        for p in range(len(row)):
            sum_ += weight[p] if row[p] else 0
        total[v] = sum_
    return total


@njit()
def _greedy(
    seen: NDArray[np.bool_], left: NDArray[np.int64], total: NDArray[np.int64], value: NDArray[np.float64],
    times: NDArray[np.float64], k: int, enough: float, diversity: bool,
) -> NDArray[np.int64]:  # fmt: skip
    chosen, open_ = np.zeros(min(k, len(seen)), np.int64), np.ones(len(seen), np.bool_)
    for n in range(len(chosen)):
        # All gains anew at each step: as one pass of vector instructions this is faster than lazy evaluation.
        gain, best, most = _shown(seen, left), -1, 0.0
        for v in range(len(seen)):
            worth = gain[v] * value[v]
            if open_[v] and (best < 0 or worth > most or (worth == most and (total[v], times[v]) >= (total[best], times[best]))):  # fmt: skip
                best, most = v, worth
        if most < enough:
            return chosen[:n]
        chosen[n], open_[best] = best, False
        if diversity:
            row = seen[best]
            for p in range(len(left)):
                left[p] = 0 if row[p] else left[p]
    return chosen
