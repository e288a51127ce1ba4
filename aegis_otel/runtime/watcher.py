"""Hot reload: a changed policy file comes into force whole, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from aegis_otel.errors import ConfigError, PolicyError, Problem
from aegis_otel.policy import Policy
from aegis_otel.runtime.hooks import fire
from aegis_otel.runtime.runtime import Runtime

_log = logging.getLogger("aegis_otel")
_SETTLE_S = 0.05


class PolicyWatcher:
    """Watches a policy file by its content and updates a Runtime when it changes.

    A file that is invalid, has no `rules` or is gone is refused: the policy in force stays, the log
    says so once, and `aegis.policy.load_failed` is emitted. A change is read twice, a moment apart, and
    taken only when it no longer changes, so that a half-written file is not.

    Args:
        runtime: The Runtime to update.
        path: The policy file.
        interval: Seconds between looks.
        on_reload: Called with each new policy once it is in force; sync or async.

    Raises:
        ConfigError: `interval` is not above 0.
    """

    def __init__(
        self,
        runtime: Runtime,
        path: str | Path,
        interval: float = 1.0,
        on_reload: Callable[[Policy], Awaitable[None] | None] | None = None,
    ) -> None:
        if not interval > 0:
            raise ConfigError(f"interval is `{interval}`: expected a number of seconds above 0")
        self._runtime = runtime
        self._path = Path(path)
        self._interval = interval
        self._on_reload = on_reload
        self._seen: str | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start watching. The file as it is now is taken as known. Starting twice is starting once."""
        if self._task is None:
            self._seen = _fingerprint(await asyncio.to_thread(self._read))
            self._task = asyncio.create_task(self._watch(), name="aegis-policy-watcher")

    async def stop(self) -> None:
        """Stop watching. Stopping twice is stopping once."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._look()
            except Exception:
                _log.exception("watching `%s` failed; the policy in force stays", self._path)

    async def _look(self) -> None:
        content = await asyncio.to_thread(self._read)
        if _fingerprint(content) == self._seen:
            return
        await asyncio.sleep(min(_SETTLE_S, self._interval / 2))
        fingerprint = _fingerprint(content)
        if _fingerprint(await asyncio.to_thread(self._read)) != fingerprint:
            return  # still being written: the next look sees it whole
        self._seen = fingerprint
        try:
            policy = await asyncio.to_thread(self._load, content)
        except PolicyError as error:
            _log.warning("policy `%s` was refused; the one in force stays:\n%s", self._path, error)
            self._runtime.recorder.policy_load_failed((str(self._path),), error)
            return
        self._runtime.update_policy(policy)
        _log.info("policy `%s` is in force: %s", self._path, policy.digest)
        await fire(self._on_reload, self._runtime.recorder.hook_failed, policy)

    def _read(self) -> bytes | OSError:
        try:
            return self._path.read_bytes()
        except OSError as error:
            return error

    def _load(self, content: bytes | OSError) -> Policy:
        source = str(self._path)
        if isinstance(content, OSError):
            raise PolicyError([Problem(f"cannot be read: {content.strerror or content}", source)])
        policy = Policy.from_text(content, source=source)
        if not policy.rules:  # what a truncated save looks like; to drop all rules, restart
            raise PolicyError([Problem("a running policy is not replaced by one without `rules`", source)])
        return policy


def _fingerprint(content: bytes | OSError) -> str:
    if isinstance(content, OSError):
        return f"unreadable: {type(content).__name__}"
    return hashlib.sha256(content).hexdigest()
