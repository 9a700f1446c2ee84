"""The one way to compile a numba kernel here: typed for mypy, cached on disk, free of the GIL."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

numba: Any
try:
    numba = import_module("numba")
except ImportError:  # a GPU machine's own Python may lack it, and never calls these kernels
    numba = None

P = ParamSpec("P")
R = TypeVar("R")

prange = range if numba is None else numba.prange
"""A range whose iterations run on all threads, inside ``@njit(parallel=True)``."""

ONLY_LOOPS = {
    "prange": True,
    **dict.fromkeys(("comprehension", "reduction", "setitem", "numpy", "stencil", "fusion"), False),
}
"""Only ``prange`` is spread over the threads; turning every array expression into a loop would only cost time."""

FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
"""LLVM's fast-math flags but ``nnan`` and ``ninf``: NaN and infinity keep their meaning."""


def njit(
    *, parallel: bool = False, fastmath: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function to machine code at its first call, keeping its signature for type checkers.

    Compiled code is cached on disk, releases the GIL, and divides as numpy does (by zero gives inf, no error).
    ``parallel`` spreads ``prange`` loops over the threads; ``fastmath`` allows the rearrangements of ``FAST``.
    The cache looks only at the file of the function called from Python: compiled functions that call one
    another belong in one file, or a change in the callee goes unseen.

    Usage::

        @njit(parallel=True)
        def total(rows: NDArray[np.float32]) -> NDArray[np.float32]:
            out = np.zeros(len(rows), np.float32)
            for i in prange(len(rows)):
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
            parallel=ONLY_LOOPS if parallel else False,
            cache=True,
            nogil=True,
            fastmath=FAST if fastmath else False,
            error_model="numpy",
        )(function)
        return compiled

    return compile_
