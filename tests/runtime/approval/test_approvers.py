"""A rule says who may answer and until when: what each channel's answers come to, and what the row says."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from aegis_otel import Action, Policy, Result, ResultStatus
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.audit.verify.verify import verify
from aegis_otel.governance.approvals.entitlement import GivenAnswer, judge
from aegis_otel.model import Approvers, PolicyDecision, Subject
from aegis_otel.runtime.approval import (
    ApprovalAnswer,
    ApprovalHandler,
    AutoApprovalHandler,
    CallbackApprovalHandler,
    CLIApprovalHandler,
    current_question,
)
from tests.support.kit import Bench

BENCH = Callable[..., Bench]
UNOBTAINABLE = "Approval could not be obtained"
ANN, BOB, CARL = "ann@ops", "bob@ops", "carl@ops"


class Executor(BaseExecutor):
    def __init__(self) -> None:
        self.ran: list[Any] = []

    async def execute(self, action: Action) -> Result:
        self.ran.append(action.params.get("n"))
        return Result(action=action, status=ResultStatus.SUCCESS)


class Desk(ApprovalHandler):
    """Answers what it was made with, and counts how often it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def request_approval(self, decision: PolicyDecision) -> Any:
        self.asked += 1
        answer = self.answers.pop(0)
        return await answer() if callable(answer) else answer


def policy(approvers: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "name": "pay",
        "match": {"type": "pay"},
        "approval": "approve",
        "risk_level": "high",
    }
    rule |= keys if approvers is None else {"approvers": approvers, **keys}
    return {"version": "1", "defaults": {"approval": "auto", "risk_level": "low"}, "rules": [rule]}


def pay(user: str | None = CARL, **params: Any) -> Action:
    return Action("pay", params=params, subject=None if user is None else Subject(user))


def yes(name: str | None, *roles: str, reason: str | None = None) -> ApprovalAnswer:
    return ApprovalAnswer(True, name, reason, roles)


def no(name: str | None, *roles: str) -> ApprovalAnswer:
    return ApprovalAnswer(False, name, None, roles)


async def end(
    bench: BENCH, rule: dict[str, Any], handler: ApprovalHandler, action: Action | None = None
) -> Any:
    """Return the bench after one call."""
    b = bench(policy=rule, approver=handler, executor=Executor())
    await b.runtime.run_one(action or pay())
    return b


OPS = {"users": ["*@ops"]}
FINANCE = {"roles": ["finance"]}


@pytest.mark.parametrize(
    ("approvers", "answer", "ends"),
    [
        (OPS, yes(ANN), "approved by ann@ops"),
        (OPS, no(ANN), "denied by ann@ops"),
        (FINANCE, yes("dan", "finance"), "approved by dan"),
        (FINANCE, yes("dan"), "dan does not count: they are none of the rule's approvers"),
        (FINANCE, no("dan"), "dan does not count: they are none of the rule's approvers"),
        (OPS, yes(CARL), "carl@ops does not count: it is by the user that the agent acts for"),
        (OPS | {"self": True}, yes(CARL), "approved by carl@ops"),
        (OPS, True, "an answer without a name does not count: nobody knows who gave it"),
        (OPS, yes(None), "an answer without a name does not count: nobody knows who gave it"),
        (OPS, [yes("mallory"), yes(ANN)], "approved by ann@ops"),
        (OPS | {"count": 2}, yes(ANN), "1 more person has to say yes"),
        (OPS | {"count": 2}, [yes(ANN), yes(ANN)], "ann@ops does not count: they have answered already"),
        (OPS | {"count": 2}, [yes(ANN), yes(CARL)], "1 more person has to say yes"),
        (OPS | {"count": 2}, [yes(ANN), yes(BOB)], "approved by ann@ops, bob@ops"),
        (OPS | {"count": 2}, (yes(ANN), yes(BOB), no("mallory")), "approved by ann@ops, bob@ops"),
        (OPS | {"count": 2}, [yes(ANN), no(BOB)], "denied by bob@ops"),
        (OPS | {"count": 3}, [yes(ANN)], "2 more persons have to say yes"),
        (OPS, [], "the handler answered `list`, not True or False"),
        (OPS, [True], "the handler answered `list`, not True or False"),
        (OPS, [yes(ANN), True], "the handler answered `list`, not True or False"),
        (None, [yes("anybody"), yes("else")], "approved by anybody, else"),
        (None, [yes("anybody"), no("else")], "denied by else"),
    ],
)
async def test_what_answers_come_to(
    approvers: dict[str, Any] | None, answer: Any, ends: str, bench: BENCH
) -> None:
    b = await end(bench, policy(approvers), Desk(answer))
    row = b.row()
    if ends.startswith(("approved", "denied")):
        assert f"{row['human_decision']} by {row['approver']}" == ends
        assert row["outcome"] == ends.partition(" ")[0]
    else:
        assert ends in row["result_error"]
        assert row["result_error"].startswith(f"{UNOBTAINABLE}: ")
        assert (row["outcome"], row["human_decision"], row["approver"]) == ("denied", None, None)
    assert bool(b.runtime.executor.ran) is ends.startswith("approved")
    assert verify(b.audit).findings == []


