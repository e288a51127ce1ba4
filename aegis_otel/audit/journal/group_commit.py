"""Group commit: puts lines on the disk; calls that wait at the same time share one fdatasync.

A thread of its own does it, and ends when it has had no work for a moment. So it holds up no event loop, and
needs no pool, which may be full of tool bodies. Each journal has its own, also in the child of a fork.
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
"""Seconds that a line may wait for its sync if no call waits, and that an idle thread stays."""

_log = logging.getLogger("aegis_otel")
_Futures = list[asyncio.Future[None]]


class GroupCommit:
    """Owns the descriptors of a journal in `directory`, and closes them once all lines are on the disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.lost = 0
        """The number of failed syncs. Earlier lines may be lost, and no later sync reports that."""
        self.broken = False
        """Whether a sync of the file in use failed, so that no more lines may be written to it."""
        self._error = OSError()
        self.lock = threading.RLock()
        """Used instead of the condition, which may be interrupted between taking its lock and the block."""
        self.let_go: list[int] = []
        """Descriptors to close once they are synced; add to them under the lock."""
        self._changed = threading.Condition(self.lock)
        self._thread: threading.Thread | None = None
        self._running = False
        self._written = False
        self._arriving: dict[asyncio.AbstractEventLoop, _Futures] = {}
        self._waiting: list[tuple[asyncio.AbstractEventLoop, _Futures]] = []
        self._current = -1
        self._unnamed = False

    def use(self, descriptor: int) -> None:
        """Sync another file from now on, and its name."""
        with self.lock:
            self._current, self._unnamed, self.broken = descriptor, True, False

    def written(self) -> None:
        """Sync a line that was written soon. Never raises."""
        if not self._written:
            with self.lock, suppress(RuntimeError):  # the interpreter ends; the system writes it
                self._start()
                self._written = True

    def gave_up(self, descriptor: int) -> None:
        """Unlock a file in `let_go`, while the lock is held, and have it synced and closed."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        with suppress(RuntimeError):
            self._start()

    async def wait(self, lost: int) -> None:
        """Wait until every line written so far is on the disk.

        Args:
            lost: The value of `lost` before the first line that matters.

        Raises:
            AuditError: a line may be lost.
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
        """Close, in the child of a fork, the files that the parent will sync."""
        while self.let_go:
            os.close(self.let_go.pop())

    def _arrived(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a sync once every call on the loop that was about to write has written."""
        futures = self._arriving.pop(loop, [])
        try:
            with self.lock:
                self._start()
                self._waiting.append((loop, futures))
                self._changed.notify()
        except RuntimeError as error:  # no further thread can be started
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
                return  # an interrupt came during its start, and another thread runs by now
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
                if not waiting:  # otherwise the waiting calls report it
                    _log.error("cannot sync the audit at `%s`: %s", self._directory, error)
                with self.lock:
                    self._error = error
                    self.broken, self.lost = True, self.lost + 1
            for descriptor in closing:
                with suppress(OSError):  # the sync has reported it
                    os.close(descriptor)
            for loop, futures in waiting:
                with suppress(RuntimeError):  # the loop is closed, and nobody waits there
                    loop.call_soon_threadsafe(_resolve, futures)

    def _sync_names(self) -> None:
        """Sync the directory entries of a new file and of the key that its digests need."""
        for name in (KEY, JOURNAL, "."):
            files.sync(self._directory, name)
        files.sync(self._directory.parent)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync would leave it in the drive's cache
    else:
        os.fdatasync(descriptor)


def _resolve(futures: _Futures) -> None:
    for future in futures:
        if not future.done():  # cancelled meanwhile
            future.set_result(None)
