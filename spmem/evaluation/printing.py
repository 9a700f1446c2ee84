"""Results as one line of JSON on stdout, for commands and benchmarks alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def print_json(result: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout; NaN and infinite values become null."""
    print(json.dumps(_replace_non_finite(result), allow_nan=False), flush=True)


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _replace_non_finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(one) for one in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
