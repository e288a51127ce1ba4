"""Every tool that an agent can reach, as rules see it: for the linter and `aegis policy tools`."""

from __future__ import annotations

import asyncio
from typing import Any

from agents import FunctionTool, RunContextWrapper
from agents.agent import AgentBase

from aegis_otel.adapters.openai_agents.coverage.agent_walk import (
    declared_abilities,
    items,
    reachable_agents,
    unreadable,
)
from aegis_otel.adapters.openai_agents.coverage.tool_kinds import is_hosted, name_of
from aegis_otel.adapters.openai_agents.gates import action_factory
from aegis_otel.adapters.openai_agents.gates.local_tool_kinds import COMPUTER, LOCAL_TOOL_KINDS
from aegis_otel.policy.lint.tool_list import Inventory, KnownTool, UngovernableTool

_LIST_SECONDS = 30


def inventory(agent: AgentBase[Any], targets: action_factory.Targets | None = None) -> Inventory:
    """Return the tools of `agent` and of all agents that it can reach; MCP servers are asked for theirs.

    Tools that run in the model's service are not among them: no policy is asked about their calls. They are
    in `ungovernable`, as is whatever else cannot be governed.

    A server that cannot be connected or listed leaves the inventory incomplete, and so does an agent whose
    tools cannot be read.
    """
    return asyncio.run(_inventory(list(reachable_agents(agent)), targets or {}))


async def _inventory(agents: list[object], targets: action_factory.Targets) -> Inventory:
    tools: list[KnownTool] = []
    is_complete = not any(map(unreadable, agents))
    for agent in agents:
        try:
            listed = await asyncio.wait_for(_mcp_tools(agent), _LIST_SECONDS)
        except Exception:
            listed, is_complete = [], False
        own = [tool for tool in items(agent, "tools") if not is_hosted(tool)]
        tools += [_known(tool, name_of(agent), targets) for tool in (*own, *listed)]
    declared = (ability for agent in agents for ability in declared_abilities(agent))
    ungovernable = (
        UngovernableTool(each.agent, each.name, each.kind.name)
        for each in declared
        if each.kind.ungovernable is not None
    )
    return Inventory(
        tuple(tools),
        tuple(dict.fromkeys(map(name_of, agents))),
        is_complete,
        tuple(dict.fromkeys(ungovernable)),
    )


async def _mcp_tools(agent: object) -> list[Any]:
    """Return the tools of the agent's MCP servers, under the names that the model is given."""
    servers = items(agent, "mcp_servers")
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


def _known(tool: Any, agent: str, targets: action_factory.Targets) -> KnownTool:
    name = name_of(tool)
    target = action_factory.named_target(name, targets)
    if isinstance(tool, FunctionTool):
        own, schema = action_factory.original_name(tool), tool.params_json_schema
        return KnownTool(
            name, schema, own, target or action_factory.target_of(tool), agent, _annotations(tool)
        )
    local = next((kind for kind in LOCAL_TOOL_KINDS if isinstance(tool, kind.tool)), None)
    if local is not None and local.name == COMPUTER:
        name, target = COMPUTER, action_factory.named_target(COMPUTER, targets)
    parameters = None if local is None else local.schema
    return KnownTool(name, parameters, None, target or action_factory.DEFAULT_TARGET, agent)


def _annotations(tool: FunctionTool) -> dict[str, Any] | None:
    """Return what the MCP server says of a tool; older SDKs do not keep it."""
    said = getattr(tool, "mcp_annotations", None)
    return None if said is None else dict(said.model_dump(by_alias=True, exclude_none=True, mode="json"))
