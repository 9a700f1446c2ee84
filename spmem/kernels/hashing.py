"""The hash table of the CPU's kernels: open addressing in an array of keys, whose length is a power of two.

A key is any uint64 but 0, which marks a free place. What belongs to a key lies in other arrays, at its place. At most
half of the places are taken (:func:`capacity`), so that a search is short. Nothing is removed from a table; whoever
empties one sets keys to 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.jit import njit

U64 = NDArray[np.uint64]

FREE = np.uint64(0)
GOLDEN, HIGH = np.uint64(0x9E3779B97F4A7C15), np.uint64(20)


@njit()
def capacity(count: int) -> int:
    """Places for so many keys."""
    size = 16
    while size < 2 * count:
        size *= 2
    return size


@njit()
def scattered(key: np.uint64) -> np.int64:
    """Where to begin with keys that lie in runs (Fibonacci hashing: Knuth, The Art of Computer Programming, 6.4)."""
    return np.int64((key * GOLDEN) >> HIGH)


@njit()
def find(keys: U64, key: np.uint64, start: int | np.integer[Any], step: int) -> np.int64:
    """The place of a key, or the free one that it would take.

    start: Where to begin, of any size: bits of the key that differ between keys. step: Odd; how far on to look.
    """
    last = len(keys) - 1
    at = np.int64(start) & last
    while keys[at] != FREE and keys[at] != key:
        at = (at + step) & last
    return at
