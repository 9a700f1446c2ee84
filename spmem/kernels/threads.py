"""Kernels on several threads, which sleep while nothing is to be done.

A kernel that may be shared takes its turns with ``for i in claimed(turns)``, where ``turns`` is its first argument.
:func:`shared` calls it: on this thread alone if the work is small, else on helpers too. All claim runs of turns from one
counter, so whoever is late finds less to do, and nobody waits for a helper that the system has not woken yet. So a
machine that is busy with other work costs what it must, and no more: numba's own layers split the turns beforehand and
wait for the slowest thread (OpenMP's spin meanwhile), they allow one caller at a time or end the process, and a forked
process hangs in them.

No more threads take part than ``torch.get_num_threads()`` says; that setting is only read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Concatenate, ParamSpec

import numpy as np
import torch
from numpy.typing import NDArray

from spmem.kernels.jit import fetch_add, njit

P = ParamSpec("P")
Turns = NDArray[np.int64]
"""The next turn, how many there are, and how many are claimed at once."""

NEXT, COUNT, GRAIN = 0, 1, 2

WORTH = 500.0
"""Microseconds of work for each thread, below which one thread less takes part.

Measured at 320x240 on two cores, real-time priority, calls in turn, medians of ``store`` and ``retrieve``: one thread 7.20 and 9.35 ms;
100: 6.42 and 7.86; 250: 6.44 and 8.16; 500: 6.66 and 8.47; 1000: 6.81 and 8.63. What two threads win at this size is little,
and at load 4 each further thread is one more to wait for.
"""

RUNS = 8
"""Runs of turns for each thread, so that they end about together."""


@njit(cached=False)  # numba cannot compile a caller of a generator that it has from its cache
def claimed(turns: Turns) -> Iterator[int]:
    """The turns that this thread takes: runs of them, until none is left."""
    count, grain = turns[COUNT], turns[GRAIN]
    start = fetch_add(turns, grain)
    while start < count:
        for turn in range(start, min(start + grain, count)):  # noqa: UP028 - not in numba
            yield turn
        start = fetch_add(turns, grain)


def shared(
    kernel: Callable[Concatenate[Turns, P], None], turns: int, each: float
) -> Callable[P, None]:
    """A kernel, to be called without its first argument, on as many threads as its work is worth.

    Args:
        kernel: A compiled function that takes its turns with :func:`claimed` and answers in its arguments. Turns come
            in any order, some at the same time.
        turns: How many there are.
        each: Microseconds that one of them takes, about.
    """

    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        threads = min(torch.get_num_threads(), turns, int(turns * each / WORTH))
        if threads < 2:
            kernel(np.array([0, turns, max(turns, 1)]), *args, **kwargs)
        else:
            grain = max(1, turns // (RUNS * threads))
            job = _Job(kernel, np.array([0, turns, grain]), args)
            _helpers.call(job, threads - 1)
            job.do()

    return run


class _Job:
    """One call of a kernel: its caller works and then waits for those helpers alone that have begun."""

    def __init__(self, kernel: Callable[..., None], turns: Turns, args: tuple[Any, ...]) -> None:
        self._kernel, self._turns, self._args = kernel, turns, args
        self._lock, self._left = Lock(), Lock()
        self._inside, self._closed = 0, False
        self._error: BaseException | None = None
        self._left.acquire()

    def do(self) -> None:
        """Work with whoever helps until all turns are done."""
        try:
            self._kernel(self._turns, *self._args)
        finally:
            with self._lock:
                self._closed, busy = True, self._inside > 0
                self._turns[NEXT] = self._turns[COUNT]  # if this thread failed, nobody goes on
            if busy:
                _acquire(self._left)
            self._args = ()
        if self._error is not None:
            raise self._error

    def help(self) -> None:
        """Work, unless all is done."""
        with self._lock:
            if self._closed:
                return
            self._inside += 1
        try:
            self._kernel(self._turns, *self._args)
        except BaseException as error:
            self._error = error
        with self._lock:
            self._inside -= 1
            if self._closed and not self._inside:
                self._left.release()


def _acquire(lock: Any) -> None:
    """Wait for a lock, and be interrupted afterwards: helpers write to what the caller owns."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            lock.acquire()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


class _Helpers:
    """Threads that sleep until they are called, started when they are first wanted."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Job] = SimpleQueue()
        self._lock, self._threads = Lock(), 0

    def call(self, job: _Job, count: int) -> None:
        """Ask so many for help."""
        if self._threads < count:
            with self._lock:
                while self._threads < count:
                    self._threads += 1
                    Thread(target=self._serve, daemon=True, name="spmem-kernel").start()
        for _ in range(count):
            self._calls.put(job)

    def _serve(self) -> None:
        while True:
            self._calls.get().help()


_helpers = _Helpers()


def _after_fork() -> None:
    """In a forked process there are no helpers yet, and torch's own threads are not there: its OpenMP would wait for them."""
    global _helpers
    _helpers = _Helpers()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
