"""`instrument(approvals="inbox")`: a run that waits for an answer in the inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from aegis_otel import Policy, Runtime
from aegis_otel.adapters.openai_agents.instrument import instrument
from aegis_otel.errors import AnswerRefused, ConfigError
from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus
from aegis_otel.runtime.approval import DenyApprovalHandler, InboxApprovalHandler
from aegis_otel.runtime.approval.answer_signature import load_answer_signer
from tests.runtime.approval.test_answer_signature import make_pair
from tests.runtime.approval.test_inbox import Desk, policy
from tests.support.inbox import an_answer, shared_question

RULES = Policy.from_dict(policy())


@pytest.fixture
def uninstalled() -> Iterator[list[Any]]:
    made: list[Any] = []
    yield made
    for each in made:
        each.shutdown()


@pytest.mark.parametrize("by", ["argument", "variable", "runtime"])
async def test_a_tool_runs_by_a_yes_in_the_inbox(
    by: str, uninstalled: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, ran = tmp_path / "audit", []
    monkeypatch.setenv("AEGIS_AUDIT_DIR", str(audit))
    if by == "variable":
        monkeypatch.setenv("AEGIS_APPROVALS", "inbox")
        uninstalled.append(instrument(RULES))
    elif by == "argument":
        uninstalled.append(instrument(RULES, approvals="inbox"))
    else:
        runtime = Runtime(policy=RULES, approval_handler=InboxApprovalHandler())
        uninstalled.append(instrument(runtime=runtime, approvals="inbox"))

    @function_tool
    def pay(amount: int) -> str:
        ran.append(amount)
        return "paid"

    model = ScriptedModel([[function_call("pay", {"amount": 5}, call_id="c1")], [assistant_message("done")]])
    run = asyncio.ensure_future(Runner.run(Agent(name="Clerk", model=model, tools=[pay]), "go"))
    desk = Desk(audit)
    desk.say(await desk.question())
    assert (await run).final_output == "done"
    assert ran == [5]
    (row,) = uninstalled[0].runtime.audit.get_log()
    assert (row["outcome"], row["approver"]) == ("approved", "bob")


@pytest.mark.parametrize("how", ["inbox", "sdk", "runtime"])
def test_a_key_that_is_added_later_counts_for_nothing(
    how: str, uninstalled: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The named file is read at the start, before a tool can write to it."""
    monkeypatch.setenv("AEGIS_AUDIT_DIR", str(tmp_path / "audit"))
    (private, public), (strange, others) = make_pair(tmp_path), make_pair(tmp_path, "other")
    monkeypatch.setenv("AEGIS_ANSWER_PUBLIC_KEY", public.name)
    monkeypatch.chdir(tmp_path)
    if how == "runtime":
        runtime = Runtime(policy=RULES, approval_handler=InboxApprovalHandler())
    else:
        uninstalled.append(instrument(RULES, approvals=how))
        runtime = uninstalled[0].runtime
    public.write_bytes(public.read_bytes() + others.read_bytes())
    shared = runtime.governor.shared_questions
    assert shared is not None
    state = QuestionState(shared_question(), "digest", QuestionStatus.WAITING, (), 1, 5)
    answer = an_answer(state)
    good, bad = (load_answer_signer(tmp_path / "audit", str(key)) for key in (private, strange))
    assert shared.check(good.sign(answer)) == answer
    with pytest.raises(AnswerRefused):
        shared.check(bad.sign(answer))


def test_another_handler_asks_elsewhere() -> None:
    with pytest.raises(ConfigError, match="`approvals` is `inbox`, and the approval handler asks elsewhere"):
        instrument(RULES, approvals="inbox", approval_handler=DenyApprovalHandler())
    with pytest.raises(ConfigError, match="`approvals` is `inbox`, and the approval handler asks elsewhere"):
        instrument(runtime=Runtime(policy=RULES), approvals="inbox")
