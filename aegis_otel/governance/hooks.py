"""Callbacks that observe decisions, approvals and results, and can change none of them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aegis_otel.governance.error_text import traced
from aegis_otel.model import PolicyDecision, Result

_log = logging.getLogger("aegis_otel")


@dataclass(frozen=True, slots=True)
class RuntimeHooks:
    """Callbacks, sync or async. One that raises is logged and counted; the call goes on.

    A call waits for its hooks: one that never returns holds its call for ever.
    """

    on_decision: Callable[[PolicyDecision], Awaitable[None] | None] | None = None
    """After every policy evaluation of a call, before anything runs."""
    on_approval: Callable[[PolicyDecision, bool], Awaitable[None] | None] | None = None
    """After every question to a human; the flag says whether the answer was yes."""
    on_execute: Callable[[Result], Awaitable[None] | None] | None = None
    """After every call, whether it ran or was refused; a cancelled one has no result."""


async def fire(callback: Callable[..., Any] | None, failed: Callable[[], None], *args: object) -> None:
    """Call `callback` if there is one, await what it returns if that can be awaited; never raises.

    Args:
        failed: Called once for each exception, so that it can be counted.
    """
    if callback is None:
        return
    try:
        returned = callback(*args)
        if inspect.isawaitable(returned):
            await returned
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # the call is cancelled, not the hook
        _log.warning("hook `%s` raised; ignored: %s", getattr(callback, "__name__", "?"), traced(error))
        failed()
