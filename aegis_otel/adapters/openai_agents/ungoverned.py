"""What is done about an agent's tools that nothing can govern: nothing, a warning, or no run at all."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from typing import Any

from agents.agent import AgentBase

from aegis_otel.adapters.openai_agents.coverage import Coverage, Row, judge
from aegis_otel.adapters.openai_agents.patches import Patches
from aegis_otel.adapters.openai_agents.tool_kinds import name_of
from aegis_otel.config import ON_UNGOVERNED
from aegis_otel.errors import ConfigError
from aegis_otel.model import Mode
from aegis_otel.redaction import redact_text

_log = logging.getLogger("aegis_otel")
_ALL_TOOLS = "get_all_tools"


class Ungoverned:
    """Looks at every agent's tools before its model is asked."""

    def __init__(self, reaction: str, mode: Mode) -> None:
        """
        Args:
            reaction: `allow`, `warn` or `refuse`.
            mode: Where it is `monitor`, nothing is refused.
        """
        self._mode = mode
        self._refuse = reaction == "refuse" and mode is Mode.ENFORCE
        self._silent = reaction == "allow"
        self._told: set[tuple[str, str]] = set()

    def look(self, agent: str, tools: Iterable[object]) -> None:
        """Look at `tools`, and react.

        Raises:
            ConfigError: one cannot be governed, and that is to be refused. It ends the run.
        """
        if not self._silent:
            self.react(Coverage(judge(agent, tool, self._mode) for tool in tools).gaps)

    def react(self, gaps: list[Row]) -> None:
        """React to what was found; raises as `look`."""
        if self._silent or not gaps:
            return
        if self._refuse:
            found = "; ".join(f"`{row.tool}` of agent `{row.agent}` {row.reason}" for row in gaps)
            raise ConfigError(
                f"tools that cannot be governed: {redact_text(found)} "
                f"(or set `{ON_UNGOVERNED.env}` to `warn` to let them run)"
            )
        for row in gaps:
            if (row.agent, row.tool) not in self._told:
                self._told.add((row.agent, row.tool))
                told = redact_text(f"tool `{row.tool}` of agent `{row.agent}` runs ungoverned: {row.reason}")
                _log.warning("%s (or set `%s` to `allow`)", told, ON_UNGOVERNED.env)


def install(ungoverned: Ungoverned, patches: Patches) -> None:
    """Look at the tools of every agent, on each turn of each run."""
    every = AgentBase.get_all_tools

    @functools.wraps(every)
    async def get_all_tools(self: AgentBase[Any], run_context: Any) -> list[Any]:
        tools = await every(self, run_context)
        ungoverned.look(name_of(self), tools)
        return tools

    patches.set(AgentBase, _ALL_TOOLS, get_all_tools)
