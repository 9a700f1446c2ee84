"""The one way to write a Triton kernel here: modules import without Triton, only a launch needs it.

``TRITON_INTERPRET=1``, set before the first import of a kernel, runs kernels on CPU tensors, in Python: slow, for
tests.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import triton
    import triton.language as tl
else:
    try:
        import triton
        import triton.language as tl
    except ImportError:
        triton = tl = None

__all__ = ["INTERPRETED", "constant", "jit", "lanes", "on", "programs", "tl"]

INTERPRETED = triton is not None and os.environ.get("TRITON_INTERPRET") == "1"
"""Whether kernels run on the CPU, in Triton's interpreter."""


def jit(function: Any) -> Any:
    """A Triton kernel, or a function that kernels call; as it is where Triton is not installed."""
    return function if triton is None else triton.jit(function)


def constant(value: float | tuple[float, ...]) -> Any:
    """A number, or a tuple of numbers, at a module's top that kernels may use."""
    return value if tl is None else tl.constexpr(value)


def lanes(gpu: int) -> int:
    """Elements that one program handles: so many on a GPU, and many in the interpreter, where each step is dear."""
    return 4096 if INTERPRETED else gpu


def programs(count: int, each: int) -> int:
    """Programs for so many elements."""
    return -(-count // each)


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Launch on this device: Triton takes the current one, whatever its tensors are on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
