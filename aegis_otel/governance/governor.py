"""The enforcement point: decide -> record -> ask -> re-check -> permit or refuse -> run -> record.

Time, ids, the journal, the approver and telemetry are ports (`governance.call`). Every path of every adapter
goes through `authorize`, so hooks, audit and signals are the same on all of them. Whatever fails in here ends
as a recorded refusal; only a cancellation is ever raised out of `authorize`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from aegis_otel.audit.record import AuditRecord, RecordStatus
from aegis_otel.errors import AegisError, AuditError, ChangeNotWritten
from aegis_otel.governance import refusal
from aegis_otel.governance.approvals.asking import CallApproval
from aegis_otel.governance.approvals.paused.paused_calls import PausedCalls
from aegis_otel.governance.approvals.paused.paused_rows import is_approved, resolved_columns
from aegis_otel.governance.body import Bodies, cancelled_before_it_ran
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
    finished,
    off_loop_if_large,
)
from aegis_otel.governance.error_text import describe, traced
from aegis_otel.governance.evaluation import CandidateVerdicts, Policies, decide, error_verdict
from aegis_otel.governance.hooks import RuntimeHooks, fire
from aegis_otel.governance.past_calls import Decided, MarkStore, PastCalls, reads_history
from aegis_otel.governance.recording import (
    SubjectDigests,
    record_call,
    record_decision,
    record_verdict,
    timestamp,
)
from aegis_otel.governance.refusal import Refusal
from aegis_otel.governance.subject import SubjectSource
from aegis_otel.model import (
    Action,
    Approval,
    Mode,
    Outcome,
    PolicyDecision,
    Verdict,
)

if TYPE_CHECKING:
    from aegis_otel.governance.approvals.shared_questions import SharedQuestions
    from aegis_otel.policy import Policy


T = TypeVar("T")
_log = logging.getLogger("aegis_otel")


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
        state: MarkStore | None = None,
        shared_questions: SharedQuestions | None = None,
    ) -> None:
        self.policy = policy
        """In force for every call that is not decided yet, or waits for a human. Replaced as a whole."""
        self.candidate = candidate
        """Asked about every call as well, for the record alone; None where there is none."""
        self.candidate_verdicts = CandidateVerdicts(signals)
        self.journal = journal
        self.signals = signals
        self._approval = CallApproval(self, approver, approval_timeout)
        self.hooks = hooks
        self.system = system
        self._session_id = session_id
        self.mode = mode
        """Whether a refusal stops the body, or is only recorded."""
        self.subjects = subjects or SubjectSource()
        """Finds whom a call is made for; each adapter puts it on its actions."""
        self._subject_digests = SubjectDigests(self._digest)
        bodies = Bodies(self)
        self.run, self.executed, self.result = bodies.run, bodies.executed, bodies.result
        self.past_calls = PastCalls(state, session_id, system, signals)
        """What went before, for policies that ask for it."""
        self.shared_questions = shared_questions
        """Puts questions into the inbox, where the approver or the SDK's interruptions use that."""
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
        outer: Call | None = None,
    ) -> Call:
        """Decide on one action; on return its verdict is on disk and final.

        Args:
            action: What is about to be done.
            origin: Where the call comes from.
            fault: A reason found before the policy was asked, which refuses the call whatever it says.
            resumed: Whether it comes out of an interruption; it goes on from there, if the audit knows.
            inside: Whether what goes on is a body that has begun.
            answered: Whether it goes on by an answer that the audit had, and that nobody else may have used.
            outer: The call that a wrapper around the same body was permitted, and that does not cover it.

        Returns:
            The call. Its body may run exactly when `refusal` is None, and then must be run by `run`, or
            given up by `abandon`.
        """
        started_ns = self.system.now_ns()
        fault = self.unavailable or fault
        cut: asyncio.CancelledError | None = None
        try:
            policies = self.policies()
            if self.takes_long(policies, action, origin):
                runs_next = None if resumed or fault is not None else self._runs_at_once
                work, cut = await finished(
                    self.off_loop(
                        action,
                        lambda: self.assess(
                            action, origin, started_ns, runs_next, policies=policies, outer=outer
                        ),
                    )
                )
                call = work.result()
            else:
                call = self.assess(action, origin, started_ns, policies=policies, outer=outer)
        except Exception as error:
            _log_failure(error)
            call = self._unassessed(action, origin, started_ns, error)
            fault = self.unavailable or refusal.UNAVAILABLE
        if cut is not None and resumed:
            raise cut  # nothing has changed: the row of the question stands
        try:
            if cut is not None:
                self._begin(call, fault or call.fault)  # it may have left marks
                raise cut
            if resumed and fault is None:
                fault = await self.paused_calls.resume(call, inside, answered)
                policy = self.policy
                if fault is None and reads_history([policy], action):
                    marking, cut = await finished(
                        self.past_calls.with_state(lambda: self._mark_resumed(call, policy))
                    )
                    if cut is not None:
                        self._begin(call, call.fault)
                        raise cut
                    marking.result()
            await self._settle(call, fault or call.fault)
        except Exception as error:
            _log_failure(error)
            self._close_unsettled(call, refusal.UNAVAILABLE)
        except BaseException:
            self._close_unsettled(call, refusal.WITHDRAWN)
            self.abandon(call, RecordStatus.CANCELLED, cancelled_before_it_ran(call), never_ran=True)
            raise
        return call

    def abandon(self, call: Call, status: RecordStatus, why: str | None, *, never_ran: bool) -> None:
        """Close a permitted call whose body was not run by `run`. Does nothing to one that was closed.

        Args:
            call: From `authorize`.
            status: How it ended.
            why: For its row.
            never_ran: Whether it is certain that its body was not run: then it counts for no limit, unless
                it had begun before. Else it counts, and later calls are not told how it ended, whatever its
                row says: nobody saw it.
        """
        if call.status is RecordStatus.OPEN and not call.goes_on:
            call.is_end_known = False
            self.complete(call, status, None, why, never_ran=never_ran)

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

    def assess(
        self,
        action: Action,
        origin: Origin,
        started_ns: int,
        runs_next: Callable[[PolicyDecision], bool] | None = None,
        *,
        policies: Policies | None = None,
        outer: Call | None = None,
    ) -> Call:
        """Evaluate the policy and make the record; for large arguments this runs in a thread.

        Args:
            action: What is about to be done.
            origin: Where the call comes from.
            started_ns: When it reached us.
            runs_next: Whether the body runs by a decision; None: it does not before another decision.
            policies: That decide; those of now, where none are given.
            outer: As for `authorize`.
        """
        policies = policies or self.policies()
        case, decision_id = self.candidate_case(policies, action, origin, outer), self.system.new_id()
        begun = self.system.monotonic()
        decided = self.evaluate(
            policies.in_force,
            action,
            origin,
            started_ns,
            decision_id=decision_id,
            runs_next=runs_next,
            outer=outer,
        )
        took = self.system.monotonic() - begun
        try:
            call = self._recorded(decided.decision, origin, started_ns, decision_id)
            call.fault = None if decided.failure is None else refusal.STATE_UNAVAILABLE
            call.evaluation_s = took
            if case is not None:
                self.candidate_verdicts.add(*case, started_ns, call.record)
        except Exception as error:
            if not decided.is_marked:
                raise
            _log_failure(error)
            call = self._unassessed(action, origin, started_ns, error, decision_id)
            call.fault = refusal.UNAVAILABLE
        call.is_marked, call.outer = decided.is_marked, outer
        return call

    def _recorded(self, decision: PolicyDecision, origin: Origin, started_ns: int, decision_id: str) -> Call:
        """Return the call that was decided on, with its record."""
        record, arguments, shown = record_call(
            decision,
            self.system,
            self._session_id,
            started_ns,
            origin,
            mode=self.mode,
            decision_id=decision_id,
        )
        record.args_digest = self._digest(arguments)
        if decision.action.subject is not None:
            record.subject_digest, record.user_hash = self._subject_digests.of(decision.action.subject)
        return Call(decision, origin, started_ns, record, arguments, shown=shown)

    def policies(self) -> Policies:
        """Return the policies of now: a call is decided by the same ones as it is prepared for."""
        return Policies(self.policy, self.candidate)

    @staticmethod
    def takes_long(policies: Policies, action: Action, origin: Origin) -> bool:
        """Return whether a thread has to decide: there is much to compare, or what went before counts."""
        policy, candidate = policies
        return (
            origin.size >= LARGE_ARGUMENTS
            or (policy.rule_count >= MANY_RULES and policy.rules_asked(action) >= MANY_RULES)
            or (candidate is not None and candidate.rule_count >= MANY_RULES)
            or reads_history(policies, action)
        )

    def evaluate(
        self,
        policy: Policy,
        action: Action,
        origin: Origin,
        now_ns: int,
        *,
        decision_id: str,
        runs_next: Callable[[PolicyDecision], bool] | None,
        outer: Call | None = None,
    ) -> Decided:
        """Return what a policy decides; a call whose body runs next leaves its marks."""
        if self.unavailable is not None:  # no policy decided: the one in force is a placeholder
            return Decided(PolicyDecision(action, error_verdict(self.unavailable.error)))
        if not policy.has_history or not reads_history([policy], action):
            return Decided(decide(policy, action, now_ns))
        return self.past_calls.decide(
            policy,
            action,
            origin,
            now_ns,
            decision_id=decision_id,
            runs_next=runs_next or (lambda _: False),
            outer=outer,
        )

    def _runs_at_once(self, decision: PolicyDecision) -> bool:
        return self.mode is Mode.MONITOR or decision.enforced_approval is Approval.AUTO

    def _mark_resumed(self, call: Call, policy: Policy) -> None:
        """Decide anew on a call that was paused, now that its answer is known, and leave its marks."""
        if call.outcome is not None:
            call.is_marked = True  # when its body began
            return
        prior, action = call.prior, call.decision.action

        def runs_next(decision: PolicyDecision) -> bool:
            if self._runs_at_once(decision) or prior is None:
                return self._runs_at_once(decision)
            return decision.enforced_approval is not Approval.BLOCK and is_approved(prior, decision.verdict)

        now_ns, decision_id = self.system.now_ns(), call.record.decision_id
        decided = self.evaluate(
            policy, action, call.origin, now_ns, decision_id=decision_id, runs_next=runs_next
        )
        call.decision, call.is_marked = decided.decision, decided.is_marked
        call.fault = None if decided.failure is None else refusal.STATE_UNAVAILABLE
        record_verdict(call.record, decided.decision.verdict)

    async def consult(self, action: Action, origin: Origin) -> Verdict:
        """Return what the policy says about an action now; nothing is recorded, and no mark left."""
        policy, now_ns = self.policy, self.system.now_ns()

        def verdict() -> Verdict:
            return decide(policy, self.past_calls.read(policy, action, origin), now_ns).verdict

        if reads_history([policy], action):
            return await self.past_calls.with_state(verdict)
        return await off_loop_if_large(self.system, origin.size, verdict, policy.rules_asked(action))

    def off_loop(self, action: Action, work: Callable[[], T]) -> Awaitable[T]:
        """Return what `work` on an action returns, run where it does not hold the event loop."""
        asks = reads_history(self.policies(), action)
        return self.past_calls.with_state(work) if asks else self.system.off_loop(work)

    def candidate_case(
        self, policies: Policies, action: Action, origin: Origin, outer: Call | None = None
    ) -> tuple[Policy, Action] | None:
        """Return the candidate and what it is asked about; to be called before the call leaves its marks."""
        candidate = policies.candidate
        if candidate is None or self.unavailable is not None:
            return None
        return candidate, self.past_calls.read(candidate, action, origin, policies.in_force, outer)

    def _digest(self, payload: bytes) -> str | None:
        try:
            return self.journal.digest(payload)
        except AuditError as error:
            if self.needs_audit:
                raise
            _log_failure(error)
            return None

    def _unassessed(
        self,
        action: Action,
        origin: Origin,
        started_ns: int,
        error: Exception,
        decision_id: str | None = None,
    ) -> Call:
        """Return a refused call whose decision failed; it carries no arguments at all."""
        verdict = error_verdict(f"governance failed: {type(error).__name__}", self.policy.digest)
        decision = PolicyDecision(action, verdict)
        record = record_decision(
            decision,
            self.system,
            self._session_id,
            started_ns,
            origin,
            mode=self.mode,
            decision_id=decision_id,
        )
        return Call(decision, origin, started_ns, record, b"")

    async def _settle(self, call: Call, fault: Refusal | None) -> None:
        """Bring the call from the policy's verdict to a final, recorded outcome."""
        mark = self._begin(call, fault)
        if self.hooks.on_decision is not None:
            await fire(self.hooks.on_decision, self.signals.hook_failed, call.decision)
        if call.outcome is None:
            await self._approval.settle(call)
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
        if call.refusal is not None:
            await self.executed(call, None, None)

    def _begin(self, call: Call, fault: Refusal | None) -> int | None:
        """Write what was decided as the first line of the call; return the argument of `_synced`."""
        self._apply(call, fault)
        self.signals.opened(call)
        call.is_begun = True
        mark = self.journal.mark()
        if call.record.human_decision is not None:
            self.paused_calls.with_proof(call.record, call.record)
        if not self.write(call, call.record) and self.needs_audit:
            self.refuse_unwritten(call)
        return mark

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
            line = call.record
            if call.is_begun:
                line = self.line(call, "resolved", **resolved_columns(call.record))
            else:
                self.signals.opened(call)
            self.write(call, self.paused_calls.with_proof(call.record, line))
        if not call.announced:
            self.announce(call)

    def refuse_unwritten(self, call: Call) -> None:
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
            if why.outcome is Outcome.ERROR and why is not refusal.STATE_UNAVAILABLE and not call.is_marked:
                call.is_marked = call.had_begun or self._mark_unjudged(call)
            return
        if call.is_marked:
            self._settle_marks(call, never_ran=True)
        call.record.mode = self.mode.value
        call.status, call.refused_for = why.status, why.error
        call.refusal = why.advised(verdict)
        call.record.result_status, call.record.result_error = why.status.value, why.recorded
        call.record.error_type = call.error_type

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

    def complete(
        self,
        call: Call,
        status: RecordStatus,
        started: float | None,
        error: str | None,
        *,
        never_ran: bool = False,
    ) -> None:
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
        if call.is_marked and status is not RecordStatus.PENDING:
            self._settle_marks(call, never_ran=never_ran)

    def _mark_unjudged(self, call: Call) -> bool:
        return self.past_calls.mark(
            self.policy, call.decision.action, call.origin, self.system.now_ns(), call.record.decision_id
        )

    def _settle_marks(self, call: Call, *, never_ran: bool) -> None:
        call.is_marked, never_ran = False, never_ran and not call.had_begun
        if never_ran or call.is_end_known:
            call.settling = self.past_calls.settle(call.record.decision_id, call.status, never_ran=never_ran)


def _log_failure(error: Exception) -> None:
    _log.error("governance failed: %s", describe(error) if isinstance(error, AegisError) else traced(error))
