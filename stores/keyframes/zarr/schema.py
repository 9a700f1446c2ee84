"""The mark that a stored memory carries: which schema its arrays follow, and which spmem wrote it last.

The root group's attributes hold ``{"spmem": {"schema": 1, "version": "0.1.0"}}``. The schema number rises when
an older reader could not read what is written. A reader takes every schema up to its own: what an older one stored goes
through :data:`MIGRATIONS` as it is read, and the first commit writes it as the latest. ``docs/format.md`` has the schemas
field by field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeAlias

from numpy.typing import NDArray

from spmem.errors import NotAMemoryError, SchemaError

Columns: TypeAlias = dict[str, NDArray[Any]]
GroupContent: TypeAlias = tuple[Columns, dict[str, Any]]
"""The arrays of a group by name, and its attributes."""


def _same_columns(columns: Columns) -> Columns:
    return columns


def _same_group(name: str, content: GroupContent) -> GroupContent:
    return content


@dataclass(frozen=True)
class Migration:
    """How one schema's content reads in the next.

    columns: From the columns of the keyframes' table, by name, to those of the next schema.
    group: From the name and content of a group of arrays to the content of the next schema.
    """

    columns: Callable[[Columns], Columns] = _same_columns
    group: Callable[[str, GroupContent], GroupContent] = _same_group


SCHEMA = 1

MIGRATIONS: dict[int, Migration] = {}
"""By the schema that they start from, for each below :data:`SCHEMA`."""


def migrated_columns(columns: Columns, schema: int) -> Columns:
    """The columns of a table of this schema as those of the latest."""
    for step in range(schema, SCHEMA):
        columns = MIGRATIONS[step].columns(columns)
    return columns


def migrated_group(name: str, content: GroupContent, schema: int) -> GroupContent:
    """The content of a group of this schema as that of the latest."""
    for step in range(schema, SCHEMA):
        content = MIGRATIONS[step].group(name, content)
    return content


def schema_attributes() -> dict[str, Any]:
    """Attributes for the root group of a new memory."""
    return {"spmem": {"schema": SCHEMA, "version": version("spmem")}}


def is_marked(attributes: Mapping[str, Any]) -> bool:
    """Whether these are the root attributes of an spmem memory, of whatever schema."""
    return isinstance(attributes.get("spmem"), dict)


def check_schema(attributes: Mapping[str, Any], location: object) -> int:
    """The schema of the memory whose root attributes are given, if this version reads it.

    Raises:
        NotAMemoryError: The mark is missing.
        SchemaError: The schema is newer than this version's, or no number.
    """
    if not is_marked(attributes):
        raise NotAMemoryError(f"{location} holds Zarr arrays on Icechunk, but not an spmem memory")
    mark = attributes["spmem"]
    schema, writer = mark.get("schema"), mark.get("version", "of unknown version")
    if not isinstance(schema, int) or schema < 1:
        raise SchemaError(
            f"{location}: the schema number is {schema!r}, expected a whole number from 1"
        )
    if schema > SCHEMA:
        raise SchemaError(
            f"{location} was written by spmem {writer} with schema {schema}; this is spmem {version('spmem')}, "
            f"which reads schemas up to {SCHEMA}: pip install --upgrade spmem"
        )
    return schema
