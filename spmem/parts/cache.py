"""What is made of the views alone, as a part: shown each view once, when it is needed, and again when it changed."""

from __future__ import annotations

from hashlib import sha256
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from spmem.protocols import (
    Arrays,
    Kept,
    KeptObserver,
    Observation,
    RevocableObserver,
    ViewObserver,
)
from spmem.views import Views

I64 = NDArray[np.int64]
T = TypeVar("T", bound=ViewObserver)


def digest(views: Views, count: int) -> str:
    """What distinguishes the first views from others: their ids, cameras and poses."""
    parts = (views.ids, views.K, views.c2w)
    return sha256(b"".join(part[:count].tobytes() for part in parts)).hexdigest()


class ViewCache(Generic[T]):
    """Keeps an observer of views in step with them; a :class:`spmem.protocols.Part`.

    The observer may have more than ``observe``:

    * :class:`spmem.protocols.RevocableObserver`: it takes back what views gave that move or are dropped. Otherwise those
      that moved are observed again, and it is not called for those that are dropped.
    * :class:`spmem.protocols.KeptObserver`: it is kept beside the memory, with a digest of the views that it is of.

    Args:
        name: The group that it is kept in.
        observer: A rule, or what else follows views.
        views: What is followed; dropped and moved by others, after this part was called.
        kept: Whether the observer's arrays are kept beside the memory.
    """

    derived = cache = True

    def __init__(self, name: str, observer: T, views: Views, *, kept: bool = True) -> None:
        self.name, self._observer, self._views, self._kept = name, observer, views, kept
        self._last = -1  # the latest view that was observed; ids ascend
        self._changed = np.zeros(0, np.int64)  # views to be observed again, ascending

    def current(self) -> T:
        """The observer, which has observed all views as they are."""
        rows = self._views.rows(self._changed)
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            if len(run):
                self._observer.observe(self._views, slice(int(run[0]), int(run[-1]) + 1))
        if (observed := self._observed()) < len(self._views):
            self._observer.observe(self._views, slice(observed, len(self._views)))
            self._last = int(self._views.ids[-1])
        self._changed = self._changed[:0]
        return self._observer

    def observe(self, seen: Observation) -> None:
        """Nothing yet: views are observed when they are needed, many at once."""

    def move(self, ids: I64, c2w: NDArray[np.float32]) -> None:
        """Take back what views gave; they are observed again at their new poses when they are needed."""
        self._forget(ids)
        self._changed = np.union1d(self._changed, ids[ids <= self._last])

    def drop(self, ids: I64, *, keep: bool) -> None:
        """Take back what views gave, or make sure that they gave it."""
        if keep and isinstance(self._observer, RevocableObserver):
            self.current()
        elif not keep:
            self._forget(ids)
        self._changed = np.setdiff1d(self._changed, ids)

    def arrays(self) -> Kept | None:
        """The observer's arrays, and of which views they are; None if it keeps nothing."""
        arrays = self.to_arrays(self._views) if self._kept else None
        if arrays is None:
            return None
        count = len(self._views)
        return arrays, {"views": count, "digest": digest(self._views, count)}

    def restore(self, kept: Kept | None) -> None:
        """The kept observer, if it is of the first of these views."""
        count = None if kept is None else kept[1].get("views")
        if kept is None or not isinstance(count, int) or not 0 <= count <= len(self._views):
            return
        if kept[1].get("digest") == digest(self._views, count):
            ids = self._views.ids[:count]
            self._observer = self.from_arrays(kept[0], ids)
            self._last = int(ids[-1]) if len(ids) else -1

    def to_arrays(self, views: Views) -> Arrays | None:
        """The observer's arrays, once it has observed all views; None if it keeps nothing."""
        if not isinstance(self._observer, KeptObserver):
            return None
        self.current()
        return self._observer.arrays(views)

    def from_arrays(self, arrays: Arrays, ids: I64) -> T:
        """The observer of views of these ids ``[n]``; raises KeyError or ValueError if the arrays are not theirs."""
        if isinstance(self._observer, KeptObserver):
            self._observer.restore(arrays, ids)
        return self._observer

    def verify(self, kept: Kept) -> str | None:
        """Whether what is kept fits together; if it is of other views, it is made again when it is needed."""
        self.restore(kept)
        return None

    def _observed(self) -> int:
        """How many views were observed, as they are or were."""
        return int(np.searchsorted(self._views.ids, self._last, side="right"))

    def _forget(self, ids: I64) -> None:
        known = np.setdiff1d(ids[ids <= self._last], self._changed)
        if len(known) and isinstance(self._observer, RevocableObserver):
            self._observer.forget(self._views, self._views.rows(known))
