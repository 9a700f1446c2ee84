"""What every part asks of arrays that it takes back."""

from __future__ import annotations

import numpy as np

from spmem.protocols import Arrays


def require_finite(arrays: Arrays) -> None:
    """Raise ValueError if an array of floats has a value that is not finite."""
    for name, array in arrays.items():
        # A NaN is its own least and largest.
        ends = (array.min(initial=0), array.max(initial=0)) if array.dtype.kind == "f" else ()
        if not np.isfinite(ends).all():
            raise ValueError(f"{name} has values that are not finite")
