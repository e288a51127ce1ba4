"""Calls that an agent SDK pauses for a human and resumes, in this process or another.

Nothing is kept in memory: a paused call is a `pending` row in the journal, an answer is a line behind it,
and a resumed call continues the row that has its run, id, arguments and agent. What the SDK's own saved
state says counts for nothing here: an approval is one only if it is in the audit. To ask again, the run has
to be paused again.

    next_step       before the SDK runs a call: it proceeds, its run is paused, or it is rejected
    pause           the question is written, and the run stops
    find, answer    a human answers: a yes is written, a no ends the row
    resume          the call goes on under the id it had, by an answer that nobody else has used
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from aegis_otel.audit.record import (
    DESCRIBES,
    AuditRecord,
    RecordStatus,
    Waiting,
    is_for_another_subject,
    recorded_subject,
    same_call,
)
from aegis_otel.errors import AuditError
from aegis_otel.governance import refusal
from aegis_otel.governance.call import Call, Origin, off_loop_if_large
from aegis_otel.governance.error_text import describe, safe_text
from aegis_otel.governance.hooks import fire
from aegis_otel.governance.recording import (
    VERDICT_COLUMNS,
    recorded_name,
    timestamp,
    unix_ns,
    utc,
)
from aegis_otel.governance.refusal import Refusal
from aegis_otel.model import Action, Approval, Mode, Outcome, PolicyDecision, RiskLevel, Verdict
from aegis_otel.redaction.serialize import encode_plain, to_plain

if TYPE_CHECKING:
    from aegis_otel.governance.governor import Governor


CHANNEL = "sdk"
"""Where a human is asked, as signals name it."""
APPROVED, DENIED = "approved", "denied"
ANSWER = ("human_decision", "approver", "approval_reason", "approval_wait_s")
"""The columns of an answer."""
_WITHDRAWN = "Its body was not started: stopped by another guardrail or a hook while a human was asked"

_log = logging.getLogger("aegis_otel")


class Step(Enum):
    """What the SDK does next with a call that it asks about."""

    PROCEED = auto()
    """The call goes on to its gate, which decides."""
    PAUSE = auto()
    """The run is paused until a human answers."""
    REJECT = auto()
    """The call is rejected: a human said no."""


class NextStep(NamedTuple):
    """The next step of one call."""

    step: Step
    question: Call | None = None
    """What is to be put to a human, where that is not on disk yet."""
    by_answer: bool = False
    """True where the call proceeds by an answer in the audit, which its gate has to use for it to run."""


class ShownCall(NamedTuple):
    """A call as a human is shown it. One id with another tool or other arguments is another call."""

    call_id: str
    tool: str | None
    agent: str | None
    arguments: str
    """JSON text, before defaults are filled in."""


def resolved_columns(record: AuditRecord) -> dict[str, object]:
    """Return what an answer can change in the row."""
    return {name: getattr(record, name) for name in (*ANSWER, *VERDICT_COLUMNS, "result_error")}


def is_approved(waiting: Waiting, verdict: Verdict) -> bool:
    """Return whether the yes to a paused call is a yes to what the policy asks now."""
    return waiting.answer == APPROVED and _is_same_question(waiting, verdict)


def is_asked_by_policy(waiting: Waiting) -> bool:
    """Return whether the policy asked; a rule that was only monitored did not, but the tool by itself."""
    return waiting.row.approval == Approval.APPROVE.value and waiting.row.mode != Mode.MONITOR.value


def _is_same_question(waiting: Waiting, verdict: Verdict) -> bool:
    """Return whether a human was asked by the rule that asks now, and for no lower risk."""
    row = waiting.row
    return (
        is_asked_by_policy(waiting)
        and row.matched_rule == verdict.matched_rule
        and RiskLevel[row.risk_level or "LOW"] >= verdict.risk_level
    )


def _continue(call: Call, waiting: Waiting) -> None:
    """Make `call` go on from the row of a paused call; with its verdict, where its body has begun."""
    record, row = call.record, waiting.row
    call.stamped_ns = unix_ns(waiting.last)
    record.timestamp = timestamp(call.stamp(call.started_ns))
    record.stage, record.decision_id = "resolved", row.decision_id
    for name in DESCRIBES + ANSWER + (VERDICT_COLUMNS if waiting.started else ()):
        setattr(record, name, getattr(row, name))
    call.channel = CHANNEL if row.human_decision else None
    call.prior = waiting
    if waiting.started:
        call.outcome = Outcome.APPROVED if row.human_decision == APPROVED else Outcome.ALLOWED
        call.status, call.announced = RecordStatus.OPEN, True


def _call_of(waiting: Waiting, arguments: str, now_ns: int) -> Call:
    """Return a paused call as a human was asked about it, made from its row."""
    row = msgspec.structs.replace(waiting.row, stage="resolved")
    action = Action(
        *(row.action_type or "", row.action_target or "", _params(arguments)),
        agent=row.agent_name,
        subject=recorded_subject(row.user_id, row.tenant_id, row.user_roles),
    )
    verdict = Verdict(
        Approval(row.approval or Approval.APPROVE),
        RiskLevel[row.risk_level or "CRITICAL"],
        row.matched_rule or "",
        row.reason or "",
        policy_digest=row.policy_digest or "",
    )
    origin = Origin(size=len(arguments))  # the row has the rest
    decision, last = PolicyDecision(action, verdict), unix_ns(waiting.last)
    return Call(decision, origin, now_ns, row, b"", stamped_ns=last, channel=CHANNEL)


class PausedCalls:
    """The paused calls of one governor."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self._warned: set[str] = set()

    async def next_step(
        self,
        action: Action,
        origin: Origin,
        shown: str,
        status: bool | None,
        *,
        tool_asks: bool,
        trusted: bool,
        waited: bool,
        inside: bool,
    ) -> NextStep:
        """Decide what the SDK does next with a call.

        One that the SDK holds for approved is paused again where the audit knows of no yes, or of a yes to
        another question than the policy asks now. A rejection is believed: it comes from an answer to an
        earlier call.

        Args:
            action: What is about to be done.
            origin: Where the call comes from.
            shown: Its arguments as the SDK shows them to a human, before defaults are filled in.
            status: What the SDK has: approved, rejected, or None where nobody was asked.
            tool_asks: Whether the tool asks for approval by itself, whatever the policy says.
            trusted: Whether the tool's own question counts as answered though this audit has no answer: the
                answer was given to this process, for this call or for every call of the tool.
            waited: Whether the run was paused for this very call: a rejection then is on record, as a rule.
            inside: Whether what goes on is a body that has begun, as the SDK sees it.
        """
        governor = self._governor
        system = governor.system
        if status is None:
            rules = governor.policy.rules_asked(action)
            if not await off_loop_if_large(
                system, origin.size, lambda: self._needs_human(action, tool_asks), rules
            ):
                return NextStep(Step.PROCEED)
            return NextStep(Step.PAUSE, await system.off_loop(lambda: self._assess(action, origin, shown)))

        def look_up() -> tuple[Call, list[Waiting]]:
            call = self._assess(action, origin, shown)
            return call, self._paused_in_run(call.record)

        call, paused = await system.off_loop(look_up)
        if status is False and waited:
            # Its row is still open where the answer was not given to this audit.
            for each in paused:
                if same_call(each.row, call.record) and not each.started:
                    _continue(call, each)
                    self._deny(call)
                    break
            return NextStep(Step.REJECT)
        if call.decision.enforced_approval is Approval.BLOCK:
            return NextStep(Step.PROCEED)  # its gate refuses it
        if status is False:
            self._deny(call)
            return NextStep(Step.REJECT)
        return self._after_approval(call, paused, trusted, inside)

    def _needs_human(self, action: Action, tool_asks: bool) -> bool:
        now = utc(self._governor.system.now_ns())
        approval = self._governor.policy.evaluate(action, now=now).enforced_approval
        return approval is Approval.APPROVE or (tool_asks and approval is Approval.AUTO)

    def _after_approval(self, call: Call, paused: list[Waiting], trusted: bool, inside: bool) -> NextStep:
        """Return the next step of a call that the SDK holds for approved."""
        verdict = call.decision.verdict
        same = [each for each in paused if same_call(each.row, call.record)]
        for_another = any(is_for_another_subject(each.row, call.record) for each in paused)
        if inside and any(each.started for each in same):
            return NextStep(Step.PROCEED)
        if verdict.enforced_approval is Approval.AUTO:
            # The tool's own question: where it was put to a human, a yes counts as any other does.
            if any(each.answer for each in same):
                return NextStep(Step.PROCEED, by_answer=True)
            if trusted and not same and not for_another:
                return NextStep(Step.PROCEED)
        elif any(is_approved(each, verdict) for each in same):
            return NextStep(Step.PROCEED, by_answer=True)
        elif any(not each.started for each in paused) and not same and not for_another:
            return NextStep(Step.PROCEED)  # approved with other arguments: the gate refuses it
        if for_another and not same:
            _log.warning(
                "call `%s` was put to a human for another subject, so a human is asked anew",
                call.record.tool_call_id,
            )
        elif not any(each.answer for each in same):
            _log.warning(
                "call `%s` is approved in the saved run, but not in this audit, so a human is asked again: "
                "approve in a process that is governed and shares the audit directory and the approval key",
                call.record.tool_call_id,
            )
        waiting = next((each for each in same if not each.started), None)
        if waiting is None:
            return NextStep(Step.PAUSE, call)
        if waiting.answer is None and (
            verdict.enforced_approval is Approval.AUTO or _is_same_question(waiting, verdict)
        ):
            return NextStep(Step.PAUSE)
        _continue(call, waiting)
        call.record.human_decision = call.record.approver = call.record.approval_reason = None
        return NextStep(Step.PAUSE, call)

    def pause(self, question: Call | None) -> bool:
        """Put a call to a human; return False where that cannot be recorded: then its gate refuses it.

        Args:
            question: From `NextStep`; None where it is on disk.
        """
        governor = self._governor
        if question is None:
            return True
        question.channel = CHANNEL
        question.record.result_status = RecordStatus.PENDING.value
        if not governor.write(question, question.record):
            return False
        governor.signals.suspended(question)
        self._call_hook(governor.hooks.on_decision, question.decision)
        return True

    def withdraw(self, question: Call | None) -> None:
        """Close a question that was put, and that the SDK has settled otherwise."""
        if question is not None:
            question.outcome, question.status = Outcome.EXPIRED, RecordStatus.OPEN
            self._governor.signals.opened(question)
            self._governor.announce(question)
            self._governor.abandon(question, RecordStatus.SKIPPED, _WITHDRAWN)

    def record_rejection(self, action: Action, origin: Origin, shown: str, question: Call | None) -> None:
        """Record that the SDK rejects a call, by an answer to an earlier one or one that came meanwhile.

        Args:
            action: What is not done.
            origin: Where the call comes from.
            shown: Its arguments as the SDK shows them to a human.
            question: What was put to a human about it before.
        """
        if question is not None:
            question.record.stage = "resolved"
            question.record.timestamp = timestamp(question.stamp(self._governor.system.now_ns()))
        self._deny(question or self._assess(action, origin, shown))

    async def resume(self, call: Call, inside: bool, by_answer: bool = False) -> Refusal | None:
        """Let a call go on from where it was paused, under the id it had.

        One that the audit does not know stays a call of its own, for which somebody has to be asked.

        Args:
            call: As it comes back.
            inside: Whether its body has begun, and goes on; only then no policy is asked again.
            by_answer: Whether the SDK let it proceed by an answer that the audit had then.

        Returns:
            Why it must be refused, if it must: it is known with other arguments only, or another task or
            process that resumed the same run has used the answer first.
        """
        governor = self._governor
        claim = asyncio.ensure_future(
            governor.system.off_loop(lambda: governor.journal.take_over(call.record, inside=inside))
        )
        try:
            waiting = await asyncio.shield(claim)
        except asyncio.CancelledError:
            waiting = await claim  # it is claimed now, and must be closed as what it is
            if waiting is not None:
                _continue(call, waiting)
            raise
        if waiting is not None:
            _continue(call, waiting)
        elif by_answer:
            return refusal.USED
        elif call.decision.enforced_approval is Approval.APPROVE:
            paused = await governor.system.off_loop(lambda: self._paused_in_run(call.record))
            known = [same_call(each.row, call.record) for each in paused]
            if (
                paused
                and not any(known)
                and not any(is_for_another_subject(each.row, call.record) for each in paused)
            ):
                return refusal.CHANGED
        return None

    def find(self, shown: ShownCall, run_id: str | None, decision_id: str | None = None) -> Waiting | None:
        """Return the paused call that an answer is about; None if the audit has none.

        Args:
            shown: The call as the human was shown it.
            run_id: The id of the run that was paused.
            decision_id: The row that is answered, where it is known.

        Raises:
            AuditError: the journal cannot be read, or the call is not the one with this `decision_id`.
        """
        names = (run_id, shown.tool, shown.agent)
        about = tuple(None if each is None else recorded_name(each) for each in names)
        known = self._governor.journal.waiting(recorded_name(shown.call_id))
        encoded = _encoded(shown.arguments)
        digest = None if encoded is None or not known else self._governor.journal.digest(encoded)
        found = [
            each
            for each in known
            if (each.row.run_id, each.row.tool_name, each.row.agent_name) == about
            and (each.row.shown_digest or each.row.args_digest) == digest is not None
            and not each.started
            and decision_id in (None, each.row.decision_id)
        ]
        if decision_id is not None and not found:
            raise AuditError(f"call `{shown.call_id}` is not the one that waits as decision `{decision_id}`")
        # The last of the questions: the one before it was for another subject.
        return min(reversed(found), key=lambda each: each.answer is not None, default=None)

    def rejection(self, waiting: Waiting) -> str:
        """Return what the model reads where a human says no to a paused call, with its rule's message."""
        for rule in self._governor.policy.compiled.rules:
            if rule.name == waiting.row.matched_rule:
                return refusal.DENIED.advised(rule.verdict)
        return refusal.DENIED.text

    def answer(
        self,
        waiting: Waiting,
        arguments: str,
        *,
        approved: bool,
        approver: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Record what a human said. A yes is put to the policy when the call is resumed; a no is final.

        Raises:
            AuditError: it does not count: it cannot be written or proven, or another answer came first and
                the call was run or refused by it.
            ConfigError: the approval key is unusable.
        """
        governor = self._governor
        with governor.journal.answering(waiting) as now:
            call = _call_of(now, arguments, governor.system.now_ns())
            record = call.record
            record.human_decision = APPROVED if approved else DENIED
            record.approver = None if approver is None else safe_text(approver)
            record.approval_reason = None if reason is None else safe_text(reason)
            asked = datetime.fromisoformat(record.timestamp)
            record.timestamp = timestamp(call.stamp(call.started_ns))
            record.approval_wait_s = round(max(0.0, (utc(call.started_ns) - asked).total_seconds()), 6)
            if approved:
                line = governor.line(call, "resolved", **{name: getattr(record, name) for name in ANSWER})
                line.proof = governor.journal.prove(record, line)
                written = governor.write(call, line)
            else:
                written = self._write_refusal(call)
        if not approved:
            self._report_refusal(call)
        if not written:
            raise AuditError("the answer could not be written to the audit, so it does not count")
        governor.signals.answered(call)
        self._call_hook(governor.hooks.on_approval, call.decision, approved)

    def with_proof(self, row: AuditRecord, line: AuditRecord) -> AuditRecord:
        """Return the line with the proof of its answer, where there is a key."""
        if row.human_decision in (APPROVED, DENIED):
            try:
                line.proof = self._governor.journal.prove(row, line)
            except Exception as error:
                self._warn_once("answers carry no proof", error)
        return line

    def run_digest(self, *parts: str | None) -> str | None:
        """Return a digest of facts about a run that only a process with the key makes; None without a key."""
        try:
            return self._governor.journal.keyed("run", *parts)
        except Exception as error:
            self._warn_once("approvals of saved runs do not count here", error)
            return None

    def subject_digest(self, run_id: str, context: object) -> str | None:
        """Return a digest of whom a run is made for; None where it is not known, or without a key."""
        subject = self._governor.subjects.find(context)
        if subject is None:
            return None
        return self.run_digest(run_id, "subject", subject.user, subject.tenant, json.dumps(subject.roles))

    def _warn_once(self, what: str, error: Exception) -> None:
        if what not in self._warned:
            _log.warning("%s: %s", what, describe(error))
        self._warned.add(what)

    def _assess(self, action: Action, origin: Origin, shown: str) -> Call:
        call = self._governor.assess(action, origin, self._governor.system.now_ns())
        encoded = _encoded(shown)
        if encoded is not None and encoded != call.arguments:
            call.record.shown_digest = self._governor.journal.digest(encoded)
        return call

    def _paused_in_run(self, record: AuditRecord) -> list[Waiting]:
        """Return the waiting calls with this id in the same run; the ids of other runs mean nothing here."""
        known = self._governor.journal.waiting(record.tool_call_id or "")
        return [each for each in known if each.row.run_id == record.run_id]

    def _deny(self, call: Call) -> None:
        """Record the whole of a call that the SDK rejects by itself."""
        call.channel, call.record.human_decision = CHANNEL, DENIED
        self._write_refusal(call)
        self._report_refusal(call)

    def _write_refusal(self, call: Call) -> bool:
        """Record a refused call as a whole, since a no is final; return whether it is on disk."""
        governor = self._governor
        governor.refuse(call, refusal.DENIED)
        governor.signals.opened(call)
        return governor.write(call, self.with_proof(call.record, call.record))

    def _report_refusal(self, call: Call) -> None:
        self._governor.announce(call)
        self._call_hook(self._governor.hooks.on_execute, self._governor.result(call))

    def _call_hook(self, hook: Callable[..., Any] | None, *about: object) -> None:
        """Call a hook from code that cannot wait for it: on the loop there is, else to its end."""
        if hook is None:
            return
        running = fire(hook, self._governor.signals.hook_failed, *about)
        try:
            task = asyncio.get_running_loop().create_task(running)
        except RuntimeError:
            loop = asyncio.new_event_loop()  # not `asyncio.run`, which leaves the thread without a loop
            try:
                loop.run_until_complete(running)
            finally:
                loop.close()
        else:
            _hook_tasks.add(task)
            task.add_done_callback(_hook_tasks.discard)


_hook_tasks: set[asyncio.Task[None]] = set()
"""Kept from the garbage collector until they are done."""


def _params(arguments: str) -> dict[str, Any]:
    """Return the parameters in a JSON text; text that is not a JSON object stands under an empty name."""
    try:
        params = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        params = None
    return params if isinstance(params, dict) else {"": arguments}


def _encoded(arguments: str) -> bytes | None:
    """Return arguments as they are digested; None where they are nested too deeply."""
    try:
        return encode_plain(to_plain(_params(arguments)))
    except (ValueError, RecursionError):
        return None
