"""Questions and answers for tests of what processes share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from aegis_otel.audit.record import AuditRecord
from aegis_otel.governance.approvals.inbox import Answer, QuestionState, SharedQuestion, SignedAnswer
from aegis_otel.governance.approvals.inbox_codec import encode_answer
from aegis_otel.governance.approvals.question import Question
from aegis_otel.model import Approvers
from aegis_otel.state.engine import Salt, SharedState, Transaction

_numbers = count(1)
_SHOWN = {
    "session_id": "session",
    "conversation_id": "conversation",
    "agent_name": "Clerk",
    "user_id": "ann",
    "tenant_id": "shop",
    "user_roles": '["clerk"]',
    "tool_name": "charge",
    "action_type": "charge",
    "action_target": "card",
    "args_digest": "hmac-sha256:00",
    "risk_level": "HIGH",
    "approval": "approve",
    "matched_rule": "ask",
    "reason": "Charges are asked about",
    "policy_digest": "sha256:00",
}


def shared_question(
    decision_id: str | None = None,
    params: str = "x",
    approvers: Approvers | None = None,
    expires_s: float | None = None,
    kind: Any = "sdk",
    *,
    trusted_keys: tuple[str, ...] = (),
    **shown: Any,
) -> SharedQuestion:
    """A question about a charge, under an id of its own unless one is given."""
    decision_id = f"decision-{next(_numbers):06}" if decision_id is None else decision_id
    about = {**_SHOWN, **shown, "decision_id": decision_id}
    arguments = json.dumps({"note": params}, ensure_ascii=False)
    row = AuditRecord(
        stage="decided",
        timestamp="2026-01-31T00:00:00.000000+00:00",
        action_params=arguments,
        result_status="pending",
        tool_call_id="call_1",
        run_id="run_1",
        **about,
    )
    question = Question(
        action_description="Charges a card", action_params=arguments, timeout=expires_s or 300.0, **about
    )
    conversation, user = about["conversation_id"], about["user_id"]
    return SharedQuestion(
        question=question,
        row=row,
        kind=kind,
        call_digest=f"call of {decision_id}",
        grant_key="grant of a charge",
        conversation_key=f"key of {conversation}" if conversation else "",
        user_key=f"key of {user}" if user else "",
        tool_call_id="call_1",
        run_id="run_1",
        approvers=approvers,
        expires_s=expires_s,
        trusted_keys=trusted_keys,
    )


def an_answer(state: QuestionState, approver: str = "bob", *, approved: bool = True, **about: Any) -> Answer:
    """What `approver` says to a question, as the page makes it."""
    return Answer(
        decision_id=state.question.decision_id,
        question_digest=state.digest,
        approved=approved,
        approver=approver,
        **{"sign_in": "oidc", "answered_ns": state.read_ns, **about},
    )


class Clock:
    """A state whose inbox has another time than it: the clock of a server cannot be set."""

    def __init__(self, state: SharedState) -> None:
        self.state = state
        self.passed_ns = 0

    def pass_time(self, seconds: float) -> None:
        """Let so many seconds go by; a negative number sets the clock back."""
        self.passed_ns += round(seconds * 1e9)

    @contextmanager
    def transaction(self, *, writes: bool = True) -> Iterator[Transaction]:
        with self.state.transaction(writes=writes) as transaction:
            yield _Shifted(transaction, self.passed_ns)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.state, name)


@dataclass
class _Shifted:
    transaction: Transaction
    passed_ns: int

    @property
    def salt(self) -> Salt:
        return self.transaction.salt

    def now_ns(self) -> int:
        return self.transaction.now_ns() + self.passed_ns

    def run(self, statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return self.transaction.run(statement, values)


def unsigned(answer: Answer) -> SignedAnswer:
    """An answer that nobody has signed: the inbox keeps it like any other."""
    return SignedAnswer(encode_answer(answer), b"none", "key")


def run_sql(state: SharedState, statement: str, **values: object) -> list[tuple[Any, ...]]:
    """What somebody does who can write to the store."""
    with state.transaction() as transaction:
        return transaction.run(statement, values)
