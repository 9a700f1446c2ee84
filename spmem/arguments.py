"""Numbers that callers give: whole ones, keyframe ids, spans of time. What cannot be one is an InputError."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError

MOST = (1 << 63) - 1


def whole(value: Any, name: str, least: int = 0) -> int:
    """An integer from ``least`` to 2**63 - 1 (a float without fraction is one). Raises InputError, by ``name``.

    Example:
        >>> whole(4.0, "k")
        4
    """
    exact: Any = int(value) if isinstance(value, float) and value.is_integer() else value
    try:
        number = index(exact)
    except TypeError:
        number = least - 1
    if not least <= number <= MOST:
        raise InputError(f"{name} must be an integer >= {least}, got {value!r:.80}")
    return number


def keyframe_ids(ids: Any) -> NDArray[np.int64]:
    """Ids ``[n]`` in the order given, of one or several. Raises InputError for what no id can be."""
    if isinstance(ids, str | bytes):
        raise InputError(f"keyframes are named by whole numbers, got {ids!r:.80}")
    several: Iterable[Any] = [ids]
    if isinstance(ids, Iterable) and getattr(ids, "ndim", 1) != 0:
        several = ids
    found = []
    for id in several:
        try:
            found.append(index(id))
        except TypeError:
            raise InputError(f"keyframes are named by whole numbers, got {id!r:.80}") from None
        if not -MOST <= found[-1] <= MOST:
            raise InputError(f"keyframe ids are below 2**63, got {id!r:.80}")
    return np.array(found, np.int64)


def seconds(value: Any, name: str) -> float:
    """A number of seconds, which may be infinite. Raises InputError, by ``name``."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = np.nan
    if isinstance(value, str | bytes) or np.isnan(number):
        raise InputError(f"{name} is a number of seconds, got {value!r:.80}")
    return number


def span(value: Any, name: str) -> tuple[float | None, float | None]:
    """(start, end) in seconds, None at an end that is open. Raises InputError, by ``name``."""
    try:
        start, end = value
        low = -np.inf if start is None else seconds(start, name)
        high = np.inf if end is None else seconds(end, name)
    except (TypeError, ValueError):  # ours too
        raise InputError(f"{name} is (start, end) in seconds, got {value!r:.80}") from None
    if low > high:
        raise InputError(f"{name} is (start, end) in seconds, got {value!r:.80}")
    return start, end
