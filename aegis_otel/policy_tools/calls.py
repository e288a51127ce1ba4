"""A call as somebody writes it down, and the action that a policy is asked about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from aegis_otel.model import Action, Subject
from aegis_otel.policy.evaluation.schema_defaults import fill_defaults
from aegis_otel.policy.evaluation.schema_walk import properties_of
from aegis_otel.policy.lint.tool_list import Inventory, KnownTool
from aegis_otel.policy.messages import Invalid, closest, listed, quoted

_USUAL_TARGET = "default"


class UnknownCall(Invalid):
    """The list of tools does not have what a call names."""

    def __init__(self, key: str, message: str, suggestion: str | None = None) -> None:
        """Keep `key`: the one of `type` and `agent` that is not known."""
        super().__init__(message, suggestion)
        self.key = key


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
        UnknownCall: there is no such tool, or the agent does not have it. A call with a schema of its own may
            be of any tool.
    """
    if known is not None and call.schema is None:
        _check_names(call, known)
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


def oddities(call: WrittenCall, action: Action, known: Inventory | None) -> Iterator[str]:
    """Yield why the program would hardly make this call, a sentence each.

    Args:
        action: What `action_of` returned for the call.
    """
    targets = [tool.target for tool in known.tools if call.type in tool.names] if known else []
    if call.target is not None and targets and None not in targets and call.target not in targets:
        # The program may name another one: `instrument(targets=...)`.
        had = listed(sorted({str(target) for target in targets}))
        yield f"the list of tools gives {quoted(call.type)} the target {had}, not {quoted(call.target)}"
    if action.schema is None:
        return
    required = action.schema.get("required")
    listed_names = required if isinstance(required, (list, tuple)) else ()
    missing = [name for name in listed_names if name not in action.params]
    if missing:
        yield f"the schema of {quoted(call.type)} requires {_joined(missing)}, which the call does not have"
    names = properties_of(action.schema)
    if action.schema.get("additionalProperties") is False:
        more = [name for name in action.params if name not in names]
        if more:
            yield f"the schema of {quoted(call.type)} allows no {_joined(more)}"


def _joined(names: Iterable[object]) -> str:
    return ", ".join(quoted(str(name)) for name in names)


def _check_names(call: WrittenCall, known: Inventory) -> None:
    """Raise UnknownCall where no tool has the call's type, or not the tool of its agent."""
    agents = [tool.agent for tool in known.tools if call.type in tool.names]
    if not agents:
        message = f"the list of tools has no tool {quoted(call.type)}"
        raise UnknownCall("type", message, closest(call.type, known.names))
    if call.agent is None or None in agents or call.agent in agents:
        return
    if known.agents is None or call.agent in known.agents:
        raise UnknownCall(
            "agent", f"in the list of tools, agent {quoted(call.agent)} has no tool {quoted(call.type)}"
        )
    message = f"the list of tools has no agent {quoted(call.agent)}"
    raise UnknownCall("agent", message, closest(call.agent, known.agents))


def _tool(call: WrittenCall, tools: Iterable[KnownTool]) -> KnownTool | None:
    found = {
        (tool.target, repr(tool.schema)): tool
        for tool in tools
        if call.type in tool.names and (None in (call.agent, tool.agent) or tool.agent == call.agent)
    }
    if len(found) > 1:
        raise Invalid(f"several tools are called {quoted(call.type)}: say whose by the agent")
    return next(iter(found.values()), None)
