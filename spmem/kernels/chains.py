"""Chains of entries on CPU: of each surfel its latest entry (``head``, -1 = none), of each entry its surfel and the one before.

An entry whose surfel is ``GONE`` was dropped; chains pass over it. ``times`` counts the others of each surfel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.jit import njit

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
GONE = -1


@njit()
def link(
    surfels: NDArray[np.int64],
    start: int,
    head: I32,
    surfel: I32,
    previous: I32,
    times: I32,
    count: int,
) -> int:
    """Add an entry for each surfel (-1 = none) that has none from ``start`` on; how many entries there are then."""
    for s in surfels:
        if s < 0 or head[s] >= start:
            continue
        surfel[count], previous[count], head[s] = s, head[s], count
        times[s] += 1
        count += 1
    return count


@njit()
def look_up(column: I32, surfels: I64, none: int) -> I32:
    """The column's values at surfels, ``none`` where it has no row."""
    found = np.empty(len(surfels), np.int32)
    for i in range(len(surfels)):
        s = surfels[i]
        found[i] = column[s] if 0 <= s < len(column) else none
    return found


@njit()
def collect(heads: I64, surfel: I32, previous: I32, names: I64, starts: I64, offsets: I64) -> I64:
    """The keyframes of these chains, ascending within each; those of run i begin at ``starts[i]``."""
    out = np.empty(offsets[-1], np.int64)
    for i in range(len(heads)):
        end, at = offsets[i + 1], heads[i]
        while at >= 0:
            if surfel[at] != GONE:
                name = names[np.searchsorted(starts, at, "right") - 1]
                end -= 1
                place = end  # chains run backwards, and few keyframes were moved: nearly sorted
                while place + 1 < offsets[i + 1] and out[place + 1] < name:
                    out[place] = out[place + 1]
                    place += 1
                out[place] = name
            at = np.int64(previous[at])
    return out


@njit()
def chain(surfel: I32, head: I32, previous: I32, times: I32) -> None:
    """Chain the entries of these surfels, in their order, onto heads that are -1 and times that are 0."""
    for i in range(len(surfel)):
        s = surfel[i]
        previous[i], head[s] = head[s], i
        times[s] += 1


@njit()
def repeats(surfel: I32, starts: I64, surfels: int) -> bool:
    """Whether a run of entries names a surfel, of so many, twice."""
    last = np.full(surfels, -1, np.int32)
    for run in range(len(starts)):
        stop = starts[run + 1] if run + 1 < len(starts) else len(surfel)
        for i in range(starts[run], stop):
            if last[surfel[i]] == run:
                return True
            last[surfel[i]] = run
    return False
