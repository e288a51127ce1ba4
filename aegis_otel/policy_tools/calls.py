"""A call as somebody writes it down, and the action that a policy is asked about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aegis_otel.model import Action, Subject
from aegis_otel.policy.evaluation.schema_defaults import fill_defaults
from aegis_otel.policy.lint.tool_list import Inventory, KnownTool
from aegis_otel.policy.messages import Invalid, quoted

_USUAL_TARGET = "default"


class WrittenCall(NamedTuple):
    """A call; None stands for what is not written."""

    type: str
    target: str | None = None
    agent: str | None = None
    params: Mapping[str, Any] | None = None
    schema: Mapping[str, Any] | None = None
    subject: Subject | None = None


def action_of(call: WrittenCall, known: Inventory | None) -> Action:
    """Return the action as a governed call of the tool is judged: defaults filled in, by each of its names.

    Args:
        known: The program's tools, which say what the call does not; None where they are not known.

    Raises:
        Invalid: several agents have different tools of that name.
    """
    tool = _tool(call, known.tools if known else ())
    schema = call.schema if call.schema is not None or tool is None else tool.schema
    target = call.target or (tool and tool.target) or _USUAL_TARGET
    params = dict(call.params or {})
    if schema is not None:
        fill_defaults(params, schema)
    names = dict.fromkeys((call.type, *(tool.names if tool else ())))
    first, *others = (
        Action(name, target, params, agent=call.agent, schema=schema, subject=call.subject) for name in names
    )
    return first.qualify(others)


def _tool(call: WrittenCall, tools: Iterable[KnownTool]) -> KnownTool | None:
    found = {
        (tool.target, repr(tool.schema)): tool
        for tool in tools
        if call.type in tool.names and (None in (call.agent, tool.agent) or tool.agent == call.agent)
    }
    if len(found) > 1:
        raise Invalid(f"several tools are called {quoted(call.type)}: say whose by the agent")
    return next(iter(found.values()), None)
