"""What a handler may answer, and what it is told: in the audit row, for each question its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from aegis_otel import Action, Policy, Result, ResultStatus, RuntimeHooks
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.model import PolicyDecision
from aegis_otel.runtime.approval import ApprovalAnswer, ApprovalHandler, Question, current_question
from aegis_otel.runtime.audit import AuditLogger
from tests.support.kit import Bench

BENCH = Callable[..., Bench]


class Executor(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        return Result(action=action, status=ResultStatus.SUCCESS)


class Asked(ApprovalHandler):
    """Keeps each question and answers by `answer(question)`."""

    approver = "the desk"

    def __init__(self, answer: Callable[[Question], Any]) -> None:
        self.answer = answer
        self.questions: list[Question] = []

    async def request_approval(self, decision: PolicyDecision) -> Any:
        self.questions.append(current_question())
        answer = self.answer(self.questions[-1])
        return await answer if asyncio.iscoroutine(answer) else answer


def approved(bench: BENCH, answer: Callable[[Question], Any], **options: Any) -> Bench:
    return bench(approver=Asked(answer), executor=Executor(), **options)


@pytest.mark.parametrize("yes", [True, False])
async def test_approver_and_reason_reach_the_row(yes: bool, bench: BENCH) -> None:
    """Of a yes and of a no; they are in no span and in no event."""
    b = approved(bench, lambda _: ApprovalAnswer(yes, "ann@example.com", "seen the ticket"))
    assert (await b.runtime.run_one(Action("write_x"))).ok is yes
    row = b.row()
    assert (row["approver"], row["approval_reason"]) == ("ann@example.com", "seen the ticket")
    assert row["human_decision"] == ("approved" if yes else "denied")
    signals = [dict(span.attributes) for span in b.telemetry.spans()]
    signals += [
        e for name in ("tool.decision", "approval.resolved") for e in b.telemetry.events(f"aegis.{name}")
    ]
    assert "ann@example.com" not in str(signals)
    assert "seen the ticket" not in str(signals)


async def test_they_are_redacted_and_bounded(bench: BENCH) -> None:
    """A human may paste a secret, and a channel may send a book."""
    reason = "the key is sk-live-4eC39HqLyjWDarjtT1zdp7dc " + "x" * 100_000
    b = approved(bench, lambda _: ApprovalAnswer(True, "postgres://ann:hunter2@db", reason))
    await b.runtime.run_one(Action("write_x"))
    row = b.row()
    assert "hunter2" not in row["approver"]
    assert "4eC39HqLyjWDarjtT1zdp7dc" not in row["approval_reason"]
    assert 1_000 < len(row["approval_reason"]) <= 2_000


async def test_concurrent_questions_keep_their_approvers(bench: BENCH) -> None:
    """One handler, many questions at once, answered in the opposite order by different people."""
    order: list[asyncio.Event] = [asyncio.Event() for _ in range(5)]

    async def answer(question: Question) -> ApprovalAnswer:
        number = json.loads(question.action_params)["n"]
        if number < 4:
            await order[number].wait()
        if number > 0:
            order[number - 1].set()
        return ApprovalAnswer(number % 2 == 0, f"person {number}", f"reason {number}")

    b = approved(bench, answer)
    await asyncio.gather(*(b.runtime.run_one(Action("write_x", params={"n": n})) for n in range(5)))
    for row in b.rows():
        number = row["action_params"]["n"]
        assert (row["approver"], row["approval_reason"]) == (f"person {number}", f"reason {number}")
        assert row["human_decision"] == ("denied" if number % 2 else "approved")


async def test_who_did_not_answer_is_not_named(bench: BENCH) -> None:
    """A value that is no answer has no author."""
    b = approved(bench, lambda _: "yes")
    await b.runtime.run_one(Action("write_x"))
    assert (b.row()["approver"], b.row()["human_decision"]) == (None, None)


@pytest.mark.parametrize(
    "arguments", [("yes",), (1,), (None,), (True, 7), (True, "ann", ["because"])], ids=str
)
async def test_an_answer_of_the_wrong_types_cannot_be_made(arguments: Any, bench: BENCH) -> None:
    """It raises where it is made, which is inside the handler: denied."""
    with pytest.raises(TypeError, match="of an answer must be"):
        ApprovalAnswer(*arguments)
    b = approved(bench, lambda _: ApprovalAnswer(*arguments))
    result = await b.runtime.run_one(Action("write_x"))
    assert (result.error, b.row()["reason"]) == ("Approval could not be obtained", "approval_error")


async def test_the_question_is_what_the_audit_has(bench: BENCH) -> None:
    """Ids, digests, rule and risk of the row; arguments and names redacted as in the row."""
    b = approved(bench, lambda _: True, timeout=7)
    action = Action(
        "write_x",
        "postgres://u:hunter2@db",
        {"password": "hunter2", "to": "ann"},
        "token=hunter2",
        agent="Al",
    )
    await b.runtime.run_one(action)
    (question,), row = b.approver.questions, b.row()  # type: ignore[attr-defined]
    for name in set(Question.__struct_fields__) - {"action_description", "action_params", "timeout"}:
        assert getattr(question, name) == row[name], name
    assert json.loads(question.action_params) == row["action_params"]
    assert (question.agent_name, question.matched_rule, question.timeout) == ("Al", "write_asks", 7)
    assert "ann" in question.action_params
    assert "hunter2" not in repr(question)
    with pytest.raises(AttributeError):
        question.decision_id = "another"


async def test_a_changed_policy_asks_another_question(bench: BENCH) -> None:
    """Under the same id, with the rule and risk of now."""
    rules = [
        {"name": "stricter", "match": {"type": "write_*"}, "risk_level": "critical", "approval": "approve"}
    ]

    def answer(question: Question) -> bool:
        if question.matched_rule == "write_asks":
            b.runtime.update_policy(Policy.from_dict({"version": "1", "rules": rules}))
        return True

    b = approved(bench, answer)
    assert (await b.runtime.run_one(Action("write_x"))).ok
    first, second = b.approver.questions  # type: ignore[attr-defined]
    assert first.decision_id == second.decision_id
    assert (first.risk_level, second.risk_level) == ("HIGH", "CRITICAL")
    assert (second.matched_rule, second.policy_digest) == ("stricter", b.runtime.policy.digest)


async def test_outside_of_a_question_there_is_none(bench: BENCH) -> None:
    """Not for who asked, and not for a hook that hears the answer."""
    heard: list[Any] = []

    def hook(decision: PolicyDecision, approved: bool) -> None:
        with pytest.raises(LookupError, match="no question is being asked"):
            current_question()
        heard.append(approved)

    b = approved(bench, lambda _: True, hooks=RuntimeHooks(on_approval=hook))
    await b.runtime.run_one(Action("write_x"))
    assert heard == [True]
    with pytest.raises(LookupError, match="inside `request_approval`"):
        current_question()


async def test_the_answer_is_in_the_resolved_line(bench: BENCH) -> None:
    """So that it is on disk before the body runs."""
    seen: list[Any] = []

    class Looks(BaseExecutor):
        async def execute(self, action: Action) -> Result:
            seen.extend(AuditLogger(b.audit).get_log())
            return Result(action=action, status=ResultStatus.SUCCESS)

    b = bench(approver=Asked(lambda _: ApprovalAnswer(True, "ann", "ok")), executor=Looks())
    await b.runtime.run_one(Action("write_x"))
    assert [(row["approver"], row["approval_reason"], row["result_status"]) for row in seen] == [
        ("ann", "ok", "open")
    ]
