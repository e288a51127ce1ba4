"""Check what the inbox says: which answers are proven, what a grant covers, whether a question is this one.

What people are shown is redacted, so two calls, users or conversations may look alike. A question has digests
of the true values as well, with the secret bytes of the inbox (`Inbox.keyed`): of the payloads that are here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Literal

from aegis_otel.errors import AnswerRefused
from aegis_otel.governance.approvals.entitlement import (
    GIVEN_TWICE,
    GivenAnswer,
    Judgement,
    judge,
    same_person,
)
from aegis_otel.governance.approvals.inbox import (
    Answer,
    CheckAnswer,
    Grant,
    QuestionState,
    QuestionStatus,
    SharedQuestion,
)
from aegis_otel.governance.approvals.question import ApprovalAnswer
from aegis_otel.governance.call import Origin
from aegis_otel.governance.recording import subject_payload
from aegis_otel.model import Action, Verdict

UNKNOWN_KEY = "the answer is not signed by a key that is trusted here"
"""Why an answer does not count of which it is not known here whether somebody gave it: see `CheckAnswer`."""
LATE_NS = 60_000_000_000
"""How far the clock of who took an answer may be ahead of that of the inbox."""


def call_payload(action: Action, origin: Origin, arguments: bytes) -> bytes:
    """Return the bytes whose digest identifies a call.

    Args:
        action: The call.
        origin: Where it comes from; the ids of call and run are part of it.
        arguments: The encoded true arguments.
    """
    parts = (*_tool(action, origin), action.agent, origin.tool_call_id, origin.run_id)
    return b"call\n" + json.dumps(parts).encode() + _subject(action) + arguments


def grant_payload(verdict: Verdict, action: Action, origin: Origin) -> bytes:
    """Return the bytes whose digest identifies the calls that a grant covers.

    They have the same policy, rule, tool, target and subject.

    The name of a rule is not enough: another policy, or the same file after an edit, can give it to a rule
    that asks about something else.
    """
    parts = (verdict.policy_digest, verdict.matched_rule, *_tool(action, origin))
    return b"grant\n" + json.dumps(parts).encode() + _subject(action)


def conversation_payload(conversation_id: str) -> bytes:
    """Return the bytes whose digest identifies a conversation: its id as the program says it."""
    return b"conversation\n" + json.dumps(conversation_id).encode()


def person_payload(user: str) -> bytes:
    """Return the bytes whose digest identifies a user, alike for all spellings of one person."""
    return b"user\n" + json.dumps(same_person(user)).encode()


def _tool(action: Action, origin: Origin) -> tuple[str | None, ...]:
    return origin.tool_name, origin.tool_original_name, action.type, action.target


def _subject(action: Action) -> bytes:
    return b"\n" + (b"" if action.subject is None else subject_payload(action.subject)) + b"\n"


def requester_among(
    user_key: str, shown: str | None, names: Iterable[str], keyed: Callable[[bytes], str]
) -> str | None:
    """Return the user that the agent acts for: under their own spelling if they answer, else as shown.

    Args:
        user_key: `SharedQuestion.user_key`.
        shown: The user as the question shows them: the name may be masked or cut.
        names: Who answers.
        keyed: `Inbox.keyed`.
    """
    found = (name for name in names if user_key and keyed(person_payload(name)) == user_key)
    return next(found, shown)


def shows_the_same(kept: SharedQuestion, own: SharedQuestion) -> bool:
    """Return whether a question from the inbox is the one that this process would ask about its call.

    Somebody who can write to the inbox could have shown people another call than the digest is of. Who
    resumes a run need not say again of which conversation it is part: a grant bound to one compares it.
    """
    return (
        kept.call_digest == own.call_digest
        and kept.tool_call_id == own.tool_call_id
        and kept.run_id == own.run_id
        and kept.user_key == own.user_key
        and _have_same(_SHOWN, kept, own)
    )


def grants_the_same(kept: SharedQuestion, own: SharedQuestion) -> bool:
    """Return whether a grant given with `kept` is for the rule, policy, tool and subject of `own`."""
    return bool(own.grant_key) and kept.grant_key == own.grant_key and _have_same(_GRANTED, kept, own)


_NAMED = ("tool_name", "action_type", "action_target", "user_id", "tenant_id", "user_roles")
_GRANTED = (*_NAMED, "matched_rule", "approval", "policy_digest")
OF_THE_VERDICT = ("matched_rule", "risk_level", "approval", "reason")
"""What is shown of the verdict, which another policy can change while a question waits."""
_SHOWN = (*_NAMED, *OF_THE_VERDICT, "agent_name", "action_description", "action_params")


def _have_same(names: Sequence[str], kept: SharedQuestion, own: SharedQuestion) -> bool:
    return all(getattr(kept.question, name) == getattr(own.question, name) for name in names)


def proven_answers(state: QuestionState, check: CheckAnswer) -> tuple[tuple[Answer, ...], tuple[str, ...]]:
    """Return the answers that are signed, to this question and in time, and why others do not count.

    Of a person the first one counts, and no other but a no after a yes, which takes it back.
    """
    proven: dict[str, Answer] = {}
    others = []
    ends = state.question.expires_ns
    for signed in state.answers:
        try:
            answer = check(signed)
        except AnswerRefused as error:
            others.append(str(error))
            continue
        if (answer.decision_id, answer.question_digest) != (state.question.decision_id, state.digest):
            others.append("it is to another question")
        elif ends is not None and answer.answered_ns > ends + LATE_NS:
            others.append("it came too late")
        elif not _may_follow(proven.get(same_person(answer.approver)), answer):
            others.append(GIVEN_TWICE)
        else:
            proven[same_person(answer.approver)] = answer
    return tuple(proven.values()), tuple(others)


def has_unknown_key(state: QuestionState, check: CheckAnswer) -> bool:
    """Return whether an answer is signed with a key that the agent trusts and that is not trusted here.

    Which keys the agent trusts is what the question says; where it says nothing, any other key may be one.
    """
    named = state.question.trusted_keys
    for signed in state.answers:
        if not named or signed.key in named:
            try:
                check(signed)
            except AnswerRefused as error:
                if str(error) == UNKNOWN_KEY:
                    return True
    return False


def judgement(state: QuestionState, answers: Iterable[Answer]) -> Judgement:
    """Return what the proven answers to a question come to."""
    given = [GivenAnswer(each.approved, each.approver, each.roles) for each in answers]
    return judge(state.question.approvers, given, state.question.question.user_id)


def proven_status(state: QuestionState, answers: Collection[Answer]) -> QuestionStatus | None:
    """Return where a question stands; None where it is stored as answered, and its answers do not prove it.

    Whoever can write to the inbox can write `approved` there. Nothing runs by it, and nobody is to read it. A
    question whose time is over has expired, also where nobody has ended it in the inbox yet.

    Args:
        state: The question.
        answers: Those that are proven.
    """
    if state.status in (QuestionStatus.APPROVED, QuestionStatus.USED):
        return state.status if judgement(state, answers).outcome == "yes" else None
    if state.status is QuestionStatus.DENIED:
        return state.status if any(not each.approved for each in answers) else None
    if state.status is QuestionStatus.WAITING and not state.can_be_answered:
        return QuestionStatus.EXPIRED
    return state.status


_OVER = {
    QuestionStatus.APPROVED: "it was approved already",
    QuestionStatus.DENIED: "it was denied already",
    QuestionStatus.EXPIRED: "it has expired: nobody answered in time",
    QuestionStatus.USED: "it was approved already, and the agent has taken the yes",
    QuestionStatus.WITHDRAWN: "nobody waits for the answer any more",
}


def why_over(state: QuestionState) -> str | None:
    """Return why a question takes no answer any more, as a clause for people; None where it takes one."""
    if state.status is not QuestionStatus.WAITING:
        return _OVER[state.status]
    return None if state.can_be_answered else _OVER[QuestionStatus.EXPIRED]


def _may_follow(earlier: Answer | None, answer: Answer) -> bool:
    """Return whether an answer counts after an earlier one of the same person: a no takes a yes back."""
    return earlier is None or (earlier.approved and not answer.approved)


def as_approval_answer(answer: Answer) -> ApprovalAnswer:
    """Convert a proven answer to the type that other channels return."""
    return ApprovalAnswer(answer.approved, answer.approver, answer.reason, answer.roles)


def granted(answers: Collection[Answer]) -> tuple[int, bool] | None:
    """Return until when the answers that made a yes grant more, and whether in the conversation only.

    Each of them has to; the strictest terms hold. None: they grant nothing.
    """
    ends, is_bound = [], False
    for answer in answers:
        if answer.grant is None or not answer.approved:
            return None
        ends.append(answer.answered_ns + round(answer.grant.seconds * 1_000_000_000))
        is_bound = is_bound or answer.grant.scope == "conversation"
    return (min(ends), is_bound) if ends else None


def has_scope(question: SharedQuestion, scope: Literal["conversation", "time"]) -> bool:
    """Return whether a yes to a question can grant more: in its conversation, or in all of its user.

    Without a user that would be all calls of the program, whoever they are for.
    """
    if not question.grant_key:
        return False
    return bool(question.conversation_key if scope == "conversation" else question.user_key)


def granting_answers(grant: Grant, own: SharedQuestion, check: CheckAnswer) -> tuple[Answer, ...]:
    """Return the proven answers by which a grant covers what this process would ask; none where it does not.

    Nothing else that the inbox says of the grant counts, but that it was not revoked. Whether the answers
    make a yes by the policy of today is still to be judged.
    """
    proven, _ = proven_answers(grant.state, check)
    terms, given = granted(proven), grant.state.question
    if terms is None or grant.revoked_by is not None or not grants_the_same(given, own):
        return ()
    until_ns, is_bound = terms
    if not has_scope(given, "conversation" if is_bound else "time"):
        return ()
    if is_bound and _conversation(given) != _conversation(own):
        return ()
    return proven if grant.state.read_ns < until_ns else ()


def _conversation(question: SharedQuestion) -> tuple[str, str | None]:
    """Return which conversation a question is part of, and what people see of it."""
    return question.conversation_key, question.question.conversation_id
