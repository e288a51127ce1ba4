"""Find the questions of paused calls in the inbox, and what their answers come to.

Nothing counts because the inbox says so: a question is about a call only if this process would show the same,
and its time is the one that its row, or the rule, gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from aegis_otel.audit.record import AuditRecord, Waiting, same_call
from aegis_otel.governance.approvals.inbox import QuestionState
from aegis_otel.governance.approvals.inbox_proofs import OF_THE_VERDICT, shows_the_same
from aegis_otel.governance.approvals.paused.paused_rows import is_same_question, terms_of
from aegis_otel.governance.approvals.question import record_answers
from aegis_otel.governance.approvals.shared_questions import Answered, SharedQuestions
from aegis_otel.governance.call import Call
from aegis_otel.governance.recording import unix_ns
from aegis_otel.model import Approval

if TYPE_CHECKING:
    from aegis_otel.governance.governor import Governor


class PausedQuestions:
    """The questions about the paused calls of one governor; every method is called in threads.

    Args:
        governor: Governs them.
        shared: Has the inbox.
    """

    def __init__(self, governor: Governor, shared: SharedQuestions) -> None:
        self._governor = governor
        self._shared = shared

    def waiting_rows(self, call: Call) -> list[Waiting]:
        """Return the rows of a call that wait in this audit."""
        known = self._governor.journal.waiting(call.record.tool_call_id or "")
        return [each for each in known if same_call(each.row, call.record)]

    def questions_about(self, call: Call) -> list[QuestionState]:
        """Return the questions about this very call, the newest first."""
        shared = self._shared
        own = shared.question(call, "sdk", None)
        found = shared.reached(lambda: shared.inbox.find(own.call_digest))
        about = []
        for state in reversed(found):
            kept = state.question
            # The verdict may be another by now: `is_still_asked` says whether a yes still counts.
            said = {name: getattr(kept.question, name) for name in OF_THE_VERDICT}
            shown = msgspec.structs.replace(own.question, **said)
            if kept.kind == "sdk" and shows_the_same(kept, msgspec.structs.replace(own, question=shown)):
                about.append(state)
        return about

    def find(self, call: Call) -> tuple[Answered | None, list[Answered]]:
        """Return the question by which a call goes on or waits, with what its answers come to.

        That is the newest one with a no, else the newest with a yes to what is asked now, else the newest
        that waits for one, else the newest that is not over.

        Returns:
            The question; and those that have ended as answered, though their answers make neither a yes nor a
            no here.
        """
        rows = self.waiting_rows(call)
        judged = [
            self.judge(state, call, rows)
            for state in self.questions_about(call)
            if state.can_be_answered or state.is_answered
        ]
        unproven = [
            each for each in judged if each.judged.outcome == "open" and each.state.status.is_answered
        ]
        counting = [each for each in judged if each not in unproven]
        asked = [each for each in counting if is_still_asked(each, call)]
        in_order = (
            *(each for each in counting if each.judged.outcome == "no"),
            *(each for each in asked if each.judged.outcome == "yes"),
            *asked,
            *counting,
        )
        return next(iter(in_order), None), unproven

    def judge(self, state: QuestionState, call: Call, rows: Sequence[Waiting] | None = None) -> Answered:
        """Return what the answers to a question come to until the end that its row, or the rule, has.

        Whoever can write to the inbox can ask a question later there, or for longer.

        Args:
            state: The question.
            call: Its call, as it comes back.
            rows: The rows of the call in this audit; None: they are looked up.
        """
        rows = self.waiting_rows(call) if rows is None else rows
        own = next((each for each in rows if is_row_of(each.row, state)), None)
        row, asked = (None, state.question.row.timestamp) if own is None else (own.row, own.asked)
        return self._shared.judge(state, call, end_of(row, asked, call))

    def is_closed_here(self, found: Answered, own: Waiting | None, call: Call) -> bool:
        """Return whether the row of a question is in this audit, and waits no more: nothing may follow it.

        The digest of the arguments has the key of the audit, so it is the same in no other. The inbox may lie
        about it, and about the id: so no call goes on under an id before the audit was asked whether it has
        it.
        """
        question = found.state.question
        if own is not None:
            return False
        if question.row.args_digest == call.record.args_digest:
            return True
        return found.judged.outcome != "open" and self._governor.journal.knows(question.decision_id)


def row_of(found: Answered, rows: Sequence[Waiting]) -> Waiting | None:
    """Return the row of a question, of those that wait in this audit."""
    return next((each for each in rows if is_row_of(each.row, found)), None)


def is_row_of(row: AuditRecord, found: Answered | QuestionState) -> bool:
    """Return whether a row is the one of a question."""
    state = found.state if isinstance(found, Answered) else found
    return row.decision_id == state.question.decision_id


def as_waiting(found: Answered) -> Waiting:
    """Return the paused call of a question as if its row were in this audit."""
    row = msgspec.structs.replace(found.state.question.row)
    record_answers(row, found.judged, found.answers)
    return Waiting(row, row.human_decision, row.timestamp, row.timestamp)


def is_still_asked(found: Answered, call: Call) -> bool:
    """Return whether the question is still the one that the policy asks, or it asks none."""
    verdict = call.decision.verdict
    if verdict.enforced_approval is not Approval.APPROVE:
        return True
    # Somebody who can write to the inbox could have shown people another reason.
    has_same_reason = found.state.question.question.reason == call.record.reason
    return has_same_reason and is_same_question(as_waiting(found), verdict)


def end_of(row: AuditRecord | None, asked: str, call: Call) -> int | None:
    """Return when the question about a call ends, by its row and by the rule; None: neither says it.

    Args:
        row: The row of the question, where this audit has it.
        asked: When it was asked.
        call: The call, as it comes back.
    """
    terms = [call.decision.verdict.expires_s, None if row is None else terms_of(row).expires_s]
    seconds = min((each for each in terms if each is not None), default=None)
    return None if seconds is None else unix_ns(asked) + round(seconds * 1e9)
