"""Coverage-greedy selection: at each step the view that shows most of what is not shown yet, and of equals the sharpest."""

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
    fill: Once coverage is exhausted, go on with the views that sharpen most of what is shown (where sharpness is off,
        that see most), until there are k: generators take a fixed number of references, and another view of the same place
        steadies them. Off, fewer are returned.
    sharpness: A view whose gain is less than the best one's by at most this share is taken in its place where it shows
        more sharply (:func:`spmem.retrieval.visibility.sharpness.sharpness`); so it costs coverage at most that share, and mostly
        nothing. The answer is in the order of what each shows, and how sharply. 0 is off: only what is seen counts.
    """

    pre_cover: bool = True
    diversity: bool = True
    staleness: float = 0.0
    min_gain: float = 0.01
    fill: bool = True
    sharpness: float = 0.05

    def __post_init__(self) -> None:
        for name in ("staleness", "min_gain", "sharpness"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise InputError(f"{name} is a share in 0..1, got {share}")


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
    sharp: NDArray[np.uint8] | None = None,
    terms: Terms = Terms(),
) -> NDArray[np.int64]:
    """Rows of at most k views that together see most, in the order of choice; a view that sees nothing is never chosen.

    Weighted maximum coverage by the greedy rule, which reaches at least 1 - 1/e of the best (Nemhauser, Wolsey,
    Fisher 1978). Ties go to the view that sees more in all, then to the latest, then to the last row.

    Args:
        seen: ``[v, p]``, which points each view sees.
        weight: ``[p]`` >= 0.
        times: ``[v]`` seconds.
        k: How many views are wanted.
        covered: ``[p]``, points shown already, or None.
        sharp: ``[v, p]`` 0..255, how sharply each view shows each point, 0 where it does not; or None, and sharpness is off.
        terms: See :class:`Terms`.

    Example:
        >>> seen = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]], bool)
        >>> greedy(seen, np.ones(4, np.int64), np.zeros(3), 2).tolist()
        [0, 2]
    """
    total, value = shown(seen, weight), _freshness(times, terms.staleness)
    left = np.where(covered, 0, weight) if covered is not None and terms.pre_cover else weight
    enough = max(terms.min_gain * float(weight.sum()), np.finfo(float).tiny)
    if sharp is None or terms.sharpness == 0:
        sharp, slack = np.zeros((0, 0), np.uint8), 0.0
    else:
        slack = terms.sharpness
    chosen: list[int] = _greedy(seen, sharp, left.copy(), total, value, times, k, enough, slack, terms.diversity).tolist()  # fmt: skip
    if terms.fill and len(chosen) < k:
        chosen += _fill(sharp, weight, total, value, times, np.array(chosen, np.int64), k).tolist()
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
    seen: NDArray[np.bool_], sharp: NDArray[np.uint8], left: NDArray[np.int64], total: NDArray[np.int64],
    value: NDArray[np.float64], times: NDArray[np.float64], k: int, enough: float, slack: float, diversity: bool,
) -> NDArray[np.int64]:  # fmt: skip
    chosen, open_ = np.zeros(min(k, len(seen)), np.int64), np.ones(len(seen), np.bool_)
    for n in range(len(chosen)):
        # All gains anew at each step: as one pass of vector instructions this is faster than lazy evaluation.
        worth, best = _shown(seen, left) * value, -1
        for v in range(len(seen)):
            if open_[v] and (best < 0 or (worth[v], total[v], times[v]) >= (worth[best], total[best], times[best])):  # fmt: skip
                best = v
        if worth[best] < enough:
            return chosen[:n]
        if slack > 0:
            bound, best, most = (1 - slack) * worth[best], -1, 0.0
            for v in range(len(seen)):
                if open_[v] and worth[v] >= bound:
                    shows = _sum(sharp[v], left) * value[v]
                    if best < 0 or (shows, worth[v], total[v], times[v]) >= (most, worth[best], total[best], times[best]):  # fmt: skip
                        best, most = v, shows
        chosen[n], open_[best] = best, False
        if diversity:
            row = seen[best]
            for p in range(len(left)):
                left[p] = 0 if row[p] else left[p]
    return chosen


@njit()
def _fill(
    sharp: NDArray[np.uint8], weight: NDArray[np.int64], total: NDArray[np.int64], value: NDArray[np.float64],
    times: NDArray[np.float64], chosen: NDArray[np.int64], k: int,
) -> NDArray[np.int64]:  # fmt: skip
    """The views to go on with; ``sharp`` without rows tells nothing, and they come by what they see."""
    open_ = total > 0
    open_[chosen] = False
    more = np.zeros(max(0, min(k - len(chosen), int(open_.sum()))), np.int64)
    shown_so_far, adds = np.zeros(sharp.shape[1], np.uint8), np.zeros(len(total), np.float64)
    for v in chosen if len(sharp) else chosen[:0]:
        shown_so_far = np.maximum(shown_so_far, sharp[v])
    for n in range(len(more)):
        best = -1
        for v in range(len(total)):
            if not open_[v]:
                continue
            if len(sharp):
                adds[v] = _added(sharp[v], shown_so_far, weight) * value[v]
            here, there = total[v] * value[v], total[best] * value[best]
            if best < 0 or (adds[v], here, times[v]) >= (adds[best], there, times[best]):
                best = v
        more[n], open_[best] = best, False
        if len(sharp):
            shown_so_far = np.maximum(shown_so_far, sharp[best])
    return more


@njit()
def _added(sharp: NDArray[np.uint8], to: NDArray[np.uint8], weight: NDArray[np.int64]) -> np.int64:
    sum_ = np.int64(0)
    for p in range(len(weight)):
        sum_ += weight[p] * max(np.int64(sharp[p]) - np.int64(to[p]), np.int64(0))
    return sum_


@njit()
def _sum(values: NDArray[np.uint8], weight: NDArray[np.int64]) -> np.int64:
    sum_ = np.int64(0)
    for p in range(len(values)):
        sum_ += np.int64(values[p]) * weight[p]
    return sum_
