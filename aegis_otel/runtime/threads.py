"""Run work that would hold the event loop in a bounded number of threads."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from typing import Any, NamedTuple, TypeVar

from aegis_otel.governance.error_text import describe

T = TypeVar("T")
_FINISH_PAUSE_S = 0.005


class Threads:
    """At most `limit` daemon threads, which exist only while there is work; more work waits its turn.

    Not asyncio's default executor: a program's own blocking code can use that up, and it holds up the
    exit of the process.

    Args:
        name: The name of the threads.
        limit: The most threads there are.
        linger_s: Seconds for which a thread without work waits for more.
    """

    def __init__(self, name: str, limit: int, *, linger_s: float = 0.0) -> None:
        self._name = name
        self._limit = limit
        self._linger_s = linger_s
        self._begin_again()
        _every.add(self)

    def _begin_again(self) -> None:
        """Start empty: threads do not survive a fork, and the work of the parent is the parent's."""
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._threads = 0
        self._idle = 0
        self._starting = 0

    @property
    def waiting(self) -> int:
        """Return how many pieces of work wait for their turn."""
        return len(self._jobs)

    def finish(self, patience_s: float) -> bool:
        """Wait until all work is done, at most so many seconds; return whether it is."""
        until = time.monotonic() + patience_s
        while self._jobs or self._threads > self._idle:
            if time.monotonic() >= until:
                return False
            time.sleep(_FINISH_PAUSE_S)
        return True

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Return what `work` returns, or raise what it raises, run in a thread with the caller's context.

        When this is cancelled, work that has not begun never begins; a thread that has begun is left to
        end by itself. It is no task, so `asyncio.run` does not cancel it when it ends.

        Raises:
            RuntimeError: the process can have no more threads.
        """
        return asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Return the future of `work`, which a thread runs in the caller's context.

        Raises:
            RuntimeError: the process can have no more threads.
        """
        outcome: Future[T] = Future()
        job = _Job(work, copy_context(), outcome)
        with self._changed:
            self._jobs.append(job)
            if self._idle:
                self._changed.notify()
            wanted = self._wants_another()
        if wanted and not self._start() and not self._threads:
            self._jobs.remove(job)
            raise RuntimeError("the process can have no more threads")
        return outcome

    def _wants_another(self) -> bool:
        """Return whether a thread is to be started, which then counts; to be called under the lock."""
        wanted = bool(self._jobs) and not self._idle and not self._starting and self._threads < self._limit
        if wanted:
            self._threads += 1
            self._starting += 1
        return wanted

    def _start(self) -> bool:
        """Start the thread that counts already; return whether it runs. Not under the lock: it takes time."""
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:
            with self._changed:
                self._threads -= 1
                self._starting -= 1
            return False
        return True

    def _work(self) -> None:
        with self._changed:
            self._starting -= 1
        while (job := self._next()) is not None:
            job.run()

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._jobs:
                self._idle += 1
                more = self._linger_s > 0 and self._changed.wait(self._linger_s)
                self._idle -= 1
                if not more and not self._jobs:
                    self._threads -= 1
                    return None
            job = self._jobs.popleft()
            wanted = self._wants_another()
        if wanted:  # one thread starts the next, so that a burst of work does not hold the loop for each
            self._start()
        return job


class _Job(NamedTuple):
    work: Callable[[], Any]
    context: Context
    outcome: Future[Any]

    def run(self) -> None:
        if not self.outcome.set_running_or_notify_cancel():
            return
        try:
            self.outcome.set_result(self.context.run(self.work))
        except BaseException as error:
            # A future cannot carry a StopIteration, and a SystemExit would end the thread or the loop.
            plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
            self.outcome.set_exception(error if plain else RuntimeError(describe(error)))


_every: weakref.WeakSet[Threads] = weakref.WeakSet()


def _begin_again_in_child() -> None:
    for threads in _every:
        threads._begin_again()


os.register_at_fork(after_in_child=_begin_again_in_child)
