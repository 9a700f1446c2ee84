"""Torch's modes, which change what every call of torch gives, and how a memory keeps clear of them.

A memory outlives the block in which it was called. What it makes under ``torch.inference_mode`` could not be written to
afterwards, what it makes under another default device or dtype would not fit what it has, and ``torch.compile`` would
follow it into kernels that are compiled already.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import getmembers_static, isfunction
from typing import Any, TypeVar

import torch

T = TypeVar("T", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])


def out_of_modes(function: Function) -> Function:
    """The function, run without gradients and outside of inference mode, default devices, default dtypes and graphs.

    Under ``torch.compile`` the graph ends before it and goes on after it. The default dtype is the process's: while the
    function runs it is float32 for other threads too.
    """
    outside: dict[str, Callable[..., Any]] = {}

    @wraps(function)
    def plain(*args: Any, **more: Any) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            made = torch.empty(0)
            if made.device.type == "cpu" and made.dtype == torch.float32:
                return function(*args, **more)
            with _defaults(made.dtype):
                return function(*args, **more)

    @wraps(function)
    def run(*args: Any, **more: Any) -> Any:
        if "torch._dynamo" not in sys.modules:  # a second to import, and nothing is compiled
            return plain(*args, **more)
        if "function" not in outside:
            outside["function"] = torch.compiler.disable(
                plain, reason="kernels that are compiled already"
            )
        return outside["function"](*args, **more)

    return run  # type: ignore[return-value]


def methods_out_of_modes(cls: T) -> T:
    """The class, its public methods :func:`out_of_modes`, those that it inherits too."""
    for name, function in getmembers_static(cls, isfunction):
        if not name.startswith("_"):
            setattr(cls, name, out_of_modes(function))
    return cls


def bound(tensor: torch.Tensor) -> bool:
    """Whether a tensor belongs to a graph or to inference mode, so that it cannot be kept as it is."""
    return tensor.requires_grad or tensor.is_inference()


def kept(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as it may be kept: without its graph, and not of inference mode (that is a copy)."""
    if tensor.is_inference():
        with torch.inference_mode(False):
            return tensor.clone()
    return tensor.detach()


@contextmanager
def _defaults(dtype: torch.dtype) -> Iterator[None]:
    """Torch's own default device and dtype, in place of ``dtype``."""
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)
