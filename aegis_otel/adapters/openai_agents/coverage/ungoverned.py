"""React to what an agent can do in a turn, before its model is asked.

Some tools cannot be governed, and some can write over the policy or the audit.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from agents import ModelSettings
from agents.agent import AgentBase

from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.adapters.openai_agents.coverage.agent_walk import (
    ALL_TOOLS,
    Ability,
    abilities,
    request_fields,
)
from aegis_otel.adapters.openai_agents.coverage.coverage import Row, judge
from aegis_otel.adapters.openai_agents.coverage.tool_kinds import writing_tools
from aegis_otel.config import ON_UNGOVERNED
from aegis_otel.errors import ConfigError
from aegis_otel.model import Mode
from aegis_otel.redaction.redactor import redact_text
from aegis_otel.runtime.placement import warning

_log = logging.getLogger("aegis_otel")
_RUN = "RunConfig"
"""The agent that is named where a run has model settings from its agent or its RunConfig."""
_REMEMBERED = 1_000
"""How many warnings are remembered: tools may be named anew for each request."""


class UngovernedTools:
    """Ignores tools that cannot be governed, warns of them, or refuses the run.

    Args:
        reaction: `allow`, `warn` or `refuse`.
        mode: In `monitor` mode nothing is refused.
        record: Records why a tool cannot be governed, once for each tool.
    """

    def __init__(self, reaction: str, mode: Mode, record: Callable[[str], object] = lambda _: None) -> None:
        self._mode = mode
        self._record = record
        self._refuse = reaction == "refuse" and mode is Mode.ENFORCE
        self._silent = reaction == "allow"
        # In order, the oldest first; not by agent, because agents, too, may be named anew for each request.
        self._warned: dict[tuple[str, str], None] = {}

    def check(self, found: Iterable[Ability]) -> None:
        """React to what an agent or a request can do.

        Raises:
            ConfigError: something cannot be governed, and that is to be refused. It ends the run.
        """
        if not self._silent:
            self.react(judge(found, self._mode).gaps)

    def react(self, gaps: list[Row]) -> None:
        """React to rows that are not governed. Raises as `check`."""
        if self._silent or not gaps:
            return
        fresh = [row for row in gaps if (row.tool, row.kind) not in self._warned]
        for row in fresh:
            self._warned[row.tool, row.kind] = None
            if len(self._warned) > _REMEMBERED:
                del self._warned[next(iter(self._warned))]
            self._record(f"tool {_shown(row)}: {row.reason}")
        if self._refuse:
            found = "; ".join(f"{_shown(row)} {row.reason}" for row in gaps)
            raise ConfigError(
                f"tools that cannot be governed: {redact_text(found)} "
                f"(or set `{ON_UNGOVERNED.env}` to `warn` to let them run)"
            )
        for row in fresh:
            text = redact_text(f"tool {_shown(row)} runs ungoverned: {row.reason}")
            _log.warning("%s (or set `%s` to `allow`)", text, ON_UNGOVERNED.env)


def _shown(row: Row) -> str:
    tool = row.tool.replace("`", "'")
    return f"`{tool}` of agent `{row.agent}`"


class PlacementWarning:
    """Warns once of a tool that can write over the policy or the audit."""

    reached: Sequence[str] = ()
    """What such a tool can reach, as `runtime.placement.within_reach` gives it."""

    def check(self, tools: Iterable[object]) -> None:
        """Warn of the first of `tools` that can write files."""
        if self.reached and (writers := writing_tools(tools)):
            _log.warning("%s", redact_text(warning(writers[0], self.reached)))
            self.reached = ()


def install(ungoverned: UngovernedTools, placement: PlacementWarning, patches: Patches) -> None:
    """Check the tools of every agent in each turn, and the model settings of each run."""

    async def get_all_tools(
        original: Callable[..., Awaitable[list[Any]]], agent: Any, run_context: Any
    ) -> Any:
        tools = await original(agent, run_context)
        ungoverned.check(abilities(agent, tools))
        placement.check(tools)
        return tools

    def resolve(original: Callable[..., ModelSettings], own: ModelSettings, override: Any) -> ModelSettings:
        settings = original(own, override)
        ungoverned.check(request_fields(_RUN, settings))
        return settings

    # The SDK asks each agent for its tools in each turn: what was added meanwhile is among them.
    patches.wrap(AgentBase, ALL_TOOLS, get_all_tools)
    # The settings of the agent and of the run meet here: only the result is what is requested.
    patches.wrap(ModelSettings, "resolve", resolve)
