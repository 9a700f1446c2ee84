"""What goes wrong below a bank: Icechunk's errors and the system's become spmem's."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import icechunk

from spmem.errors import ConflictError, ReadOnlyError, StoreError
from spmem.stores.keyframes.zarr.forks import require_icechunk

_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def store_errors(where: object) -> Iterator[None]:
    """Turn Icechunk's and the system's errors into spmem's, with the path and the cause in one line."""
    require_icechunk(where)
    try:
        yield
    except StoreError:
        raise
    except icechunk.ConflictError as error:
        raise ConflictError(
            f"{where}: another writer has committed to this branch since this memory was opened, and a branch has one "
            "writer at a time; nothing was overwritten. fork(name) keeps what this one holds on a branch of its own; "
            "or open the memory again and store the frames since the last commit again"
        ) from error
    except (icechunk.IcechunkError, OSError) as error:
        cause = cause_of(error)
        number = _errno(error)
        if number in _FULL:
            raise StoreError(
                f"{where}: no space to write ({cause}); the last commit is intact: free some space and commit again"
            ) from error
        if number in _DENIED:
            raise ReadOnlyError(f"{where} cannot be written ({cause})") from error
        raise StoreError(f"{where}: {cause}") from error


def cause_of(error: Exception) -> str:
    """One line: Icechunk's messages are trees, where the system's own words or else the last branch name the cause."""
    system = re.search(r"[^:\n]+\(os error \d+\)", str(error))
    lines = [line.strip(" |`->x") for line in (system[0] if system else str(error)).splitlines()]
    return next((line for line in reversed(lines) if line), type(error).__name__)


def _errno(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
