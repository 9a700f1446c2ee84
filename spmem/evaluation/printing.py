"""Results as one JSON object on standard output, and nothing else there; for commands and benchmarks alike.

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

_diverted: list[TextIO] = []
"""The standard output that was diverted, if it was."""


@contextmanager
def json_only(wanted: bool = True) -> Iterator[None]:
    """All that is printed goes to standard error, but for what :func:`print_json` prints; nothing changes if not ``wanted``."""
    if not wanted or _diverted:
        yield
        return
    restore = divert_stdout()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        restore()


def divert_stdout() -> Callable[[], None]:
    """Divert standard output to standard error, but for :func:`print_json`; returns what ends that."""
    _flush_all()
    own = os.dup(1)
    os.dup2(2, 1)
    opened = open(own, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    kept = opened if _writes_to_descriptor_1(sys.stdout) else sys.stdout
    _diverted.append(kept)

    def restore() -> None:
        _flush_all()
        _diverted.remove(kept)
        opened.close()
        os.dup2(own, 1)
        os.close(own)

    return restore


def print_json(result: Mapping[str, Any]) -> None:
    """One JSON object on standard output; what is not a number there is null."""
    print(
        json.dumps(_replace_non_finite(result), allow_nan=False),
        file=_diverted[-1] if _diverted else sys.stdout,
        flush=True,
    )


def _writes_to_descriptor_1(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == 1)
    except (AttributeError, OSError, ValueError):  # captured: it has none
        return False


def _flush_all() -> None:
    """Write out what Python and C hold back."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None if os.name == "posix" else "ucrtbase").fflush(None)


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _replace_non_finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(one) for one in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
