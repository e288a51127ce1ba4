"""A gate: where a call of one function tool meets the governor.

It acts as the tool's first input guardrail, because the SDK runs that right before the body, outside the
tool's own timeout, gives it the agent and the call id, and hands its text to the model. The body's invoker
is wrapped too (`invoker`): there the body's end is seen, and the gate decides itself when user code calls
`tool.on_invoke_tool` directly and no guardrail ran.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from agents import FunctionTool, ToolGuardrailFunctionOutput, ToolInputGuardrail, ToolInputGuardrailData
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents.gates.action_factory import (
    ActionFactory,
    Caller,
    ToolRequest,
    called_by,
    names_of,
)
from aegis_otel.adapters.openai_agents.gates.approval_check import ApprovalCheck, last_check
from aegis_otel.adapters.openai_agents.gates.argument_validation import Prepared
from aegis_otel.adapters.openai_agents.gates.body_watch import Watch, runs_inside, waits_inside, watch
from aegis_otel.adapters.openai_agents.gates.call_origin import origin_of
from aegis_otel.adapters.openai_agents.gates.gate_proxy import GateProxy, gate_of
from aegis_otel.adapters.openai_agents.gates.runs import BodyOfRun
from aegis_otel.audit.record import RecordStatus
from aegis_otel.governance import refusal
from aegis_otel.governance.approvals.paused.paused_rows import NextStep, Step
from aegis_otel.governance.body import cancelled_before_it_ran
from aegis_otel.governance.call import Call, Origin, is_large
from aegis_otel.governance.error_text import traced
from aegis_otel.governance.governor import Governor
from aegis_otel.model import Action, Approval, Mode

Invoke = Callable[[ToolContext[Any], str], Awaitable[Any]]
Guard = Callable[[ToolInputGuardrailData], Awaitable[ToolGuardrailFunctionOutput]]
FactoryOf = Callable[[], ActionFactory]
"""Returns what makes the Action of each call of one tool, as the tool is now."""

_log = logging.getLogger("aegis_otel")
_UNSEEN = "Its gate was not before the body to the end: if it ran, nobody saw it"
_NOT_STARTED = "Its body was not started: stopped by another guardrail or a hook"
_READY = 16
"""Calls of one tool whose validated arguments wait for their guardrail."""


@dataclasses.dataclass(slots=True, eq=False)
class PermittedCall:
    """A call that a gate has permitted, for whoever meets it again in the same context."""

    gate: Gate
    call: Call
    call_id: str | None
    arguments: str
    prepared: Prepared | None = None
    used: bool = False
    """True once its body has begun."""

    def is_call_of(self, context: ToolContext[Any], arguments: str) -> bool:
        """Return whether it is the call that an invoker is given, and not closed."""
        return (
            self.call.status is RecordStatus.OPEN
            and self.arguments == arguments
            # Without an id it is the plainer context that the SDK gives to invokers that ask for it.
            and getattr(context, "tool_call_id", self.call_id) == self.call_id
        )


class Unfinished(NamedTuple):
    """How a permitted call is closed whose body its gate did not run."""

    status: RecordStatus
    why: str | None = None
    never_ran: bool = False
    """Whether it is certain that nothing ran the body. Else the call counts, and its end is not known."""


_admitted: ContextVar[PermittedCall | None] = ContextVar("aegis_otel_admitted", default=None)
"""The call that passed its guardrail last, on its way to its body."""
_running: ContextVar[PermittedCall | None] = ContextVar("aegis_otel_running", default=None)
"""The call whose body runs in this context."""


class GovernanceGuardrail(ToolInputGuardrail[Any]):
    """An input guardrail of this package; `gate` is None where one guardrail is for many tools."""

    def __init__(self, guard: Guard, governor: Governor, gate: Gate | None = None) -> None:
        super().__init__(guard, name="aegis")
        self.governor = governor
        self.gate = gate

    def __deepcopy__(self, memo: dict[int, Any]) -> GovernanceGuardrail:
        return self  # a deep copy of a governed tool is governed by the same gate


class Gate:
    """The gate of one tool. `factory` is called for each call."""

    is_on_class = False
    """True where the gate belongs to the SDK's classes, so that any copy of the tool has one, too."""

    def __init__(self, governor: Governor, factory: FactoryOf, needs_approval: object = False) -> None:
        self.governor = governor
        self._factory = factory
        self._needs_approval = needs_approval
        self.guardrail = GovernanceGuardrail(self.guard, governor, self)
        self._ready: dict[tuple[str | None, str], ToolRequest] = {}
        """By call id and arguments, calls that were judged and go on to their guardrail now."""

    async def guard(self, data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        """Decide on a call as an input guardrail: a refusal is the tool's output, and the run goes on."""
        context = data.context
        arguments = context.tool_arguments
        caller = self._caller(getattr(data.agent, "name", None), context)
        check = last_check(context.tool_call_id, arguments)
        judged = check is not None and check.next_step is not None
        preview = check.pauses if check is not None and judged else self._is_preview(context)
        if preview and not await self._blocks(context, caller):
            return ToolGuardrailFunctionOutput.allow()
        request = await self._request(context, arguments, caller)
        call = await self._authorize(context, arguments, request, check)
        info = {"decision_id": call.record.decision_id}
        if call.refusal is not None:
            return ToolGuardrailFunctionOutput.reject_content(call.refusal, output_info=info)
        permitted = PermittedCall(self, call, context.tool_call_id, arguments, request.prepared)
        _admitted.set(permitted)
        self._let_proceed(permitted, data)
        return ToolGuardrailFunctionOutput.allow(output_info=info)

    async def invoke(self, body: Invoke, context: ToolContext[Any], arguments: str) -> Any:
        """Run the body of an admitted call; decide first where no guardrail did."""
        known = _admitted.get()
        if (
            known is not None
            and not known.used
            and known.gate.admits_to(self)
            and known.is_call_of(context, arguments)
        ):
            known.used = True
            call, prepared = known.call, known.prepared
        elif self.retired:
            return await body(context, arguments)
        else:
            outer = _running.get()  # of a wrapper around another gate, the same call
            if outer and not (self.guards_same_tool(outer.gate) and outer.is_call_of(context, arguments)):
                outer = None
            if outer is not None:
                action = outer.call.decision.action
                caller = Caller(action.agent, action.subject)
            else:
                caller = self._caller(getattr(getattr(context, "agent", None), "name", None), context)
            request = await self._request(context, arguments, caller)
            prepared = request.prepared
            if outer is not None and await self._is_covered(context, arguments, request, outer.call):
                try:
                    return await _start(body, context, arguments, prepared)
                except BaseException:
                    self._leave_end_unknown(context)  # the wrapper may take it for a success
                    raise
            check = last_check(getattr(context, "tool_call_id", ""), arguments) if outer is None else None
            resumes = outer is None and waits_inside(context)
            call = await self._authorize(
                context,
                arguments,
                request,
                check,
                resumes=resumes,
                outer=None if outer is None else outer.call,
            )
            if call.refusal is not None:
                self._leave_end_unknown(context)
                return call.refusal
        token = _running.set(PermittedCall(self, call, getattr(context, "tool_call_id", None), arguments))
        seen = Watch(body)
        watching = watch.set(seen)
        try:
            with BodyOfRun(call.origin, context):
                return await self.governor.run(
                    call,
                    lambda: _start(body, context, arguments, prepared),
                    paused=lambda value: value is None and waits_inside(context),
                    failed=seen.failed,
                    ending=seen.ending,
                )
        finally:
            watch.reset(watching)
            _running.reset(token)
            if call.status is not RecordStatus.SUCCESS or not call.is_end_known:
                self._leave_end_unknown(context)

    async def next_step(self, check: ApprovalCheck, tool_asks: bool, trusted: bool) -> NextStep:
        """Return the next step of a call that the SDK asks about before it runs it.

        Args:
            check: The SDK's approval check of the call.
            tool_asks: Whether the tool asks for approval by itself.
            trusted: Whether the tool's own question counts as answered where the audit has no answer.
        """
        call_id, _, agent, arguments = check.shown
        caller = self._caller(agent, check.context)
        request = await self._new_request(call_id, names_of(check.tool), arguments, caller)
        if self.governor.unavailable is not None or (request.fault is not None and self.may_stop()):
            return NextStep(Step.PROCEED)
        next_step = await self.governor.paused_calls.next_step(
            request.action,
            check.origin(request.original_name),
            arguments,
            check.first_status,
            tool_asks=tool_asks,
            trusted=trusted,
            waited=check.waited,
            inside=runs_inside(check.tool_call, check.context),
            in_session=check.in_session,
        )
        if next_step.step is Step.PROCEED and request.prepared is not None:
            self._keep(call_id, arguments, request)
        return next_step

    def record_rejection(self, check: ApprovalCheck) -> None:
        """Record a call that the SDK rejects by itself."""
        _, _, agent, arguments = check.shown
        request = self._unvalidated(names_of(check.tool), arguments, self._caller(agent, check.context))
        question = None if check.next_step is None else check.next_step.question
        self.governor.paused_calls.record_rejection(
            request.action, check.origin(request.original_name), arguments, question
        )

    def _leave_end_unknown(self, context: ToolContext[Any]) -> None:
        """Let no later call be decided by how the wrapper ends whose body runs here, around the same tool.

        What the tool should do in it was refused or has failed, and the wrapper may return anything.
        """
        outer = _running.get()
        if outer is None:
            return
        # A tool that only its wrapper's invoker was read from may be gone; the context is that of the call.
        is_same = outer.call_id is not None and outer.call_id == getattr(context, "tool_call_id", None)
        if is_same or self.guards_same_tool(outer.gate):
            outer.call.is_end_known = False

    def _keep(self, call_id: str, arguments: str, request: ToolRequest) -> None:
        """Keep the request of a call that goes on, so that its arguments are validated once."""
        while len(self._ready) >= _READY:
            self._ready.pop(next(iter(self._ready)))
        self._ready[call_id, arguments] = request

    def may_stop(self) -> bool:
        """Return whether the policy could say anything but auto of a call of this tool."""
        return True

    def own_approval(self) -> object:
        """Return the tool's own `needs_approval`."""
        return self._needs_approval

    @property
    def retired(self) -> bool:
        """Return whether the gate was taken away, and lets every call pass for whoever still holds it."""
        return False

    def guards_same_tool(self, gate: Gate) -> bool:
        """Return whether it stands before the same tool as `gate`, and would decide the same."""
        return gate is self

    def admits_to(self, gate: Gate) -> bool:
        """Return whether a call that this gate has permitted passes `gate`, which stands before the body."""
        return gate is self

    def _is_preview(self, context: ToolContext[Any]) -> bool:
        """Return whether the SDK shows the call to guardrails before a human, and again after that.

        Its decision is made the second time. Where it is not known which time it is, the invoker decides.
        """
        own = self.own_approval()
        if own is False or context.is_tool_approved(context.tool_name, context.tool_call_id):
            return False
        config = getattr(context, "run_config", None)
        if own is True or config is None:  # a realtime session does not say
            return True
        return bool(getattr(config.tool_execution, "pre_approval_tool_input_guardrails", False))

    def _caller(self, agent: str | None, context: object) -> Caller:
        return Caller(agent, self.governor.subjects.find(context))

    async def _blocks(self, context: ToolContext[Any], caller: Caller) -> bool:
        """Return whether a call is refused at once, and nobody is asked: it is blocked, or cannot be read."""
        arguments = context.tool_arguments
        # What is kept may be of another run, whose call had the same id and was rejected.
        self._ready.pop((context.tool_call_id, arguments), None)
        request = await self._request(context, arguments, caller)
        self._keep(context.tool_call_id, arguments, request)
        verdict = await self.governor.consult(request.action, self._origin(context, arguments, request))
        blocked = verdict.enforced_approval is Approval.BLOCK
        return request.fault is not None or (blocked and self.governor.mode is Mode.ENFORCE)

    async def _is_covered(
        self, context: ToolContext[Any], arguments: str, request: ToolRequest, outer: Call
    ) -> bool:
        """Return whether what was decided about `outer` is also decided about the call as it is seen here.

        A wrapper around the SDK's invoker hides from its own gate what the SDK validates. What only a
        monitored rule says of that is recorded as a call of its own, as what an enforced rule says is.
        """
        if request.fault is not None:
            return False
        origin = self._origin(context, arguments, request)
        governor = self.governor
        return await governor.past_calls.covers(outer, governor.policy, request.action, origin)

    def _request(self, context: ToolContext[Any], arguments: str, caller: Caller) -> Awaitable[ToolRequest]:
        """Return the call as the policy is asked about it."""
        call_id = getattr(context, "tool_call_id", None)
        return self._new_request(call_id, called_by(context), arguments, caller)

    def _authorize(
        self,
        context: ToolContext[Any],
        arguments: str,
        request: ToolRequest,
        check: ApprovalCheck | None,
        *,
        resumes: bool = False,
        outer: Call | None = None,
    ) -> Awaitable[Call]:
        resumes = resumes or (check is not None and check.resumes)
        return self.governor.authorize(
            request.action,
            self._origin(context, arguments, request),
            fault=request.fault or (None if check is None else check.fault),
            resumed=resumes,
            inside=resumes and waits_inside(context),  # the audit alone does not say that a body goes on
            answered=check is not None and check.by_answer,
            outer=outer,
        )

    @staticmethod
    def _origin(context: ToolContext[Any], arguments: str, request: ToolRequest) -> Origin:
        return origin_of(
            getattr(context, "tool_name", None),
            getattr(context, "tool_call_id", None),
            len(arguments),
            context=context,
            run_config=getattr(context, "run_config", None),
            original_name=request.original_name,
        )

    async def _new_request(
        self, call_id: str | None, called: Sequence[str], arguments: str, caller: Caller
    ) -> ToolRequest:
        if self._ready:  # else the SDK has not asked about a call of this tool before
            ready = self._ready.pop((call_id, arguments), None)
            # The ids of two runs may be the same.
            if ready is not None and (ready.action.agent, ready.action.subject) == caller:
                return ready
        large, off_loop = is_large(len(arguments)), self.governor.system.off_loop
        request = (
            await off_loop(lambda: self._unvalidated(called, arguments, caller))
            if large
            else self._unvalidated(called, arguments, caller)
        )
        if request.fault is not None:
            return request
        factory, policy, candidate = self._factory(), self.governor.policy, self.governor.candidate
        action = request.action
        if large and not factory.runs_user_code:
            return await off_loop(lambda: factory.validated(action, arguments, policy, called, candidate))
        # Validators of the user's run where the SDK runs them.
        return factory.validated(action, arguments, policy, called, candidate)

    def _unvalidated(self, called: Sequence[str], arguments: str, caller: Caller) -> ToolRequest:
        name = next(iter(called), None)
        try:
            factory = self._factory()
            return ToolRequest(factory.make(arguments, caller, called), None, factory.original_name)
        except Exception as error:
            _log.error("the call of `%s` could not be understood: %s", name, traced(error))
            agent, subject = caller
            action = Action(name or "unknown", params={"": arguments}, agent=agent, subject=subject)
            return ToolRequest(action, fault=refusal.UNAVAILABLE)

    def _let_proceed(self, permitted: PermittedCall, data: ToolInputGuardrailData) -> None:
        """Let an admitted call go on to its body, where the gate meets it again; close it with its task."""
        task = asyncio.current_task()
        if task is None:
            return
        call, tools = permitted.call, self._tools_behind(data)

        def close(task: asyncio.Task[Any]) -> None:
            if permitted.used or call.status is not RecordStatus.OPEN:
                return  # whoever runs the body closes it, also where that is another task, which goes on
            status, why, never_ran = self._unfinished(call, task, tools())
            self.governor.abandon(call, status, why, never_ran=never_ran)

        task.add_done_callback(close)

    def _tools_behind(self, data: ToolInputGuardrailData) -> Callable[[], Sequence[FunctionTool]]:
        """Return what lists the tools of which the call may be: a copy of a tool has its guardrail, too."""
        agent = data.agent

        def listed() -> Sequence[FunctionTool]:
            tools = [each for each in getattr(agent, "tools", ()) if isinstance(each, FunctionTool)]
            return [each for each in tools if (own := own_guardrail(each)) and own.gate is self]

        return listed

    def _unfinished(self, call: Call, task: asyncio.Task[Any], tools: Sequence[FunctionTool]) -> Unfinished:
        """Return how a call is closed whose task has ended and whose body the gate did not see start.

        Another guardrail has rejected it, or a hook has raised; or the program has put an invoker in place of
        the gate's, which may have run.
        """
        if not tools or not all(gate_of(each.on_invoke_tool, GateProxy) is self for each in tools):
            return Unfinished(RecordStatus.UNKNOWN, _UNSEEN)
        if task.cancelled():
            return Unfinished(RecordStatus.CANCELLED, cancelled_before_it_ran(call), never_ran=True)
        return Unfinished(RecordStatus.SKIPPED, _NOT_STARTED, never_ran=True)


def _start(
    body: Invoke, context: ToolContext[Any], arguments: str, prepared: Prepared | None
) -> Awaitable[Any]:
    return body(context, arguments) if prepared is None else prepared.run(body, context)


def is_governed(tool: FunctionTool) -> bool:
    """Return whether `tool` carries a gate of its own."""
    return own_guardrail(tool) is not None


def own_guardrail(tool: FunctionTool) -> GovernanceGuardrail | None:
    """Return the guardrail of the gate that `tool` carries of its own."""
    guardrails = vars(tool).get("tool_input_guardrails")
    if not guardrails:  # most often, and the SDK asks ten times a call
        return None
    return next((each for each in guardrails if isinstance(each, GovernanceGuardrail)), None)
