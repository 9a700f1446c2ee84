"""The keyframes that match what is asked, by camera, image, text, time and place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.protocols import ImageIndex
from spmem.query import Selection
from spmem.types import Frame, checked_rgb
from spmem.views import Views
from spmem.where import Where

POOL = 256
"""Keyframes that each thing asked brings at least, before ranks are joined."""

RANK = 60
"""What is added to ranks before they are joined: 60 is the value of Cormack et al."""

I64 = NDArray[np.int64]


class _Ranked(NamedTuple):
    """A keyframe's id, its score, and the score by each thing asked."""

    id: int
    score: float
    by: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class FindQuery:
    """What is asked of a memory.

    Raises:
        InputError: Nothing is asked, or something else than it can be asked by.
    """

    camera: Camera | None = None
    image: Any = None
    text: str | None = None
    where: Where | None = None

    def __post_init__(self) -> None:
        given = (self.camera, self.image, self.text, self.where)
        if all(one is None for one in given):
            raise InputError(
                "find was asked nothing; pass at least one of camera=Camera, image=[H, W, 3] or a Frame, text='words', "
                "where=Where(time=(start, end), region=(low, high), exclude=ids)"
            )
        if self.text is not None and (not isinstance(self.text, str) or not self.text.strip()):
            raise InputError(f"text is what to look for, in words; got {self.text!r}")
        if self.where is not None and not isinstance(self.where, Where):
            raise InputError(f"where is a spmem.Where, got {type(self.where).__name__}")

    def vectors(self, descriptors: ImageIndex) -> dict[str, NDArray[np.float32]]:
        """The descriptors ``[dim]`` of the image and the text that are asked by, by these names."""
        found = {}
        if self.image is not None:
            rgb = self.image.rgb if isinstance(self.image, Frame) else checked_rgb(self.image)
            found["image"] = descriptors.of_image(rgb if rgb.is_floating_point() else rgb / 255)
        if self.text is not None:
            found["text"] = descriptors.of_text(self.text)
        return found


def matches(
    asked: FindQuery,
    looks: Mapping[str, NDArray[np.float32]],
    views: Views,
    k: int,
    descriptors: ImageIndex,
    saw: Callable[[Camera, I64, int], Selection],
) -> list[_Ranked]:
    """At most k keyframes, best first, ties latest first.

    ``where`` restricts. So does a camera: a keyframe that saw nothing of what the camera would see does not match. Of
    what is left,

    * one thing asked ranks by its own score;
    * several are joined by reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009): the score is the sum over
      all things asked of 1 / (60 + rank), rank 1 the best. Their scores are of different kinds; ranks compare;
    * ``where`` alone ranks the latest first, and scores by seconds.

    Args:
        asked: What.
        looks: The descriptors of what is asked by its looks (:meth:`FindQuery.vectors`).
        views: Of all keyframes.
        k: How many are wanted.
        descriptors: Of all keyframes, where there are ``looks``.
        saw: Camera, ids that may not be answered, and how many are wanted, to keyframes by the share that they saw.
    """
    hidden = np.zeros(0, np.int64) if asked.where is None else asked.where.hides(views)
    pool = max(k, POOL)
    scores: dict[str, NDArray[np.float64]] = {}
    if asked.camera is not None:
        seen = saw(asked.camera, hidden, pool)
        ids = seen.ids
        scores["camera"] = seen.scores.astype(np.float64)
    elif looks:
        near = [descriptors.nearest(vector, pool, hidden) for vector in looks.values()]
        ids = np.unique(np.concatenate(near))
    else:
        ids = views.ids[~np.isin(views.ids, hidden)]
    for name, vector in looks.items():
        scores[name] = (descriptors.of(ids) @ vector).astype(np.float64)
    times = views.times[views.rows(ids)]
    total = joined(scores, times) if scores else times
    best = np.lexsort((ids, times, total))[::-1][:k]
    return [
        _Ranked(int(ids[i]), float(total[i]), {name: float(by[i]) for name, by in scores.items()})
        for i in best
    ]


def joined(
    scores: Mapping[str, NDArray[np.float64]], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """One score ``[n]`` from several: a single one as it is, more by reciprocal rank fusion; equals rank by time.

    Example:
        >>> by = {"image": np.array([0.9, 0.2, 0.8]), "text": np.array([0.1, 0.2, 0.3])}
        >>> np.argsort(-joined(by, np.zeros(3))).tolist()
        [2, 0, 1]
    """
    if len(scores) == 1:
        (only,) = scores.values()
        return only
    total = np.zeros(len(times))
    for one in scores.values():
        order = np.lexsort((times, one))[::-1]
        total[order] += 1 / (RANK + 1 + np.arange(len(order)))
    return total
