"""What is governed of everything an agent can reach, said for each tool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from agents import FunctionTool
from agents.agent import AgentBase
from agents.sandbox import SandboxAgent

from aegis_otel.adapters.openai_agents.coverage import unseen
from aegis_otel.adapters.openai_agents.coverage.handoffs import kind_of_handoff, target_of_handoff
from aegis_otel.adapters.openai_agents.coverage.tool_kinds import AGENT, Kind, kind_of, name_of
from aegis_otel.adapters.openai_agents.gates.function_gate import own_guardrail
from aegis_otel.model import Mode
from aegis_otel.redaction.terminal import escape

MCP_SERVER = "MCP server"
SANDBOX = "sandbox"
AGENT_CLASS = Kind(
    "agent class",
    "comes from a `get_all_tools` of its own and is not looked at: function tools are governed all the same, "
    "others may not be: put them in `tools`, or use `govern_agent`",
)
ALL_TOOLS = "get_all_tools"

MODE = "_aegis_mode"
"""On the class of an agent that `govern_agent` made: what its tools are governed for."""

_MONITORED = "monitor mode: its calls are decided and recorded, and never stopped"
_NOTHING = "nothing governs it: call `aegis_otel.instrument()`"


class Status(StrEnum):
    """What is done about the calls of a tool."""

    ENFORCED = "enforced"
    OBSERVED = "observed"
    """Never stopped: on record in monitor mode, or nothing that has an effect."""
    NOT_GOVERNED = "not governed"
    """It could be."""
    NOT_GOVERNABLE = "not governable"


class Row(NamedTuple):
    """One tool of one agent."""

    agent: str
    tool: str
    kind: str
    status: Status
    reason: str
    """Why it is not simply enforced; empty where it is."""


class Coverage(tuple[Row, ...]):
    """The rows of an agent and of all it can reach; as text, a table."""

    __slots__ = ()

    @property
    def gaps(self) -> list[Row]:
        """What can run without being decided on."""
        return [row for row in self if row.status in (Status.NOT_GOVERNED, Status.NOT_GOVERNABLE)]

    def __str__(self) -> str:
        cells = [Row._fields, *([escape(cell) for cell in row] for row in self)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(Row._fields))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        )


class Installed(Protocol):
    """What is installed in the SDK's classes."""

    @property
    def mode(self) -> Mode | None:
        """None where it is not, or no longer."""
        ...


def coverage(agent: AgentBase[Any], *, installed: Installed | None) -> Coverage:
    """For each tool that `agent` can reach, also by handoffs and agents as tools: what is done about it.

    Args:
        agent: An Agent or RealtimeAgent. What it is made of may be odd: that is said, and nothing raised.
        installed: `CapturePoint.installed`.
    """
    return Coverage(_Walk(None if installed is None else installed.mode).rows(agent))


def is_agent(value: object) -> bool:
    """Whether `value` is an Agent or RealtimeAgent."""
    return isinstance(value, AgentBase)


def rows_of(agent: object, tools: Iterable[object], mode: Mode | None) -> Iterator[Row]:
    """The rows of `tools`, and of what else `agent` itself can do."""
    name = name_of(agent)
    for tool in tools:
        yield _judge(name, tool, mode)
        yield from unseen_rows(name, unseen.of_tool(tool), mode)
    yield from unseen_rows(name, unseen.of_agent(agent), mode)
    if _makes_tools(agent):
        yield _row(name, f"what `{type(agent).__name__}` adds", AGENT_CLASS, mode)
    for handoff in _items(agent, "handoffs"):
        target = target_of_handoff(handoff)
        known = name_of(target) if target is not None else str(getattr(handoff, "agent_name", "?"))
        yield _row(name, f"to `{known}`", kind_of_handoff(handoff), mode)


def unseen_rows(agent: str, found: Iterable[unseen.Unseen], mode: Mode | None) -> Iterator[Row]:
    """The rows of what brings tools that nobody here sees."""
    try:
        for name, kind in found:
            yield _row(agent, name, kind, mode)
    except Exception as error:
        yield _row(agent, "?", Kind("unknown", f"it cannot be looked at ({type(error).__name__})"), mode)


def _makes_tools(agent: object) -> bool:
    """Whether the SDK asks code of the user's for the agent's tools, of which nobody sees the outcome."""
    if not isinstance(agent, AgentBase):
        return False
    asked = next(each for each in type(agent).__mro__ if ALL_TOOLS in vars(each))
    known = asked in (AgentBase, SandboxAgent) or MODE in vars(asked)
    return not known or ALL_TOOLS in vars(agent)


def _judge(agent: str, tool: object, mode: Mode | None) -> Row:
    own = None
    with suppress(Exception):  # its guardrails may be anything
        own = own_guardrail(tool) if isinstance(tool, FunctionTool) else None
    return _row(agent, name_of(tool), kind_of(tool), mode if own is None else own.governor.mode)


def _row(agent: str, tool: str, kind: Kind, mode: Mode | None) -> Row:
    if kind.ungovernable is not None:
        return Row(agent, tool, kind.name, Status.NOT_GOVERNABLE, kind.ungovernable)
    if mode is None:
        return Row(agent, tool, kind.name, Status.NOT_GOVERNED, _NOTHING)
    if kind.harmless is not None:
        return Row(agent, tool, kind.name, Status.OBSERVED, kind.harmless)
    if mode is Mode.MONITOR:
        return Row(agent, tool, kind.name, Status.OBSERVED, _MONITORED)
    return Row(agent, tool, kind.name, Status.ENFORCED, "")


class _Walk:
    def __init__(self, mode: Mode | None) -> None:
        self._mode = mode
        self._seen: list[object] = []  # kept, so that no id is used twice

    def rows(self, agent: object) -> Iterator[Row]:
        """The rows of `agent`, then those of the agents it can reach, each agent once."""
        waiting = [agent]
        while waiting:
            agent = waiting.pop(0)
            if any(agent is seen for seen in self._seen):
                continue
            self._seen.append(agent)
            yield from self._agent(agent, waiting)

    def _agent(self, agent: object, waiting: list[object]) -> Iterator[Row]:
        name, mode = name_of(agent), getattr(type(agent), MODE, self._mode)
        tools = _items(agent, "tools")
        yield from rows_of(agent, tools, mode)
        for server in _items(agent, "mcp_servers"):
            yield _row(name, f"every tool of `{name_of(server)}`", Kind(MCP_SERVER), mode)
        capabilities = _items(agent, "capabilities")
        if capabilities:
            yield _row(name, "every tool of its capabilities", Kind(SANDBOX), mode)
        for capability in capabilities:
            yield from unseen_rows(name, unseen.of_capability(capability), mode)
        inside = (getattr(tool, "_agent_instance", None) for tool in tools if kind_of(tool) is AGENT)
        handed = map(target_of_handoff, _items(agent, "handoffs"))
        waiting += [each for each in (*inside, *handed) if each is not None]


def _items(agent: object, attribute: str) -> Sequence[object]:
    try:
        value = getattr(agent, attribute, None)
        return list(value) if isinstance(value, Iterable) else []
    except Exception:
        return []
