"""Hot reload in a program without an event loop, or that forks. What a change is: `policy_files.py`."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from aegis_otel.runtime.hooks import fire
from aegis_otel.runtime.policy_files import OnReload, PolicyFiles
from aegis_otel.runtime.runtime import Runtime

_log = logging.getLogger("aegis_otel")
_PATIENCE_S = 5.0
"""How long `stop` waits for a look under way, which a file system that hangs can hold for ever."""


class PolicyWatchThread:
    """A `PolicyWatcher` on a daemon thread of its own; a forked process gets a thread of its own, too.

    Constructing one starts nothing.

    Args:
        runtime: The Runtime to update.
        path: The policy file, or several in the order of `Policy.from_yaml_files`.
        interval: Seconds within which a change that is complete comes into force.
        on_reload: Called on the thread with each new policy once it is in force; an async one runs on an
            event loop of its own.

    Raises:
        ConfigError: no file is given, or `interval` is no time that can be waited for.
    """

    def __init__(
        self,
        runtime: Runtime,
        path: str | Path | Sequence[str | Path],
        interval: float = 1.0,
        on_reload: OnReload | None = None,
    ) -> None:
        self._runtime = runtime
        self._files = PolicyFiles(path, interval)
        self._on_reload = on_reload
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start watching, as `PolicyWatcher.start` does. Starting twice is starting once.

        Raises:
            RuntimeError: the system gives no thread.
        """
        if self._thread is None:
            self._files.begin(self._runtime.policy)
            self._launch()
            _running.add(self)
            atexit.register(self.stop)  # so that the interpreter does not end in the middle of a look

    def stop(self) -> None:
        """Stop watching; nothing changes once this has returned. Stopping twice is stopping once."""
        thread, self._thread = self._thread, None
        self._stop.set()
        _running.discard(self)
        atexit.unregister(self.stop)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE_S)

    def _launch(self) -> None:
        self._stop = threading.Event()  # its own, so that no start revives a thread that was told to stop
        thread = threading.Thread(
            target=self._watch, args=(self._stop,), name="aegis-policy-watcher", daemon=True
        )
        thread.start()
        self._thread = thread

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(self._files.pause):
            try:
                self._look(stop)
            except Exception:
                _log.exception("watching `%s` failed; the policy in force stays", self._files.sources)

    def _look(self, stop: threading.Event) -> None:
        change = self._files.look(self._runtime.policy)
        if change is None or stop.is_set():
            return
        policy = self._files.take(change, self._runtime)
        if policy is not None and self._on_reload is not None:
            asyncio.run(fire(self._on_reload, self._runtime.recorder.hook_failed, policy))


_running: set[PolicyWatchThread] = set()


def _launch_in_child() -> None:
    """Threads do not survive a fork."""
    for watch in list(_running):
        try:
            watch._launch()
        except RuntimeError:
            _log.exception("`%s` are not watched in this process", watch._files.sources)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_launch_in_child)
