"""Ask a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from aegis_otel.errors import ConfigError
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval.handler import ApprovalHandler
from aegis_otel.runtime.approval.handler_threads import in_turn
from aegis_otel.runtime.threads import Threads

_THREADS = 64
"""How many functions are asked at once in a process. With a thread for each question, 2,000 questions held
the event loop for 5.4 s, nearly all of it to start threads."""
_callbacks = Threads("aegis-approval", _THREADS)
_NO_TURN = f"its turn never came, because {_THREADS} other functions had not returned"


class CallbackApprovalHandler(ApprovalHandler):
    """Asks `callback(decision)`, which may block, be `async def`, or return an awaitable.

    It is called in a thread, so that the event loop stays free; a process has 64 threads for this, and more
    questions wait their turn. What it returns is awaited on the loop where it can be. The value must be True,
    False or an `ApprovalAnswer`; any other denies.

    Args:
        callback: Takes a `PolicyDecision`. `current_question()` works inside it.
        approver: Who answers, where that is always the same; for the audit row.

    Raises:
        ConfigError: `callback` cannot be called.
    """

    channel = "callback"

    def __init__(self, callback: Callable[[PolicyDecision], Any], *, approver: str | None = None) -> None:
        if not callable(callback):
            raise ConfigError(f"`callback` is a `{type(callback).__name__}`: pass a function of one decision")
        self._callback = callback
        self.approver = approver

    async def request_approval(self, decision: PolicyDecision) -> Any:
        answer = await in_turn(_callbacks, lambda: self._callback(decision), _NO_TURN)
        return await answer if inspect.isawaitable(answer) else answer
