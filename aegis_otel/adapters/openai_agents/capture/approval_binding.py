"""Decide which approvals of the SDK count, and for which call.

Where the SDK puts the policy's questions, an answer counts if the audit has it. A tool's own
`needs_approval` stays as it is, but a yes out of a saved run counts for the call that was paused in that
run, and for no other.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from agents import FunctionTool
from agents.items import ToolApprovalItem

from aegis_otel.adapters.openai_agents.capture.function_tools import Gates
from aegis_otel.adapters.openai_agents.gates.actions import conversation_of
from aegis_otel.adapters.openai_agents.gates.approval_check import ApprovalCheck, current_check
from aegis_otel.adapters.openai_agents.gates.function_gate import is_governed
from aegis_otel.adapters.openai_agents.gates.runs import Run, run_of
from aegis_otel.audit.record import RecordStatus
from aegis_otel.governance.error_text import describe, traced
from aegis_otel.governance.interruptions import DENIES, GOES, WAITS, Ruling
from aegis_otel.model import Approval

try:
    from agents._function_tool_arguments import FunctionToolApproval
except ImportError:  # before 0.24 an evaluation was a bool
    FunctionToolApproval = None  # type: ignore[assignment, misc]

_BINDING = ("call", "yes", "always")
"""Marks that let a yes out of a saved run count for a tool's own question: the call was paused in this run,
or a human said yes to it, or to every call of the tool, in a governed process."""
_WITHDRAWN = "Its body was not started: stopped by another guardrail or a hook while a human was asked"

_log = logging.getLogger("aegis_otel")


class Approvals:
    """Answers the SDK, which asks before each call whether it needs an approval, and has one.

    Args:
        gates: The gates of function tools.
        asks: Whether the SDK puts the policy's questions, and the audit has the answers.
    """

    def __init__(self, gates: Gates, *, asks: bool) -> None:
        self._gates = gates
        self.interruptions = gates.governor.interruptions
        self._journal = gates.governor.journal
        self.asks = asks
        self._warned = False

    def begin(
        self,
        tool: FunctionTool,
        tool_call: Any,
        agent: object,
        context: Any,
        run_config: object = None,
        *,
        waited: bool = False,
    ) -> ApprovalCheck | None:
        """Start the check of a call; None where there is nothing to check, and the SDK decides alone."""
        check = None
        # What only passes for a FunctionTool has no gate.
        if issubclass(type(tool), FunctionTool):
            audited = self.asks and not is_governed(tool)
            asked = audited and (waited or self._gates.of(tool).may_stop())
            if asked or vars(tool).get("needs_approval", False) is not False:
                check = self.new_check(tool, tool_call, agent, context, run_config)
                check.audited, check.waited = audited, waited
        if check is not None or current_check.get() is not None:
            current_check.set(check)
        return check

    def new_check(
        self,
        tool: FunctionTool,
        tool_call: Any,
        agent: object,
        context: Any,
        run_config: object = None,
    ) -> ApprovalCheck:
        """Return a check of a call that is not current yet, and whose answers are in the audit."""
        return ApprovalCheck(
            tool,
            tool_call.call_id,
            tool_call.arguments or "",
            getattr(agent, "name", None),
            context,
            tool_call,
            run_of(context),
            conversation_of(run_config),
        )

    def end(self, check: ApprovalCheck, *, paused: bool) -> None:
        """End a check: the call is paused, or it goes on, or it was refused."""
        check.open = False
        if check.suspended and not paused and not check.settled:
            check.settled = True
            assert check.ruling is not None
            self.interruptions.withdraw(check.ruling, RecordStatus.SKIPPED, _WITHDRAWN)

    def status(self, check: ApprovalCheck, status: bool | None) -> bool | None:
        """Return the status of the approval that the SDK is given, where its own is `status`."""
        ruling = check.ruling
        if ruling is None:
            check.before = status
            return None  # so that it asks whether an approval is needed, which can be awaited
        if ruling.verdict is False:
            return False
        if status is False and check.before is not False:  # the answer came meanwhile
            self._reject(check)
            return False
        if ruling.verdict is None:
            is_tools_own = ruling.question is None or ruling.question.decision.approval is Approval.AUTO
            if status is True and check.before is not True and is_tools_own:
                return True
            # Where the question cannot be recorded, the call goes on to its gate, which refuses it.
            return None if check.suspended or self._suspend(check) else True
        return True if check.before is False else status

    async def evaluate(self, check: ApprovalCheck, evaluate: Callable[[], Awaitable[Any]]) -> Any:
        """Return whether the call needs an approval, as the SDK says it: an object or, before 0.24, a bool.

        Args:
            check: The check of the call.
            evaluate: The SDK's own evaluation of the tool's `needs_approval`; not called where the call was
                answered.
        """
        if check.before is None:
            evaluation = await evaluate()
        elif FunctionToolApproval is None:
            evaluation = False
        else:
            tool = check.tool
            evaluation = FunctionToolApproval("invoke", tool, tool.on_invoke_tool, check.tool_call.arguments)
        wanted = evaluation if isinstance(evaluation, bool) else evaluation.outcome != "invoke"
        try:
            check.ruling = await self.judge(check, wanted)
        except Exception as error:
            _log.error("whether a call needs an approval could not be found out: %s", traced(error))
            check.ruling = GOES  # nobody is asked about what could not be judged; the gate refuses it
        if isinstance(evaluation, bool):
            return check.paused
        if check.paused:
            evaluation.outcome, evaluation.prepared = "require_approval", None
        else:
            evaluation.outcome = "invoke"
        return evaluation

    async def judge(self, check: ApprovalCheck, wanted: bool) -> Ruling:
        """Return what happens to a call; `wanted` says that the tool asks for approval by itself."""
        if check.waited and check.before is None:
            return WAITS  # nobody has answered yet
        if check.audited:
            trusted = not check.run.restored or self._has(check, "always")
            return await self._gates.of(check.tool).judge(check, wanted, trusted)
        if check.before is None:
            return WAITS if wanted else GOES
        # The tool's own question; what the policy asks is asked of the handler.
        is_bound = not check.run.restored or any(self._has(check, mark) for mark in _BINDING)
        return DENIES if not check.before else GOES if is_bound else WAITS

    def record_rejection(self, tool: FunctionTool, tool_call: Any, agent: object, context: Any) -> None:
        """Record that the SDK rejects by itself a call that was not checked."""
        if self.asks and issubclass(type(tool), FunctionTool) and not is_governed(tool):
            self._reject(self.new_check(tool, tool_call, agent, context))

    def approved(self, item: ToolApprovalItem, context: object, *, always: bool, found: bool) -> None:
        """Mark in the run that a human approved a call, or every call of that tool by that agent.

        Args:
            item: The call as the human was shown it.
            context: The context of the run.
            always: Whether every call is approved.
            found: Whether the audit has the question.
        """
        run, about = run_of(context), identity_of(item)
        known = found or not run.restored
        if known or any(self._digest(run.id, mark, *about) in run.marks for mark in ("call", "asked")):
            if not self.asks:
                self._mark(run, "yes", *about)
            if always:
                self._mark(run, "always", *about[1:3])

    def _suspend(self, check: ApprovalCheck) -> bool:
        """Put a call to a human; return False where that cannot be recorded."""
        assert check.ruling is not None
        check.run.paused.add(check.call_id)
        if not check.audited:
            # A call that comes out of a text is only vouched for by who says yes to it.
            self._mark(check.run, "asked" if check.waited or check.before else "call", *_identity(check))
        check.suspended = self.interruptions.suspend(check.ruling)
        return check.suspended

    def _reject(self, check: ApprovalCheck) -> None:
        """Record that the SDK rejects a call by itself."""
        if check.audited and not check.settled:
            self._gates.of(check.tool).rejected(check)
        check.settled = True

    def _has(self, check: ApprovalCheck, mark: str) -> bool:
        about = _identity(check)
        digest = self._digest(check.run.id, mark, *(about[1:3] if mark == "always" else about))
        return digest in check.run.marks

    def _mark(self, run: Run, mark: str, *about: str | None) -> None:
        digest = self._digest(run.id, mark, *about)
        if digest is not None:
            run.marks.add(digest)

    def _digest(self, *parts: str | None) -> str | None:
        """Return the digest of a mark; None without a key: then a saved yes is asked for again."""
        try:
            return self._journal.keyed("run", *parts)
        except Exception as error:
            if not self._warned:
                _log.warning("approvals of saved runs do not count here: %s", describe(error))
            self._warned = True
            return None


def _identity(check: ApprovalCheck) -> tuple[str | None, ...]:
    return check.call_id, check.tool.name, check.agent, check.arguments


def identity_of(item: ToolApprovalItem) -> tuple[str | None, ...]:
    """Return the call id, the tool, the agent and the arguments that a human was shown."""
    return item.call_id, item.tool_name, getattr(item.agent, "name", None), item.arguments or ""
