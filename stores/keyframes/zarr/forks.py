"""Icechunk in forked processes: its threads are not there, so that whoever waits for them waits for ever."""

from __future__ import annotations

import os

from spmem.errors import StoreError


class _State:
    used = False  # by this process, or by one that it was forked from
    forked = False  # since it was used


def require_icechunk(where: object) -> None:
    """Note that Icechunk is going to be used. Raises StoreError if the process was forked from one that used it."""
    if _State.forked:
        raise StoreError(
            f"{where}: this process was forked from one that had a memory on disk open, and what reads it does not work "
            'after a fork. Start workers with "spawn" or "forkserver" (a reader, mode="r", travels to them); or '
            "open memories on disk in the forked workers only"
        )
    _State.used = True


def _after_fork() -> None:
    _State.forked = _State.used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
