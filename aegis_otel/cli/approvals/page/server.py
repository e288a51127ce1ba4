"""The server of the page: how many connections it has at once, and how long it waits for the other end.

Who connects and says nothing, or says it slowly, or does not take what is sent, takes no place from others:
where all places are taken, the connection goes whose other end has been waited for longest.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from aegis_otel.cli.approvals.page.app import Page

MOST_CONNECTIONS = 2_000
WAIT_S = 20.0
"""Seconds that head and body of a request may take, and in which something of a response has to be taken."""
_SEND_BUFFER = 128 << 10
"""Bytes of a response that the system keeps for a connection: it would keep up to 4 MB.

It asks for more when a third of them has gone, so it is seen that somebody takes 4 kB a second.
"""
_BACKLOG = 128
"""Connections that are accepted in one go, before any of them is counted."""
_OTHER_FILES = 128 + _BACKLOG
"""Files of the process that are no connection: the database, libraries, the log."""
_GRACE_S = 5


def make_server(page: Page) -> uvicorn.Server:
    """Return the server of a page."""
    most = room_for_connections()
    page.change_stream.most_streams = most // 2  # a stream stays: there has to be room to answer as well

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            page.change_stream.end()  # or it would wait for the browsers to go
            super().handle_exit(sig, frame)

    waiting: dict[_Connection, None] = {}
    config = uvicorn.Config(
        page.app,
        access_log=False,
        backlog=_BACKLOG,
        http=cast("type[asyncio.Protocol]", partial(_Connection, waiting, most)),
        lifespan="off",
        log_config=None,
        proxy_headers=False,  # who connects is who connects: a trusted proxy is known by its address
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        ws="none",
    )
    return Server(config)


def room_for_connections() -> int:
    """Return how many connections the process has room for, with as many files open as it may have."""
    wanted = MOST_CONNECTIONS + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MOST_CONNECTIONS
    more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
        soft = more
    return max(soft - _OTHER_FILES, soft // 4, 2)


class _Connection(H11Protocol):
    """A connection that is ended where its other end takes too long, or others need its place.

    Args:
        waiting: The connections whose other end has to send or to take something, those that have waited
            longest first.
        most: How many connections there may be.
        options: What uvicorn says.
    """

    def __init__(self, waiting: dict[_Connection, None], most: int, **options: Any) -> None:
        super().__init__(**options)
        self._waiting = waiting
        self._most = most
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        """Bytes of responses that had not been taken when the timer began."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        super().connection_made(transport)
        self._note()
        if len(self.connections) > self._most:
            next(iter(self._waiting))._give_up()

    def handle_events(self) -> None:
        super().handle_events()
        self._note()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._note()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._note()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def _note(self) -> None:
        """Note whether it is the other end that has to do something, after a change of that."""
        if not self._is_waiting():
            self._wait_no_more()
        elif self._timer is None:
            self._waiting[self] = None
            self._begin()

    def _is_waiting(self) -> bool:
        has_no_request = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        # A transport that is closing stays until all of it is taken.
        return has_no_request or self.flow.write_paused or self.transport.is_closing()

    def _begin(self) -> None:
        self._left = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(WAIT_S, self._look)

    def _look(self) -> None:
        """End the connection, but where a long response is being taken: then give it the same time again."""
        if self.transport.get_write_buffer_size() < self._left:
            self._begin()
        else:
            self._give_up()

    def _wait_no_more(self) -> None:
        self._waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _give_up(self) -> None:
        self._wait_no_more()
        self.connections.discard(self)  # its place is free now, not when the loop comes to it
        self.transport.abort()
