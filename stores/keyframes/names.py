"""The names that branches and tags may bear: never a path, the same on every system."""

from __future__ import annotations

import re

from spmem.errors import InputError

MAIN = "main"
"""The branch that every memory has."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def checked_name(name: str, what: str) -> str:
    """A name that a branch or tag may bear. Raises InputError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"{name!r} names no {what}: letters, digits and _ . - are, at most 100")
    return name
