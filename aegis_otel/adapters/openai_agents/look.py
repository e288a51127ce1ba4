"""One look of the SDK at one call: whether it needs an approval, and has one.

The SDK asks twice for the status of an approval, and between that for the tool's `needs_approval`; the
gate comes last, in the same context. Only the status knows the agent and the arguments, only the tool
knows its gate, and only a callable can be awaited: a look brings the three together.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from agents.items import ToolApprovalItem


@dataclass(slots=True, eq=False)
class Look:
    """What is known of one call so far."""

    item: ToolApprovalItem
    """The SDK makes one for each look."""
    status: bool | None = None
    """What the SDK has: approved, rejected, or neither."""
    status_asked: bool = False
    """Whether this is not the first time in this look that it asks."""
    judge: Callable[[Look], bool | None] | None = None
    """Judges without waiting; there since the SDK has looked at a tool that is behind a gate of ours."""
    judged: bool = False
    verdict: bool | None = None
    """What the SDK is told once it is judged: True lets the call go to its gate, None pauses it, False
    has it rejected."""

    @property
    def call_id(self) -> str:
        return self.item.call_id or ""

    @property
    def arguments(self) -> str:
        return self.item.arguments or ""

    @property
    def agent(self) -> str | None:
        return getattr(self.item.agent, "name", None)

    @property
    def paused(self) -> bool:
        """Whether the call is being put to a human."""
        return self.judged and self.verdict is None

    @property
    def resumed(self) -> bool:
        """Whether the SDK holds the call for approved."""
        return self.judge is not None and self.status is True

    def settle(self, verdict: bool | None) -> bool | None:
        """Keep the verdict."""
        self.judged, self.verdict = True, verdict
        return verdict

    def is_of(self, call_id: str, arguments: str) -> bool:
        """Whether it is a look at this call."""
        return self.call_id == call_id and self.arguments == arguments


_look: ContextVar[Look | None] = ContextVar("aegis_otel_look", default=None)


def look_at(item: ToolApprovalItem) -> Look:
    """The look that `item` is of; a new one where the SDK begins one."""
    last = _look.get()
    if last is not None and last.item is item:
        return last
    look = Look(item)
    if last is not None and last.verdict and last.is_of(look.call_id, look.arguments):
        # Judged when the SDK planned the turn, and now it executes it.
        look.judge, look.judged, look.verdict = last.judge, True, True
    _look.set(look)
    return look


def last_look(call_id: str, arguments: str | None = None) -> Look | None:
    """The look at this call, if the SDK has just had one."""
    look = _look.get()
    if look is None or look.call_id != call_id or arguments not in (None, look.arguments):
        return None
    return look


def latest_look() -> Look | None:
    """Whatever call the SDK has last looked at."""
    return _look.get()
