"""Follow a body in a thread to its end, also where nobody waits for it any more.

Cancelling a coroutine does not stop the thread that it waits for: the work goes on and takes effect. Who
runs such a body says here when it begins and when it ends, and the governor asks when it is cancelled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple


class Failure(NamedTuple):
    """Why a body did not succeed, although it returned."""

    kind: str
    """Low in cardinality: `error.type`."""
    text: str
    """For the row's `result_error`; not yet redacted."""


class Cancelled(Enum):
    """The states that a body may be in when it is cancelled."""

    WAITED = auto()
    """It had not begun, and now never will."""
    STOPPED = auto()
    """It ran on the event loop, which has stopped it."""
    GOES_ON = auto()
    """It runs in a thread; whoever cancelled it is told how it ends."""


Ended = Callable[[BaseException | None, object], None]
"""Called once with the exception of the body, or None, and with what it returned."""


class Ending:
    """Follows one call's body in threads. Safe to use from any thread.

    Args:
        whole: Whether what runs in a thread is the whole body. Else something of it is on the event loop,
            and the end of a thread is not the end of the body.
    """

    __slots__ = ("_begun", "_ended", "_given_up", "_last", "_lock", "_running", "_whole")

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._lock = threading.Lock()
        self._running = 0
        self._begun = False
        self._given_up = False
        self._last: tuple[BaseException | None, object] = (None, None)
        self._ended: Ended | None = None

    def begin(self) -> bool:
        """Say that the body begins; whether it still may."""
        with self._lock:
            if self._given_up:
                return False
            self._begun = True
            self._running += 1
            return True

    def end(self, error: BaseException | None, value: object) -> None:
        """Say that it has ended."""
        with self._lock:
            self._running -= 1
            self._last = (error, value)
            told = self._ended if not self._running else None
            if told is not None:
                self._ended = None
        if told is not None:
            told(error, value)

    def cancel(self, told: Ended) -> Cancelled:
        """Find out what a body that is cancelled now was doing.

        Args:
            told: Called from its thread when it ends, or at once where it just has.
        """
        with self._lock:
            if self._running:
                self._ended = told
                return Cancelled.GOES_ON
            if not self._begun:
                self._given_up = True
                return Cancelled.WAITED if self._whole else Cancelled.STOPPED
            last = self._last
        if not self._whole:
            return Cancelled.STOPPED
        told(*last)
        return Cancelled.GOES_ON
