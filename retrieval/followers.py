"""What follows the views: rules and known free space, shown each view once, and again when it changed."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spmem.retrieval.rules.covisibility import Covisibility
from spmem.retrieval.visibility.free_space import KnownFreeSpace
from spmem.views import Views

if TYPE_CHECKING:
    from spmem.protocols import Retriever


def digest(views: Views, count: int) -> str:
    """What tells the first views from others: their ids, cameras and poses."""
    parts = (views.ids, views.K, views.c2w)
    return sha256(b"".join(part[:count].tobytes() for part in parts)).hexdigest()


I64 = NDArray[np.int64]
Kept: TypeAlias = tuple[dict[str, NDArray[Any]], dict[str, Any]]
"""Arrays, and attributes that say of which views they are."""

FREE, COVISIBILITY = "free space", "covisibility"


class Followers:
    """Keeps rules and free space in step with views, which change through it alone, but for appending.

    Args:
        views: What is followed.
        rule: Makes a rule by its name.
        free: What of space is known, and from how many of the views.
        index: The rule of covisibility, and how many of the views it was shown; None where it is to begin anew.
    """

    def __init__(
        self,
        views: Views,
        rule: Callable[[str], Retriever],
        free: tuple[KnownFreeSpace, int],
        index: tuple[Covisibility, int] | None = None,
    ) -> None:
        self._views, self._rule, self._free = views, rule, free[0]
        self._rules: dict[str, Retriever] = {} if index is None else {COVISIBILITY: index[0]}
        self._shown = {FREE: free[1]} | ({} if index is None else {COVISIBILITY: index[1]})
        """Views, to each follower."""

    def rule(self, method: str | Retriever) -> tuple[str, Retriever]:
        """A rule, by name or as it is, and what to call it; it has seen every view."""
        name = method if isinstance(method, str) else f"{type(method).__name__} at {id(method):x}"
        if name not in self._rules:
            self._rules[name] = self._rule(method) if isinstance(method, str) else method
        self._show(name, self._rules[name])
        return name.partition(" at ")[0], self._rules[name]

    def free(self) -> KnownFreeSpace:
        """The free space that all views saw."""
        self._show(FREE, self._free)
        return self._free

    def move(self, ids: I64, c2w: NDArray[np.float32]) -> None:
        """Give views other poses ``[n, 4, 4]``."""
        rows = np.sort(self._views.rows(ids))
        self._free.forget(self._views, rows[rows < self._shown[FREE]])
        self._views.move(ids, c2w)
        for name, shown in self._shown.items():
            known, follower = rows[rows < shown], self._rules.get(name, self._free)
            for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
                if len(run):
                    follower.observe(self._views, slice(int(run[0]), int(run[-1]) + 1))

    def remove(self, ids: I64) -> None:
        """Drop views, and the free space that only they saw."""
        rows = self._views.rows(ids)
        self._free.forget(self._views, rows[rows < self._shown[FREE]])
        self.drop(ids)

    def drop(self, ids: I64) -> None:
        """Drop views; the free space that they saw stays known."""
        self.free()
        rows = self._views.rows(ids)
        self._shown = {name: n - int((rows < n).sum()) for name, n in self._shown.items()}
        self._views.remove(ids)

    def free_space(self) -> Kept | None:
        """The free space and which views it is from, to keep; None where nobody asked for it yet."""
        shown = self._shown[FREE]
        return (self._free.arrays(), self._of(shown)) if shown else None

    def index(self) -> Kept | None:
        """What finds candidates and which views it is of, to keep; None where nobody asked for it, or it is not kept."""
        rule = self._rules.get(COVISIBILITY)
        if not isinstance(rule, Covisibility):
            return None
        self._show(COVISIBILITY, rule)
        arrays = rule.arrays(self._views)
        return None if arrays is None else (arrays, self._of(len(self._views)))

    def _of(self, shown: int) -> dict[str, Any]:
        return {"views": shown, "digest": digest(self._views, shown)}

    def _show(self, name: str, follower: KnownFreeSpace | Retriever) -> None:
        shown = self._shown.get(name, 0)
        if shown < len(self._views):
            follower.observe(self._views, slice(shown, len(self._views)))
        self._shown[name] = len(self._views)
