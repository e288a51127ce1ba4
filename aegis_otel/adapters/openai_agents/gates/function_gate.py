"""A gate: where a call of one function tool meets the governor.

It is the tool's first input guardrail, because the SDK runs that right before the body, outside the
tool's own timeout, gives it the agent and the call id, and hands its text to the model. The body's
invoker is wrapped too (`invoker`): it is where the body's end is seen, and it decides itself when user
code calls `tool.on_invoke_tool` directly and no guardrail ran.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

import msgspec
from agents import FunctionTool, ToolGuardrailFunctionOutput, ToolInputGuardrail, ToolInputGuardrailData
from agents.tool_context import ToolContext

from aegis_otel.adapters.openai_agents.gates.actions import (
    ActionFactory,
    ToolRequest,
    called_by,
    names_of,
    origin_of,
)
from aegis_otel.adapters.openai_agents.gates.approval_check import ApprovalCheck, last_check
from aegis_otel.adapters.openai_agents.gates.argument_validation import Prepared
from aegis_otel.adapters.openai_agents.gates.body_watch import Watch, runs_inside, waits_inside, watch
from aegis_otel.audit.record import RecordStatus
from aegis_otel.governance import refusal
from aegis_otel.governance.call import Call, Origin, is_large, off_loop_if_large
from aegis_otel.governance.error_text import traced
from aegis_otel.governance.governor import Governor
from aegis_otel.governance.interruptions import GOES, Ruling
from aegis_otel.model import Action, Approval, Mode, Verdict
from aegis_otel.policy.evaluation.evaluator import strictness

Invoke = Callable[[ToolContext[Any], str], Awaitable[Any]]
Guard = Callable[[ToolInputGuardrailData], Awaitable[ToolGuardrailFunctionOutput]]

_log = logging.getLogger("aegis_otel")
_UNSEEN = "The capture point was taken away before its body started: if it ran, nobody saw it"
_NOT_STARTED = "Its body was not started: stopped by another guardrail or a hook"
_READY = 16
"""Calls of one tool whose validated arguments wait for their guardrail."""


class Actions(Protocol):
    """Makes the Action of each call of one tool."""

    def now(self) -> ActionFactory:
        """What makes them for the tool as it is."""


@dataclasses.dataclass(slots=True, eq=False)
class _Admission:
    """A call that passed the guardrail, on its way to its body in the same context."""

    gate: Gate
    call: Call
    call_id: str
    arguments: str
    prepared: Prepared | None
    used: bool = False


class _Running(NamedTuple):
    """A call whose body runs in this context."""

    gate: Gate
    call: Call
    call_id: str | None
    arguments: str

    def contains(self, gate: Gate, context: ToolContext[Any], arguments: str) -> bool:
        """Whether `gate` was reached by that very call: its body is a wrapper around another gate."""
        return (
            gate.continues(self.gate)
            and self.call.status is RecordStatus.OPEN
            and self.arguments == arguments
            and getattr(context, "tool_call_id", self.call_id) == self.call_id
        )


_running: ContextVar[_Running | None] = ContextVar("aegis_otel_running", default=None)
_admission: ContextVar[_Admission | None] = ContextVar("aegis_otel_admission", default=None)


class GovernanceGuardrail(ToolInputGuardrail[Any]):
    """Our guardrail, told apart from others by its type."""

    def __init__(self, guard: Guard, governor: Governor, gate: Gate | None = None) -> None:
        super().__init__(guard, name="aegis")
        self.governor = governor
        self.gate = gate
        """The one it belongs to, where that is one."""

    def __deepcopy__(self, memo: dict[int, Any]) -> GovernanceGuardrail:
        return self  # a deep copy of a governed tool is governed by the same gate


class Gate:
    """One tool's way to the governor."""

    is_on_class = False
    """Whether the tool itself knows nothing of it, and any copy of the tool has one all the same."""

    def __init__(self, governor: Governor, actions: Actions) -> None:
        self.governor = governor
        self._actions = actions
        self.needs_approval: object = False
        """The tool's own setting, as far as the gate was told."""
        self.guardrail = GovernanceGuardrail(self.guard, governor, self)
        self._ready: dict[tuple[str | None, str], ToolRequest] = {}
        """By call id and arguments, calls that were judged and go on to their guardrail now."""

    async def guard(self, data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        """The input guardrail: the refusal's text is the tool's output, and the run goes on."""
        context = data.context
        arguments = context.tool_arguments
        agent = getattr(data.agent, "name", None)
        check = last_check(context.tool_call_id, arguments)
        resumed, answered = (False, False) if check is None else (check.resumed, check.answered)
        judged = check is not None and check.ruling is not None
        preview = check.paused if check is not None and judged else self._is_preview(context)
        if preview and not await self._blocks(context, agent):
            return ToolGuardrailFunctionOutput.allow()
        request = await self._request(context, arguments, agent)
        call = await self._authorize(context, arguments, request, resumed=resumed, answered=answered)
        told = {"decision_id": call.record.decision_id}
        if call.refusal is not None:
            return ToolGuardrailFunctionOutput.reject_content(call.refusal, output_info=told)
        _admission.set(_Admission(self, call, context.tool_call_id, arguments, request.prepared))
        self._let_on(call, context, request.prepared)
        return ToolGuardrailFunctionOutput.allow(output_info=told)

    async def invoke(self, body: Invoke, context: ToolContext[Any], arguments: str) -> Any:
        """Run the body of an admitted call; decide first where no guardrail did."""
        admission = _admission.get()
        if (
            admission is not None
            and admission.gate.leads_to(self)
            and not admission.used
            and admission.call.status is RecordStatus.OPEN
            and admission.arguments == arguments
            # Without an id it is the plainer context that the SDK gives to invokers that ask for it.
            and getattr(context, "tool_call_id", admission.call_id) == admission.call_id
        ):
            admission.used = True
            call, prepared = admission.call, admission.prepared
        elif self.retired:
            return await body(context, arguments)
        else:
            outer = _running.get()
            inside = outer is not None and outer.contains(self, context, arguments)
            agent = outer.call.decision.action.agent if outer and inside else _agent_name(context)
            request = await self._request(context, arguments, agent)
            prepared = request.prepared
            if outer and inside and not await self._is_stricter(request, outer.call):
                return await _start(body, context, arguments, prepared)
            check = last_check(getattr(context, "tool_call_id", ""), arguments)
            resumed = not inside and (waits_inside(context) or (check is not None and check.resumed))
            answered = not inside and check is not None and check.answered
            call = await self._authorize(context, arguments, request, resumed=resumed, answered=answered)
            if call.refusal is not None:
                return call.refusal
        token = _running.set(_Running(self, call, getattr(context, "tool_call_id", None), arguments))
        seen = Watch(body)
        watching = watch.set(seen)
        try:
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

    async def judge(self, check: ApprovalCheck, wanted: bool, trusted: bool) -> Ruling:
        """Answer the SDK, which asks about a call before it runs it.

        Args:
            check: The SDK's approval check of the call.
            wanted: Whether the tool asks for approval by itself.
            trusted: Whether the tool's own question counts as answered where the audit has no answer.
        """
        request = self._taken(check.call_id, check.arguments, check.agent) or await self._new_request(
            names_of(check.tool), check.arguments, check.agent
        )
        if self.governor.unavailable is not None or (request.fault is not None and self.may_stop()):
            return GOES
        action, origin = request.action, _named(check.origin, request)
        interruptions = self.governor.interruptions
        if check.before is None:
            ruling = await interruptions.consider(action, origin, check.arguments, wanted)
        else:
            ruling = await interruptions.reconsider(
                action,
                origin,
                check.arguments,
                check.before,
                trusted=trusted,
                waited=check.waited,
                inside=runs_inside(check.tool_call, check.context),
            )
        if ruling.verdict is True and request.prepared is not None:
            self._keep(check.call_id, check.arguments, request)
        return ruling

    def rejected(self, check: ApprovalCheck) -> None:
        """Record a call that the SDK rejects by itself."""
        request = self._unvalidated(names_of(check.tool), check.arguments, check.agent)
        origin = _named(check.origin, request)
        self.governor.interruptions.rejected(request.action, origin, check.arguments, check.ruling)

    def _keep(self, call_id: str, arguments: str, request: ToolRequest) -> None:
        """Keep the request of a call that goes on, so that its arguments are validated once."""
        while len(self._ready) >= _READY:
            self._ready.pop(next(iter(self._ready)))
        self._ready[call_id, arguments] = request

    def _taken(self, call_id: str | None, arguments: str, agent: str | None) -> ToolRequest | None:
        """Return what was kept of this call of this agent; ids of two runs may be the same."""
        ready = self._ready.pop((call_id, arguments), None)
        return ready if ready is not None and ready.action.agent == agent else None

    def may_stop(self) -> bool:
        """Whether the policy could say anything but auto of a call of this tool."""
        return True

    def own_approval(self) -> object:
        """The tool's own `needs_approval`."""
        return self.needs_approval

    @property
    def retired(self) -> bool:
        """Whether it was taken away, and stands aside for whoever still holds it."""
        return False

    def continues(self, gate: Gate) -> bool:
        """Whether it stands before the same tool as `gate`, and would decide the same."""
        return gate is self

    def leads_to(self, gate: Gate) -> bool:
        """Whether what this gate admitted may pass `gate`, which stands before the body."""
        return gate is self

    def _is_preview(self, context: ToolContext[Any]) -> bool:
        """Whether the SDK shows the call to guardrails before a human, and comes back with it after that.

        Its decision is made the second time. Where it cannot be told which time it is, the invoker decides.
        """
        own = self.own_approval()
        if own is False or context.is_tool_approved(context.tool_name, context.tool_call_id):
            return False
        return own is True or _guardrails_may_come_first(context)

    async def _blocks(self, context: ToolContext[Any], agent: str | None) -> bool:
        """Whether a call is refused at once, so that nobody is asked: it is blocked, or cannot be read."""
        arguments = context.tool_arguments
        request = await self._new_request(called_by(context), arguments, agent)
        self._keep(context.tool_call_id, arguments, request)
        blocked = (await self._verdict(request.action, len(arguments))).approval is Approval.BLOCK
        return request.fault is not None or (blocked and self.governor.mode is Mode.ENFORCE)

    async def _is_stricter(self, request: ToolRequest, outer: Call) -> bool:
        """Return whether the policy says more of a call here than where `outer` was decided.

        A wrapper around the SDK's invoker hides from its own gate what the SDK validates.
        """
        verdict = await self._verdict(request.action, outer.origin.size)
        return request.fault is not None or strictness(verdict) > strictness(outer.decision.verdict)

    async def _verdict(self, action: Action, size: int) -> Verdict:
        policy, system = self.governor.policy, self.governor.system
        rules = policy.rules_asked(action)
        return (await off_loop_if_large(system, size, lambda: policy.evaluate(action), rules)).verdict

    def _request(
        self, context: ToolContext[Any], arguments: str, agent: str | None
    ) -> Awaitable[ToolRequest]:
        """Return the call as the policy is asked about it."""
        if self._ready:  # else the SDK has not asked about a call of this tool before
            ready = self._taken(getattr(context, "tool_call_id", None), arguments, agent)
            if ready is not None:
                return _at_once(ready)
        return self._new_request(called_by(context), arguments, agent)

    def _authorize(
        self,
        context: ToolContext[Any],
        arguments: str,
        request: ToolRequest,
        *,
        resumed: bool,
        answered: bool,
    ) -> Awaitable[Call]:
        origin = origin_of(context, arguments, request.original_name)
        inside = resumed and waits_inside(context)  # the audit alone does not say that a body goes on
        return self.governor.authorize(
            request.action,
            origin,
            fault=request.fault,
            resumed=resumed,
            inside=inside,
            answered=answered,
        )

    async def _new_request(self, called: Sequence[str], arguments: str, agent: str | None) -> ToolRequest:
        if not is_large(len(arguments)):
            request = self._unvalidated(called, arguments, agent)
            return request if request.fault is not None else self._validated(request, arguments, called)
        off_loop = self.governor.system.off_loop
        request = await off_loop(lambda: self._unvalidated(called, arguments, agent))
        if request.fault is not None:
            return request
        # Validators of the user's run where the SDK runs them.
        if self._actions.now().runs_user_code:
            return self._validated(request, arguments, called)
        return await off_loop(lambda: self._validated(request, arguments, called))

    def _unvalidated(self, called: Sequence[str], arguments: str, agent: str | None) -> ToolRequest:
        name = next(iter(called), None)
        try:
            factory = self._actions.now()
            return ToolRequest(factory.make(arguments, agent, called), None, factory.original_name)
        except Exception as error:
            _log.error("the call of `%s` could not be understood: %s", name, traced(error))
            action = Action(name or "unknown", params={"": arguments}, agent=agent)
            return ToolRequest(action, fault=refusal.UNAVAILABLE)

    def _validated(self, request: ToolRequest, arguments: str, called: Sequence[str]) -> ToolRequest:
        """Return the request with its validated arguments, where the policy may look at them."""
        return self._actions.now().validated(request.action, arguments, self.governor.policy, called)

    def _let_on(self, call: Call, context: ToolContext[Any], prepared: Prepared | None) -> None:  # noqa: ARG002
        """Let an admitted call go on to its body, where the gate meets it again."""
        self._close_with_task(call)

    def _close_with_task(self, call: Call) -> None:
        """Close the row of a call whose body never starts: another guardrail rejects, a hook raises."""

        def close(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                self.governor.abandon(call, RecordStatus.CANCELLED, "Cancelled before it started")
            elif self.retired:
                self.governor.abandon(call, RecordStatus.UNKNOWN, _UNSEEN)
            else:
                self.governor.abandon(call, RecordStatus.SKIPPED, _NOT_STARTED)

        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(close)


def _start(
    body: Invoke, context: ToolContext[Any], arguments: str, prepared: Prepared | None
) -> Awaitable[Any]:
    return body(context, arguments) if prepared is None else prepared.run(body, context)


def _agent_name(context: ToolContext[Any]) -> str | None:
    return getattr(getattr(context, "agent", None), "name", None)


def _guardrails_may_come_first(context: ToolContext[Any]) -> bool:
    config = getattr(context, "run_config", None)
    if config is None:
        return True  # a realtime session does not say
    return bool(getattr(config.tool_execution, "pre_approval_tool_input_guardrails", False))


async def _at_once(request: ToolRequest) -> ToolRequest:
    return request


def _named(origin: Origin, request: ToolRequest) -> Origin:
    return msgspec.structs.replace(origin, tool_original_name=request.original_name)


def is_governed(tool: FunctionTool) -> bool:
    """Whether `tool` carries a gate of its own."""
    return own_guardrail(tool) is not None


def own_guardrail(tool: FunctionTool) -> GovernanceGuardrail | None:
    """The guardrail of a gate that `tool` carries of its own."""
    guardrails = vars(tool).get("tool_input_guardrails")
    if not guardrails:  # most often, and the SDK asks ten times a call
        return None
    return next((each for each in guardrails if isinstance(each, GovernanceGuardrail)), None)
