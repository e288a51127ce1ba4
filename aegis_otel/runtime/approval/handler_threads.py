"""Run a handler's blocking code off the event loop, when it is its turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aegis_otel.governance.approvals.question import NobodyToAsk, wait_for_turn
from aegis_otel.runtime.threads import Threads

T = TypeVar("T")

MOST_WAITING = 10_000
"""How many questions wait for their turn; one more is denied at once."""


async def in_turn(threads: Threads, blocking: Callable[[], T], why: str) -> T:
    """Return what `blocking` returns, called in one of `threads`.

    Args:
        threads: As many as may be asked at once.
        blocking: Asks.
        why: What the row says where the question expires before its turn.

    Raises:
        NobodyToAsk: too many questions wait already.
    """
    if threads.waiting >= MOST_WAITING:
        raise NobodyToAsk(f"{MOST_WAITING} questions wait already")
    begin = wait_for_turn(why)

    def run() -> T:
        begin()
        return blocking()

    return await threads.run(run)
