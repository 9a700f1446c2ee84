"""Icechunk repositories in local folders: finding, making and replacing them, and what goes wrong with them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import icechunk
import zarr
from zarr.errors import GroupNotFoundError

from spmem.errors import NotAMemoryError, ReadOnlyError, StoreError
from spmem.stores import schema

if sys.platform != "win32":
    import fcntl

# Icechunk warns on stdout, whenever a local folder is opened, that commits of two processes may race; commits here
# hold a lock. Only that source is quietened, and not where the user has chosen what Icechunk logs.
if "ICECHUNK_LOG" not in os.environ:
    icechunk.set_logs_filter("warn,icechunk::storage::object_store=error")

_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def open_repository(
    path: Path, mode: str, lay_out: Callable[[zarr.Group], None]
) -> icechunk.Repository:
    """The memory's repository at ``path``, made where ``mode`` is ``a`` or ``w`` and there is none.

    ``lay_out`` makes the arrays of a new memory below its root group.

    Raises:
        NotAMemoryError: Something else is there, or nothing and mode is ``r``.
        SchemaError: Written by a newer version.
        ReadOnlyError: The folder cannot be written and mode is ``a`` or ``w``.
        StoreError: The repository is damaged, or the disk full.
    """
    with store_errors(path):
        other = _other_content(path)
        if mode == "r" and other is not None:
            raise NotAMemoryError(f"{path} is no spmem memory: {other}")
        if other not in (None, "nothing is there", "the folder is empty"):
            raise NotAMemoryError(
                f"{path} is no spmem memory and stays untouched: {other}; choose another path"
            )
        if mode != "r":
            _require_writable(path)
        if other is not None:
            _create(path, lay_out)
        elif mode == "w":
            if not schema.is_marked(_attributes(_load(path))):
                raise NotAMemoryError(f"{path} is an Icechunk repository, but no spmem memory")
            _replace(path, lay_out)
        repository = _load(path)
        schema.check(_attributes(repository), path)
        return repository


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn Icechunk's and the system's errors into spmem's, with the path and the cause in one line."""
    try:
        yield
    except StoreError:
        raise
    except icechunk.ConflictError as error:
        raise StoreError(
            f"{path}: another writer has committed since this memory was opened, and a memory has one writer at a "
            "time; nothing was overwritten. Close it, open it again and store the frames since the last commit anew"
        ) from error
    except (icechunk.IcechunkError, OSError) as error:
        cause = cause_of(error)
        number = _errno(error)
        if number in _FULL:
            raise StoreError(
                f"{path}: no space to write ({cause}); the last commit is intact: free some space and commit again"
            ) from error
        if number in _DENIED:
            raise ReadOnlyError(f"{path} cannot be written ({cause})") from error
        raise StoreError(f"{path}: {cause}") from error


@contextmanager
def commit_lock(path: Path) -> Iterator[None]:
    """Hold the folder for one commit.

    On local files Icechunk's compare-and-set of a branch is two steps: of two processes that commit at the same
    moment one can lose its commit unnoticed (measured: 78 of 371). An advisory lock on the folder makes it one step.
    """
    if sys.platform == "win32":
        yield
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def cause_of(error: Exception) -> str:
    """One line: Icechunk's messages are trees, where the system's own words or else the last branch tell the cause."""
    told = re.search(r"[^:\n]+\(os error \d+\)", str(error))
    lines = [line.strip(" |`->x") for line in (told[0] if told else str(error)).splitlines()]
    return next((line for line in reversed(lines) if line), type(error).__name__)


def _load(path: Path) -> icechunk.Repository:
    return icechunk.Repository.open(_storage(path), config=_config())


def _storage(path: Path) -> icechunk.Storage:
    return icechunk.local_filesystem_storage(str(path))


def _config() -> icechunk.RepositoryConfig:
    # Chunk references go into manifests of 4096, so that a commit rewrites the last one and not all.
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {
            icechunk.ManifestSplitCondition.AnyArray(): {
                icechunk.ManifestSplitDimCondition.Axis(0): 4096
            }
        }
    )
    # Loading ahead goes on in the background, and logs an error to stdout where the memory is replaced meanwhile.
    no_preload = icechunk.ManifestPreloadConfig(
        max_total_refs=0, preload_if=icechunk.ManifestPreloadCondition.false()
    )
    return icechunk.RepositoryConfig(
        manifest=icechunk.ManifestConfig(splitting=splitting, preload=no_preload)
    )


def _attributes(repository: icechunk.Repository) -> dict[str, object]:
    try:
        return dict(zarr.open_group(repository.readonly_session("main").store, mode="r").attrs)
    except GroupNotFoundError:
        return {}


def _other_content(path: Path) -> str | None:
    """What is at ``path`` where it is no Icechunk repository; None where it is one."""
    if not path.exists():
        return "nothing is there"
    if not path.is_dir():
        return "a file is there"
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return "the folder is empty"
    if {"refs", "snapshots"} <= set(names):
        return None
    if {"zarr.json", ".zgroup", ".zarray"} & set(names):
        return "plain Zarr, without Icechunk, is there"
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"the folder holds {', '.join(names[:3])}{rest}"


def _require_writable(path: Path) -> None:
    place = path
    while not place.exists():
        place = place.parent
    folders = [place, *(entry for entry in place.iterdir() if place == path and entry.is_dir())]
    for folder in folders:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ReadOnlyError(f"{folder} cannot be written; open with mode='r', or elsewhere")


def _create(path: Path, lay_out: Callable[[zarr.Group], None]) -> None:
    # Made beside and moved into place: whoever looks sees no memory or a whole one.
    path.parent.mkdir(parents=True, exist_ok=True)
    new = _beside(path)
    try:
        new.mkdir()
        session = icechunk.Repository.create(_storage(new), _config()).writable_session("main")
        lay_out(zarr.create_group(session.store, attributes=schema.mark()))
        session.commit("created")
        if path.exists():
            path.rmdir()  # an empty folder, else this fails
        new.rename(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _replace(path: Path, lay_out: Callable[[zarr.Group], None]) -> None:
    old = _beside(path)
    path.rename(old)
    try:
        _create(path, lay_out)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex}")


def _errno(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
