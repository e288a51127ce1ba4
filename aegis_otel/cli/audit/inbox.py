"""What the inbox beside an audit has of its calls: who answered, whose answers were refused, and grants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis_otel.audit.query.rows import Row
from aegis_otel.errors import AegisError

if TYPE_CHECKING:
    from aegis_otel.governance.approvals.inbox import Answer, Grant, Inbox, QuestionState, RefusedAnswer


class CallInInbox(NamedTuple):
    """The question about a call, as the inbox has it."""

    state: QuestionState
    answers: Sequence[Answer]
    """Those that are proven."""
    refused: Sequence[RefusedAnswer]
    grant: Grant | None
    """The grant that was given with them, until its time is over."""


def open_inbox_if_any(directory: Path) -> Inbox | None:
    """Return the inbox that the settings name, or that lies beside the audit; None where there is none.

    Raises:
        ConfigError: a setting cannot work.
    """
    from aegis_otel.state.opening import has_state, open_inbox

    return open_inbox(directory=directory) if has_state(directory) else None


def find_in_inbox(directory: Path, row: Row) -> tuple[CallInInbox | None, str | None]:
    """Return the question about the call of a row, and why it or an answer cannot be read, where that is so.

    A call that no human was asked about is not looked up.
    """
    if row["approval"] != "approve" and row["human_decision"] is None:
        return None, None
    from aegis_otel.governance.approvals.inbox import MOST_REFUSED

    problem = None
    try:
        inbox = open_inbox_if_any(directory)
        state = None if inbox is None else inbox.look([row["decision_id"]]).get(row["decision_id"])
        if inbox is None or state is None:
            return None, None
        refused = inbox.refused_answers(MOST_REFUSED, row["decision_id"])
        answers: Sequence[Answer] = ()
        if state.answers:  # without any, no key is needed
            from aegis_otel.cli.approvals.wording import KEY_IS_UNKNOWN
            from aegis_otel.governance.approvals.inbox_proofs import has_unknown_key, proven_answers
            from aegis_otel.runtime.approval.answer_signature import load_answer_keys

            check = load_answer_keys(directory, tools_work_here=False)
            answers, _ = proven_answers(state, check)
            if has_unknown_key(state, check):
                problem = f"an answer cannot be checked here, as {KEY_IS_UNKNOWN}"
        grants = inbox.all_grants() if any(each.grant for each in answers) else ()
    except AegisError as error:
        return None, str(error)
    grant = next((each for each in grants if each.grant_id == row["decision_id"]), None)
    return CallInInbox(state, answers, [each for _, each in refused], grant), problem


def why_pending(found: CallInInbox) -> str | None:
    """Return why a row of this audit still waits though its question in the inbox does not.

    None where the question waits as well. Not escaped yet.
    """
    from aegis_otel.cli.approvals.wording import status_words
    from aegis_otel.governance.approvals.inbox import QuestionStatus
    from aegis_otel.governance.approvals.inbox_proofs import proven_status

    status = proven_status(found.state, found.answers)
    if status is QuestionStatus.WAITING:
        return None
    if status is QuestionStatus.APPROVED:
        return "not yet: it is approved in the inbox, and no process has taken the yes"
    if status is QuestionStatus.USED:
        by = found.state.used_by or "another process"
        return f"not known in this audit: the yes was taken by {by}, and this row is closed a minute later"
    said = f"not yet: in the inbox it is {status_words(found.state, found.answers)}"
    if status is None:  # and so nothing says that it is over
        return said
    return f"{said}; this row is closed a minute after that, at the earliest"


def terms_words(text: str | None) -> str | None:
    """Return in words who may answer and for how long, of a row's `approval_terms`; not escaped yet.

    None where the rule does not say it; the text itself where it is none that this package writes.
    """
    from aegis_otel.cli.approvals.wording import approvers_words, duration_words
    from aegis_otel.governance.approvals.terms import decode_terms

    try:
        terms = decode_terms(text)
    except ValueError:
        return text
    who = None if terms.approvers is None else approvers_words(terms.approvers)
    until = None if terms.expires_s is None else f"within {duration_words(terms.expires_s)}"
    return ", ".join(filter(None, (who, until))) or None


def inbox_lines(found: CallInInbox) -> list[tuple[str, str]]:
    """Return what the inbox says of a call, each a name and a text; not escaped yet."""
    from aegis_otel.cli.approvals.question_text import answer_lines

    lines = answer_lines(found.state, found.answers, found.refused)
    if found.grant is not None:
        lines.append(("grant", _grant_words(found.grant)))
    return lines


def inbox_report(found: CallInInbox | None) -> dict[str, Any] | None:
    """Return what the inbox says of a call, for programs."""
    if found is None:
        return None
    from aegis_otel.cli.approvals.question_text import question_report
    from aegis_otel.cli.approvals.wording import iso

    report = question_report(found.state, found.answers, found.refused)
    grant = found.grant
    return {
        **{key: report[key] for key in ("status", "answers", "yes_missing", "refused_answers", "used_by")},
        "grant": None if grant is None else {"until": iso(grant.until_ns), "revoked_by": grant.revoked_by},
    }


def _grant_words(grant: Grant) -> str:
    from aegis_otel.cli.approvals.wording import moment

    if grant.revoked_by is not None:
        return f"ended by {grant.revoked_by}"
    return f"holds until {moment(grant.until_ns)}"
