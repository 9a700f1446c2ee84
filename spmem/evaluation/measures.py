"""What an answer is worth, by who truly saw what: pure functions of masks ``[N, P]`` (N frames, P pixels).

``saw[n, p]`` says that frame n saw what the target sees at its pixel p. Of the target's pixels these are the revisitable
ones, which some frame saw: nobody can recall the others. Rows are frames; ``chosen`` and ``kept`` name rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Saw = Bool[Tensor, "n p"]
Colours = Mapping[int, Float[Tensor, "p 3"]]


class Gaps(NamedTuple):
    """Where the best answer's coverage went, as shares of the pixels: best = chosen + retention + retrieval."""

    best: float
    chosen: float
    retention: float
    """Lost because frames were not kept: the best of all frames less the best of the kept ones."""
    retrieval: float
    """Lost by the choice among the kept ones; below 0 where the choice beat the greedy one."""


def coverage(saw: Saw, chosen: Sequence[int]) -> float:
    """Share of the pixels that the chosen frames saw; 0 where there are no pixels.

    Example:
        >>> saw = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]).bool()
        >>> coverage(saw, [0]), coverage(saw, [0, 1]), coverage(saw, [])
        (0.5, 0.75, 0.0)
    """
    return float(saw[list(chosen)].any(0).sum()) / max(saw.shape[1], 1)


def worth(saw: Saw, chosen: Sequence[int], colours: Colours, true: Float[Tensor, "p 3"]) -> float:
    """PSNR in dB of the pixels as the chosen frames have them: each by the first of them that saw it, grey where none did.

    Args:
        saw: See above.
        chosen: The answer, in its order.
        colours: ``[P, 3]`` in 0..1 of each chosen frame, warped to the target.
        true: The target's own.

    Example:
        >>> saw, true = torch.tensor([[1, 0], [1, 1]]).bool(), torch.tensor([[1.0] * 3, [0.0] * 3])
        >>> colours = {0: torch.full((2, 3), 0.9), 1: torch.full((2, 3), 0.1)}
        >>> [round(worth(saw, rows, colours, true), 2) for rows in ([0, 1], [1, 0], [])]
        [20.0, 3.87, 6.02]
    """
    shown = torch.full_like(true, 0.5)
    for row in reversed(chosen):
        shown = torch.where(saw[row][:, None], colours[row], shown)
    return float(-10 * (shown - true).square().mean().clamp(min=1e-10).log10())


def best(saw: Saw, k: int, among: Sequence[int] | None = None) -> list[int]:
    """Up to k rows (``among`` some) that greedily cover most: the oracle. It stops where no row adds anything.

    Greedy set cover comes within 1 - 1/e of the best answer (Nemhauser, Wolsey and Fisher, 1978); ties go to the
    first row.

    Example:
        >>> saw = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]]).bool()
        >>> best(saw, 2), best(saw, 2, among=[0, 2])
        ([1, 0], [0])
    """
    rows = list(range(len(saw)) if among is None else among)
    chosen: list[int] = []
    left = saw[rows]
    while rows and len(chosen) < k:
        adds = left.sum(1)
        row = int(adds.argmax())
        if not int(adds[row]):
            break
        chosen.append(rows[row])
        left = left[:, ~left[row]]
    return chosen


def recall(saw: Saw, chosen: Sequence[int], k: int, kept: Sequence[int]) -> float:
    """Share of the k kept frames that each saw most that are among the chosen ones; ties with the last count.

    Frames that saw nothing are not wanted: where fewer than k saw something, those are all there is to recall.
    1 where there are none.

    Example:
        >>> saw = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0]]).bool()
        >>> recall(saw, [0, 2], 2, kept=range(4)), recall(saw, [0, 3], 2, kept=range(4))
        (1.0, 0.5)
    """
    sees: list[int] = saw.sum(1).tolist()
    ranked = sorted((sees[row] for row in kept), reverse=True)[:k]
    counts = [count for count in ranked if count]
    if not counts:
        return 1.0
    return min(sum(sees[row] >= counts[-1] for row in set(chosen)) / len(counts), 1.0)


def any_hit(saw: Saw, chosen: Sequence[int], overlap: float = 0.25) -> float:
    """1 where one of the chosen frames alone saw at least ``overlap`` of the pixels, else 0.

    Example:
        >>> saw = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 1]]).bool()
        >>> any_hit(saw, [0], 0.5), any_hit(saw, [0, 1], 0.5)
        (0.0, 1.0)
    """
    least = max(overlap * saw.shape[1], 1)
    return 1.0 if bool((saw[list(chosen)].sum(1) >= least).any()) else 0.0


def redundancy(saw: Saw, chosen: Sequence[int]) -> float:
    """Mean over pairs of chosen frames of what both saw of the target, as a share of what either saw.

    A pair that saw nothing overlaps by 0, and so do fewer than two frames.

    Example:
        >>> saw = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 1, 0]]).bool()
        >>> round(redundancy(saw, [0, 1]), 3), redundancy(saw, [0, 2]), redundancy(saw, [0])
        (0.333, 1.0, 0.0)
    """
    if len(chosen) < 2:
        return 0.0
    picked = saw[list(chosen)].float()
    both = picked @ picked.mT
    sizes = both.diagonal()
    share = both / (sizes[:, None] + sizes - both).clamp(min=1)
    above = torch.triu_indices(len(chosen), len(chosen), 1)
    return float(share[above[0], above[1]].mean())


def gaps(
    saw: Saw, chosen: Sequence[int], best_of_all: Sequence[int], best_of_kept: Sequence[int]
) -> Gaps:
    """Split what is missing of the best coverage into what was evicted and what was not chosen.

    Args:
        saw: See above.
        chosen: The answer.
        best_of_all: What :func:`best` takes of all frames, as many as were asked for.
        best_of_kept: The same of the frames that are kept.

    Example:
        >>> saw = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]]).bool()
        >>> gaps(saw, [2], best_of_all=[0], best_of_kept=[1])
        Gaps(best=1.0, chosen=0.25, retention=0.25, retrieval=0.5)
    """
    own, most, some = (coverage(saw, rows) for rows in (chosen, best_of_all, best_of_kept))
    return Gaps(most, own, most - some, some - own)
