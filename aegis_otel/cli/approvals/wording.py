"""What commands and page say of a question, in the same words."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from aegis_otel.config import ANSWER_PUBLIC_KEY
from aegis_otel.governance.approvals.entitlement import (
    GIVEN_TWICE,
    IS_REQUESTER,
    NOT_ENTITLED,
    UNKNOWN_REQUESTER,
)
from aegis_otel.governance.approvals.inbox import Answer, GrantTerms, QuestionState, QuestionStatus
from aegis_otel.governance.approvals.inbox_proofs import proven_status
from aegis_otel.governance.approvals.question import Question
from aegis_otel.model import Approvers
from aegis_otel.policy.messages import approvers_in_words
from aegis_otel.redaction.terminal import name_list
from aegis_otel.runtime.approval.answer_desk import Person

KEY_IS_UNKNOWN = (
    f"it is signed with a key that is not trusted here: set `{ANSWER_PUBLIC_KEY.env}` to the agents' own"
)
"""Why it is not known here whether an answer is one: it may be of somebody who can write to the inbox."""
UNKNOWN = "unknown"
"""The status of a question that is stored as answered, and whose answers do not prove it."""
_STATUS_WORDS = {
    QuestionStatus.WAITING: "waiting",
    QuestionStatus.APPROVED: "approved, and not used yet",
    QuestionStatus.DENIED: "denied",
    QuestionStatus.EXPIRED: "expired: nobody answered in time",
    QuestionStatus.USED: "approved, and used",
    QuestionStatus.WITHDRAWN: "withdrawn: nobody waits for the answer any more",
}
_NOT_YOU = "you are none of the rule's approvers"
_TO_YOU = {
    IS_REQUESTER: "the agent acts for you, and somebody else has to answer",
    UNKNOWN_REQUESTER: "it is not known for whom the agent acts, so nobody is known to be somebody else",
    GIVEN_TWICE: "you have answered already",
}
_LONGEST_ROLES = 100_000
"""The most characters of a list of roles that is read as one: an agent can write megabytes of roles."""


def status_words(state: QuestionState, answers: Collection[Answer], *, has_unknown_key: bool = False) -> str:
    """Return where a question stands, by its proven answers.

    Args:
        state: The question.
        answers: Those that are proven.
        has_unknown_key: Whether another one cannot be checked here.
    """
    status = proven_status(state, answers)
    if status is None:
        why = f"; there is one that cannot be checked here, as {KEY_IS_UNKNOWN}" if has_unknown_key else ""
        return f"{UNKNOWN}: it is stored as {state.status.value}, and no answer proves that{why}"
    return _STATUS_WORDS[status]


def to_you(why: str, person: Person) -> str:
    """Return why an answer counts for nothing, in words for the person who would give it; not escaped yet.

    A user of this machine has no roles, so a rule that names only roles is for none of them.
    """
    if why == NOT_ENTITLED and person.sign_in == "local":
        return f"{_NOT_YOU}: you answer as {person.name}, the user of this machine, who has no roles here"
    return _NOT_YOU if why == NOT_ENTITLED else _TO_YOU.get(why, why)


def approvers_words(approvers: Approvers | None) -> str:
    """Return who may answer, and how many of them have to say yes; not escaped yet."""
    return "anybody who is signed in" if approvers is None else approvers_in_words(approvers)


def grant_words(terms: GrantTerms) -> str:
    """Return in words what a grant covers."""
    return f"{scope_words(terms)}, for {duration_words(terms.seconds)}"


def scope_words(terms: GrantTerms) -> str:
    """Return in words which calls a grant covers, without its time."""
    where = (
        "in the same conversation" if terms.scope == "conversation" else "in all conversations of the user"
    )
    return f"also for such calls of any agent {where}"


def duration_words(seconds: float) -> str:
    """Return a time as people say it, rounded: `3 min`."""
    for least, unit, name in ((172_800, 86_400, "days"), (5_400, 3_600, "h"), (90, 60, "min")):
        if seconds >= least:
            return f"{round(seconds / unit)} {name}"
    return f"{round(seconds)} s"


def calendar_time(at_ns: int) -> datetime | None:
    """Return a UTC time; None outside of the calendar: the inbox can have any number."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1_000)
    except (OverflowError, ValueError, OSError):
        return None


def moment(at_ns: int) -> str:
    """Return a time for people, in UTC."""
    at = calendar_time(at_ns)
    return "at no calendar time" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def iso(at_ns: int, precision: str = "auto") -> str | None:
    """Return a UTC time in ISO 8601; None outside of the calendar.

    Args:
        at_ns: Unix time in nanoseconds.
        precision: As `timespec` of `datetime.isoformat`.
    """
    at = calendar_time(at_ns)
    return None if at is None else at.isoformat(timespec=precision)


def givers(answers: Iterable[Answer], *, has_unknown_key: bool) -> str:
    """Return who gave a grant; not escaped yet. The arguments are as for `status_words`."""
    names = name_list([each.approver for each in answers if each.approved])
    if not names and has_unknown_key:
        return f"somebody whose answer cannot be checked here ({KEY_IS_UNKNOWN})"
    return names or "nobody whose answer is proven"


def user_words(question: Question) -> str | None:
    """Return for whom the agent acts, with the tenant where there is one: two may have users of one name."""
    parts = (question.user_id, question.tenant_id and f"tenant {question.tenant_id}")
    return ", ".join(each for each in parts if each) or None


def role_names(roles: str | None) -> str | None:
    """Return the roles in a question's JSON list as names; the text itself where it is none, or very long."""
    if roles is None or len(roles) > _LONGEST_ROLES:
        return roles
    try:
        found = json.loads(roles)
    except (ValueError, RecursionError):
        return roles
    return name_list(map(str, found)) if isinstance(found, list) else roles
