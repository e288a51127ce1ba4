"""A handler's blocking code, off the event loop and in its turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aegis_otel.governance.question import NobodyToAsk, wait_for_turn
from aegis_otel.runtime.threads import Threads

T = TypeVar("T")

CALLBACKS = 64
"""How many functions are asked at once in a process. With a thread for each question, 2,000 questions held
the event loop for 5.4 s, nearly all of it to start threads."""
MOST_WAITING = 10_000
"""How many questions wait for their turn; one more is denied at once."""

_callbacks = Threads("aegis-approval", CALLBACKS)
_terminal = Threads("aegis-approval", 1)  # there is one keyboard


async def call_back(callback: Callable[[], T]) -> T:
    """Return what `callback` returns, called in one of the threads for functions that are asked."""
    why = f"its turn never came, because {CALLBACKS} other functions had not returned"
    return await _in_turn(_callbacks, callback, why)


async def prompt(show: Callable[[], T]) -> T:
    """Return what `show` returns, called when the terminal is free."""
    return await _in_turn(_terminal, show, "it was never shown, because the terminal asks one at a time")


async def _in_turn(threads: Threads, blocking: Callable[[], T], why: str) -> T:
    if threads.waiting >= MOST_WAITING:
        raise NobodyToAsk(f"{MOST_WAITING} questions wait already")
    begin = wait_for_turn(why)

    def run() -> T:
        begin()
        return blocking()

    return await threads.run(run)
