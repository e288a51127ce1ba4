"""Every tool that an agent can reach, as rules see it: for the linter and `aegis policy tools`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from agents import FunctionTool, RunContextWrapper
from agents.agent import AgentBase

from aegis_otel.adapters.openai_agents.coverage.handoffs import target_of_handoff
from aegis_otel.adapters.openai_agents.coverage.tool_kinds import AGENT, kind_of, name_of
from aegis_otel.adapters.openai_agents.gates.actions import (
    DEFAULT_TARGET,
    Targets,
    named_target,
    original_name,
    target_of,
)
from aegis_otel.policy.lint.tool_list import Inventory, KnownTool

_LIST_SECONDS = 30


def inventory(agent: AgentBase[Any], targets: Targets | None = None) -> Inventory:
    """Return the tools of `agent` and of all agents that it can reach; MCP servers are asked for theirs.

    A server that cannot be connected or listed leaves the inventory incomplete.
    """
    return asyncio.run(_inventory(agent, targets or {}))


async def _inventory(agent: AgentBase[Any], targets: Targets) -> Inventory:
    tools: list[KnownTool] = []
    seen: list[object] = []
    waiting: list[object] = [agent]
    is_complete = True
    while waiting:
        current = waiting.pop(0)
        if any(current is each for each in seen):
            continue
        seen.append(current)
        own = _items(current, "tools")
        try:
            listed = await asyncio.wait_for(_mcp_tools(current), _LIST_SECONDS)
        except Exception:
            listed, is_complete = [], False
        tools += [_known(tool, name_of(current), targets) for tool in (*own, *listed)]
        inside = (getattr(tool, "_agent_instance", None) for tool in own if kind_of(tool) is AGENT)
        handed = map(target_of_handoff, _items(current, "handoffs"))
        waiting += [each for each in (*inside, *handed) if each is not None]
    return Inventory(tuple(tools), tuple(dict.fromkeys(name_of(each) for each in seen)), is_complete)


async def _mcp_tools(agent: object) -> list[Any]:
    """Return the tools of the agent's MCP servers, under the names that the model is given."""
    servers = _items(agent, "mcp_servers")
    if not servers or not isinstance(agent, AgentBase):
        return []
    connected = []
    try:
        for server in servers:
            if getattr(server, "session", None) is None:
                await server.connect()
                connected.append(server)
        return list(await agent.get_mcp_tools(RunContextWrapper(None)))
    finally:
        for server in reversed(connected):
            await server.cleanup()


def _known(tool: Any, agent: str, targets: Targets) -> KnownTool:
    name = name_of(tool)
    target = named_target(name, targets)
    if isinstance(tool, FunctionTool):
        own, schema = original_name(tool), tool.params_json_schema
        return KnownTool(name, schema, own, target or target_of(tool), agent)
    return KnownTool(name, None, None, target or DEFAULT_TARGET, agent)


def _items(agent: object, attribute: str) -> list[Any]:
    value = getattr(agent, attribute, None)
    return list(value) if isinstance(value, Iterable) else []
