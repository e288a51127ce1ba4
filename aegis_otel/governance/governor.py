"""The enforcement point: decide -> record -> ask -> re-check -> permit or refuse -> run -> record.

Time, ids, the journal, the approver and telemetry are ports (`governance.call`). Every path of every adapter
goes through `authorize`, so hooks, audit and signals are the same on all of them. Whatever fails in here ends
as a recorded refusal; only a cancellation is ever raised out of `authorize`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aegis_otel.audit.record import AuditRecord, RecordStatus
from aegis_otel.errors import AegisError, AuditError, ChangeNotWritten
from aegis_otel.governance import refusal
from aegis_otel.governance.body import NOT_BEGUN, Bodies
from aegis_otel.governance.call import (
    LARGE_ARGUMENTS,
    MANY_RULES,
    NOWHERE,
    Approver,
    Call,
    Journal,
    Origin,
    Signals,
    System,
    off_loop_if_large,
)
from aegis_otel.governance.error_text import describe, traced
from aegis_otel.governance.hooks import RuntimeHooks, fire
from aegis_otel.governance.paused_calls import PausedCalls, is_approved, resolved_columns
from aegis_otel.governance.question import ask
from aegis_otel.governance.recording import (
    record_call,
    record_decision,
    record_verdict,
    subject_payload,
    timestamp,
    user_payload,
    utc,
)
from aegis_otel.governance.refusal import Refusal
from aegis_otel.governance.subject import SubjectSource
from aegis_otel.model import (
    ERROR_RULE,
    Action,
    Approval,
    Mode,
    Outcome,
    PolicyDecision,
    Result,
    ResultStatus,
    RiskLevel,
    Subject,
    Verdict,
)
from aegis_otel.redaction.serialize import encode_plain, to_plain

if TYPE_CHECKING:
    from aegis_otel.policy import Policy


_log = logging.getLogger("aegis_otel")
_FINAL = {status: ResultStatus(status.value) for status in RecordStatus if status.value in set(ResultStatus)}
"""The status of a result by that of the record of a call that is over."""
_MOST_SUBJECTS = 4096
"""Subjects whose digests are kept: to make them costs more than the rest of what a subject does."""
_Digests = tuple[str | None, str | None]
"""The keyed digests of a subject, and of its user alone."""
_NOBODY_KNOWN = Subject()
_UNVALIDATED = "the policy said otherwise when the arguments were read, so the tool has not validated them"


class Governor:
    """Takes an action through the policy, the audit, a human where one is asked, and the signals."""

    def __init__(
        self,
        *,
        policy: Policy,
        journal: Journal,
        signals: Signals,
        approver: Approver,
        approval_timeout: float,
        hooks: RuntimeHooks,
        system: System,
        session_id: str,
        mode: Mode = Mode.ENFORCE,
        block_on_audit_failure: bool = True,
        subjects: SubjectSource | None = None,
        candidate: Policy | None = None,
    ) -> None:
        self.policy = policy
        """In force for every call that is not decided yet, or waits for a human. Replaced as a whole."""
        self.candidate = candidate
        """Asked about every call as well, for the record alone; None where there is none."""
        self._failed_candidate: Policy | None = None
        self.journal = journal
        self.signals = signals
        self._approver = approver
        self._approval_timeout = approval_timeout
        self.hooks = hooks
        self.system = system
        self._session_id = session_id
        self.mode = mode
        """Whether a refusal stops the body, or is only recorded."""
        self.subjects = subjects or SubjectSource()
        """Finds whom a call is made for; each adapter puts it on its actions."""
        self._known_subjects: dict[Subject, _Digests] = {}
        self.run = Bodies(self).run
        self.paused_calls = PausedCalls(self)
        """The calls that the SDK pauses."""
        self.unavailable: Refusal | None = None
        """Why governance could not start, where it could not: every call is refused with it."""
        self._block_on_audit_failure = block_on_audit_failure and mode is Mode.ENFORCE

    @property
    def needs_audit(self) -> bool:
        """Return whether a call is refused when its verdict cannot be written."""
        return self._block_on_audit_failure and self.unavailable is None

    async def authorize(
        self,
        action: Action,
        origin: Origin = NOWHERE,
        *,
        fault: Refusal | None = None,
        resumed: bool = False,
        inside: bool = False,
        answered: bool = False,
    ) -> Call:
        """Decide on one action; on return its verdict is on disk and final.

        Args:
            action: What is about to be done.
            origin: Where the call comes from.
            fault: A reason found before the policy was asked, which refuses the call whatever it says.
            resumed: Whether it comes out of an interruption; it goes on from there, if the audit knows.
            inside: Whether what goes on is a body that has begun.
            answered: Whether it goes on by an answer that the audit had, and that nobody else may have used.

        Returns:
            The call. Its body may run exactly when `refusal` is None, and then must be run by `run`, or
            given up by `abandon`.
        """
        started_ns = self.system.now_ns()
        fault = self.unavailable or fault
        try:
            policy, candidate = self.policy, self.candidate
            if (
                origin.size >= LARGE_ARGUMENTS
                or (policy.rule_count >= MANY_RULES and policy.rules_asked(action) >= MANY_RULES)
                or (candidate is not None and candidate.rule_count >= MANY_RULES)
            ):
                call = await self.system.off_loop(lambda: self.assess(action, origin, started_ns))
            else:
                call = self.assess(action, origin, started_ns)
        except Exception as error:
            _log_failure(error)
            call = self._unassessed(action, origin, started_ns, error)
            fault = self.unavailable or refusal.UNAVAILABLE
        try:
            if resumed and fault is None:
                fault = await self.paused_calls.resume(call, inside, answered)
            await self._settle(call, fault)
        except Exception as error:
            _log_failure(error)
            self._close_unsettled(call, refusal.UNAVAILABLE)
        except BaseException:
            self._close_unsettled(call, refusal.WITHDRAWN)
            self.abandon(call, RecordStatus.CANCELLED, NOT_BEGUN)
            raise
        return call

    def abandon(self, call: Call, status: RecordStatus, why: str | None) -> None:
        """Close a permitted call whose body was not run by `run`. Does nothing to one that was closed."""
        if call.status is RecordStatus.OPEN and not call.goes_on:
            self.complete(call, status, None, why)

    def skip(self, action: Action, why: str) -> None:
        """Record an action of a plan that was never decided on, because an earlier one failed."""
        started_ns = self.system.now_ns()
        try:
            call = self.assess(action, NOWHERE, started_ns)
        except Exception as error:
            call = self._unassessed(action, NOWHERE, started_ns, error)
        call.record.result_status = RecordStatus.SKIPPED.value
        call.record.result_error = why
        self.write(call, call.record)

    # --- deciding ---

    def assess(self, action: Action, origin: Origin, started_ns: int) -> Call:
        """Evaluate the policy and make the record; for large arguments this runs in a thread."""
        begun, decision = self.system.monotonic(), self._evaluate(action, started_ns)
        took = self.system.monotonic() - begun
        record, arguments, shown = record_call(
            decision, self.system, self._session_id, started_ns, origin, mode=self.mode
        )
        record.args_digest = self._digest(arguments)
        if action.subject is not None and action.subject != _NOBODY_KNOWN:
            record.subject_digest, record.user_hash = self._subject_digests(action.subject)
        call = Call(decision, origin, started_ns, record, arguments, shown=shown, evaluation_s=took)
        if self.candidate is not None:
            self._ask_candidate(self.candidate, record, action, started_ns)
        return call

    def _evaluate(self, action: Action, now_ns: int) -> PolicyDecision:
        if self.unavailable is not None:  # no policy decided: the one in force is a placeholder
            return PolicyDecision(action, _error_verdict(self.unavailable.error))
        return _decide(self.policy, action, now_ns)

    def _ask_candidate(self, candidate: Policy, record: AuditRecord, action: Action, now_ns: int) -> None:
        """Put on the record what the candidate says, by which nothing else is decided."""
        record.candidate_approval = record.candidate_rule = None
        if self.unavailable is not None:
            return
        try:
            verdict = _decide(candidate, action, now_ns).verdict
            why = verdict.reason if verdict.matched_rule == ERROR_RULE else None
        except Exception as error:
            why = describe(error)
        if why is None:
            record.candidate_approval = verdict.enforced_approval._value_
            record.candidate_rule = verdict.matched_rule
            return
        self.signals.candidate_failed()
        if self._failed_candidate is not candidate:
            self._failed_candidate = candidate
            _log.warning(
                "the candidate policy could not be asked about a call, which changes nothing: %s", why
            )

    def _digest(self, payload: bytes) -> str | None:
        try:
            return self.journal.digest(payload)
        except AuditError as error:
            if self.needs_audit:
                raise
            _log_failure(error)
            return None

    def _subject_digests(self, subject: Subject) -> _Digests:
        """Return the keyed digests of a subject and of its user, as the program says them: not redacted.

        In the columns, which are redacted, two subjects may be alike. None without the audit's key.
        """
        known = self._known_subjects.get(subject)
        if known is None:
            user = None if subject.user is None else self._digest(user_payload(subject.user))
            known = self._digest(subject_payload(subject)), user
            if known[0] is not None:
                if len(self._known_subjects) >= _MOST_SUBJECTS:
                    self._known_subjects.clear()
                self._known_subjects[subject] = known
        return known

    def _unassessed(self, action: Action, origin: Origin, started_ns: int, error: Exception) -> Call:
        """Return a refused call whose decision failed; it carries no arguments at all."""
        verdict = _error_verdict(f"governance failed: {type(error).__name__}", self.policy.digest)
        decision = PolicyDecision(action, verdict)
        record = record_decision(decision, self.system, self._session_id, started_ns, origin, mode=self.mode)
        return Call(decision, origin, started_ns, record, b"")

    async def _settle(self, call: Call, fault: Refusal | None) -> None:
        """Bring the call from the policy's verdict to a final, recorded outcome."""
        self._apply(call, fault)
        self.signals.opened(call)
        mark = self.journal.mark()
        if call.record.human_decision is not None:
            self.paused_calls.with_proof(call.record, call.record)
        if not self.write(call, call.record) and self.needs_audit:
            self._refuse_unwritten(call)
        if self.hooks.on_decision is not None:
            await fire(self.hooks.on_decision, self.signals.hook_failed, call.decision)
        if call.outcome is None:
            await self._ask(call)
        if (
            call.refusal is None
            and mark is not None
            and not await self._synced(call, mark)
            and self.needs_audit
        ):
            self._close_unsettled(call, refusal.UNAVAILABLE)
        if not call.announced:
            self.announce(call)
        elif call.refusal is not None:
            self.signals.closed(call)
        if call.refusal is not None and self.hooks.on_execute is not None:
            await self.executed(call, None, None)

    def _apply(self, call: Call, fault: Refusal | None) -> None:
        """Set what the verdict makes of the call: its outcome, or none yet where a human is to be asked."""
        verdict = call.decision.verdict
        if fault is not None:
            self.refuse(call, fault)
        elif call.outcome is not None:
            pass  # its body has begun: a policy that changed since does not reach it
        elif verdict.approval is Approval.BLOCK:
            self.refuse(call, refusal.blocked(verdict.matched_rule))
        elif call.prior is not None and (
            verdict.enforced_approval is Approval.AUTO or is_approved(call.prior, verdict)
        ):
            call.outcome, call.status = Outcome.APPROVED, RecordStatus.OPEN
        elif Mode.MONITOR in (self.mode, verdict.mode) or verdict.approval is Approval.AUTO:
            call.outcome, call.status = Outcome.ALLOWED, RecordStatus.OPEN
        call.record.result_status = call.status._value_

    def announce(self, call: Call) -> None:
        """Report the final outcome: one event, one count."""
        call.announced = True
        self.signals.decided(call)
        if call.refusal is not None:
            self.signals.closed(call)

    def _close_unsettled(self, call: Call, why: Refusal) -> None:
        """Refuse what is not decided yet, after a fault of ours or a cancellation."""
        if call.outcome is None or (why.outcome is Outcome.ERROR and call.refusal is None):
            self.refuse(call, why)
            line = self.line(call, "resolved", **resolved_columns(call.record))
            self.write(call, self.paused_calls.with_proof(call.record, line))
        if not call.announced:
            self.announce(call)

    def _refuse_unwritten(self, call: Call) -> None:
        """Refuse a call after `write` failed; a line that is in the journal gets another that says so."""
        if call.is_written and call.refusal is not None:
            return  # the line says already that it is refused, and nothing may follow such a line
        self.refuse(call, refusal.UNAVAILABLE)
        if call.is_written:
            line = self.line(call, "resolved", **resolved_columns(call.record))
            self.write(call, self.paused_calls.with_proof(call.record, line))

    def refuse(self, call: Call, why: Refusal) -> None:
        """Stop a call, here and nowhere else; in monitor mode only record that it would have been stopped.

        Where only the rule is monitored, that is so for what the rule says, and for nothing else.
        """
        call.outcome = why.outcome
        if why.cause is not None:
            call.record.reason = why.cause
        if why.outcome is Outcome.ERROR:
            call.error_type = why.cause
        verdict = call.decision.verdict
        if self.mode is Mode.MONITOR or (verdict.mode is Mode.MONITOR and why.outcome is Outcome.BLOCKED):
            call.status = RecordStatus.OPEN
            return
        call.record.mode = self.mode.value
        call.status, call.refused_for = why.status, why.error
        call.refusal = why.advised(verdict)
        call.record.result_status, call.record.result_error = why.status.value, why.recorded
        call.record.error_type = call.error_type

    # --- asking a human ---

    async def _ask(self, call: Call) -> None:
        """Ask until the answer is no, or yes to what the policy says at that moment."""
        call.channel = self._approver.channel
        while call.outcome is None:
            with self.signals.awaiting(call):
                why = await ask(self._approver, call, self._approval_timeout, self.system.monotonic)
            asked = call.decision
            if why is not None:
                self.refuse(call, why)
            else:
                rules = self.policy.rules_asked(asked.action)
                await off_loop_if_large(self.system, call.origin.size, lambda: self._recheck(call), rules)
            line = self.line(call, "resolved", **resolved_columns(call.record))
            if not self.write(call, self.paused_calls.with_proof(call.record, line)) and self.needs_audit:
                self._refuse_unwritten(call)
            await fire(self.hooks.on_approval, self.signals.hook_failed, asked, why is None)
            if call.decision.verdict is not asked.verdict:
                await fire(self.hooks.on_decision, self.signals.hook_failed, call.decision)

    def _recheck(self, call: Call) -> None:
        """Check that the yes of a human is to these arguments, and to what the policy asks now."""
        action, approved = call.decision.action, call.decision.verdict
        try:
            unchanged = encode_plain(to_plain(action.params)) == call.arguments
            now = self._evaluate(action, self.system.now_ns())
        except Exception as error:
            _log_failure(error)
            self.refuse(call, refusal.UNAVAILABLE)
            return
        if not unchanged:
            self.refuse(call, refusal.CHANGED)
            return
        if now.verdict.mode is Mode.MONITOR:  # nothing is asked now, and a human said yes to what was
            call.outcome, call.status = Outcome.APPROVED, RecordStatus.OPEN
            call.record.result_status = RecordStatus.OPEN.value
            return
        call.decision, verdict = now, now.verdict
        record = call.record
        record_verdict(record, verdict)
        if self.candidate is not None:
            self._ask_candidate(self.candidate, record, action, self.system.now_ns())
        something_else = (
            verdict.matched_rule != approved.matched_rule or verdict.risk_level > approved.risk_level
        )
        if verdict.approval is Approval.BLOCK:
            self.refuse(call, refusal.blocked(verdict.matched_rule))
        elif verdict.approval is Approval.AUTO or not something_else:
            call.outcome, call.status = Outcome.APPROVED, RecordStatus.OPEN
            record.result_status = RecordStatus.OPEN.value
        else:  # the yes was to another question
            record.human_decision = record.approver = record.approval_reason = None

    # --- recording ---

    def write(self, call: Call, line: AuditRecord) -> bool:
        """Append a line to the journal and return whether it, and all before it, is on disk.

        A failure is reported, never raised.

        The line that settles a call, or settles it otherwise, has its `outcome`.
        """
        if call.outcome is not None and call.record.outcome != call.outcome._value_:
            line.outcome = call.record.outcome = call.outcome._value_
        try:
            self.journal.append(line)
            failed = None
        except Exception as error:
            failed = error
        call.is_written = failed is None or isinstance(failed, ChangeNotWritten)
        if not call.is_written:
            call.record.outcome = None  # the next line says it
        elif line.stage == "decided":
            self.signals.recorded()
        return failed is None or self._write_failed(call, failed)

    async def _synced(self, call: Call, mark: int) -> bool:
        """Wait until what was written since `mark` is as durable as asked for; return whether it is."""
        try:
            await self.journal.sync(mark)
        except Exception as error:
            return self._write_failed(call, error)
        return True

    def _write_failed(self, call: Call, error: Exception) -> bool:
        _log.error("audit of decision %s failed: %s", call.record.decision_id, describe(error))
        self.signals.write_failed(call, error)
        return False

    def line(self, call: Call, stage: str, **changed: object) -> AuditRecord:
        return AuditRecord(
            stage=stage,  # type: ignore[arg-type]
            decision_id=call.record.decision_id,
            timestamp=timestamp(call.stamp(self.system.now_ns())),
            result_status=call.status._value_,  # for each call, and `.value` costs ten times as much
            **changed,  # type: ignore[arg-type]
        )

    def complete(self, call: Call, status: RecordStatus, started: float | None, error: str | None) -> None:
        call.status = status
        record = call.record
        record.result_status = status._value_
        record.result_error = error
        record.error_type = call.error_type if status is RecordStatus.FAILED else None
        if started is not None:
            before = call.prior.row.duration_s or 0.0 if call.prior else 0.0
            record.duration_s = round(before + self.system.monotonic() - started, 6)
        stage = "resolved" if status is RecordStatus.PENDING else "completed"
        line = self.line(
            call,
            stage,
            result_error=record.result_error,
            error_type=record.error_type,
            duration_s=record.duration_s,
        )
        self.write(call, line)
        self.signals.closed(call)

    async def executed(self, call: Call, begun_ns: int | None, value: object) -> None:
        if self.hooks.on_execute is None or call.status not in _FINAL:
            return
        result = value if isinstance(value, Result) else self.result(call, data=value, begun_ns=begun_ns)
        await fire(self.hooks.on_execute, self.signals.hook_failed, result)

    def result(self, call: Call, *, data: object = None, begun_ns: int | None = None) -> Result:
        """Return the result of a closed call for callers and hooks."""
        return Result(
            call.decision.action,
            _FINAL[call.status],
            data,
            call.record.result_error if call.refusal is None else call.refused_for,
            started_at=None if begun_ns is None else utc(begun_ns),
            completed_at=utc(self.system.now_ns()),
            decision_id=call.record.decision_id,
        )


def _decide(policy: Policy, action: Action, now_ns: int) -> PolicyDecision:
    """Ask a policy.

    It, or what it says at this time of day, may have changed since the arguments were read. Where it reads
    parameters that the tool has not validated and does not block, what the body gets is not known, and so no
    condition on them can be answered.
    """
    now = utc(now_ns) if policy.reads_time else None  # else nothing reads it
    decision = policy.evaluate(action, now=now)
    if (
        action.is_unvalidated
        and decision.enforced_approval is not Approval.BLOCK
        and policy.reads_arguments(action.type, *[each.type for each in action.forms])
    ):
        return PolicyDecision(action, policy.evaluate(action.with_doubt(_UNVALIDATED), now=now).verdict)
    return decision


def _error_verdict(reason: str, digest: str = "") -> Verdict:
    """Return the verdict on a call that no policy could decide on."""
    return Verdict(Approval.BLOCK, RiskLevel.CRITICAL, ERROR_RULE, reason, policy_digest=digest)


def _log_failure(error: Exception) -> None:
    _log.error("governance failed: %s", describe(error) if isinstance(error, AegisError) else traced(error))
