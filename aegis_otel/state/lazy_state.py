"""A state that is opened when it is first used, with a circuit breaker.

While the state is out of reach, calls fail at once: nobody waits for it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from aegis_otel.errors import StateError
from aegis_otel.model import SeriesQuery, Tally
from aegis_otel.state.engine import PATIENCE_S, Decide, SharedState, StateBusyError, StateFacts, Transaction

_log = logging.getLogger("aegis_otel")
_OUTAGE_S = 0.5
"""Seconds after which a failure is that of an outage: others need not find it out for themselves."""
_MOST_UNSETTLED = 10_000
"""Outcomes that are kept for later while the state is out of reach."""
_SETTLED_AT_ONCE = 64
"""Of these, how many are written with the next one: the answer of a tool waits for that."""


class LazyState:
    """A state that is opened when it is first used; see `engine.SharedState`.

    A caller that waited in vain saves all others the wait: for as long again, they get its error at once.
    Then one of them tries. An error that comes at once is nobody's but the caller's, so a server that is
    started again is used at once.

    How a call ended while the state was out of reach is written after that of a later call, by `close`, or by
    `settle_last` at the end of the process.

    Args:
        opened: Returns the state, which connects to nothing and opens no file before it is used.
    """

    def __init__(self, opened: Callable[[], SharedState]) -> None:
        self._open = opened
        self._state: dict[str, SharedState] = {}
        """The state, once it is used. A dict, because that keeps the first of several in one step."""
        self._failure: str | None = None
        """Why the state is out of reach, where it is."""
        self._try_at = 0.0
        """When it is tried again, on the clock of `time.monotonic`."""
        self._unsettled: deque[tuple[str, str | None]] = deque()

    def judge(
        self, decision_id: str, queries: Sequence[SeriesQuery], decide: Decide, without: Sequence[str] = ()
    ) -> None:
        with self._reached() as state:
            state.judge(decision_id, queries, decide, without)

    def read(self, queries: Sequence[SeriesQuery], without: Sequence[str] = ()) -> dict[SeriesQuery, Tally]:
        with self._reached() as state:
            return state.read(queries, without)

    def settle(self, decision_id: str, outcome: str | None) -> None:
        self._settle(decision_id, outcome)
        self._settle_late()

    @contextmanager
    def transaction(self, *, writes: bool = True) -> Iterator[Transaction]:
        with self._reached() as state, state.transaction(writes=writes) as transaction:
            yield transaction

    def inspect(self) -> StateFacts:
        return self._used.inspect()

    def close(self) -> None:
        while self._settle_late():
            pass
        if (state := self._state.get("state")) is not None:
            state.close()

    @property
    def _used(self) -> SharedState:
        state = self._state.get("state")
        if state is None:
            # Of those that several threads make at once, all use the first: another one would have its own
            # connections. What is not used has opened nothing. A lock would stay locked in a forked child.
            state = self._state.setdefault("state", self._open())
        return state

    @contextmanager
    def _reached(self) -> Iterator[SharedState]:
        """Return a context for one use of the state.

        Raises:
            StateError: it is out of reach, as somebody has just found.
        """
        began = time.monotonic()
        if self._failure is not None:
            if began < self._try_at:
                raise StateError(self._failure)
            self._try_at = began + PATIENCE_S  # the others go by what this one finds
        try:
            yield self._used
        except StateBusyError:
            raise
        except StateError as error:
            now = time.monotonic()
            self._failure = str(error) if now - began >= _OUTAGE_S else None
            self._try_at = now + (now - began)
            raise
        else:
            self._failure = None

    def _settle(self, decision_id: str, outcome: str | None) -> None:
        try:
            with self._reached() as state:
                state.settle(decision_id, outcome)
        except StateError:
            if len(self._unsettled) < _MOST_UNSETTLED:
                self._unsettled.append((decision_id, outcome))
                _unsettled_states.add(self)
            else:
                _log.error("how decision %s ended stays unknown to later calls", decision_id)
            raise

    def settle_last(self) -> None:
        """Try once more to write how calls ended, for as long as a call waits for the state."""
        until = time.monotonic() + PATIENCE_S
        self._try_at = 0.0
        while self._settle_late(1) and time.monotonic() < until:
            pass
        if self._unsettled:
            _log.error("how %d calls ended stays unknown to later calls", len(self._unsettled))

    def _settle_late(self, most: int = _SETTLED_AT_ONCE) -> bool:
        """Write some outcomes that could not be written before; return whether there may be more."""
        for _ in range(most):
            try:
                unsettled = self._unsettled.popleft()
            except IndexError:
                return False
            try:
                self._settle(*unsettled)
            except StateError:
                return False  # it is kept, and so are the others
        return True


_unsettled_states: set[LazyState] = set()
"""Those that had an outcome which they could not write at once."""


def settle_last() -> None:
    """Try once more to write how calls ended, at the end of a process, when nothing else writes any more."""
    for state in list(_unsettled_states):
        state.settle_last()
