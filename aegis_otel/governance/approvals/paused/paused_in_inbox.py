"""Put the questions of paused calls into the inbox, and let a call go on by the answer, on whatever machine.

The row of a paused call is in the audit of the process that paused the run. The one that resumes it may have
another audit: then it goes on under the same decision id, with a first line that says everything, the answer
included. A yes is taken in the inbox before anything runs, also one that was given to an audit: so it is used
once, whatever audits there are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from aegis_otel.audit.record import Waiting
from aegis_otel.errors import AegisError, AuditError, StateError
from aegis_otel.governance import refusal
from aegis_otel.governance.approvals.ended_rows import (
    GRACE_S,
    close_old_row,
    close_row,
    close_used_row,
    is_over,
)
from aegis_otel.governance.approvals.inbox import (
    DEFAULT_EXPIRES_S,
    YES_WAITS_S,
    QuestionState,
    QuestionStatus,
    SharedQuestion,
)
from aegis_otel.governance.approvals.paused.paused_questions import (
    PausedQuestions,
    as_waiting,
    end_of,
    is_row_of,
    is_still_asked,
    row_of,
)
from aegis_otel.governance.approvals.paused.paused_rows import (
    ANSWER,
    APPROVED,
    CHANNEL,
    NextStep,
    Step,
    continue_call,
    is_approved,
    is_too_old,
    is_unanswered,
    write_yes,
)
from aegis_otel.governance.approvals.question import NobodyToAsk, record_answers
from aegis_otel.governance.approvals.shared_questions import Answered, SharedQuestions
from aegis_otel.governance.call import Call, finished
from aegis_otel.governance.error_text import describe, safe_text
from aegis_otel.governance.recording import timestamp, unix_ns
from aegis_otel.governance.refusal import Refusal
from aegis_otel.model import Approval

if TYPE_CHECKING:
    from aegis_otel.governance.governor import Governor

_log = logging.getLogger("aegis_otel")
_MOST_UNPROVEN = 20
"""The most questions about one call that are passed over because their answers are none here."""
_LONGEST_WAIT_NS = round((DEFAULT_EXPIRES_S + YES_WAITS_S["sdk"]) * 1e9)
"""How long ago a human was asked at most: an answer has 30 days, and then its yes can be used for 30 more."""


class _Claim(NamedTuple):
    """What came of the attempt to take a yes."""

    why_not: Refusal | None = None
    adopted: Answered | None = None
    """The yes by which the call goes on though this audit does not have its row."""
    taken: Waiting | None = None
    """The row from which it goes on, where this audit has it."""
    answered: str | None = None
    """The decision id of the row that is still to be claimed, where the yes was given to this audit."""


class PausedInInbox:
    """The paused calls of one governor, as the inbox has them.

    Args:
        governor: Governs them.
        shared: Has the inbox.
    """

    def __init__(self, governor: Governor, shared: SharedQuestions) -> None:
        self._governor = governor
        self._shared = shared
        self._questions = PausedQuestions(governor, shared)

    async def put(self, call: Call, ends_ns: int | None = None) -> bool:
        """Put the question about a call into the inbox, before its run is paused.

        Where that fails, the run is paused all the same: the answer can be given in a process that shares the
        audit, and the question is put when somebody resumes the run.

        Args:
            call: The call.
            ends_ns: When the question ends; None: after the time that the rule gives it.

        Returns:
            False where another process asks it already, under another decision id; then whoever resumes the
            run goes on by the answer to that one.
        """
        work, cut = await finished(self._shared.system.with_state(lambda: self._put(call, ends_ns)))
        if cut is not None:
            if call.prior is None:  # else its row waits, and whoever resumes the run finds the question
                self.end_later(call.record.decision_id, QuestionStatus.WITHDRAWN)
            raise cut
        try:
            return work.result()
        except (AegisError, NobodyToAsk) as error:
            _log.error(
                "the question of decision %s is not in the inbox: %s",
                call.record.decision_id,
                safe_text(str(error)),
            )
            return True

    def _put(self, call: Call, ends_ns: int | None) -> bool:
        shared, expires_s = self._shared, call.decision.verdict.expires_s
        if ends_ns is not None:
            expires_s = (ends_ns - call.started_ns) / 1e9
        question = shared.question(call, "sdk", expires_s)
        unproven: set[str] = set()
        state = shared.put(question)
        while state.status.is_answered and self._questions.judge(state, call).judged.outcome == "open":
            # Who has answered it counts for nothing here, so it is asked anew.
            if len(unproven) == _MOST_UNPROVEN:
                raise NobodyToAsk("too many questions about its call have answers that count for nothing")
            unproven.add(state.question.decision_id)
            state = shared.put(question, unproven)
        return state.question.decision_id == call.record.decision_id

    async def has_grant(self, call: Call) -> bool:
        """Return whether a grant covers a call: its gate then finds it once more."""
        try:
            return await self._shared.system.with_state(lambda: self._shared.has_grant(call))
        except AegisError as error:
            _log.warning("grants could not be looked up, so a human is asked: %s", describe(error))
            return False

    async def close_over(self, call: Call, rows: Sequence[Waiting]) -> tuple[list[Waiting], bool]:
        """Close the rows of a call by whose yes nothing can go on any more.

        Returns:
            The rows by which the call can still go on, and whether the state could be reached. A row whose
            yes was taken just now is neither returned nor closed: the process that took it does that.
        """
        waiting = [each for each in rows if not each.started]

        def close() -> set[str]:
            shared = self._shared
            states = shared.reached(lambda: shared.inbox.look([each.row.decision_id for each in waiting]))
            over = [each for each in waiting if self._close_if_over(call, each, states)]
            return {each.row.decision_id for each in over}

        try:
            closed = await self._shared.system.with_state(close) if waiting else set()
        except AegisError as error:
            _log.warning("whether a call went on elsewhere is not known: %s", describe(error))
            return list(rows), not isinstance(error, StateError)
        return [each for each in rows if each.row.decision_id not in closed], True

    async def withdraw(self, call: Call, rows: Sequence[Waiting]) -> None:
        """End the questions about a call that nothing can let run any more, and close its rows."""
        await self.end(call, QuestionStatus.WITHDRAWN)
        await self.close_over(call, rows)

    async def answered(self, call: Call, rows: Sequence[Waiting]) -> tuple[NextStep | None, bool]:
        """Return the next step of a call that was put to a human, where the inbox has an answer that counts.

        Args:
            call: As it comes back.
            rows: The rows of this call that wait in this audit.

        Returns:
            The step, or None; and whether the answers could be looked up.
        """
        try:
            found, unproven = await self._shared.system.with_state(lambda: self._questions.find(call))
        except AegisError as error:
            _log.warning("answers in the inbox could not be looked up: %s", describe(error))
            return None, False
        for each in unproven if found is None else [found]:
            if each.judged.outcome == "open" and each.state.answers:
                about = each.state.question.decision_id, safe_text(each.why_open)
                _log.warning("decision %s: %s", *about)
        if found is None:
            return None, True
        outcome, own = found.judged.outcome, row_of(found, rows)
        if (
            outcome == "yes"
            and is_still_asked(found, call)
            and not await self._check_closed(found, own, call)
        ):
            return NextStep(Step.PROCEED, by_answer=True), True
        if outcome == "no":
            try:
                await self._shared.system.with_state(lambda: self._deny(call, own, rows, found))
            except AegisError as error:
                _log.warning("a no in the inbox could not be recorded, so the run waits: %s", describe(error))
                return NextStep(Step.PAUSE), True
            text = self._governor.paused_calls.rejection(as_waiting(found))
            return NextStep(Step.REJECT, text=text), True
        return None, True

    async def ask_again(self, call: Call, rows: Sequence[Waiting]) -> NextStep:
        """Return the next step of a call that nobody has answered: its run stays paused.

        Its question is put into the inbox where it is not there: it could not be put before, or the policy
        asks something else by now.
        """
        own = next((each for each in rows if not each.started), None)
        try:
            found, _ = await self._shared.system.with_state(lambda: self._questions.find(call))
        except AegisError:  # `answered` has said so
            return NextStep(Step.PAUSE)
        asks = call.decision.enforced_approval is Approval.APPROVE
        if not asks or any(is_approved(each, call.decision.verdict) for each in rows):
            return NextStep(Step.PAUSE)  # with a yes, it goes on where the saved run has it, too
        if found is not None:
            row = row_of(found, rows)
            names_our_keys = self._shared.names_our_keys
            is_current = is_still_asked(found, call) and await self._shared.system.off_loop(
                lambda: names_our_keys(found.state.question)
            )
            if is_current and not await self._check_closed(found, row, call):
                return NextStep(Step.PAUSE)
            if row is None:  # else `put` puts another one in its place
                await self._shared.system.with_state(
                    lambda: self._shared.end(found.state, QuestionStatus.WITHDRAWN)
                )
        if own is not None:
            is_same = is_unanswered(own, call)
            ends_ns = end_of(own.row, own.asked, call) if is_same else None
            if ends_ns is not None and ends_ns <= call.started_ns:  # the rule gives less time by now
                is_same, ends_ns = False, None
            again = replace(call, record=msgspec.structs.replace(call.record))
            continue_call(again, own)
            again.record.human_decision = again.record.approver = again.record.approval_reason = None
            # Its row is not written anew, so the question has what is left of its time: a later yes is none.
            is_put = await self.put(again, ends_ns)
            if await self._shared.system.off_loop(lambda: self._waits(own)):
                return NextStep(Step.PAUSE, None if is_same or not is_put else again)
            # Its row was closed meanwhile, as that of a question that is over: nothing may follow it.
            await self._shared.system.with_state(
                lambda: self._end(own.row.decision_id, QuestionStatus.WITHDRAWN)
            )
        return NextStep(Step.PAUSE, call if await self.put(call) else None)

    async def claim(self, call: Call, by_answer: bool) -> tuple[Refusal | None, str | None]:
        """Take the yes by which a call goes on, wherever it was given.

        Args:
            call: As it comes back; it goes on from the row of its question, where the yes is in the inbox.
            by_answer: Whether the SDK let it proceed by an answer that was found then.

        Returns:
            Why it must be refused, if it must; and the decision id of the row that the caller has to claim,
            where the yes is in this audit.
        """
        work, cut = await finished(self._shared.system.with_state(lambda: self._claim(call, by_answer)))
        if cut is None or work.exception() is None:
            claim = work.result()
            # Also where it is cancelled: it must be closed as what it is.
            if claim.adopted is not None:
                _adopt(call, claim.adopted)
            if claim.taken is not None:
                continue_call(call, claim.taken)
            if cut is None:
                return claim.why_not, claim.answered
        raise cut

    async def end(self, call: Call, status: QuestionStatus) -> None:
        """End the questions about a call, which is settled in this audit."""

        def end() -> None:
            for state in self._questions.questions_about(call):
                if not state.status.is_over:
                    self._shared.end(state, status)

        with suppress(AegisError):
            await self._shared.system.with_state(end)

    def end_later(self, decision_id: str, status: QuestionStatus) -> None:
        """End the question of a decision in the background, where it is in the inbox."""
        try:
            self._shared.system.in_background(lambda: self._end(decision_id, status))
        except RuntimeError as error:
            _log.warning("the question of decision %s could not be ended: %s", decision_id, describe(error))

    async def _check_closed(self, found: Answered, own: Waiting | None, call: Call) -> bool:
        return await self._shared.system.with_state(lambda: self._questions.is_closed_here(found, own, call))

    # --- in threads ---

    def _end(self, decision_id: str, status: QuestionStatus) -> None:
        """End the question of a decision, where it is in the inbox; a failure is logged."""
        shared = self._shared
        try:
            state = shared.reached(lambda: shared.inbox.look([decision_id])).get(decision_id)
        except AegisError as error:
            _log.warning("the question of decision %s could not be ended: %s", decision_id, describe(error))
            return
        if state is not None:
            shared.end(state, status)

    def _waits(self, row: Waiting) -> bool:
        """Return whether a row still waits, once nobody is about to close it."""
        journal = self._governor.journal
        try:
            with journal.answering(row):
                return True
        except AuditError:
            return journal.waiting_row(row.row.decision_id) is not None

    def _claim(self, call: Call, by_answer: bool) -> _Claim:
        rows = [each for each in self._questions.waiting_rows(call) if not each.started]
        verdict = call.decision.verdict
        asks = verdict.enforced_approval is Approval.APPROVE
        # A yes to less than the policy asks now stays where it is: the inbox may have one to all of it.
        answered = [
            each for each in rows if each.answer == APPROVED and (not asks or is_approved(each, verdict))
        ]
        row = next((each for each in answered if self._take_answered(call, each)), None)
        if row is not None:
            return _Claim(answered=row.row.decision_id)
        # The yes in a row may have been taken just now, and another one given since, to a new question.
        if not by_answer:
            return _Claim(refusal.USED if answered else None)
        found, _ = self._questions.find(call)
        if found is None or found.judged.outcome != "yes":
            return _Claim(refusal.USED)
        own = row_of(found, rows)
        if self._questions.is_closed_here(found, own, call) or not self._shared.use(
            found.state, self._shared.new_taker_name()
        ):
            return _Claim(refusal.USED)
        if own is not None:
            return self._claim_own_row(call, own, found)
        self._close_others(rows, found)
        return _Claim(adopted=found)

    def _claim_own_row(self, call: Call, own: Waiting, found: Answered) -> _Claim:
        """Claim the row of a question in this audit, whose yes in the inbox is taken."""
        journal, shown = self._governor.journal, found.state.question.question.action_params
        try:
            with journal.answering(own) as now:
                is_yes = now.answer == APPROVED  # somebody has just given another one to this audit
                if not is_yes:
                    written = write_yes(self._governor, now, shown, found.judged, found.answers)
                return _Claim(taken=journal.take(now if is_yes else written, call.record))
        except AuditError:
            if any(is_row_of(each.row, found) for each in self._questions.waiting_rows(call)):
                raise
        return _Claim(refusal.USED)  # somebody has said no in this audit

    def _take_answered(self, call: Call, row: Waiting) -> bool:
        """Take a call in the inbox for the yes in its row; return False where it must not run by that.

        Raises:
            StateError: the inbox cannot be reached.
        """
        shared = self._shared
        if is_too_old(row, shared.system.now_ns()):
            return False
        about = shared.call_digest(call), row.row.decision_id, unix_ns(row.asked)
        if not shared.reached(lambda: shared.inbox.take_call(*about, shared.new_taker_name())):
            return False
        # Nobody can answer any more now, so no later no is overlooked.
        found, _ = self._questions.find(call)
        return found is None or found.judged.outcome != "no"

    def _close_if_over(self, call: Call, row: Waiting, states: Mapping[str, QuestionState]) -> bool:
        """Return whether nothing can go on by a row any more; then close it.

        One whose yes was used in the last minute is left to the process that has used it.
        """
        shared, journal, now_ns = self._shared, self._governor.journal, self._shared.system.now_ns()
        decision_id = row.row.decision_id
        state = states.get(decision_id)
        if state is not None and state.status is QuestionStatus.USED:
            if is_over(state):
                close_row(journal, row, state, shared.check, now_ns)
            return True
        if row.answer != APPROVED:
            return False
        if is_too_old(row, now_ns):
            close_old_row(journal, row, now_ns)
            return True
        about = shared.call_digest(call), decision_id, unix_ns(row.asked)
        if not shared.reached(lambda: shared.inbox.used_since(*about)):
            return False
        # The empty id is that of no question, so this asks only whether the call was used in the last minute.
        lately = about[0], "", now_ns - round(GRACE_S * 1e9)
        if not shared.reached(lambda: shared.inbox.used_since(*lately)):
            close_used_row(journal, row, now_ns)
        return True

    def _close_others(self, rows: Sequence[Waiting], found: Answered) -> None:
        """Close the rows of a call in this audit, which has gone on by the question of another process."""
        shared, state = self._shared, found.state._replace(status=QuestionStatus.WITHDRAWN)
        journal, now_ns = self._governor.journal, shared.system.now_ns()
        for each in rows:
            if not each.started and not is_row_of(each.row, found):
                with suppress(AegisError):  # it waits on, and nothing runs by it
                    if each.answer == APPROVED:  # to less than is asked now
                        close_used_row(journal, each, now_ns)
                    else:
                        close_row(journal, each, state, shared.check, now_ns)

    def _deny(self, call: Call, own: Waiting | None, rows: Sequence[Waiting], found: Answered) -> None:
        """Record a no: in the row that waits here, or in one that says everything; once in all audits."""
        state, shared = found.state, self._shared
        shared.end(state, QuestionStatus.DENIED)
        about = state.question.decision_id, state.digest, shared.new_taker_name()
        if own is None:  # the question of another process: a no to it also ends a row with a yes here
            own = next((each for each in rows if each.answer == APPROVED and not each.started), None)
            if own is not None:
                shared.reached(lambda: shared.inbox.take_no(*about))
        record_answers(call.record, found.judged, found.answers)
        said = {name: getattr(call.record, name) for name in ANSWER}
        if own is not None:
            with suppress(AuditError), self._governor.journal.answering(own) as now:  # else it is closed
                continue_call(call, now)
                for name, value in said.items():
                    setattr(call.record, name, value)
                self._governor.paused_calls.deny(call)
            return
        if self._questions.is_closed_here(found, own, call) or not shared.reached(
            lambda: shared.inbox.take_no(*about)
        ):
            return  # it is in the audit already, or in another one
        self._close_others(rows, found)
        call.record.decision_id = state.question.decision_id
        _begin_when_asked(call, state.question)
        self._governor.paused_calls.deny(call)


def _adopt(call: Call, found: Answered) -> None:
    """Make `call` go on under the id of a paused call of another audit, by its yes."""
    record, question = call.record, found.state.question
    record_answers(record, found.judged, found.answers)
    record.decision_id = question.decision_id
    _begin_when_asked(call, question)
    call.channel = CHANNEL
    call.prior = as_waiting(found)


def _begin_when_asked(call: Call, question: SharedQuestion) -> None:
    """Have the row of a call of another audit begin when the human was asked, as in that audit.

    Somebody who can write to the inbox can have written any time, such as one of rows that are soon removed.
    """
    asked_ns = min(max(unix_ns(question.row.timestamp), call.started_ns - _LONGEST_WAIT_NS), call.started_ns)
    call.record.timestamp = timestamp(asked_ns)
    call.record.approval_wait_s = round((call.started_ns - asked_ns) / 1e9, 6)
