"""What branches, tags and keyframes are known by: names that are never a path, and uids."""

from __future__ import annotations

import re

from spmem.errors import InputError
from spmem.keyframes import new_uid

MAIN = "main"
"""The branch that every memory has."""

UID_BYTES = 16
"""Length of a keyframe's uid."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def checked_name(name: str, what: str) -> str:
    """A name that a branch or tag may bear. Raises InputError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"invalid {what} name {name!r}: use letters, digits, '_', '.', '-', at most 100"
        )
    return name


def checked_uid(uid: bytes | None) -> bytes:
    """A keyframe's uid, or a new random one for None. Raises InputError."""
    if uid is None:
        return new_uid()
    if not isinstance(uid, bytes) or len(uid) != UID_BYTES:
        raise InputError(f"a keyframe's uid is {UID_BYTES} bytes, got {uid!r}")
    return uid
