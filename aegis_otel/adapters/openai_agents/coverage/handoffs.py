"""Handoffs: where one leads, whether code of the user's runs in it, and how one leads to a governed agent."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from agents import Handoff

from aegis_otel.adapters.openai_agents.coverage.tool_kinds import Kind

HANDOFF = Kind("handoff", harmless="does nothing itself: the tools of the agent it leads to are governed")
HANDOFF_CODE = Kind(
    "handoff with code",
    "runs code of yours (`on_handoff`, `on_invoke_handoff`) and no policy is asked: "
    "do that in a function tool",
)

Invoke = Callable[[Any, str], Awaitable[Any]]

_MADE_IN = ("agents.handoffs", "agents.realtime.handoffs")
_CODE = "on_handoff"


class Leading:
    """What the SDK calls of a handoff: the user's own, and then the governed copy of the agent reached."""

    def __init__(self, own: Invoke, governed: Callable[[Any], Any], target: Any) -> None:
        """
        Args:
            own: What was in the handoff.
            governed: Makes the copy, always the same.
            target: The copy that it is known to lead to, to keep: a handoff holds its agent weakly.
        """
        self.own = own
        self._governed = governed
        self._target = target

    async def __call__(self, context: Any, arguments: str) -> Any:
        return self._governed(await self.own(context, arguments))


def kind_of_handoff(handoff: object) -> Kind:
    """Return the kind of a handoff: only one of the SDK without `on_handoff` is known to run nothing."""
    if not isinstance(handoff, Handoff):
        return HANDOFF  # an agent
    try:
        return HANDOFF if _is_plain(handoff.on_invoke_handoff) else HANDOFF_CODE
    except Exception:  # made in a way not known here
        return HANDOFF_CODE


def _is_plain(invoke: Any) -> bool:
    if isinstance(invoke, Leading):
        invoke = invoke.own
    parts = (invoke.func, *invoke.args) if isinstance(invoke, functools.partial) else (invoke,)
    by_the_sdk = all(part.__module__ in _MADE_IN for part in parts)
    return by_the_sdk and inspect.getclosurevars(parts[-1]).nonlocals[_CODE] is None


def target_of_handoff(handoff: object) -> object:
    """The agent it leads to; None where that is known only when it is invoked."""
    if not isinstance(handoff, Handoff):
        return handoff
    reference = getattr(handoff, "_agent_ref", None)
    return None if reference is None else reference()