async def test_all_reasons_are_in_the_row(bench: BENCH) -> None:
    answers = [yes(ANN, reason="seen"), yes(BOB, reason="paid before"), yes("mallory", reason="please")]
    b = await end(bench, policy(OPS | {"count": 2}), Desk(answers))
    assert b.row()["approval_reason"] == "seen; paid before"


@pytest.mark.parametrize(
    ("approvers", "handler", "user", "why"),
    [
        (
            OPS,
            AutoApprovalHandler(),
            CARL,
            "`auto` asks one person; 1 more person has to say yes; an answer",
        ),
        (OPS | {"self": True}, AutoApprovalHandler(), CARL, "nobody knows who gave it"),
        (OPS | {"count": 2}, CLIApprovalHandler(), CARL, "`cli` asks one person; "),
        (OPS, Desk(), None, "it is not known which user the agent acts for"),
        (OPS, CLIApprovalHandler(), None, "it is not known which user the agent acts for"),
    ],
)
async def test_nobody_is_asked_in_vain(
    approvers: dict[str, Any], handler: ApprovalHandler, user: str | None, why: str, bench: BENCH
) -> None:
    """A handler that is asked would raise: it has no answer, and no terminal."""
    b = await end(bench, policy(approvers), handler, pay(user))
    row = b.row()
    assert why in row["result_error"]
    assert row["reason"] == "approval_error"
    assert row["human_decision"] is None


async def test_the_person_at_the_terminal_may_be_one_of_them(bench: BENCH) -> None:
    screen = io.StringIO()
    handler = CLIApprovalHandler(stdin=io.StringIO("y\n"), stdout=screen)
    handler.approver = ANN
    b = await end(bench, policy(OPS), handler)
    assert (b.row()["outcome"], b.row()["approver"]) == ("approved", ANN)
    assert "  Who:     `*@ops`, not the user that the agent acts for\n" in screen.getvalue()
    handler = CLIApprovalHandler(stdin=io.StringIO("y\n"), stdout=(screen := io.StringIO()))
    handler.approver = "mallory"
    b = bench(policy=policy(OPS), approver=handler, executor=Executor())
    result = await b.runtime.run_one(pay())
    assert (result.status.value, screen.getvalue()) == ("denied", "")


async def test_the_question_says_who_may_answer(bench: BENCH) -> None:
    seen: list[Any] = []

    def ask(_: PolicyDecision) -> ApprovalAnswer:
        seen.append(current_question())
        return yes("dan", "finance")

    b = await end(bench, policy(FINANCE | OPS, expires="2s"), CallbackApprovalHandler(ask))
    (question,) = seen
    assert json.loads(question.approval_terms) == {
        "users": ["*@ops"],
        "roles": ["finance"],
        "count": 1,
        "self": False,
        "expires_s": 2.0,
    }
    assert question.timeout == 2.0
    assert b.row()["approval_terms"] == question.approval_terms


