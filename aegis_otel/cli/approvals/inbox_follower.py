"""Follow an inbox, for the page and the notifications: all that waits in it, and then each change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from aegis_otel.governance.approvals.inbox import Inbox, QuestionState, QuestionStatus

EXPIRE_EVERY_S = 5.0
"""Seconds between two times at which questions are ended whose time is over."""
_AT_ONCE = 500
"""Questions that are read in one step, so that no step takes long."""


class InboxFollower:
    """Reads an inbox for one reader, who calls `poll` again and again: in one thread at a time.

    Args:
        inbox: Where the questions are.
        monotonic: A clock in seconds.
    """

    def __init__(self, inbox: Inbox, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._inbox = inbox
        self._monotonic = monotonic
        self._seen: int | None = None
        self._expired_at = float("-inf")

    @property
    def change(self) -> int:
        """Return the number of the last change that was read; 0 before the first."""
        return self._seen or 0

    def poll(self) -> Iterator[Sequence[QuestionState]]:
        """End what is due; then yield what has changed since the last time, or first all that waits.

        Questions come in parts. A part counts as read when the next one is asked for: where its reader fails,
        the next `poll` has it again.

        Raises:
            StateError: the inbox cannot be reached.
        """
        if self._monotonic() > self._expired_at + EXPIRE_EVERY_S:
            self._inbox.expire()
            self._expired_at = self._monotonic()
        if self._seen is None:
            change = self._inbox.counts().change
            last: str | None = None
            while states := self._inbox.listing((QuestionStatus.WAITING,), _AT_ONCE, last):
                yield states
                last = states[-1].question.decision_id
            self._seen = change
        while states := self._inbox.changes(self._seen, _AT_ONCE):
            yield states
            self._seen = states[-1].change

    def start_again(self) -> None:
        """Have the next `poll` yield all that waits."""
        self._seen = None
