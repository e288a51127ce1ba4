"""Group commit: what is written is put on the disk itself, and calls that wait at once share one fdatasync.

A thread of its own does it, which ends when it has had no work for a moment: neither an event loop nor a pool
that may be full of tool bodies is held up. Of one journal, and of one process: the child of a fork makes its
own.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from aegis_otel.audit import files
from aegis_otel.audit.location import JOURNAL, KEY, failure

LINGER_S = 0.05
"""So long a line that nobody waits for may be on its way, and the thread stays without work."""

_log = logging.getLogger("aegis_otel")
_Futures = list[asyncio.Future[None]]


class GroupCommit:
    """Owns the journal's descriptors while they are written to, and closes them when all is on disk."""

    def __init__(self, directory: Path) -> None:
        """
        Args:
            directory: The audit's.
        """
        self._directory = directory
        self.lost = 0
        """How often a sync has failed. What was written before one may be gone, and no later sync tells."""
        self.broken = False
        """Whether the file in use was part of such a sync, and must not be written to any more."""
        self._error = OSError()
        self.lock = threading.RLock()
        """Held with the lock itself, for the condition may be interrupted between taking it and `with`."""
        self.let_go: list[int] = []
        """Files that are given up. To be added to under the lock; each is closed once it is synced."""
        self._changed = threading.Condition(self.lock)
        self._thread: threading.Thread | None = None
        self._running = False
        self._written = False
        self._arriving: dict[asyncio.AbstractEventLoop, _Futures] = {}
        self._waiting: list[tuple[asyncio.AbstractEventLoop, _Futures]] = []
        self._current = -1
        self._unnamed = False

    def use(self, descriptor: int) -> None:
        """Send lines to a new file from now on; its name has to last as well."""
        with self.lock:
            self._current, self._unnamed, self.broken = descriptor, True, False

    def written(self) -> None:
        """Have a line that was written synced soon. Never raises."""
        if not self._written:
            with self.lock, suppress(RuntimeError):  # the interpreter ends, and the system writes it
                self._start()
                self._written = True

    def gave_up(self, descriptor: int) -> None:
        """Unlock a file that was added to `let_go`, while the lock is held, and have it synced and closed."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        with suppress(RuntimeError):
            self._start()

    async def wait(self, lost: int) -> None:
        """Wait until every line written so far is on disk.

        Args:
            lost: What `lost` was before the first line that matters.

        Raises:
            AuditError: one of them may not be.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if loop not in self._arriving:
            loop.call_soon(self._arrived, loop)
        self._arriving.setdefault(loop, []).append(future)
        await future
        if self.lost != lost:
            raise failure("sync the audit at", self._directory, self._error)

    def forget(self) -> None:
        """Close, in the child of a fork, the files that are the parent's to sync."""
        while self.let_go:
            os.close(self.let_go.pop())

    def _arrived(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a sync, because everybody on this loop who was about to write has written."""
        futures = self._arriving.pop(loop, [])
        try:
            with self.lock:
                self._start()
                self._waiting.append((loop, futures))
                self._changed.notify()
        except RuntimeError as error:  # there can be no further thread
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    def _start(self) -> None:
        if not self._running:
            self._thread = threading.Thread(target=self._run, name="aegis-group-commit", daemon=True)
            self._thread.start()
            self._running = True

    def _run(self) -> None:
        with self.lock:
            if self._thread is not threading.current_thread():
                return  # an interrupt came into its start, and there is another by now
            self._running = True
        while True:
            with self.lock:
                if not self._waiting:
                    self._changed.wait(LINGER_S)
                if not (self._waiting or self._written or self.let_go):
                    self._running = False
                    return
                waiting, self._waiting = self._waiting, []
                closing, self.let_go = self.let_go, []
                if self._current in closing:
                    self._current = -1
                current, unnamed, self._unnamed = self._current, self._unnamed, False
                self._written = False
            try:
                for descriptor in (*closing, *([current] if current >= 0 else [])):
                    _sync(descriptor)
                if unnamed:
                    self._sync_names()
            except OSError as error:
                if not waiting:  # else they tell
                    _log.error("cannot sync the audit at `%s`: %s", self._directory, error)
                with self.lock:
                    self._error = error
                    self.broken, self.lost = True, self.lost + 1
            for descriptor in closing:
                with suppress(OSError):  # it says nothing that the sync did not
                    os.close(descriptor)
            _wake(waiting)

    def _sync_names(self) -> None:
        """Sync the directory entries of a new file and of the key, without which its lines mean little."""
        for name in (KEY, JOURNAL, "."):
            files.sync(self._directory, name)
        files.sync(self._directory.parent)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # what the others leave in the drive's cache
    else:
        os.fdatasync(descriptor)


def _wake(waiting: list[tuple[asyncio.AbstractEventLoop, _Futures]]) -> None:
    for loop, futures in waiting:
        with suppress(RuntimeError):  # closed: nobody waits there any more
            loop.call_soon_threadsafe(_resolve, futures)


def _resolve(futures: _Futures) -> None:
    for future in futures:
        if not future.done():  # cancelled meanwhile
            future.set_result(None)