@pytest.mark.parametrize(("expires", "late"), [("1s", True), ("1h", False)])
async def test_expires_stands_for_the_approval_timeout(expires: str, late: bool, bench: BENCH) -> None:
    async def slow() -> ApprovalAnswer:
        await asyncio.sleep(1.5)
        return yes(ANN)

    b = bench(policy=policy(OPS, expires=expires), approver=Desk(slow), executor=Executor(), timeout=1.2)
    await b.runtime.run_one(pay())
    row = b.row()
    assert row["outcome"] == ("expired" if late else "approved")
    assert row["approval_wait_s"] >= (1.0 if late else 1.5)


async def test_who_need_not_be_asked_is_not_in_the_row(bench: BENCH) -> None:
    b = await end(bench, policy(OPS, approval="auto"), Desk())
    assert (b.row()["outcome"], b.row()["approval_terms"]) == ("allowed", None)
    b = bench(policy=policy(OPS, mode="monitor"), approver=Desk(), executor=Executor())
    assert (await b.runtime.run_one(pay())).ok


async def test_a_changed_policy_asks_the_persons_that_it_names(bench: BENCH) -> None:
    """The yes of one who might answer before is none any more."""
    b: Bench

    async def reload() -> ApprovalAnswer:
        b.runtime.governor.policy = Policy.from_dict(policy(FINANCE))
        return yes(ANN)

    desk = Desk(reload, yes("dan", "finance"))
    b = bench(policy=policy(OPS), approver=desk, executor=Executor())
    assert (await b.runtime.run_one(pay())).ok
    assert (desk.asked, b.row()["approver"]) == (2, "dan")
    assert json.loads(b.row()["approval_terms"])["roles"] == ["finance"]
    assert verify(b.audit).findings == []


async def test_a_changed_policy_that_names_nobody_takes_the_yes(bench: BENCH) -> None:
    b: Bench

    async def reload() -> ApprovalAnswer:
        b.runtime.governor.policy = Policy.from_dict(policy())
        return yes(ANN)

    desk = Desk(reload)
    b = bench(policy=policy(OPS), approver=desk, executor=Executor())
    assert (await b.runtime.run_one(pay())).ok
    assert (desk.asked, b.row()["approval_terms"]) == (1, "")
    assert verify(b.audit).findings == []


async def test_random_schedules_let_nothing_through_that_may_not_run(bench: BENCH) -> None:
    """300 of the schedules whose judgement tests/governance/approvals holds against a model."""
    chance = random.Random(7)
    people = {ANN: (), BOB: ("finance",), CARL: ("finance",), "mallory": (), "dan": ("finance",)}
    rule = {"users": [ANN], "roles": ["finance"], "count": 2}
    executor, schedules = Executor(), []
    desk = Desk()
    b = bench(policy=policy(rule), approver=desk, executor=executor)
    for number in range(300):
        names = chance.choices([*people], k=chance.randint(1, 5))
        answers = [ApprovalAnswer(chance.random() < 0.9, name, None, people[name]) for name in names]
        desk.answers, requester = [answers], chance.choice([CARL, BOB, "eve"])
        await b.runtime.run_one(pay(requester, n=number))
        schedules.append((answers, requester))

    def may_run(answers: Iterable[ApprovalAnswer], requester: str) -> bool:
        given = [GivenAnswer(each.approved, each.approver, each.roles) for each in answers]
        may = [each for each in given if each.approver not in (requester, "mallory")]
        said_no = not all(each.approved for each in may)
        persons = {each.approver for each in may}
        judged = judge(Approvers((ANN,), ("finance",), 2), given, requester).outcome == "yes"
        assert judged is (not said_no and len(persons) >= 2)
        return judged

    expected = [number for number, schedule in enumerate(schedules) if may_run(*schedule)]
    assert executor.ran == expected
    assert 30 < len(expected) < 270
