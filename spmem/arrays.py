"""Stored arrays, held to what the code relies on that indexes them unchecked: dtypes, shapes that fit, values in range.

A part that takes arrays back says what they must be, by name, and checks them before it uses any::

    SCHEMA = {
        "ids": ArraySchema("int64", "n", least=0, rising=True),
        "vectors": ArraySchema("float32", "n dim"),
        "nearest": ArraySchema("int64", "n", least=0, below="n"),
    }
    sizes = require(arrays, SCHEMA)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ArraySchema:
    """What one array must be.

    dtype: Its dtype, exactly. Floats must be finite.
    shape: Its dimensions, separated by blanks. A number is that size; a name is one size wherever it stands.
    least, most: The range of its values, both included.
    below: The name of a dimension: values are indices into it, so each is smaller.
    rising: Whether each value must be larger than the one before.
    optional: Whether it may be missing.
    """

    dtype: str
    shape: str
    least: float | None = None
    most: float | None = None
    below: str | None = None
    rising: bool = False
    optional: bool = False


def require(
    arrays: Mapping[str, NDArray[Any]], schema: Mapping[str, ArraySchema], **sizes: int
) -> dict[str, int]:
    """Check arrays; arrays that the schema does not name are passed over.

    Args:
        arrays: Arrays by name.
        schema: What they must be, by the same names.
        **sizes: Sizes of dimensions that are known before.

    Returns:
        The size of each named dimension.

    Raises:
        ValueError: An array that is missing, or is not what the schema says; the message names it.
    """
    given = {name: np.asarray(arrays[name]) for name in schema if name in arrays}
    for name, one in schema.items():
        if name in given:
            _require_shape(name, given[name], one, sizes)
        elif not one.optional:
            raise ValueError(f"{name} is missing")
    for name, array in given.items():
        _require_values(name, array, schema[name], sizes)
    return sizes


def _require_shape(
    name: str, array: NDArray[Any], schema: ArraySchema, sizes: dict[str, int]
) -> None:
    wanted = schema.shape.split()
    fits = array.dtype == np.dtype(schema.dtype) and array.ndim == len(wanted)
    for part, size in zip(wanted, array.shape, strict=False):
        fits &= size == (int(part) if part.isdigit() else sizes.setdefault(part, size))
    if not fits:
        known = {part: sizes[part] for part in wanted if part in sizes}
        where = f" with {', '.join(f'{part} = {size}' for part, size in known.items())}"
        raise ValueError(
            f"{name} is {array.dtype} {list(array.shape)}, wanted {schema.dtype} "
            f"[{', '.join(wanted)}]{where if known else ''}"
        )


def _require_values(
    name: str, array: NDArray[Any], schema: ArraySchema, sizes: dict[str, int]
) -> None:
    if not array.size:
        return
    # A NaN is its own least and largest.
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and not np.isfinite([low, high]).all():
        raise ValueError(f"{name} has values that are not finite")
    least = -np.inf if schema.least is None else schema.least
    most = np.inf if schema.most is None else schema.most
    if schema.below is not None:
        most = min(most, sizes[schema.below] - 1)
    if low < least or high > most:
        raise ValueError(f"{name} has values from {low} to {high}, wanted {least:g} to {most:g}")
    if schema.rising and not bool((array[1:] > array[:-1]).all()):
        raise ValueError(f"{name} has values that do not rise")
