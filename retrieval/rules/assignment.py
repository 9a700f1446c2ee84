"""The best one-to-one assignment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.jit import njit


def assign(gain: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each row of ``gain [t, n]``, t <= n, a column of its own, so that the sum of gains is the largest possible.

    Shortest augmenting paths with potentials, O(t² n) (Kuhn 1955; Jonker and Volgenant, Computing 38, 1987). Among
    equally good assignments which one is not said, but always the same.

    Example:
        >>> assign(np.array([[9.0, 8.0, 0.0], [9.0, 1.0, 0.0]])).tolist()
        [1, 0]
    """
    assert len(gain) <= gain.shape[1], "a column for each row"
    return _assign(np.ascontiguousarray(-gain, np.float64))


@njit()
def _assign(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    t, n = cost.shape
    row_price, column_price = np.zeros(t), np.zeros(n + 1)
    owner = np.full(
        n + 1, -1, np.int64
    )  # the row that has a column; column n holds the row that seeks one
    for row in range(t):
        owner[n], column = row, n
        reached = np.zeros(n + 1, np.bool_)
        reduced, before = np.full(n, np.inf), np.full(n, n, np.int64)
        while owner[column] >= 0:
            reached[column] = True
            seeker, step, nearest = owner[column], np.inf, 0
            for j in range(n):
                if not reached[j]:
                    price = cost[seeker, j] - row_price[seeker] - column_price[j]
                    if price < reduced[j]:
                        reduced[j], before[j] = price, column
                    if reduced[j] < step:
                        step, nearest = reduced[j], j
            for j in range(n + 1):
                if reached[j]:
                    row_price[owner[j]] += step
                    column_price[j] -= step
                elif j < n:
                    reduced[j] -= step
            column = nearest
        while column != n:  # along the path back, each row takes the column it was to have
            owner[column] = owner[before[column]]
            column = before[column]
    out = np.empty(t, np.int64)
    for j in range(n):
        if owner[j] >= 0:
            out[owner[j]] = j
    return out
