"""Standard output of a program that prints one JSON object: the object, and nothing else.

Libraries of native code print to file descriptor 1 whatever Python's ``sys.stdout`` is, some of it when the process
ends. So the descriptor itself is turned to standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO

_kept: list[TextIO] = []
"""The standard output that was turned away, if it was."""


@contextmanager
def json_only(wanted: bool = True) -> Iterator[None]:
    """All that is printed goes to standard error, but for what :func:`print_json` prints; nothing changes if not ``wanted``."""
    if not wanted or _kept:
        yield
        return
    restore = turn_away()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        restore()


def turn_away() -> Callable[[], None]:
    """Turn standard output to standard error, but for :func:`print_json`; returns what turns it back."""
    _flush()
    own = os.dup(1)
    os.dup2(2, 1)
    opened = open(own, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    kept = opened if _is_descriptor_1(sys.stdout) else sys.stdout
    _kept.append(kept)

    def restore() -> None:
        _flush()
        _kept.remove(kept)
        opened.close()
        os.dup2(own, 1)
        os.close(own)

    return restore


def print_json(result: Mapping[str, Any]) -> None:
    """One JSON object on standard output; what is not a number there is null."""
    print(
        json.dumps(_plain(result), allow_nan=False),
        file=_kept[-1] if _kept else sys.stdout,
        flush=True,
    )


def _is_descriptor_1(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == 1)
    except (AttributeError, OSError, ValueError):  # captured: it has none
        return False


def _flush() -> None:
    """Write out what Python and C hold back."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None if os.name == "posix" else "ucrtbase").fflush(None)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
