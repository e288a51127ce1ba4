"""The questions that wait, in memory: lists, counts and the news of the page read them, and not the inbox.

With 10,000 waiting questions, a list is made in some milliseconds, and any number of open pages ask the inbox
one thing, every half second: what has changed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from aegis_otel.cli.approvals.inbox_follower import InboxFollower
from aegis_otel.cli.approvals.page.shown_arguments import preview
from aegis_otel.cli.approvals.wording import to_you
from aegis_otel.governance.approvals.entitlement import same_person
from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus
from aegis_otel.governance.approvals.inbox_proofs import judgement
from aegis_otel.governance.error_text import describe
from aegis_otel.model import Approvers
from aegis_otel.redaction.terminal import escape
from aegis_otel.runtime.approval.answer_desk import AnswerDesk, Person, why_answer_is_ignored

_MOST_READERS = 200
"""Persons whose rights to answer are kept."""
_MOST_KEPT = 16 << 20
"""The size of all approvers that are kept. Of a question beyond it, only its own page says who may answer."""
_MOST_JUDGED = 4 << 20
"""The size of the approvers that are judged for one list, which takes some tenths of a second."""
_GLOB_SIZE = 64
"""What one glob adds to the size of approvers, beside its characters."""
_log = logging.getLogger("aegis_otel")


class WaitingQuestion(NamedTuple):
    """What lists say of a question."""

    decision_id: str
    version: int
    """The number of its last change."""
    risk: str | None
    type: str | None
    target: str | None
    agent: str | None
    user: str | None
    tenant: str | None
    user_key: str
    rule: str | None
    preview: str
    asked_ns: int
    expires_ns: int | None
    approvers: Approvers | None
    size: int
    """The size of the approvers, which is what judging them costs; `_TOO_LARGE` where they are not kept."""
    yes: tuple[str, ...]
    """Whose yes counts."""
    answered: frozenset[str]
    """Who has answered."""
    missing: int
    """How many more have to say yes."""


class ListedQuestion(NamedTuple):
    """A question as one person may answer it."""

    question: WaitingQuestion
    has_answered: bool
    why_not: str | None
    """Why this person may not approve; None where they may, or where it would take too long to say."""

    @property
    def is_theirs(self) -> bool:
        """Return whether this person is to answer it."""
        return not self.has_answered and self.why_not is None


_Terms = tuple[Approvers | None, str | None]
"""Approvers and requester: together they decide whether a person may approve."""


class WaitingBoard:
    """Keeps what waits. Its methods are for threads, but for those that say otherwise.

    Args:
        desk: Where the questions are from.
        monotonic: A clock in seconds.
    """

    def __init__(self, desk: AnswerDesk, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._desk = desk
        self._monotonic = monotonic
        self._follower = InboxFollower(desk.inbox, monotonic)
        self._lock = threading.Lock()
        self._waiting: dict[str, WaitingQuestion] = {}
        self._in_order: tuple[dict[str, WaitingQuestion], list[WaitingQuestion]] | None = None
        """What waits as it was sorted last."""
        self._reasons_lock = threading.Lock()
        self._reasons: dict[Person, dict[_Terms, str | None]] = {}
        """Why persons may not approve what waits, those who looked last at the end: judging takes long."""
        self._grants: tuple[float, int] = (float("-inf"), 0)

    @property
    def version(self) -> int:
        """Return a number that rises with each change that was read; for the event loop, too."""
        return self._follower.change

    def refresh(self) -> None:
        """Read what has changed, and end what has lapsed.

        Raises:
            StateError: the inbox cannot be reached.
        """
        with self._lock:
            for states in self._follower.poll():
                self._keep(states)

    def _keep(self, states: Iterable[QuestionState]) -> None:
        waiting = dict(self._waiting)  # others read the old one meanwhile
        room = _MOST_KEPT - sum(each.size for each in waiting.values() if each.size != _TOO_LARGE)
        for state in states:
            decision_id = state.question.decision_id
            old = waiting.pop(decision_id, None)
            room += old.size if old is not None and old.size != _TOO_LARGE else 0
            if state.status is QuestionStatus.WAITING:
                try:
                    new = self._summary(state)
                    if new.size > room:
                        new = new._replace(approvers=None, size=_TOO_LARGE)
                    else:
                        room -= new.size
                    waiting[decision_id] = new
                except Exception as error:  # whatever somebody has written there, others are still listed
                    why = describe(error)
                    _log.warning("the question %s cannot be listed: %s", escape(decision_id), escape(why))
        self._waiting = waiting

    def _summary(self, state: QuestionState) -> WaitingQuestion:
        shared, asked = state.question, state.question.question
        answers = self._desk.answers(state)
        judged = judgement(state, answers)
        return WaitingQuestion(
            decision_id=asked.decision_id,
            version=state.change,
            risk=asked.risk_level,
            type=asked.action_type,
            target=asked.action_target,
            agent=asked.agent_name,
            user=asked.user_id,
            tenant=asked.tenant_id,
            user_key=shared.user_key,
            rule=asked.matched_rule,
            preview=preview(asked.action_params),
            asked_ns=shared.asked_ns,
            expires_ns=shared.expires_ns,
            approvers=shared.approvers,
            size=_size(shared.approvers),
            yes=tuple(each.approver or "" for each in judged.counted),
            answered=frozenset(same_person(each.approver) for each in answers),
            missing=judged.missing,
        )

    def listed(self, person: Person) -> list[ListedQuestion]:
        """Return what waits, that which ends first at the beginning, with what this person may do."""
        own_name = same_person(person.name)
        with self._reasons_lock:
            known = self._reasons.get(person, {})
        reasons: dict[_Terms, str | None] = {}
        found, left = [], _MOST_JUDGED
        for each in self._sorted():
            terms = each.approvers, self._desk.requester(each.user_key, each.user, person)
            if each.size != _TOO_LARGE and terms not in reasons:
                cost = each.size * (1 + len(person.roles))
                if terms in known:
                    reasons[terms] = known[terms]
                elif cost <= left:  # another list judges some more
                    left -= cost
                    reasons[terms] = _reason(terms, person)
            why = None if each.size == _TOO_LARGE else reasons.get(terms)
            found.append(ListedQuestion(each, own_name in each.answered, why))
        with self._reasons_lock:
            self._reasons.pop(person, None)
            self._reasons[person] = reasons
            while len(self._reasons) > _MOST_READERS:
                del self._reasons[next(iter(self._reasons))]
        return found

    def _sorted(self) -> list[WaitingQuestion]:
        waiting, in_order = self._waiting, self._in_order
        if in_order is None or in_order[0] is not waiting:
            order = sorted(waiting.values(), key=lambda each: (each.expires_ns or _NEVER, each.asked_ns))
            in_order = self._in_order = waiting, order
        return in_order[1]

    def grant_count(self) -> int:
        """Return how many grants hold, as of a second ago."""
        at, count = self._grants
        if self._monotonic() > at + 1:
            count = self._desk.inbox.grant_count()
            self._grants = self._monotonic(), count
        return count


def _reason(terms: _Terms, person: Person) -> str | None:
    why = why_answer_is_ignored(*terms, person, approved=True)
    return None if why is None else to_you(why, person)


def _size(approvers: Approvers | None) -> int:
    if approvers is None:
        return 0
    sections = approvers.all_of_them
    globs = [glob for each in sections for glob in (*each.users, *each.roles)]
    return _GLOB_SIZE * (len(sections) + len(globs)) + sum(map(len, globs))


_TOO_LARGE = -1
"""The size of approvers that are not kept."""
_NEVER = 1 << 63
"""Behind every end of a question."""
