"""What is done about an agent's tools that nothing can govern: nothing, a warning, or no run at all."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from typing import Any

from agents import ModelSettings
from agents.agent import AgentBase

from aegis_otel.adapters.openai_agents.capture.patches import Patches
from aegis_otel.adapters.openai_agents.coverage import unseen
from aegis_otel.adapters.openai_agents.coverage.coverage import ALL_TOOLS, Coverage, Row, rows_of, unseen_rows
from aegis_otel.adapters.openai_agents.coverage.reach import Reach
from aegis_otel.config import ON_UNGOVERNED
from aegis_otel.errors import ConfigError
from aegis_otel.model import Mode
from aegis_otel.redaction.redactor import redact_text

_log = logging.getLogger("aegis_otel")
_RESOLVE = "resolve"
_RUN = "RunConfig"
"""Where model settings are named that a run has from its agent or its RunConfig."""
_KEPT = 1_000
"""How many warnings are remembered: tools may be named anew for each request."""


class Ungoverned:
    """Looks at every agent before its model is asked."""

    def __init__(self, reaction: str, mode: Mode) -> None:
        """
        Args:
            reaction: `allow`, `warn` or `refuse`.
            mode: Where it is `monitor`, nothing is refused.
        """
        self._mode = mode
        self._refuse = reaction == "refuse" and mode is Mode.ENFORCE
        self._silent = reaction == "allow"
        # Not by agent, which may be named anew for each request, too. In order, the oldest first.
        self._told: dict[tuple[str, str], None] = {}

    def look(self, agent: object, tools: Iterable[object]) -> None:
        """Look at `agent`, whose tools are `tools`, and react.

        Raises:
            ConfigError: one cannot be governed, and that is to be refused. It ends the run.
        """
        if not self._silent:
            self.react(Coverage(rows_of(agent, tools, self._mode)).gaps)

    def look_at_settings(self, settings: object) -> None:
        """Look at the model settings of a run: the agent's and its RunConfig's. Raises as `look`."""
        if not self._silent:
            self.react(Coverage(unseen_rows(_RUN, unseen.of_settings(settings), self._mode)).gaps)

    def react(self, gaps: list[Row]) -> None:
        """React to what was found; raises as `look`."""
        if self._silent or not gaps:
            return
        if self._refuse:
            found = "; ".join(f"{_which(row)} {row.reason}" for row in gaps)
            raise ConfigError(
                f"tools that cannot be governed: {redact_text(found)} "
                f"(or set `{ON_UNGOVERNED.env}` to `warn` to let them run)"
            )
        for row in gaps:
            if (row.tool, row.kind) not in self._told:
                self._told[row.tool, row.kind] = None
                if len(self._told) > _KEPT:
                    del self._told[next(iter(self._told))]
                told = redact_text(f"tool {_which(row)} runs ungoverned: {row.reason}")
                _log.warning("%s (or set `%s` to `allow`)", told, ON_UNGOVERNED.env)


def _which(row: Row) -> str:
    tool = row.tool.replace("`", "'")
    return f"`{tool}` of agent `{row.agent}`"


def install(ungoverned: Ungoverned, reach: Reach, patches: Patches) -> None:
    """Look at the tools of every agent, on each turn of each run."""
    every = AgentBase.get_all_tools

    @functools.wraps(every)
    async def get_all_tools(self: AgentBase[Any], run_context: Any) -> list[Any]:
        tools = await every(self, run_context)
        ungoverned.look(self, tools)
        reach.check(tools)
        return tools

    patches.set(AgentBase, ALL_TOOLS, get_all_tools)
    resolve = ModelSettings.resolve

    @functools.wraps(resolve)
    def resolved(self: ModelSettings, override: ModelSettings | None) -> ModelSettings:
        settings = resolve(self, override)
        ungoverned.look_at_settings(settings)
        return settings

    patches.set(ModelSettings, _RESOLVE, resolved)
