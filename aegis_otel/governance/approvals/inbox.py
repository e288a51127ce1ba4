"""Questions and answers that processes share: their types, and the port by which they are kept.

A process puts its question into the inbox, a person answers it somewhere else, and a process finds the
answer, perhaps on another machine. **Whoever can write to the inbox must not be able to approve.** So nothing
that the inbox says of itself counts as a yes:

- An answer counts only if it is signed (`CheckAnswer`), and is to this very question:
  `inbox_proofs.proven_answers`.
- Whether the answers make a yes is judged anew by who acts on them (`entitlement.judge`).
- A question of another process counts only if it shows what this process would show:
  `inbox_proofs.shows_the_same`.

    put            a question is asked
    look, find     who waits, or resumes a run, looks for answers
    answer         a person has answered, and the answer is signed
    use            the yes is taken, by one process, once
    end, expire    nobody waits for an answer any more
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol

import msgspec

from aegis_otel.audit.record import AuditRecord
from aegis_otel.governance.approvals.question import Question
from aegis_otel.model import Approvers

LONGEST_GRANT_S = 86_400.0
"""The most seconds that a grant holds, also one for the rest of a conversation."""
DEFAULT_EXPIRES_S = 30 * 86_400.0
"""Seconds in which a question can be answered that has no end of its own, as one of a saved run."""
YES_WAITS_S = {"inbox": 60, "sdk": 30 * 86_400}
"""Seconds after the time of a question in which a yes to it can still be used, by the question's kind."""
QUESTION_VERSION = 1
"""The version of the fields of `SharedQuestion`."""

MOST_REFUSED = 20
"""The most refused answers that are kept of one question."""


class QuestionStatus(StrEnum):
    """Where a question stands. Only for people and for housekeeping: nothing runs because of it."""

    WAITING = "waiting"
    APPROVED = "approved"
    """Enough persons said yes, and no process has used it yet."""
    DENIED = "denied"
    EXPIRED = "expired"
    USED = "used"
    """A process has taken the yes."""
    WITHDRAWN = "withdrawn"
    """The process that asked wants no answer any more."""

    @property
    def is_over(self) -> bool:
        """Return whether the status is final: no answer is taken any more, and no yes can be used."""
        return self not in (QuestionStatus.WAITING, QuestionStatus.APPROVED)

    @property
    def is_answered(self) -> bool:
        """Return whether there is a yes or a no that no process has used yet."""
        return self in (QuestionStatus.APPROVED, QuestionStatus.DENIED)


