"""Put the questions of a governor into the inbox, and find the answers and grants there that count.

Nothing counts because the inbox says so: signatures are checked, what was shown is compared with what this
process would show, and answers are judged by the policy's own approvers. The methods that are neither
async nor named `..._later` may wait for the state, and so are called in threads for that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from copy import copy
from typing import Literal, NamedTuple, TypeVar

import msgspec

from aegis_otel.audit.record import GRANT_REASON, RecordStatus
from aegis_otel.errors import AegisError, StateError
from aegis_otel.governance.approvals.entitlement import Judgement
from aegis_otel.governance.approvals.inbox import Answer as ProvenAnswer
from aegis_otel.governance.approvals.inbox import (
    Grant,
    Inbox,
    QuestionState,
    QuestionStatus,
    SharedQuestion,
    SignedAnswer,
    TrustedKeys,
)
from aegis_otel.governance.approvals.inbox_codec import LARGEST_BYTES, check_bounds, encode_question
from aegis_otel.governance.approvals.inbox_proofs import (
    LATE_NS,
    as_approval_answer,
    call_payload,
    conversation_payload,
    grant_payload,
    granted,
    granting_answers,
    person_payload,
    proven_answers,
)
from aegis_otel.governance.approvals.question import (
    ApprovalAnswer,
    NobodyToAsk,
    judge_answers,
    make_question,
    record_answers,
    requester_of,
    why_no_yes,
)
from aegis_otel.governance.call import Call, Signals, System
from aegis_otel.governance.error_text import describe, safe_text
from aegis_otel.governance.recording import timestamp
from aegis_otel.model import RiskLevel
from aegis_otel.redaction.serialize import is_cut

T = TypeVar("T")
_log = logging.getLogger("aegis_otel")

CHANNEL = "inbox"
"""Where a human is asked, as signals name it."""


class Answered(NamedTuple):
    """What the answers to a question come to here."""

    state: QuestionState
    judged: Judgement
    answers: tuple[ApprovalAnswer, ...]
    """Those that are proven."""
    unproven: tuple[str, ...]
    """Why others are not."""

    @property
    def counted(self) -> list[ApprovalAnswer]:
        """Return the answers that make the yes or the no."""
        return [each for each in self.answers if any(each.given == its for its in self.judged.counted)]

    @property
    def why_open(self) -> str:
        """Return why there is neither a yes nor a no."""
        return "; ".join([why_no_yes(self.judged), *dict.fromkeys(self.unproven)])


class SharedQuestions:
    """The questions of one governor in the inbox.

    Args:
        inbox: Makes the inbox; called when something is asked for the first time.
        keys: Loads what checks signatures; called when there is something to check. Raises AegisError.
        system: Has the clock, the threads and the facts of the process.
        signals: Count each failure of the state.
    """

    def __init__(
        self,
        inbox: Callable[[], Inbox],
        keys: Callable[[], TrustedKeys],
        system: System,
        signals: Signals,
    ) -> None:
        self._make_inbox, self._load_keys = inbox, keys
        self._inbox: Inbox | None = None
        self._keys: TrustedKeys | None = None
        self.system = system
        self.signals = signals

    @property
    def inbox(self) -> Inbox:
        """Return the inbox; nothing is opened before it is used."""
        if self._inbox is None:
            self._inbox = self._make_inbox()
        return self._inbox

    def check(self, signed: SignedAnswer) -> ProvenAnswer:
        """Return an answer that is signed with a trusted key; raises AnswerRefused if it is not."""
        return self.load_keys()(signed)

    def load_keys(self) -> TrustedKeys:
        """Return what checks signatures.

        Raises:
            AegisError: the public keys cannot be read or made.
        """
        if self._keys is None:
            self._keys = self._load_keys()
        return self._keys

    def question(self, call: Call, kind: Literal["inbox", "sdk"], timeout: float | None) -> SharedQuestion:
        """Return the question about a call as this process would put it.

        Args:
            call: The call.
            kind: Whether a process waits for the answer, or the run is saved.
            timeout: Seconds in which it can be answered; None: it has no end.
        """
        action, origin, verdict = call.decision.action, call.origin, call.decision.verdict
        row = copy(call.record)
        row.result_status = RecordStatus.PENDING.value
        return SharedQuestion(
            question=make_question(call, timeout or 0.0),
            row=row,
            kind=kind,
            call_digest=self.call_digest(call),
            grant_key=""
            if verdict.asks_each_time
            else self.inbox.keyed(grant_payload(verdict, action, origin)),
            conversation_key=self._key(conversation_payload, origin.conversation_id),
            user_key=self._key(person_payload, requester_of(action)),
            tool_call_id=call.record.tool_call_id,
            run_id=call.record.run_id,
            approvers=verdict.approvers,
            expires_s=timeout,
        )

    def _key(self, payload: Callable[[str], bytes], name: str | None) -> str:
        return self.inbox.keyed(payload(name)) if name else ""

    def call_digest(self, call: Call) -> str:
        """Return the digest of a call that all who share the inbox make of it."""
        return self.inbox.keyed(call_payload(call.decision.action, call.origin, call.arguments))

    def put(self, question: SharedQuestion, unproven: Collection[str] = ()) -> QuestionState:
        """Put a question into the inbox; see `Inbox.put`.

        Raises:
            NobodyToAsk: people could not be shown all of it, or no answer could be checked here.
            StateError: the inbox cannot be reached.
        """
        shown = question.question.action_params
        if not shown.startswith("{") or is_cut(shown):
            raise NobodyToAsk(
                "its arguments cannot be shown whole: too deep, too large, or hidden altogether"
            )
        try:
            keys = self._key_ids()
        except AegisError as error:
            raise NobodyToAsk(f"no answer could be checked: {describe(error)}") from error
        question = msgspec.structs.replace(question, trusted_keys=keys)
        if (size := len(encode_question(question))) > LARGEST_BYTES:
            raise NobodyToAsk(f"the question has {size:,} bytes; in the inbox it may have {LARGEST_BYTES:,}")
        try:
            check_bounds(question)
        except ValueError as error:
            raise NobodyToAsk(f"the question cannot be put into the inbox: {error}") from error
        return self.reached(lambda: self.inbox.put(question, unproven))

    def names_our_keys(self, question: SharedQuestion) -> bool:
        """Return whether a question names all keys that this process trusts, or none.

        It reads files. Where the keys cannot be read, nothing better could be asked, so the question stands.
        """
        try:
            return question.names_keys(self._key_ids())
        except AegisError as error:
            _log.warning("the keys that sign answers cannot be read: %s", describe(error))
            return True

    def _key_ids(self) -> tuple[str, ...]:
        return tuple(sorted(self.load_keys().key_ids))

    def judge(self, state: QuestionState, call: Call, ends_ns: int | None = None) -> Answered:
        """Return what the proven answers to a question come to, by who may answer it now.

        Args:
            state: The question.
            call: The call that it is about.
            ends_ns: When it ends by what this process knows, whatever the inbox says; None: not known.
        """
        proven, unproven = proven_answers(state, self.check)
        if ends_ns is not None:
            late = [each for each in proven if each.approved and each.answered_ns > ends_ns + LATE_NS]
            proven = tuple(each for each in proven if each not in late)
            if late:
                unproven = (*unproven, "it came after the end that the question has here")
        answers = tuple(map(as_approval_answer, proven))
        judged = judge_answers(answers, call.decision.verdict.approvers, requester_of(call.decision.action))
        return Answered(state, judged, answers, unproven)

    def new_taker_name(self) -> str:
        """Return a name of this process for `use`, which nobody else has and no other use of this one."""
        system = self.system
        return f"{system.host}, process {system.pid()}, {system.new_id()[-12:]}"

    def use(self, state: QuestionState, by: str) -> bool:
        """Take the yes to a question; return whether it is taken by `by`, also where that was before.

        So it can be called again where the first time nobody knows what became of it.

        Raises:
            StateError: the inbox cannot be reached.
        """
        decision_id = state.question.decision_id

        def take() -> bool:
            if self.inbox.use(decision_id, state.digest, by):
                return True
            now = self.inbox.look([decision_id]).get(decision_id)
            return now is not None and (now.digest, now.used_by) == (state.digest, by)

        return self.reached(take)

    def end(self, state: QuestionState, status: QuestionStatus) -> None:
        """End a question that nobody has used; one that is answered meanwhile is withdrawn.

        A failure is logged: then it ends by its time, or by whoever finds that nobody waits for it.
        """
        about = state.question.decision_id, state.digest
        try:
            if not self.inbox.end(*about, status) and status is QuestionStatus.EXPIRED:
                self.inbox.end(*about, QuestionStatus.WITHDRAWN)
        except StateError as error:
            self.signals.state_failed()
            _log.warning("the question of decision %s could not be ended: %s", about[0], describe(error))

    def end_later(self, state: QuestionState, status: QuestionStatus) -> None:
        """Do `end` in the background, from code that cannot wait."""
        try:
            self.system.in_background(lambda: self.end(state, status))
        except RuntimeError as error:
            _log.warning("a question could not be ended: %s", describe(error))

    async def apply_grant(self, call: Call) -> bool:
        """Put the yes of a grant that covers a call on its record, and return whether there is one.

        Never raises StateError.
        """
        try:
            found = await self.system.with_state(lambda: self._find_grant(call))
        except AegisError as error:
            _log.warning("grants could not be looked up, so a human is asked: %s", describe(error))
            return False
        if found is None:
            return False
        grant, answered, until_ns = found
        record = call.record
        record_answers(record, answered.judged, answered.answers)
        why = GRANT_REASON.format(grant=grant.grant_id, until=timestamp(until_ns))
        record.approval_reason = safe_text("; ".join(filter(None, (why, record.approval_reason))))
        call.channel = CHANNEL
        self.signals.grant_used(call, grant.grant_id)
        return True

    def has_grant(self, call: Call) -> bool:
        """Return whether a grant covers a call; raises AegisError where that cannot be found out."""
        return self._find_grant(call) is not None

    def _find_grant(self, call: Call) -> tuple[Grant, Answered, int] | None:
        if call.decision.verdict.asks_each_time:
            return None

        def find() -> tuple[SharedQuestion, tuple[Grant, ...]]:
            own = self.question(call, "inbox", None)
            return own, self.inbox.grants(own.grant_key, own.conversation_key)

        own, grants = self.reached(find)
        verdict = call.decision.verdict
        for grant in grants:
            asked = grant.state.question.question.risk_level or ""
            if asked not in RiskLevel.__members__ or RiskLevel[asked] < verdict.risk_level:
                continue  # the yes was to less
            proven = granting_answers(grant, own, self.check)
            answers = tuple(map(as_approval_answer, proven))
            judged = judge_answers(answers, verdict.approvers, requester_of(call.decision.action))
            terms = granted(proven)
            if judged.outcome == "yes" and terms is not None:
                return grant, Answered(grant.state, judged, answers, ()), terms[0]
        return None

    def reached(self, work: Callable[[], T]) -> T:
        """Return what `work` with the inbox returns; a failure of the state is counted, and raised."""
        try:
            return work()
        except StateError:
            self.signals.state_failed()
            raise
