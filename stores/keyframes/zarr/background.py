"""Writing in the background, in order, within a bound."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class BackgroundWriter:
    """Does jobs one after another in a thread of its own; what goes wrong surfaces at the next call.

    Args:
        room: Bytes that the jobs that are not done yet may hold; who hands over more waits (one job always fits).
    """

    def __init__(self, room: int) -> None:
        self._room, self._waiting = room, 0
        self._pool = ThreadPoolExecutor(1, "spmem-writer")
        self._coders = ThreadPoolExecutor(os.cpu_count() or 1, "spmem-coder")
        self._jobs: deque[tuple[Future[object], int]] = deque()

    def code(self, encode: Callable[..., T], *given: object) -> Future[T]:
        """Encode on any core, out of order, what a job is going to write; the job waits for it."""
        return self._coders.submit(encode, *given)

    def put(self, job: Callable[[], object], size: int = 0) -> None:
        """Hand over a job that holds ``size`` bytes. Raises what an earlier one raised; this one is not taken then."""
        while self._jobs and (self._jobs[0][0].done() or self._waiting + size > self._room):
            self._first()
        self._jobs.append((self._pool.submit(job), size))
        self._waiting += size

    def wait(self) -> None:
        """Return when all jobs are done; raises what the first that failed raised."""
        error: Exception | None = None
        while self._jobs:
            try:
                self._first()
            except Exception as raised:
                error = error or raised
        if error is not None:
            raise error

    def run(self, job: Callable[[], T]) -> T:
        """Do a job after all others, and return what it returns or raise what it raises.

        An interrupt (Ctrl-C) ends the waiting and never the job: whoever comes next waits for it.
        """
        self.wait()
        self._jobs.append((self._pool.submit(job), 0))
        future: Future[T] = self._jobs[0][0]  # type: ignore[assignment]
        try:
            return future.result()
        finally:
            if future.done():
                self._jobs.clear()

    def stop(self) -> None:
        """Take no more jobs; those that were taken are done."""
        try:
            self._coders.shutdown(wait=True)
        finally:
            self._pool.shutdown(wait=True)
            self._jobs.clear()

    def _first(self) -> None:
        job, size = self._jobs[0]
        try:
            job.result()
        finally:
            if job.done():  # else an interrupt has ended the waiting
                self._jobs.popleft()
                self._waiting -= size
