"""Hot reload in an asyncio program. What a change is, and what becomes of it: `policy_files.py`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from aegis_otel.runtime.hooks import fire
from aegis_otel.runtime.policy_files import OnReload, PolicyFiles
from aegis_otel.runtime.runtime import Runtime

_log = logging.getLogger("aegis_otel")


class PolicyWatcher:
    """Watches policy files by their content and updates a Runtime when they change.

    They are taken together: when one of them is invalid, gone or has lost all its rules, the policy in
    force stays, the log says so once, and `aegis.policy.load_failed` is emitted. A change is taken when it
    no longer changes, so that a half-written file is not. Where the policy in force has other parts than
    these files, those stay in force in their place.

    Args:
        runtime: The Runtime to update.
        path: The policy file, or several in the order of `Policy.from_yaml_files`.
        interval: Seconds within which a change that is complete comes into force.
        on_reload: Called with each new policy once it is in force; sync or async.

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
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start watching. Files changed since the policy in force was made of them are taken, too; files it
        was not made of are known as they are now. Starting twice is starting once."""
        if self._task is None:
            await asyncio.to_thread(self._files.begin, self._runtime.policy)
        if self._task is None:  # nor did another start make one in the meantime
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
            await asyncio.sleep(self._files.pause)
            try:
                await self._look()
            except Exception:
                _log.exception("watching `%s` failed; the policy in force stays", self._files.sources)

    async def _look(self) -> None:
        change = await asyncio.to_thread(self._files.look, self._runtime.policy)
        if change is None:
            return
        policy = self._files.take(change, self._runtime)
        if policy is not None:
            await fire(self._on_reload, self._runtime.recorder.hook_failed, policy)
