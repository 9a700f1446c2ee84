"""Writing a file or a folder so that it appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from spmem.errors import FormatError


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A binary file to write, renamed to ``path`` once it is complete.

    Raises FormatError where ``path`` exists and ``overwrite`` is False, or is a folder.
    """
    if path.is_dir():
        raise FormatError(path, "is a folder; wanted a file's name")
    if path.exists() and not overwrite:
        raise FormatError(path, "exists; pass overwrite=True to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _sibling_path(path, "partial")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """An empty folder to fill, renamed to ``path`` once it is complete; what was there goes only then.

    Raises FormatError where ``path`` is a file, or holds anything and ``overwrite`` is False.
    """
    if path.exists() and not path.is_dir():
        raise FormatError(path, "is a file; wanted a folder's name")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise FormatError(path, "is not empty; pass overwrite=True to replace all that is in it")
    partial, previous = _sibling_path(path, "partial"), _sibling_path(path, "previous")
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            path.rename(previous)
        try:
            partial.rename(path)
        except OSError:
            if previous.exists():
                previous.rename(path)
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if path.exists():
            shutil.rmtree(previous, ignore_errors=True)


def _sibling_path(path: Path, why: str) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.{why}")
