"""The SDK's approval check of one call of a function tool, and what the policy and the audit say in it.

The SDK asks three things before it runs a call: the status of its approval (approved, rejected or not
answered), whether it needs one, and the status again. `ApprovalCheck` answers them:

- At first the status is "not answered", so that the SDK asks the second question, which can be awaited.
- Then the policy and the audit decide on the next step: the call proceeds to its gate, its run is paused
  for a human, or it is rejected.
- From then on the status is what came of that; an answer that a human gives meanwhile wins.

The gate comes last, in the same context, and finds the check by `last_check`. Everybody else who asks for
the status is given the SDK's own.

Where the SDK puts the policy's questions (`approvals="sdk"`), an answer counts if the audit has it. The
question of a tool's own `needs_approval` stays the SDK's, but a yes out of a saved run counts for the call
that was paused in that run, and for no other.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents import FunctionTool

from aegis_otel.adapters.openai_agents.gates.call_origin import origin_of
from aegis_otel.adapters.openai_agents.gates.runs import Mark, run_of
from aegis_otel.governance import refusal
from aegis_otel.governance.approvals.paused.paused_calls import PausedCalls, ShownCall
from aegis_otel.governance.approvals.paused.paused_rows import NextStep, Step
from aegis_otel.governance.call import Origin
from aegis_otel.governance.error_text import traced
from aegis_otel.governance.refusal import Refusal
from aegis_otel.model import Approval

if TYPE_CHECKING:
    from aegis_otel.adapters.openai_agents.gates.function_gate import Gate

try:
    from agents._function_tool_arguments import FunctionToolApproval
except ImportError:  # before 0.24 the SDK's evaluation of `needs_approval` was a bool
    FunctionToolApproval = None  # type: ignore[assignment, misc]

_log = logging.getLogger("aegis_otel")


@dataclass(slots=True, eq=False)
class ApprovalCheck:
    """One call while the SDK checks its approval: what was asked, and what was answered."""

    tool: FunctionTool
    tool_call: Any
    agent: str | None
    """The name of the agent object that runs."""
    context: Any
    """The context of the run."""
    run_config: Any
    """The configuration of the run, where it is known."""
    paused_calls: PausedCalls
    gate: Gate | None
    """The gate of the tool, where the audit has the answers about it; None where only the tool asks."""
    waited: bool = False
    """True where the run was paused for the call before."""
    in_session: bool = False
    """True in a realtime session: it goes on at once, and only its program answers."""
    open: bool = True
    """True while the SDK works on the call; the gate may ask for the result later."""
    first_status: bool | None = None
    """What the SDK itself had first: True (approved), False (rejected), or None."""
    next_step: NextStep | None = None
    """None until the SDK has asked whether the call needs an approval."""
    asked: bool = False
    """True once this check has put the call to a human."""
    settled: bool = False
    """True once what the SDK decided by itself is on record."""

    @property
    def shown(self) -> ShownCall:
        """Return the call as a human is shown it."""
        return ShownCall(self.tool_call.call_id, self.tool.name, self.agent, self.tool_call.arguments or "")

    def origin(self, original_name: str | None) -> Origin:
        """Return where the call comes from; `original_name` is the tool's own, where it has another."""
        call_id, tool, _, arguments = self.shown
        run_of(self.context)  # begins one where there is none, so that the origin has its id
        return origin_of(
            tool,
            call_id,
            len(arguments),
            context=self.context,
            run_config=self.run_config,
            original_name=original_name,
        )

    @property
    def pauses(self) -> bool:
        """Return whether the call is being put to a human."""
        return self.next_step is not None and self.next_step.step is Step.PAUSE

    @property
    def resumes(self) -> bool:
        """Return whether the call goes on from a question that is in the audit, as the SDK sees it."""
        return self.gate is not None and (self.first_status is True or self.by_answer)

    @property
    def fault(self) -> Refusal | None:
        """Return why the gate refuses the call, whatever the policy says."""
        return None if self.next_step is None else self.next_step.fault

    @property
    def by_answer(self) -> bool:
        """Return whether the call goes on by an answer that is in the audit."""
        return self.next_step is not None and self.next_step.by_answer

    def concerns(self, name: str, call_id: str, context: object) -> bool:
        """Return whether the SDK, which asks about a call, works on the call of this check."""
        is_same = call_id == self.tool_call.call_id and name == self.tool.name
        return self.open and is_same and context is self.context

    def status(self, own: bool | None) -> bool | None:
        """Return the status that the SDK is given, where its own is `own`."""
        if self.next_step is None:
            self.first_status = own
            return None
        step, question = self.next_step.step, self.next_step.question
        if step is Step.REJECT:
            return False
        if own is False and self.first_status is not False:  # the answer came meanwhile
            self.record_rejection()
            return False
        if step is Step.PROCEED:
            return True if self.first_status is False else own
        is_tools_own = question is None or question.decision.enforced_approval is Approval.AUTO
        if own is True and self.first_status is not True and is_tools_own:
            return True
        # Where the question cannot be recorded, the call goes on to its gate, which refuses it.
        return None if self.asked or self._pause(question) else True

    async def evaluate(self, evaluate: Callable[[], Awaitable[Any]]) -> Any:
        """Return whether the call needs an approval, as the SDK says it: an object or, before 0.24, a bool.

        Args:
            evaluate: The SDK's own evaluation of the tool's `needs_approval`; not called where the call was
                answered.
        """
        if self.first_status is None:
            evaluation = await evaluate()
        elif FunctionToolApproval is None:
            evaluation = False
        else:
            tool = self.tool
            evaluation = FunctionToolApproval("invoke", tool, tool.on_invoke_tool, self.tool_call.arguments)
        tool_asks = evaluation if isinstance(evaluation, bool) else evaluation.outcome != "invoke"
        try:
            self.next_step = await self.decide(tool_asks)
        except Exception as error:
            _log.error("whether a call needs an approval could not be found out: %s", traced(error))
            self.next_step = self._undecided(tool_asks)
        if isinstance(evaluation, bool):
            return self.pauses
        if self.pauses:
            evaluation.outcome, evaluation.prepared = "require_approval", None
        else:
            evaluation.outcome = "invoke"
        return evaluation

    async def decide(self, tool_asks: bool) -> NextStep:
        """Return the next step of the call; `tool_asks` says that the tool asks for approval by itself."""
        is_in_inbox = not self.in_session and self.gate is not None and self.paused_calls.inbox is not None
        if self.waited and self.first_status is None and not is_in_inbox:
            return NextStep(Step.PAUSE)  # nobody has answered yet
        restored = run_of(self.context).restored
        if self.gate is not None:
            trusted = not restored or self._has(Mark.ALWAYS_APPROVED)
            return await self.gate.next_step(self, tool_asks, trusted)
        if self.first_status is None:
            return NextStep(Step.PAUSE if tool_asks else Step.PROCEED)
        if not self.first_status:
            return NextStep(Step.REJECT)
        if self._is_for_another_subject():
            return NextStep(Step.PAUSE)
        # The tool's own question; what the policy asks is asked of the handler.
        binding = (Mark.PAUSED, Mark.APPROVED, Mark.ALWAYS_APPROVED)
        return NextStep(Step.PROCEED if not restored or any(map(self._has, binding)) else Step.PAUSE)

    def _undecided(self, tool_asks: bool) -> NextStep:
        """Return the next step of a call of which nothing was found out: nobody else is asked about it."""
        was_asked = self.waited or (self.gate is None and (tool_asks or self.first_status is True))
        if was_asked and self.first_status is not False:
            return NextStep(Step.PAUSE)  # whoever resumes the run finds the answer that there is
        if self.gate is None and self.first_status is False:
            return NextStep(Step.REJECT)
        return NextStep(Step.PROCEED, fault=refusal.UNAVAILABLE)

    def end(self, *, paused: bool) -> None:
        """End the check: the run is paused, or the call goes on, or it was refused."""
        self.open = False
        if self.asked and not paused and not self.settled:
            self.settled = True
            assert self.next_step is not None
            self.paused_calls.withdraw(self.next_step.question)

    def record_rejection(self) -> None:
        """Record that the SDK rejects the call by itself."""
        if self.gate is not None and not self.settled:
            self.gate.record_rejection(self)
        self.settled = True

    def _pause(self, question: Any) -> bool:
        """Put the call to a human; return False where that cannot be recorded."""
        run = run_of(self.context)
        run.paused.add(self.tool_call.call_id)
        if self.gate is None:
            mark = Mark.PAUSED_AGAIN if self.waited or self.first_status else Mark.PAUSED
            run.add(mark, self.shown, self.paused_calls)
            run.subject = self.paused_calls.subject_digest(run.id, self.context)
        self.asked = self.paused_calls.pause(question)
        return self.asked

    def _is_for_another_subject(self) -> bool:
        """Return whether the run was paused for another subject than it goes on for."""
        run = run_of(self.context)
        if not run.restored and not run.paused:
            return False
        return run.subject != self.paused_calls.subject_digest(run.id, self.context)

    def _has(self, mark: Mark) -> bool:
        return run_of(self.context).has(mark, self.shown, self.paused_calls)


current_check: ContextVar[ApprovalCheck | None] = ContextVar("aegis_otel_approval_check", default=None)
"""The last approval check of the SDK in this context."""


def last_check(call_id: str, arguments: str) -> ApprovalCheck | None:
    """Return the approval check of this call, if it was the SDK's last one in this context."""
    check = current_check.get()
    if check is None:
        return None
    shown = check.shown
    return check if (shown.call_id, shown.arguments) == (call_id, arguments) else None
