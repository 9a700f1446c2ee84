"""The mark that a stored memory carries: which schema its arrays follow, and which spmem wrote it last.

The root group's attributes hold ``{"spmem": {"schema": 1, "version": "0.1.0"}}``. The schema number rises when
an older reader could not read what is written; a reader takes every schema up to its own, and the first commit to a
memory of an older one raises it. ``docs/format.md`` has the schemas field by field.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from spmem.errors import NotAMemoryError, SchemaError

SCHEMA = 1


def mark() -> dict[str, Any]:
    """Attributes for the root group of a new memory."""
    return {"spmem": {"schema": SCHEMA, "version": version("spmem")}}


def is_marked(attributes: Mapping[str, Any]) -> bool:
    """Whether these are the root attributes of an spmem memory, of whatever schema."""
    return isinstance(attributes.get("spmem"), dict)


def check(attributes: Mapping[str, Any], place: object) -> None:
    """Raise unless this version reads the memory whose root attributes are given.

    Raises:
        NotAMemoryError: The mark is missing.
        SchemaError: The schema is newer than this version's, or no number.
    """
    if not is_marked(attributes):
        raise NotAMemoryError(f"{place} holds Zarr arrays on Icechunk, but not an spmem memory")
    mark = attributes["spmem"]
    schema, writer = mark.get("schema"), mark.get("version", "of unknown version")
    if not isinstance(schema, int) or schema < 1:
        raise SchemaError(f"{place}: the schema number is {schema!r}, wanted 1 to {SCHEMA}")
    if schema > SCHEMA:
        raise SchemaError(
            f"{place} was written by spmem {writer} with schema {schema}; this is spmem {version('spmem')}, "
            f"which reads schemas up to {SCHEMA}: pip install --upgrade spmem"
        )