class SharedQuestion(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A question in the inbox. An answer is bound to all of it."""

    question: Question
    """What is shown to people, redacted."""
    row: AuditRecord
    """The pending row, by which another machine goes on under the same decision id."""
    kind: Literal["inbox", "sdk"]
    """`inbox`: a process waits for the answer; `sdk`: the SDK has paused the run, which is saved."""
    call_digest: str
    """`Inbox.keyed` of `call_payload`: alike on all machines, where the audit's own digests are not."""
    grant_key: str
    """`Inbox.keyed` of `grant_payload`: what a grant given with the answer is for; empty: there is none."""
    conversation_key: str = ""
    """`Inbox.keyed` of `conversation_payload`; empty where the call is part of no conversation. What is shown
    is redacted, so two conversations may look alike."""
    user_key: str = ""
    """`Inbox.keyed` of `person_payload`; empty where it is not known for which user the agent acts."""
    tool_call_id: str | None = None
    run_id: str | None = None
    approvers: Approvers | None = None
    """Who may answer; None: everybody who is signed in, and one of them is enough."""
    expires_s: float | None = None
    """Seconds in which it can be answered; None: `Inbox.put` gives it `DEFAULT_EXPIRES_S`."""
    trusted_keys: tuple[str, ...] = ()
    """The ids of the keys that whoever asks trusts, sorted; empty: not said. An answer with another key is
    refused before it is written: it would end the question, and then count for nothing. It proves nothing."""
    asked_ns: int = 0
    """When it was asked, by the inbox's clock: Unix time in nanoseconds. Set by `Inbox.put`."""
    nonce: str = ""
    """Makes each question another one, so that no answer is to two. Set by `Inbox.put`."""
    version: int = QUESTION_VERSION

    @property
    def decision_id(self) -> str:
        return self.question.decision_id

    def names_keys(self, keys: Collection[str]) -> bool:
        """Return whether it names all these keys, or none.

        Then answers to it are taken that count for who trusts them. Machines that get a new key one after the
        other all keep the question of the first that has it.
        """
        return not self.trusted_keys or set(keys).issubset(self.trusted_keys)

    @property
    def expires_ns(self) -> int | None:
        """Return when it ends, by the inbox's clock; None where it has no end."""
        return None if self.expires_s is None else self.asked_ns + round(self.expires_s * 1_000_000_000)


class GrantTerms(msgspec.Struct, frozen=True):
    """What a grant covers: calls of the same rule of the same policy, tool, target and subject.

    It covers them whatever their arguments are, and whichever agent calls.

    Raises:
        ValueError: it would hold for no time, or longer than `LONGEST_GRANT_S`.
    """

    seconds: float = LONGEST_GRANT_S
    """How long it holds, from the answer on."""
    scope: Literal["conversation", "time"] = "conversation"
    """Whether it holds in the question's conversation only, or in all of them."""

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= LONGEST_GRANT_S:
            raise ValueError(f"a grant holds for more than 0 and at most {LONGEST_GRANT_S:g} seconds")


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person who is signed in has said to a question."""

    decision_id: str
    question_digest: str
    """`QuestionState.digest`."""
    approved: bool
    approver: str
    """Who answered, as the sign-in has proved it."""
    roles: tuple[str, ...] = ()
    sign_in: Literal["oidc", "proxy", "local", "service"]
    """How the name of the approver was proven. `local`: by the operating system; `service`: by a program of
    somebody else."""
    reason: str | None = None
    answered_ns: int
    """Unix time in nanoseconds, by the clock of who took the answer."""
    grant: GrantTerms | None = None
    """The grant that is given with a yes, if any."""


class SignedAnswer(msgspec.Struct, frozen=True):
    """An answer as it is kept: nobody can change it without the private key."""

    body: bytes
    """`encode_answer` of it."""
    signature: bytes
    """Ed25519 over the body."""
    key: str
    """The id of the public key."""


class RefusedAnswer(NamedTuple):
    """An answer that counts for nothing."""

    approver: str
    why: str
    at_ns: int
    """By the inbox's clock."""


class QuestionState(NamedTuple):
    """A question, and what has become of it."""

    question: SharedQuestion
    digest: str
    """SHA-256 of the question as it is kept, in hex digits: what answers are bound to."""
    status: QuestionStatus
    answers: tuple[SignedAnswer, ...]
    """In the order in which they came; not proven: see `proven_answers`."""
    change: int
    """The number of its last change: each change in the inbox has a higher one than those before."""
    read_ns: int
    """When this was read, by the inbox's clock."""
    ended_ns: int | None = None
    """When it was used, or ended otherwise."""
    used_by: str | None = None

    @property
    def can_be_answered(self) -> bool:
        """Return whether the question waits, and its time was not over when this was read."""
        return self.status is QuestionStatus.WAITING and self.left_s != 0.0

    @property
    def is_answered(self) -> bool:
        """Return whether it has a no, or a yes whose time was not over when this was read.

        The time is that of the question to which answers are bound, so nobody can lengthen it afterwards.
        """
        if self.status is not QuestionStatus.APPROVED:
            return self.status.is_answered
        ends = self.question.expires_ns
        return ends is None or self.read_ns < ends + YES_WAITS_S[self.question.kind] * 1_000_000_000

    @property
    def left_s(self) -> float | None:
        """Return the seconds in which it can still be answered; None where it has no end."""
        ends = self.question.expires_ns
        return None if ends is None else max(0.0, (ends - self.read_ns) / 1_000_000_000)


class Grant(NamedTuple):
    """The yes to one question that is one to others as well, for some time."""

    grant_id: str
    """The decision id of the question."""
    state: QuestionState
    """The question with the answers that gave it."""
    is_bound: bool
    """Whether it holds in the question's conversation only; else in all of the user's."""
    until_ns: int
    """By the inbox's clock."""
    revoked_by: str | None = None
    """Who has revoked it; None: it holds."""

    @property
    def conversation_id(self) -> str | None:
        """Return the conversation in which it holds, as people are shown it; None: in all."""
        return (self.state.question.question.conversation_id or "") if self.is_bound else None


class InboxCounts(NamedTuple):
    """How much is in the inbox."""

    by_status: Mapping[QuestionStatus, int]
    """Questions of every status; those that ended long ago are gone."""
    change: int
    """The number of the last change."""


class InboxFigures(NamedTuple):
    """What metrics say of an inbox."""

    inbox_id: str
    """The same for all who share the inbox."""
    waiting: int
    """Questions that can be answered now, and are not."""
    longest_wait_s: float
    """For how long the oldest of them waits; 0 where there is none."""
    grants: int
    """Grants that hold."""
    ended: Mapping[QuestionStatus, int]
    """How many questions ended in the time that was asked about, by their status since then."""
    refused: int
    """How many answers were refused in that time."""
    until_ns: int
    """The end of that time, by the inbox's clock."""


CheckAnswer = Callable[[SignedAnswer], Answer]
"""Returns the answer if it is signed with a key that is trusted; raises AnswerRefused if not."""


class TrustedKeys(Protocol):
    """The keys by which answers are believed; calling it checks one, as `CheckAnswer`."""

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Return the ids of the keys, as `SignedAnswer.key` names them."""

    def __call__(self, signed: SignedAnswer, /) -> Answer:
        """Return the answer, or raise AnswerRefused."""


class Inbox(Protocol):
    """Keeps questions and answers for all processes. Any number of threads and processes can use it at once.

    Never on an event loop. Every method raises StateError where the inbox cannot be reached or used. Then it
    is not known whether something was written. What is in it and cannot be read is passed over.
    """

    def keyed(self, payload: bytes) -> str:
        """Return the digest of `payload` with the secret bytes of this inbox, alike for all who share it."""

    def put(self, question: SharedQuestion, unproven: Collection[str] = ()) -> QuestionState:
        """Ask a question, and return it with its time, end and nonce.

        Where the same question (in all but time and nonce, and it may name more keys) waits or is answered
        already, and is not used, that one is returned; where the run is saved, also one with another decision
        id, which another process has asked about this very call. Another one takes the place of an old one
        with its decision id, whose answers are gone.

        Args:
            question: What is asked.
            unproven: The ids of questions that are approved or denied here, though their answers make neither
                a yes nor a no for who asks: they do not count as answered.

        Raises:
            StateError: also where the question has more than `LARGEST_BYTES`, or the yes to the question of a
                saved run with this id was used.
        """

    def look(self, decision_ids: Collection[str], after: int = 0) -> dict[str, QuestionState]:
        """Return these questions, of those that have changed after the change `after`."""

    def find(self, call_digest: str) -> tuple[QuestionState, ...]:
        """Return the questions about a call, whatever their status, the oldest first."""

    def answer(self, signed: SignedAnswer, answer: Answer) -> QuestionStatus:
        """Keep an answer of a person who may give it, and return where the question stands then.

        Args:
            signed: The answer with its signature.
            answer: What it says.

        Raises:
            AnswerRefused: the question is unknown, over, lapsed by the inbox's clock, or another one than was
                answered, or this person has answered it; but a no after a yes takes the yes back. What is
                refused is recorded.
        """

    def refuse(self, decision_id: str, approver: str, why: str) -> bool:
        """Record an answer that counts for nothing, such as one of a person who may not answer.

        Each person and reason is recorded once, and not more than some of them. Return whether this one was.
        """

    def use(self, decision_id: str, question_digest: str, by: str) -> bool:
        """Take the yes to a question; return whether this call has, which is true once for all processes.

        A yes whose time is over is taken by nobody, whether or not `expire` has ended it. Where the run is
        saved, other open questions about the very call are withdrawn at once, whoever asked, and `used_since`
        knows of it.

        Args:
            decision_id: Which question.
            question_digest: As it was answered.
            by: Who takes it, for people: such as a host and a process id.
        """

    def take_call(self, call_digest: str, decision_id: str, asked_ns: int, by: str) -> bool:
        """Take the call of a saved run for a yes that was given to an audit; return whether this call has.

        Its question is then used, the others about the call are withdrawn, and `used_since` knows of it.

        Args:
            call_digest: `SharedQuestion.call_digest`.
            decision_id: The question that was answered; it need not be in the inbox.
            asked_ns: When it was asked, by the clock of who asked.
            by: As for `use`.

        Returns:
            False where `used_since` is true.
        """

    def used_since(self, call_digest: str, decision_id: str, asked_ns: int) -> bool:
        """Return whether a yes to a call was used since a question about it was asked; see `take_call`.

        It is known for 400 days.
        """

    def take_no(self, decision_id: str, question_digest: str, by: str) -> bool:
        """Take the no to a question; arguments and result as for `use`.

        Nothing runs by it. It is taken so that one audit, and no other, records a call that no audit waits
        for.
        """

    def end(self, decision_id: str, question_digest: str, status: QuestionStatus) -> bool:
        """End a question that nobody has used, as `denied`, `expired` or `withdrawn`; return whether it was.

        As `approved`, it waits for whoever uses a yes that was given to an audit. A question that is
        `approved` expires by `expire` only.
        """

    def expire(self) -> tuple[str, ...]:
        """End the questions whose time is over, and return their ids. Remove what ended long ago.

        A yes that nobody has used ends as well: a minute after the time of a question whose process waits,
        and 30 days after that of a saved run.
        """

    def listing(
        self,
        statuses: Collection[QuestionStatus] = (QuestionStatus.WAITING,),
        limit: int = 50,
        after: str | None = None,
        *,
        newest_first: bool = False,
    ) -> tuple[QuestionState, ...]:
        """Return questions in the order of their ids, which is that of time.

        Args:
            statuses: Which ones.
            limit: The most; there are fewer, but at least one, where they are large.
            after: The id of the last one that is known. The end is where nothing is returned.
            newest_first: Whether to begin with the last one.
        """

    def counts(self) -> InboxCounts:
        """Return how much there is."""

    def refused_answers(
        self, limit: int, decision_id: str | None = None
    ) -> tuple[tuple[str, RefusedAnswer], ...]:
        """Return refused answers with the ids of their questions.

        Args:
            limit: The most.
            decision_id: The question whose refused answers are returned, the oldest first; None: those of all
                questions, the newest first.
        """

    def figures(self, after_ns: int | None) -> InboxFigures:
        """Return what metrics say, in little time also where there are many questions.

        Args:
            after_ns: The end of the time that was asked about before; None: ends are not counted yet.
        """

    def grants(self, grant_key: str, conversation_key: str) -> tuple[Grant, ...]:
        """Return the grants that hold for a call now, the oldest first."""

    def grant_count(self) -> int:
        """Return how many grants hold now."""

    def all_grants(self, limit: int = 50, after: str | None = None) -> tuple[Grant, ...]:
        """Return grants whose time is not over, the oldest first; those that are revoked as well.

        Args:
            limit: As for `listing`.
            after: The id of the last one that is known. The end is where nothing is returned.
        """

    def revoke(self, grant_id: str, by: str) -> bool:
        """End a grant; return whether it did hold."""

    def changes(self, after: int, limit: int = 100) -> tuple[QuestionState, ...]:
        """Return the questions that have changed after the change `after`, in the order of their last change.

        A question that has changed twice is returned once, as it is now. There can be fewer than `limit`, and
        the end is where nothing is returned.
        """
