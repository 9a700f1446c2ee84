"""The one way to compile a numba kernel here: typed for mypy, cached on disk, free of the GIL."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

numba: Any
try:
    numba = import_module("numba")
except ImportError:  # a GPU machine's own Python may lack it, and never calls these kernels
    numba = None

P = ParamSpec("P")
R = TypeVar("R")

FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
"""LLVM's fast-math flags but ``nnan`` and ``ninf``: NaN and infinity keep their meaning."""


PACKAGE = Path(__file__).parents[1]
ROOMS = ("kernels", "worlds")
"""Folders whose files hold kernels, or constants that become part of kernels."""
IMPORTS = re.compile(r"^from spmem\.([\w.]+) import", re.MULTILINE)


@cache
def sources(file: Path) -> frozenset[Path]:
    """A file of the package, and what it imports from those that may hold kernels: whose code its own may contain."""
    found, new = {file}, [file]
    while new:
        for name in IMPORTS.findall(new.pop().read_text()):
            other = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
            room = name.partition(".")[0]
            holds = room in ROOMS or (other.is_file() and "njit" in other.read_text())
            if holds and other.is_file() and other not in found:
                found.add(other)
                new.append(other)
    return frozenset(found)


@cache
def digest(file: Path) -> str:
    """Of the sources of a file's kernels."""
    parts = (sha256(one.read_bytes()).digest() for one in sorted(sources(file)))
    return sha256(b"".join(parts)).hexdigest()


def njit(
    *, fastmath: bool = False, cached: bool = True
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function to machine code at its first call, keeping its signature for type checkers.

    Compiled code releases the GIL, and divides as numpy does (by zero gives inf, no error). It runs on the thread that
    calls it; :mod:`spmem.kernels.threads` shares the work of some with others. ``fastmath`` allows the rearrangements
    of ``FAST``. Code is ``cached`` on disk until a file changes that it may come from (:func:`sources`).

    Usage::

        @njit()
        def total(rows: NDArray[np.float32]) -> NDArray[np.float32]:
            out = np.zeros(len(rows), np.float32)
            for i in range(len(rows)):
                out[i] = rows[i].sum()
            return out
    """

    def compile_(function: Callable[P, R]) -> Callable[P, R]:
        if numba is None:

            def absent(*args: P.args, **kwargs: P.kwargs) -> R:
                raise ModuleNotFoundError(
                    "No module named 'numba', which CPU kernels need", name="numba"
                )

            return absent
        make: Any = numba.njit
        compiled: Callable[P, R] = make(
            cache=cached,
            nogil=True,
            fastmath=FAST if fastmath else False,
            error_model="numpy",
        )(function)
        if cached:
            _expire(compiled, Path(function.__code__.co_filename))
        return compiled

    return compile_


def _expire(compiled: Any, file: Path) -> None:
    """Let numba's cache on disk hold as long as the sources' digest; by itself it looks at the function's file alone.

    Numba has no public way to say so. If a later one has no such attribute, its own rule stays.
    """
    index: Any = getattr(compiled._cache, "_cache_file", None)
    if hasattr(index, "_source_stamp"):
        index._source_stamp = digest(file)


def _fetch_add() -> Any:
    if numba is None:
        return None
    extending, types = import_module("numba.extending"), numba.core.types

    def fetch_add(typing: Any, counter: Any, amount: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, args[0])
            return builder.atomic_rmw("add", array.data, args[1], "monotonic")

        return types.int64(counter, types.int64), emit

    return extending.intrinsic(fetch_add)


fetch_add = _fetch_add()
"""Inside kernels: add to the first of an array's int64, as one step for all threads; what it was before."""
