"""Take a person's answer to a question: check that they may give it, sign it, and put it into the inbox.

The commands and the page answer by the same steps. In the end counts what the agent finds: it checks the
signature, and judges again by its own policy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

from aegis_otel.audit.location import locate
from aegis_otel.config import ANSWER_KEY
from aegis_otel.errors import AnswerRefused
from aegis_otel.governance.approvals.entitlement import GivenAnswer, judge, visible_name
from aegis_otel.governance.approvals.inbox import (
    MOST_REFUSED,
    Answer,
    CheckAnswer,
    GrantTerms,
    Inbox,
    QuestionState,
    QuestionStatus,
    RefusedAnswer,
)
from aegis_otel.governance.approvals.inbox_proofs import (
    has_unknown_key,
    proven_answers,
    requester_among,
    why_over,
)
from aegis_otel.model import Approvers
from aegis_otel.redaction.redactor import redact_text
from aegis_otel.redaction.terminal import escape
from aegis_otel.runtime.approval.answer_signature import AnswerSigner, load_answer_keys, load_answer_signer
from aegis_otel.runtime.inbox_signals import open_reported_inbox

LONGEST_NAME = 256
LONGEST_REASON = 2_000
"""The most characters of a reason, as in the audit."""
_MOST_NAMES = 1_000
"""Names of people whose keys are kept: a list has many questions for one person."""


class Person(NamedTuple):
    """Somebody whose name was proven, not typed in."""

    name: str
    """As rules name approvers: an address of e-mail, say, or a user name; see `person_name`."""
    roles: tuple[str, ...]
    sign_in: Literal["oidc", "proxy", "local", "service"]
    """How the name was proven: `local` is the user of this machine; `service`: a program of yours."""


def person_name(name: str) -> str:
    """Return the name of a person as rules and answers have it: an address of e-mail is in lower case.

    An address that is written differently the next day is the same person, who must not count twice.

    Raises:
        AnswerRefused: the name could be taken for another one.
    """
    shown = escape(name[:LONGEST_NAME])
    if (
        not name
        or len(name) > LONGEST_NAME
        or name != name.strip()
        or shown != name
        or visible_name(name) != name
    ):
        raise AnswerRefused(f"the name `{shown}` is empty, too long, or has characters that cannot be seen")
    if "," in name:  # the column `approver` has the names of all who approved, separated by commas
        raise AnswerRefused(f"the name `{shown}` has a comma, and could be taken for two names")
    return name.translate(_LOWER) if "@" in name else name


_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""ASCII alone: other letters may become equal to those of another address."""


