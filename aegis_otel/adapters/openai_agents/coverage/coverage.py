"""Report for each tool that an agent can reach whether it is governed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from agents import FunctionTool
from agents.agent import AgentBase

from aegis_otel.adapters.openai_agents.coverage.agent_walk import (
    GOVERNED_MODE,
    Ability,
    declared_abilities,
    reachable_agents,
)
from aegis_otel.adapters.openai_agents.gates.function_gate import own_guardrail
from aegis_otel.model import Mode
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.adapters.openai_agents.capture_point import CapturePoint

_MONITORED = "monitor mode: its calls are decided and recorded, and never stopped"
_NOTHING = "nothing governs it: call `aegis_otel.instrument()`"


class Status(StrEnum):
    """What is done about the calls of a tool."""

    ENFORCED = "enforced"
    OBSERVED = "observed"
    """Never stopped: recorded in monitor mode, or without an effect of its own."""
    NOT_GOVERNED = "not governed"
    """Nothing governs it, although that is possible."""
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
        """Return the rows of what can run without a decision."""
        return [row for row in self if row.status in (Status.NOT_GOVERNED, Status.NOT_GOVERNABLE)]

    def __str__(self) -> str:
        cells = [Row._fields, *([escape(cell) for cell in row] for row in self)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(Row._fields))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        )


def coverage(agent: AgentBase[Any], *, installed: CapturePoint | None) -> Coverage:
    """Return what is done about each tool that `agent` can reach, also by handoffs and agents as tools.

    Args:
        agent: An Agent or RealtimeAgent. Parts that cannot be read raise nothing; their rows say so.
        installed: `CapturePoint.installed`.
    """
    mode = None if installed is None else installed.mode
    return Coverage(
        row
        for each in reachable_agents(agent)
        for row in judge(declared_abilities(each), getattr(type(each), GOVERNED_MODE, mode))
    )


def is_agent(value: object) -> bool:
    """Return whether `value` is an Agent or RealtimeAgent."""
    return isinstance(value, AgentBase)


def judge(abilities: Iterable[Ability], mode: Mode | None) -> Coverage:
    """Return a row for each ability, where the capture point or the agent's class has `mode`."""
    return Coverage(Row(each.agent, each.name, each.kind.name, *_status(each, mode)) for each in abilities)


def _status(ability: Ability, mode: Mode | None) -> tuple[Status, str]:
    kind, tool = ability.kind, ability.tool
    with suppress(Exception):  # its guardrails may be anything
        own = own_guardrail(tool) if isinstance(tool, FunctionTool) else None
        mode = mode if own is None else own.governor.mode
    if kind.ungovernable is not None:
        return Status.NOT_GOVERNABLE, kind.ungovernable
    if mode is None:
        return Status.NOT_GOVERNED, _NOTHING
    if kind.harmless is not None:
        return Status.OBSERVED, kind.harmless
    return (Status.OBSERVED, _MONITORED) if mode is Mode.MONITOR else (Status.ENFORCED, "")
