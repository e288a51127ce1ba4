"""Runs that wait for a human, for the cases about approvals: what is saved, changed, answered and resumed."""

from __future__ import annotations

import json
from typing import Any

from agents import Agent, RunContextWrapper, Runner, RunState, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

ASKS: dict[str, Any] = {"version": "1", "defaults": {"approval": "approve", "risk_level": "high"}}
ALLOWS: dict[str, Any] = {"version": "1", "defaults": {"approval": "auto", "risk_level": "low"}}


class Desk:
    """An agent whose one tool moves money, and what it moved."""

    def __init__(self, *, asks: bool = False) -> None:
        self.paid: list[int] = []

        @function_tool(needs_approval=asks)
        def refund(amount: int) -> str:
            self.paid.append(amount)
            return f"refunded {amount}"

        self.tool = refund

    def agent(self, *calls: Any, name: str = "Desk") -> Agent[Any]:
        turns = [[call] for call in calls]
        return Agent(name=name, model=ScriptedModel([*turns, [assistant_message("done")]]), tools=[self.tool])

    async def paused(self, amount: int = 5, call_id: str = "call_0") -> str:
        """A run that waits, saved."""
        agent = self.agent(function_call("refund", {"amount": amount}, call_id=call_id))
        result = await Runner.run(agent, "go")
        assert len(result.interruptions) == 1
        return result.to_state().to_string()

    async def state(self, saved: str) -> Any:
        return await RunState.from_string(self.agent(), saved)

    async def approved(self, saved: str) -> str:
        """The same run, saved again after a human said yes."""
        state = await self.state(saved)
        state.approve(state.get_interruptions()[0])
        return str(state.to_string())

    async def resumed(self, saved: str) -> Any:
        return await Runner.run(self.agent(), await self.state(saved))


def approve_unseen(state: Any) -> None:
    """As a program without governance, or an editor of the text, does it."""
    approve: Any = RunContextWrapper.approve_tool
    getattr(approve, "__wrapped__", approve)(state._context, state.get_interruptions()[0])


def changed(saved: str, old: str, new: str) -> str:
    """The saved run with a text replaced everywhere, and the SDK's own checks satisfied."""
    text = json.loads(saved.replace(old, new))
    text["context"].pop("tool_invocations", None)
    return json.dumps({**text, "$schemaVersion": text["$schemaVersion"]})


async def unbound(state: Any) -> Any:
    """The state without what the SDK itself remembers of its calls."""
    state._context._tool_invocations.clear()
    state._context._restored_unbound_approval_call_ids.clear()
    return state