class AnswerDesk:
    """Takes answers for one inbox.

    Args:
        inbox: Where questions and answers are.
        signer: Returns what signs answers; called when it is needed.
        check: Checks the signature of an answer that is there already.
        now_ns: The clock: Unix time in nanoseconds.
    """

    def __init__(
        self,
        inbox: Inbox,
        signer: Callable[[], AnswerSigner],
        check: CheckAnswer,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.inbox = inbox
        self._signer = signer
        self._check = check
        self._now_ns = now_ns
        self._keyed = lru_cache(_MOST_NAMES)(inbox.keyed)

    def answers(self, state: QuestionState) -> tuple[Answer, ...]:
        """Return the proven answers to a question, in the order in which they came."""
        return proven_answers(state, self._check)[0]

    def has_unknown_key(self, state: QuestionState) -> bool:
        """Return whether an answer is signed with a key of the agent that is not trusted here."""
        return has_unknown_key(state, self._check)

    def refused(self, decision_id: str) -> tuple[RefusedAnswer, ...]:
        """Return the answers to a question that count for nothing, the oldest first.

        Raises:
            StateError: the inbox cannot be reached.
        """
        return tuple(each for _, each in self.inbox.refused_answers(MOST_REFUSED, decision_id))

    def requester(self, user_key: str, shown: str | None, person: Person) -> str | None:
        """Return the user that the agent acts for, by the name of `person` if that is who they are.

        Args:
            user_key: Of the question.
            shown: The user as the question shows them: the name may be masked or cut.
            person: Who would answer.

        Raises:
            StateError: the inbox cannot be reached.
        """
        return requester_among(user_key, shown, (person.name,), self._keyed)

    def give(
        self,
        decision_id: str,
        shown: str,
        person: Person,
        *,
        approved: bool,
        reason: str | None = None,
        grant: GrantTerms | None = None,
    ) -> QuestionStatus:
        """Give the answer of a person, and return where the question stands then.

        Args:
            decision_id: The question.
            shown: Its digest as it was shown to the person.
            person: Who answers.
            approved: What they say.
            reason: Why; secrets in it are hidden, as it goes into the audit.
            grant: The grant that is given with a yes, if any.

        Raises:
            AnswerRefused: it counts for nothing; the message says why, and the inbox has it as well, unless
                that is the key: see `why_key_is_untrusted`.
            StateError: the inbox cannot be reached.
            ConfigError: the key that signs answers cannot be used.
        """
        state = self.inbox.look([decision_id]).get(decision_id)
        if state is None:
            raise AnswerRefused("there is no such question")
        if why_over(state) is None and (why := self.why_key_is_untrusted(state)) is not None:
            raise AnswerRefused(why)  # not of the person's making, so nothing is written
        try:
            person = person._replace(name=person_name(person.name))
            if (why := self._why_ignored(state, shown, person, approved)) is not None:
                raise AnswerRefused(why)
        except AnswerRefused as error:
            self.inbox.refuse(decision_id, person.name, str(error))
            raise
        answer = Answer(
            decision_id=decision_id,
            question_digest=state.digest,
            approved=approved,
            approver=person.name,
            roles=person.roles,
            sign_in=person.sign_in,
            reason=redact_text(reason.strip()[:LONGEST_REASON]) if reason and reason.strip() else None,
            answered_ns=self._now_ns(),
            grant=grant if approved else None,
        )
        return self.inbox.answer(self._signer().sign(answer), answer)

    def why_key_is_untrusted(self, state: QuestionState) -> str | None:
        """Return why no answer from here counts, whoever gives it; None where it may.

        An answer that is signed with a key that the agent does not trust would end the question, and then the
        agent would refuse the call.

        Raises:
            ConfigError: the key that signs answers cannot be used.
        """
        trusted = state.question.trusted_keys
        if not trusted or (own := self._signer().key_id) in trusted:
            return None
        is_named = bool(ANSWER_KEY.value())
        which = f"the key of `{ANSWER_KEY.env}`" if is_named else "the own key of the user who runs this"
        return (
            f"it would be signed with {which}, {own}, "
            f"and the agent that asks trusts {' and '.join(trusted)}: "
            f"name the private key of what it trusts with `{ANSWER_KEY.env}`"
            + ("" if is_named else ", which is not set")
        )

    def _why_ignored(self, state: QuestionState, shown: str, person: Person, approved: bool) -> str | None:
        """Return why an answer counts for nothing; None where it may count."""
        if (over := why_over(state)) is not None:
            return over
        if state.digest != shown:
            return "the question is another one than was shown"
        asked = state.question
        requester = self.requester(asked.user_key, asked.question.user_id, person)
        return why_answer_is_ignored(asked.approvers, requester, person, approved=approved)


def open_answer_desk(directory: str | None = None) -> AnswerDesk:
    """Return the desk of the inbox that the settings name, for a program of yours that takes answers.

    Args:
        directory: The audit directory, beside which the inbox is unless `AEGIS_STATE` says where. Default:
            `AEGIS_AUDIT_DIR`.

    Raises:
        ConfigError: a setting or a key cannot work.
        AuditError: the directory or a key cannot be read.
    """
    audit = locate(directory)
    return desk_of(open_reported_inbox(audit), audit)


def desk_of(inbox: Inbox, audit: Path) -> AnswerDesk:
    """Return the desk of an inbox. The key that signs answers is read with the first one."""
    # No tools run where answers are taken, so the working directory is none that an agent writes to.
    signer = cache(partial(load_answer_signer, audit, tools_work_here=False))
    return AnswerDesk(inbox, signer, load_answer_keys(audit, tools_work_here=False))


def why_answer_is_ignored(
    approvers: Approvers | None, requester: str | None, person: Person, *, approved: bool
) -> str | None:
    """Return why the answer of a person counts for nothing; None where it counts.

    Args:
        approvers: Who may answer, as the question says.
        requester: The user that the agent acts for.
        person: Who would answer.
        approved: What they would say.
    """
    found = judge(approvers, [GivenAnswer(approved, person.name, person.roles)], requester)
    return next((each.why for each in found.ignored), None)
