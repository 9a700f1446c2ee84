"""What a memory with a budget lets go: policies that name the keyframes to drop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.retention import RetentionCandidates

I64 = NDArray[np.int64]


def recency(held: RetentionCandidates, count: int) -> I64:
    """Drop the oldest."""
    return held.ids[np.lexsort((held.ids, held.times))[:count]]


def uniform(held: RetentionCandidates, count: int) -> I64:
    """Drop, one after the other, the keyframe whose neighbours in time are closest together; the ends stay."""
    order = np.lexsort((held.ids, held.times))
    ids, times = held.ids[order].tolist(), held.times[order].tolist()
    dropped: list[int] = []
    while len(dropped) < count and len(ids) > 2:
        gaps = np.array(times[2:]) - np.array(times[:-2])
        at = int(gaps.argmin()) + 1
        dropped.append(ids.pop(at))
        times.pop(at)
    return np.array(dropped + ids[: count - len(dropped)], np.int64)


def reservoir(held: RetentionCandidates, count: int) -> I64:
    """Keep a random sample in which every keyframe ever stored is as likely: each id draws one number, for ever.

    Vitter 1985, Random Sampling with a Reservoir; with a number for each item, the sample is those with the smallest.
    """
    drawn = [np.random.default_rng(int(id)).random() for id in held.ids]
    return held.ids[np.argsort(drawn)[::-1][:count]]


def coverage(held: RetentionCandidates, count: int) -> I64:
    """Drop, one after the other, the keyframe of which others saw most: the fewest surfels that it alone saw.

    Among those that lose as little, the oldest goes.
    """
    surfels = held.geometry.ids()
    offsets, seen = (part.cpu().numpy() for part in held.geometry.observers(surfels))
    keyframe = np.searchsorted(held.ids, seen)
    known = (keyframe < len(held.ids)) & (held.ids[keyframe.clip(max=len(held.ids) - 1)] == seen)
    surfel = np.repeat(np.arange(len(surfels)), np.diff(offsets))[known]
    keyframe = keyframe[known]
    times_seen = np.bincount(surfel, minlength=len(surfels))
    alone = np.bincount(keyframe[times_seen[surfel] == 1], minlength=len(held.ids)).astype(float)
    by_keyframe = np.argsort(keyframe, kind="stable")  # entries of each keyframe, in a run
    runs = np.searchsorted(keyframe[by_keyframe], np.arange(len(held.ids) + 1))
    by_surfel = np.searchsorted(surfel, np.arange(len(surfels) + 1))
    gone = np.zeros(len(held.ids), np.bool_)
    age = np.argsort(np.argsort(held.times, kind="stable"))
    dropped = []
    for _ in range(count):
        candidates = np.flatnonzero(alone == alone.min())
        row = int(candidates[age[candidates].argmin()])
        dropped.append(row)
        gone[row], alone[row] = True, np.inf
        own = surfel[by_keyframe[runs[row] : runs[row + 1]]]
        times_seen[own] -= 1
        for one in own[times_seen[own] == 1].tolist():  # somebody else is alone with it now
            others = keyframe[by_surfel[one] : by_surfel[one + 1]]
            alone[others[~gone[others]]] += 1
    return held.ids[np.array(dropped, np.int64)]
