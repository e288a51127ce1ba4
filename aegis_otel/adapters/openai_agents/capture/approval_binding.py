"""Decide which approvals of the SDK count, and for which call.

Where the SDK puts the policy's questions, an answer counts if the audit has it. A tool's own `needs_approval`
is left as it is: what is added, also with a handler, is that a yes out of a saved run counts for the call
that was paused in it, and for no other.
"""

from __future__ import annotations

import logging
from typing import Any

from agents import FunctionTool
from agents.items import ToolApprovalItem

from aegis_otel.adapters.openai_agents.capture.function_tools import Gates
from aegis_otel.adapters.openai_agents.gates import approval_check as looks
from aegis_otel.adapters.openai_agents.gates.actions import conversation_of
from aegis_otel.adapters.openai_agents.gates.approval_check import Look
from aegis_otel.adapters.openai_agents.gates.function_gate import is_governed
from aegis_otel.adapters.openai_agents.gates.runs import Run, run_of
from aegis_otel.audit.record import RecordStatus
from aegis_otel.governance.error_text import describe
from aegis_otel.governance.interruptions import DENIES, GOES, WAITS, Ruling
from aegis_otel.model import Approval

SETTING = "needs_approval"
_BINDING = ("call", "yes", "always")
"""Marks that let a yes out of a saved run count for a tool's own question: the call was paused in this run,
or a human said yes to it, or to every call of the tool, in a process that is governed."""
_WITHDRAWN = "Its body was not started: stopped by another guardrail or a hook while a human was asked"

_log = logging.getLogger("aegis_otel")


class Approvals:
    """Judges the calls that the SDK looks at; implements `look.Judge`."""

    def __init__(self, gates: Gates, *, asks: bool) -> None:
        self._gates = gates
        self.governor = gates.governor
        self.asks = asks
        self._told = False

    def look_at(
        self,
        tool: FunctionTool,
        tool_call: Any,
        agent: object,
        context: Any,
        run_config: object = None,
        *,
        waited: bool = False,
    ) -> Look | None:
        """Return a look at a call; None where there is nothing to judge: the SDK may do as it does."""
        if not issubclass(type(tool), FunctionTool):
            looks.current.set(None)
            return None  # something that says it is one, and stands behind no gate
        audited = self.asks and not is_governed(tool)
        concerned = waited or self._gates.of(tool).may_stop() if audited else False
        if not concerned and vars(tool).get(SETTING, False) is False:
            if looks.current.get() is not None:
                looks.current.set(None)
            return None
        look = self.new(tool, tool_call, agent, context, run_config, audited=audited)
        look.waited = waited
        looks.current.set(look)
        return look

    def new(
        self,
        tool: FunctionTool,
        tool_call: Any,
        agent: object,
        context: Any,
        run_config: object = None,
        *,
        audited: bool = True,
    ) -> Look:
        """Return a look at a call that nobody is at yet."""
        return Look(
            self,
            tool,
            tool_call.call_id,
            tool_call.arguments or "",
            getattr(agent, "name", None),
            context,
            tool_call,
            run_of(context),
            conversation_of(run_config),
            audited,
        )

    async def judge(self, look: Look, wanted: bool) -> Ruling:
        """Return what becomes of a call; see `look.Judge`."""
        if look.waited and look.before is None:
            return WAITS  # nobody has answered yet
        if look.audited:
            trusted = not look.run.restored or self._has(look, "always")
            return await self._gates.of(look.tool).judge(look, wanted, trusted)
        if look.before is False:
            return DENIES
        if look.before is True:
            # The tool's own question; what the policy asks is asked of the handler.
            bound = not look.run.restored or any(self._has(look, what) for what in _BINDING)
            return GOES if bound else WAITS
        return WAITS if wanted else GOES

    def suspend(self, look: Look) -> bool:
        """Put a call to a human; see `look.Judge`."""
        assert look.ruling is not None
        look.run.paused.add(look.call_id)
        if not look.audited:
            # A call that comes out of a text is only vouched for by who says yes to it.
            self._mark(look.run, "asked" if look.waited or look.before else "call", *_of_look(look))
        return self.governor.interruptions.suspend(look.ruling)

    def yields(self, look: Look) -> bool:
        """Return whether the question is the tool's own alone; see `look.Judge`."""
        question = look.ruling and look.ruling.question
        return question is None or question.decision.approval is Approval.AUTO

    def rejected(self, look: Look) -> None:
        """Record that the SDK rejects a call by an answer that came meanwhile; see `look.Judge`."""
        if look.audited:
            self._gates.of(look.tool).rejected(look)

    def without_look(self, tool: FunctionTool, tool_call: Any, agent: object, context: Any) -> None:
        """Record that the SDK rejects by itself a call that there was nothing to judge about."""
        if self.asks and issubclass(type(tool), FunctionTool) and not is_governed(tool):
            self.rejected(self.new(tool, tool_call, agent, context))

    def withdraw(self, look: Look) -> None:
        """Record that the SDK has settled a question otherwise; see `look.Judge`."""
        assert look.ruling is not None
        self.governor.interruptions.withdraw(look.ruling, RecordStatus.SKIPPED, _WITHDRAWN)

    def approved(self, item: ToolApprovalItem, context: object, *, always: bool, found: bool) -> None:
        """Record a human's yes to a call, or to every call of that tool by that agent in this run.

        Args:
            item: What the human was shown.
            context: Of the run.
            always: Whether to every call.
            found: Whether the audit knows the question.
        """
        run, about = run_of(context), of_item(item)
        known = found or not run.restored
        if known or any(self._digest(run.id, what, *about) in run.marks for what in ("call", "asked")):
            if not self.asks:
                self._mark(run, "yes", *about)
            if always:
                self._mark(run, "always", *about[1:3])

    def _has(self, look: Look, what: str) -> bool:
        about = _of_look(look)
        return self._digest(look.run.id, what, *(about[1:3] if what == "always" else about)) in look.run.marks

    def _mark(self, run: Run, what: str, *about: str | None) -> None:
        mark = self._digest(run.id, what, *about)
        if mark is not None:
            run.marks.add(mark)

    def _digest(self, *parts: str | None) -> str | None:
        """Return the digest of a mark; None without a key: then a saved yes is asked for again."""
        try:
            return self.governor.journal.keyed("run", *parts)
        except Exception as error:
            if not self._told:
                _log.warning("approvals of saved runs do not count here: %s", describe(error))
            self._told = True
            return None


def _of_look(look: Look) -> tuple[str | None, ...]:
    return look.call_id, look.tool.name, look.agent, look.arguments


def of_item(item: ToolApprovalItem) -> tuple[str | None, ...]:
    agent = getattr(item.agent, "name", None)
    return item.call_id, item.tool_name, agent, item.arguments or ""
