"""Calls that an agent SDK pauses for a human and resumes, in this process or another.

Nothing is kept in memory: a paused call is a `pending` row in the journal, an answer is a line behind it,
and a resumed call continues the row that has its run, id, arguments and agent. What the SDK's own saved
state says counts for nothing here: an approval is one only if this audit has it, or if it is signed in the
inbox. To ask again, the run has to be paused again.

    next_step       before the SDK runs a call: it proceeds, its run is paused, or it is rejected
    pause           the question is written, and the run stops
    find, answer    a human answers: a yes is written, a no ends the row
    resume          the call goes on under the id it had, by an answer that nobody else has used
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis_otel.audit.record import AuditRecord, RecordStatus, Waiting, is_for_another_subject, same_call
from aegis_otel.errors import AuditError
from aegis_otel.governance import refusal
from aegis_otel.governance.approvals.entitlement import Judgement, why_unanswerable
from aegis_otel.governance.approvals.inbox import QuestionStatus
from aegis_otel.governance.approvals.paused.paused_in_inbox import PausedInInbox
from aegis_otel.governance.approvals.paused.paused_rows import (
    APPROVED,
    CHANNEL,
    DENIED,
    NextStep,
    Step,
    answered_call,
    continue_call,
    encoded_arguments,
    is_approved,
    is_lapsed,
    is_same_question,
    requester_of_row,
    terms_of,
    write_answer,
)
from aegis_otel.governance.approvals.question import (
    ApprovalAnswer,
    judge_answers,
    requester_of,
    why_no_yes,
)
from aegis_otel.governance.call import Call, Origin, finished
from aegis_otel.governance.error_text import describe, safe_text
from aegis_otel.governance.hooks import fire
from aegis_otel.governance.recording import recorded_name, timestamp
from aegis_otel.governance.refusal import Refusal
from aegis_otel.model import Action, Approval, Outcome
from aegis_otel.policy.evaluation.evaluator import IN_DOUBT

if TYPE_CHECKING:
    from aegis_otel.governance.governor import Governor


_WITHDRAWN = "Its body was not started: stopped by another guardrail or a hook while a human was asked"

_log = logging.getLogger("aegis_otel")


class ShownCall(NamedTuple):
    """A call as a human is shown it. One id with another tool or other arguments is another call."""

    call_id: str
    tool: str | None
    agent: str | None
    arguments: str
    """JSON text, before defaults are filled in."""


class PausedCalls:
    """The paused calls of one governor."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self._warned: set[str] = set()
        self.inbox: PausedInInbox | None = None
        """Puts the questions into the inbox as well, where the SDK puts the policy's questions."""

    def use_inbox(self, uses: bool) -> None:
        """Put questions into the inbox as well, or no more; nothing happens where there is none."""
        shared = self._governor.shared_questions
        self.inbox = PausedInInbox(self._governor, shared) if uses and shared is not None else None

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
        in_session: bool = False,
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
            in_session: Whether it belongs to a realtime session. Nobody resumes one, so nobody would look for
                an answer in the inbox, and no question is put there.
        """
        governor = self._governor
        system = governor.system
        if inside and status is not False and await system.off_loop(lambda: self._has_begun(action, origin)):
            return NextStep(Step.PROCEED)  # the policy, asked by now, would count the call's own mark
        if status is None and not waited:
            return await self._first_step(
                action, origin, shown, tool_asks, inside=inside, in_session=in_session
            )

        def look_up() -> tuple[Call, list[Waiting]]:
            call = self._assess(action, origin, shown)
            return call, self._paused_in_run(call.record)

        call, paused = await governor.off_loop(action, look_up)
        same = [each for each in paused if same_call(each.row, call.record)]
        if status is False:
            return await self._rejected(call, same, waited)
        inbox = None if in_session else self.inbox
        step, is_known = None, True
        if inbox is not None:
            open_, is_reached = await inbox.close_over(call, same)
            paused, same = [each for each in paused if each not in same or each in open_], open_
            step, is_read = await inbox.answered(call, same)
            is_known = is_reached and is_read
        if step is None and status is None:
            return NextStep(Step.PAUSE) if inbox is None else await self._after_no_answer(inbox, call, same)
        if step is not None:
            return step
        if call.decision.enforced_approval is Approval.BLOCK:
            return NextStep(Step.PROCEED)  # its gate refuses it
        step = self._after_approval(call, paused, trusted)
        if step.by_answer and not is_known:
            # Its gate would refuse it, since no yes can be taken, and the run would end.
            return NextStep(Step.PAUSE)
        if inbox is not None and step.step is Step.PAUSE:
            is_new = step.question is not None and call.prior is None
            if call.decision.enforced_approval is Approval.APPROVE and (is_new or step.question is None):
                return await inbox.ask_again(call, same)
            if step.question is not None and not await inbox.put(step.question):
                return NextStep(Step.PAUSE)
        return step

    async def _first_step(
        self, action: Action, origin: Origin, shown: str, tool_asks: bool, *, inside: bool, in_session: bool
    ) -> NextStep:
        """Return the next step of a call about which nobody was asked yet."""
        governor, inbox = self._governor, self.inbox
        verdict = await governor.consult(action, origin)
        approval = verdict.enforced_approval
        if approval is not Approval.APPROVE and not (tool_asks and approval is Approval.AUTO):
            return NextStep(Step.PROCEED)
        if approval is Approval.APPROVE and why_unanswerable(verdict.approvers, requester_of(action)):
            return NextStep(Step.PROCEED)  # its gate refuses it, and says why
        question = await governor.off_loop(action, lambda: self._assess(action, origin, shown))
        if inbox is not None:
            if approval is Approval.APPROVE and await inbox.has_grant(question):
                return NextStep(Step.PROCEED)
            if inside and approval is Approval.APPROVE:
                # Its body has begun where the run was paused. Here somebody was asked when it was resumed.
                paused = await governor.system.off_loop(lambda: self._paused_in_run(question.record))
                same = [each for each in paused if same_call(each.row, question.record)]
                step, _ = await inbox.answered(question, same)
                if step is not None:
                    return step
            if not in_session and not await inbox.put(question):
                return NextStep(Step.PAUSE)
        return NextStep(Step.PAUSE, question)

    async def _after_no_answer(self, inbox: PausedInInbox, call: Call, same: list[Waiting]) -> NextStep:
        """Return the next step of a call about which somebody was asked, and nobody has answered."""
        if call.decision.enforced_approval is Approval.BLOCK and not any(each.answer for each in same):
            await inbox.withdraw(call, same)
            return NextStep(Step.PROCEED)  # its gate refuses it
        return await inbox.ask_again(call, same)

    async def _rejected(self, call: Call, same: list[Waiting], waited: bool) -> NextStep:
        """Return the next step of a call that the SDK holds for rejected."""
        if self.inbox is not None:
            await self.inbox.end(call, QuestionStatus.DENIED)
        if waited:
            # Its row is still open where the answer was not given to this audit.
            for each in same:
                if not each.started:
                    continue_call(call, each)
                    self.deny(call)
                    break
            return NextStep(Step.REJECT)
        if call.decision.enforced_approval is Approval.BLOCK:
            return NextStep(Step.PROCEED)  # its gate refuses it
        self.deny(call)
        return NextStep(Step.REJECT)

    def _has_begun(self, action: Action, origin: Origin) -> bool:
        """Return whether the audit has the call as one whose body has begun."""
        record = self._governor.assess(action, origin, self._governor.system.now_ns()).record
        return any(each.started and same_call(each.row, record) for each in self._paused_in_run(record))

    def _after_approval(self, call: Call, paused: list[Waiting], trusted: bool) -> NextStep:
        """Return the next step of a call that the SDK holds for approved."""
        verdict = call.decision.verdict
        same = [each for each in paused if same_call(each.row, call.record)]
        for_another = any(is_for_another_subject(each.row, call.record) for each in paused)
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
        if (
            waiting.answer is None
            and not is_lapsed(waiting, call.started_ns)
            and (verdict.enforced_approval is Approval.AUTO or is_same_question(waiting, verdict))
        ):
            return NextStep(Step.PAUSE)
        continue_call(call, waiting)
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
            self._end_in_inbox(question.record, QuestionStatus.WITHDRAWN)
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
            self._governor.abandon(question, RecordStatus.SKIPPED, _WITHDRAWN, never_ran=True)
            self._end_in_inbox(question.record, QuestionStatus.WITHDRAWN)

    def _end_in_inbox(self, row: AuditRecord, status: QuestionStatus) -> None:
        if self.inbox is not None:
            self.inbox.end_later(row.decision_id, status)

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
        self.deny(question or self._assess(action, origin, shown))

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
        inside = (
            inside and not by_answer
        )  # else this audit, in which it was answered, does not have it as begun
        is_taken: Callable[[Waiting], bool] | None = None
        if self.inbox is not None and not inside:
            why, answered = await self.inbox.claim(call, by_answer)
            if why is not None:
                return why
            if call.prior is not None:
                return None  # it goes on from the row of its question, in this audit or another

            def is_taken(waiting: Waiting) -> bool:
                return waiting.row.decision_id == answered

        take_over = partial(governor.journal.take_over, call.record, inside=inside, only=is_taken)
        claim, cut = await finished(governor.system.off_loop(take_over))
        if cut is not None:
            if claim.exception() is None and (waiting := claim.result()) is not None:
                continue_call(call, waiting)  # it is claimed now, and must be closed as what it is
            raise cut
        waiting = claim.result()
        if waiting is not None:
            continue_call(call, waiting)
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
        encoded = encoded_arguments(shown.arguments)
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
        """Return what the model reads where a human says no to a paused call.

        That has the message of its rule, unless it was not known whether the rule matches: what the message
        says may not be so.
        """
        if IN_DOUBT in (waiting.row.reason or ""):
            return refusal.DENIED.text
        for rule in self._governor.policy.compiled.rules:
            if rule.name == waiting.row.matched_rule:
                return refusal.DENIED.advised(rule.verdict)
        return refusal.DENIED.text

    def judge(self, waiting: Waiting, answers: Sequence[ApprovalAnswer]) -> Judgement:
        """Return what answers to a paused call come to, which is a yes or a no.

        Raises:
            AuditError: they do not count, or not enough of them, or they come too late.
        """
        row = waiting.row
        if is_lapsed(waiting, self._governor.system.now_ns()):
            raise AuditError("the question could not be answered any more, so the answer does not count")
        approvers = terms_of(row).approvers
        judged = judge_answers(
            answers,
            approvers,
            None if approvers is None else requester_of_row(row, answers, self._governor.journal.digest),
        )
        if judged.ignored:
            _log.warning("decision %s: %s", row.decision_id, safe_text(why_no_yes(judged)))
        if judged.outcome == "open":
            raise AuditError(f"the call is not approved: {safe_text(why_no_yes(judged))}")
        return judged

    def answer(self, waiting: Waiting, arguments: str, answers: Sequence[ApprovalAnswer]) -> None:
        """Record what humans said. A yes is put to the policy when the call is resumed; a no is final.

        Args:
            waiting: The paused call.
            arguments: Its arguments as the SDK shows them.
            answers: One, or those of all persons whom the rule asks for.

        Raises:
            AuditError: they do not count (see `judge`), cannot be written or proven, or another answer came
                first and the call was run or refused by it.
            ConfigError: the approval key is unusable.
        """
        governor = self._governor
        with governor.journal.answering(waiting) as now:
            judged = self.judge(now, answers)
            approved = judged.outcome == "yes"
            call = answered_call(governor, now, arguments, judged, answers)
            written = write_answer(governor, call) if approved else self._write_refusal(call)
        if written or not approved:  # perhaps nobody resumes the run, and people are asked in vain
            self._end_in_inbox(call.record, QuestionStatus.APPROVED if approved else QuestionStatus.DENIED)
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
        encoded = encoded_arguments(shown)
        if encoded is not None and encoded != call.arguments:
            call.record.shown_digest = self._governor.journal.digest(encoded)
        return call

    def _paused_in_run(self, record: AuditRecord) -> list[Waiting]:
        """Return the waiting calls with this id in the same run; the ids of other runs mean nothing here."""
        known = self._governor.journal.waiting(record.tool_call_id or "")
        return [each for each in known if each.row.run_id == record.run_id]

    def deny(self, call: Call) -> None:
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
