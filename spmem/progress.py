"""A progress bar for what takes long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

T = TypeVar("T")


def track(items: Iterable[T], description: str = "Reading") -> Iterator[T]:
    """Iterate with a progress bar on standard error; no bar if that is not a terminal.

    Example:
        >>> list(track(range(3)))
        [0, 1, 2]
    """
    console = Console(stderr=True)
    yield from rich_track(items, description, console=console, disable=not console.is_terminal)
