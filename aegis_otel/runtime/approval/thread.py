"""A handler's blocking code, off the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

from aegis_otel.runtime.describe import describe

T = TypeVar("T")


async def in_thread(blocking: Callable[[], T]) -> T:
    """What `blocking` returns or raises, run in a thread of its own with the caller's context.

    When this is cancelled, the thread is left to end by itself; it does not hold up the process's exit.
    """
    # Not asyncio.to_thread: its pool would be used up by questions that wait, and holds up exit.
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()
    context = copy_context()

    def run() -> None:
        try:
            outcome.set_result(context.run(blocking))
        except BaseException as error:
            # What no future can carry, and what would end the thread or the loop in place of the question.
            plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
            outcome.set_exception(error if plain else RuntimeError(describe(error)))

    threading.Thread(target=run, name="aegis-approval", daemon=True).start()
    return await asyncio.wrap_future(outcome)
