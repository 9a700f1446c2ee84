"""Icechunk repositories: finding, making and replacing them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import icechunk
import zarr
from zarr.errors import GroupNotFoundError

from spmem.errors import InputError, NotAMemoryError, ReadOnlyError
from spmem.names import MAIN
from spmem.stores.keyframes.zarr import schema
from spmem.stores.keyframes.zarr.commits import sync_tree
from spmem.stores.keyframes.zarr.errors import store_errors
from spmem.stores.keyframes.zarr.location import StoreLocation
from spmem.stores.keyframes.zarr.untrusted import reject_links

# Icechunk warns on stdout, whenever a local folder is opened, that commits of two processes may race; commits here
# hold a lock. It also reports there each place where no region or credentials were found, before the error that reports
# the same. Only these sources are quietened, and not where the user has chosen what Icechunk logs.
if "ICECHUNK_LOG" not in os.environ:
    icechunk.set_logs_filter("warn,icechunk::storage::object_store=error,aws_config=error")

LayOut = Callable[[zarr.Group], None]


def open_repository(
    location: StoreLocation, mode: str, lay_out: LayOut, *, forced: bool = False
) -> icechunk.Repository:
    """The memory's repository at a location, made where ``mode`` is ``a`` or ``w`` and there is none.

    ``lay_out`` makes the arrays of a new memory below its root group; ``forced`` leaves a new one on the disk.

    Raises:
        NotAMemoryError: Something else is there, or nothing and mode is ``r``.
        SchemaError: Written by a newer version.
        ReadOnlyError: The folder cannot be written and mode is ``a`` or ``w``.
        InputError: Mode is ``w`` and a memory is there that lies in no local folder.
        StoreError: The repository is damaged, or the disk full.
    """
    with store_errors(location):
        if location.folder is None:
            _prepare_address(location, mode, lay_out)
        else:
            _prepare_folder(location, location.folder, mode, lay_out, forced)
        repository = _load(location)
        schema.check_schema(_attributes(repository), location)
        return repository


def stored_bytes(location: StoreLocation) -> int:
    """Bytes that a memory takes with all its history; at an address those of its chunks. Raises StoreError."""
    if location.folder is not None:
        return sum(file.stat().st_size for file in location.folder.rglob("*") if file.is_file())
    with store_errors(location):
        return int(_load(location).chunk_storage_stats().native_bytes)


def _prepare_folder(
    location: StoreLocation, path: Path, mode: str, lay_out: LayOut, forced: bool
) -> None:
    other = _other_content(path)
    if other is None:
        reject_links(path)
    if mode == "r" and other is not None:
        raise NotAMemoryError(f"{path} is no spmem memory: {other}")
    if other not in (None, "nothing is there", "the folder is empty"):
        raise NotAMemoryError(
            f"{path} is no spmem memory and stays untouched: {other}; choose another path"
        )
    if mode != "r":
        _require_writable(path)
    if other is not None:
        _create(path, lay_out, forced)
    elif mode == "w":
        if not schema.is_marked(_attributes(_load(location))):
            raise NotAMemoryError(f"{path} is an Icechunk repository, but no spmem memory")
        _replace(path, lay_out, forced)


def _prepare_address(location: StoreLocation, mode: str, lay_out: LayOut) -> None:
    location.require_answer()
    if icechunk.Repository.exists(location.storage()):
        if mode == "w":
            raise InputError(
                f"{location}: mode 'w' replaces memories in local folders only; delete the prefix first, or take another"
            )
        return
    if mode == "r":
        raise NotAMemoryError(f"{location} is no spmem memory: nothing is there")
    _lay_out(location.storage(), lay_out)


def _load(location: StoreLocation) -> icechunk.Repository:
    config = _config()
    if location.folder is not None:
        # What Icechunk reads from a local file in one request comes in pieces of 8 KiB; in several, as large as each.
        # Two cost the least (measured, 200 kB: a third less than its five).
        two = icechunk.StorageConcurrencySettings(
            max_concurrent_requests_for_object=2, ideal_concurrent_request_size=4096
        )
        config.storage = icechunk.StorageSettings(concurrency=two)
    return icechunk.Repository.open(location.storage(), config=config)


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
        return dict(
            zarr.open_group(repository.readonly_session(MAIN).store, mode="r", zarr_format=3).attrs
        )
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
    nearest = path
    while not nearest.exists():
        nearest = nearest.parent
    inside = nearest.iterdir() if nearest == path else ()
    folders = [nearest, *(entry for entry in inside if entry.is_dir())]
    for folder in folders:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ReadOnlyError(f"{folder} cannot be written; open with mode='r', or elsewhere")


def _lay_out(storage: icechunk.Storage, lay_out: LayOut) -> None:
    session = icechunk.Repository.create(storage, _config()).writable_session(MAIN)
    lay_out(zarr.create_group(session.store, attributes=schema.schema_attributes()))
    session.commit("created")


def _create(path: Path, lay_out: LayOut, forced: bool) -> None:
    # Made beside and moved into place: whoever looks sees no memory or a whole one.
    path.parent.mkdir(parents=True, exist_ok=True)
    new = _beside(path)
    try:
        new.mkdir()
        _lay_out(icechunk.local_filesystem_storage(str(new)), lay_out)
        if forced:
            sync_tree(new)
        if path.exists():
            path.rmdir()  # an empty folder, else this fails
        new.rename(path)
        if forced:
            sync_tree(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _replace(path: Path, lay_out: LayOut, forced: bool) -> None:
    old = _beside(path)
    path.rename(old)
    try:
        _create(path, lay_out, forced)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex}")
