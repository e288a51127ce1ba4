"""Server-sent events: every open page hears within a second that something has changed, not what.

One task asks the inbox for all pages. A page then loads itself again, so that there is one way in which
values are rendered and escaped, and one check of who may see them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response, StreamingResponse

from aegis_otel.cli.approvals.page.board import WaitingBoard
from aegis_otel.errors import StateError
from aegis_otel.governance.error_text import traced

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

POLL_S = 0.5
LONGEST_S = 600.0
"""Seconds after which a stream ends; the browser begins a new one, and so says again who is signed in."""
MOST_OF_ONE = 20
"""Streams of one person. Beyond that, a page is loaded again now and then instead."""
_BEAT_S = 15.0
_log = logging.getLogger("aegis_otel")


class ChangeStream:
    """Tells open pages that the board has changed. Its methods run on the event loop."""

    def __init__(self, board: WaitingBoard) -> None:
        self._board = board
        self.most_streams = 1_000
        """Streams of all people together."""
        self._listeners: dict[asyncio.Event, str] = {}
        """What tells each open page, and whose page it is."""
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def listen(self, name: str) -> Response:
        """Return the response to one page of a person: its events, or status 503 where too many are open.

        It takes its place now, and gives it back when it is over: others may ask before it begins.
        """
        own = sum(each == name for each in self._listeners.values())
        if own >= MOST_OF_ONE or len(self._listeners) >= self.most_streams:
            return PlainTextResponse("Too many pages are open.\n", 503)
        changed = asyncio.Event()
        self._listeners[changed] = name
        return _Stream(self._events(changed), partial(self._listeners.pop, changed))

    async def _events(self, changed: asyncio.Event) -> AsyncIterator[str]:
        """Yield the events for one page: one at once, then one for each change."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + LONGEST_S
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._watch())
        yield "retry: 1000\n\n"
        yield self._event()
        while not self._over.is_set() and (left := ends - loop.time()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left, _BEAT_S))
            if self._over.is_set():
                return
            yield self._event() if changed.is_set() else ": still here\n\n"
            changed.clear()

    def end(self) -> None:
        """End all streams, so that the server can stop."""
        self._over.set()
        self._wake()

    def _event(self) -> str:
        return f"event: change\ndata: {self._board.version}\n\n"

    def _wake(self) -> None:
        for each in self._listeners:
            each.set()

    async def _watch(self) -> None:
        """Look for changes for as long as somebody listens."""
        was_reached = True
        has_failed = False
        while self._listeners and not self._over.is_set():
            before = self._board.version
            try:
                await asyncio.to_thread(self._board.refresh)
            except StateError as error:
                if was_reached:
                    _log.warning("the inbox cannot be read: %s", error)
                    self._wake()  # the page says so
                was_reached = False
            except Exception as error:  # without this task, no page would hear of anything any more
                if not has_failed:
                    _log.error("changes in the inbox cannot be told to open pages: %s", traced(error))
                has_failed = True
            else:
                has_failed = False
                if before != self._board.version or not was_reached:
                    self._wake()
                was_reached = True
            await asyncio.sleep(POLL_S)


class _Stream(StreamingResponse):
    """Events for a browser.

    Args:
        events: What is sent.
        on_end: Called when it is over, also where nothing could be sent.
    """

    def __init__(self, events: AsyncIterator[str], on_end: Callable[[], object]) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()
