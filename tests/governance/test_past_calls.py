"""Calls that are decided by what went before them: limits, sequences, and never twice; all in real SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, Policy, RuntimeHooks, semconv
from aegis_otel.audit.record import RecordStatus
from aegis_otel.governance import refusal
from aegis_otel.governance.body import BodyFailed
from aegis_otel.governance.call import Call, Ending, Origin
from aegis_otel.governance.governor import Governor
from aegis_otel.model import Approval, Outcome, PolicyDecision
from aegis_otel.runtime.system import RealSystem
from tests.support.kit import Bench, ScriptedApprover, make_bench

FILE = "state.sqlite3"
HEAD = 'version: "1"\ndefaults: {approval: auto}\nrules:\n'
TWO_CHARGES = Policy.from_text(
    HEAD
    + """
- {name: two, match: {type: charge}, conditions: {calls_over: {limit: 2, within: 1h}}, approval: block}
"""
)
OTHER = Policy.from_text(HEAD + "- {match: {type: x}, approval: block}\n")
ASKED_LIMIT = Policy.from_text(
    HEAD
    + """
- {name: two, match: {type: charge}, conditions: {calls_over: {limit: 1, within: 1h}}, approval: block}
- {name: ask, match: {type: charge}, approval: approve}
"""
)
ONCE_TEXT = (
    HEAD
    + """
- name: once
  match: {type: charge}
  conditions: {repeats: {by: [order], within: 7d}}
  approval: approve
"""
)
ONCE = Policy.from_text(ONCE_TEXT)
NO_MAIL_AFTER = Policy.from_text(
    HEAD
    + """
- name: no_leak
  match: {type: send_email}
  conditions: {after: {type: read_secret*, within: conversation}}
  approval: block
"""
)
ENFORCED = """
- {name: later, match: {type: send_email}, conditions: {after: {type: charge, within: 1h}}, approval: block}
"""
VERIFIED_FIRST = Policy.from_text(
    HEAD
    + """
- name: verified
  match: {type: refund}
  conditions: {not: {after: {type: verify, result: success, within: run}}}
  approval: block
"""
)


async def run(bench: Bench, action: Action, origin: Origin | None = None, body: Any = None) -> Call:
    """Take an action through the governor, and run its body where it may run."""

    async def nothing() -> None:
        return None

    governor = bench.runtime.governor
    call = await governor.authorize(action, origin or Origin(tool_name=action.type, run_id="run"))
    if call.refusal is None:
        with suppress(RuntimeError, BodyFailed):
            await governor.run(call, body or nothing)
    return call


async def outcomes(bench: Bench, actions: Sequence[Action]) -> list[Outcome | None]:
    return [(await run(bench, action)).outcome for action in actions]


def marks(audit: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(audit / FILE) as connection:
        rows = connection.execute("SELECT succeeded FROM mark ORDER BY marked_at").fetchall()
    connection.close()
    return rows


async def fail() -> None:
    raise RuntimeError("no")


async def test_a_limit_holds_and_is_found_again_by_another_program(tmp_path: Path) -> None:
    charge = [Action("charge")] * 2
    first = make_bench(tmp_path, policy=TWO_CHARGES)
    assert await outcomes(first, charge) == [Outcome.ALLOWED, Outcome.ALLOWED]
    second = make_bench(tmp_path, policy=TWO_CHARGES)
    assert await outcomes(second, charge) == [Outcome.BLOCKED, Outcome.BLOCKED]
    assert second.rows()[-1]["matched_rule"] == "two"
    assert marks(tmp_path) == [(1,), (1,)]


async def test_many_at_once_are_counted_one_by_one(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=TWO_CHARGES)
    calls = await asyncio.gather(*(run(bench, Action("charge")) for _ in range(20)))
    assert sum(call.refusal is None for call in calls) == 2


async def test_a_policy_that_asks_nothing_keeps_nothing(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=Policy.from_text(HEAD + "- {match: {type: x}, approval: block}\n"))
    await run(bench, Action("charge"))
    assert not list(tmp_path.glob("state*"))
    bench = make_bench(tmp_path, policy=TWO_CHARGES)
    await run(bench, Action("search"))  # a type that no rule asks about
    assert not list(tmp_path.glob("state*"))


async def test_a_call_that_a_human_denies_does_not_count(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, False, True, True, policy=ASKED_LIMIT)
    assert await outcomes(bench, [Action("charge")] * 3) == [
        Outcome.DENIED,
        Outcome.APPROVED,
        Outcome.BLOCKED,
    ]
    assert marks(tmp_path) == [(1,)]


async def test_of_two_that_wait_for_a_human_under_a_limit_of_one_one_runs(tmp_path: Path) -> None:
    """The limit is asked about again, with the mark, when the yes has come."""
    approver = ScriptedApprover(True, True)
    bench = make_bench(tmp_path, policy=ASKED_LIMIT, approver=approver)
    calls = await asyncio.gather(run(bench, Action("charge")), run(bench, Action("charge")))
    assert sorted(str(call.outcome) for call in calls) == ["approved", "blocked"]
    assert len(marks(tmp_path)) == 1


async def test_the_same_order_is_charged_once(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, False, policy=ONCE)
    order, other = Action("charge", params={"order": "A-1"}), Action("charge", params={"order": "A-2"})
    assert await outcomes(bench, [order, other, order]) == [
        Outcome.ALLOWED,
        Outcome.ALLOWED,
        Outcome.DENIED,
    ]


async def test_a_charge_that_failed_or_was_cancelled_may_have_taken_effect(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, False, False, policy=ONCE)
    failed, cut = Action("charge", params={"order": "F"}), Action("charge", params={"order": "C"})
    await run(bench, failed, body=fail)
    task = asyncio.create_task(run(bench, cut, body=lambda: asyncio.sleep(60)))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert marks(tmp_path) == [(0,), (None,)]
    assert await outcomes(bench, [failed, cut]) == [Outcome.DENIED, Outcome.DENIED]


async def test_a_call_that_never_starts_gives_its_mark_back(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=ONCE)
    action, governor = Action("charge", params={"order": "A"}), bench.runtime.governor
    call = await governor.authorize(action, Origin())
    assert marks(tmp_path) == [(None,)]
    governor.abandon(call, RecordStatus.SKIPPED, "another guardrail", never_ran=True)
    assert call.settling is not None
    await asyncio.wrap_future(call.settling)
    assert marks(tmp_path) == []
    assert await outcomes(bench, [action]) == [Outcome.ALLOWED]


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("Cancelled before it started", "Cancelled before it started"),
        ("Not started: no", "`Not started: no`"),
    ],
)
async def test_a_body_that_says_it_never_began_has_run_all_the_same(
    tmp_path: Path, text: str, recorded: str
) -> None:
    """The text of an error is the tool's own: a server, or what it was asked for, may have chosen it."""

    async def paid() -> None:
        raise BodyFailed(text)

    bench = make_bench(tmp_path, False, policy=ONCE)
    action = Action("charge", params={"order": "A"})
    await run(bench, action, body=paid)
    assert bench.row()["result_error"] == recorded
    assert marks(tmp_path) == [(0,)]
    assert await outcomes(bench, [action]) == [Outcome.DENIED]


async def begun_and_paused(bench: Bench) -> Call:
    """Run the first part of a body, which a human is asked about; return the call that goes on with it."""
    action, origin = Action("charge", params={"order": "A"}), Origin("charge", "c1", run_id="run")
    governor = bench.runtime.governor

    async def first_part() -> str:
        return "a human is asked"

    await governor.run(await governor.authorize(action, origin), first_part, paused=lambda _: True)
    return await governor.authorize(action, origin, resumed=True, inside=True)


async def test_the_row_of_a_body_that_had_begun_does_not_say_that_it_never_did(tmp_path: Path) -> None:
    """Its input is refused when it goes on, as by a validator that reads the clock."""
    bench = make_bench(tmp_path, policy=ONCE)
    call = await begun_and_paused(bench)

    async def second_part() -> None:
        raise ValueError("too late")

    with pytest.raises(ValueError, match="too late"):
        await bench.runtime.governor.run(call, second_part, ending=Ending(whole=False, tells_begin=True))
    assert bench.row()["result_error"] == "ValueError: too late"
    assert marks(tmp_path) == [(0,)]


async def test_the_name_of_an_exception_does_not_say_that_a_body_never_began(tmp_path: Path) -> None:
    """Libraries for remote calls make classes of the names that servers send."""
    bench = make_bench(tmp_path, policy=ONCE)
    error = type("Not started", (Exception,), {})("no")

    async def body() -> None:
        raise error

    with pytest.raises(type(error)):
        await run(bench, Action("charge", params={"order": "A"}), body=body)
    assert bench.row()["result_error"] == "`Not started: no`"
    assert marks(tmp_path) == [(0,)]


async def test_a_body_that_has_begun_and_does_not_go_on_has_left_its_mark(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=ONCE)
    call = await begun_and_paused(bench)
    bench.runtime.governor.refuse(call, refusal.UNAVAILABLE)
    await bench.runtime.governor.executed(call, None, None)
    assert marks(tmp_path) == [(None,)]


async def test_a_body_that_has_begun_and_is_cancelled_when_it_is_resumed_has_left_its_mark(
    tmp_path: Path,
) -> None:
    is_resumed, decided = asyncio.Event(), 0

    async def wait_the_second_time(_: PolicyDecision) -> None:
        nonlocal decided
        decided += 1
        if decided == 2:
            is_resumed.set()
            await asyncio.Event().wait()

    bench = make_bench(tmp_path, policy=ONCE, hooks=RuntimeHooks(on_decision=wait_the_second_time))
    task = asyncio.create_task(begun_and_paused(bench))
    await is_resumed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    row = bench.row()
    assert (row["result_status"], row["result_error"]) == ("cancelled", "Cancelled before it went on")
    await run(bench, Action("charge", params={"order": "B"}))  # settled after what the first one left to do
    assert marks(tmp_path) == [(None,), (1,)]


async def test_nothing_is_sent_after_a_secret_was_read_in_the_conversation(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=NO_MAIL_AFTER)

    async def sent(conversation: str) -> Outcome | None:
        origin = Origin(tool_name="send_email", conversation_id=conversation)
        return (await run(bench, Action("send_email"), origin)).outcome

    assert await sent("one") is Outcome.ALLOWED
    await run(bench, Action("read_secret_key"), Origin(tool_name="read_secret_key", conversation_id="one"))
    assert (await sent("one"), await sent("two")) == (Outcome.BLOCKED, Outcome.ALLOWED)
    unknown = await run(bench, Action("send_email"), Origin(tool_name="send_email"))
    assert unknown.outcome is Outcome.BLOCKED
    assert unknown.decision.errors, "the conversation is not known"


async def test_nothing_is_sent_while_a_secret_is_being_read(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=NO_MAIL_AFTER)
    there = {"conversation_id": "one"}
    found: list[Outcome | None] = []

    async def body() -> None:
        mail = await run(bench, Action("send_email"), Origin(tool_name="send_email", **there))
        found.append(mail.outcome)

    await run(bench, Action("read_secret_key"), Origin(tool_name="read_secret_key", **there), body)
    assert found == [Outcome.BLOCKED]


async def test_what_has_to_come_first_has_to_have_succeeded(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=VERIFIED_FIRST)
    refund, verify = Action("refund"), Action("verify")
    assert await outcomes(bench, [refund]) == [Outcome.BLOCKED]
    await run(bench, verify, body=fail)
    assert await outcomes(bench, [refund]) == [Outcome.BLOCKED]
    await run(bench, verify)
    assert await outcomes(bench, [refund]) == [Outcome.ALLOWED]
    other_run = Origin(tool_name="refund", run_id="other")
    assert (await run(bench, refund, other_run)).outcome is Outcome.BLOCKED


async def test_without_its_state_nothing_runs_that_needs_it_and_everything_else_does(tmp_path: Path) -> None:
    """Also what only leaves a mark: after it, a mail would be let through that may not be sent."""
    bench = make_bench(tmp_path, policy=NO_MAIL_AFTER)
    await run(bench, Action("search"))  # the audit is made
    (tmp_path / FILE).write_bytes(b"no database, but long enough to be one" * 100)
    origin = Origin(conversation_id="one")
    mail = await run(bench, Action("send_email"), origin)
    secret = await run(bench, Action("read_secret"), origin)
    search = await run(bench, Action("search"), origin)
    assert (mail.outcome, secret.outcome, search.outcome) == (
        Outcome.BLOCKED,
        Outcome.ERROR,
        Outcome.ALLOWED,
    )
    assert secret.refusal is not None
    assert "cannot be reached" in secret.refusal
    assert secret.record.reason == "state_unavailable"
    assert bench.runtime.recorder._counts.read("aegis.state.errors") == {(): 2}
    (tmp_path / FILE).unlink()
    assert (await run(bench, Action("read_secret"), origin)).outcome is Outcome.ALLOWED


async def test_how_much_of_a_limit_is_used_is_measured(tmp_path: Path) -> None:
    """By rule, with the call at hand: 1 of 2, 2 of 2, and a third that is blocked."""
    bench = make_bench(tmp_path, policy=TWO_CHARGES)
    await outcomes(bench, [Action("charge")] * 3 + [Action("search")])
    (point,) = bench.telemetry.data_points("aegis.limit.usage")
    assert point.attributes == {semconv.POLICY_RULE_NAME: "two"}
    assert (point.count, point.sum) == (3, 0.5 + 1.0 + 1.5)


async def test_in_monitor_mode_all_runs_and_is_counted(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=TWO_CHARGES, mode="monitor")
    calls = [await run(bench, Action("charge")) for _ in range(4)]
    assert [call.outcome for call in calls] == [Outcome.ALLOWED] * 2 + [Outcome.BLOCKED] * 2
    assert [call.refusal for call in calls] == [None] * 4
    assert len(marks(tmp_path)) == 4


async def test_a_candidate_reads_what_is_counted_and_counts_nothing(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=TWO_CHARGES)
    bench.runtime.update_candidate(
        Policy.from_text(
            HEAD + "- {name: two, match: {type: charge}, conditions: {calls_over: {limit: 1, within: 2h}}, "
            "approval: block}\n"
        )
    )
    records = [(await run(bench, Action("charge"))).record for _ in range(2)]
    assert [each.candidate_approval for each in records] == ["auto", "block"]
    assert len(marks(tmp_path)) == 2
    bench.runtime.update_candidate(
        Policy.from_text(
            HEAD + "- {name: other, match: {type: charge}, conditions: {calls_over: {limit: 9, within: 2h}}, "
            "approval: block}\n"
        )
    )
    record = (await run(bench, Action("charge"))).record
    assert record.candidate_approval == "block", "nothing is known of a count that nobody keeps"


async def test_a_plan_does_not_look_back_and_a_dry_run_does(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, policy=TWO_CHARGES)
    (planned,) = bench.runtime.plan([Action("charge")])
    assert planned.approval is Approval.BLOCK
    assert planned.errors
    (dry,) = await bench.runtime.dry_run([Action("charge")])
    assert dry.status.value == "would_run"
    await outcomes(bench, [Action("charge")] * 2)
    (dry,) = await bench.runtime.dry_run([Action("charge")])
    assert dry.status.value == "would_block"


async def test_the_tokens_of_a_run_are_counted_once(tmp_path: Path) -> None:
    policy = Policy.from_text(
        HEAD + "- {name: tokens, match: {type: '*'}, conditions: {tokens_over: {limit: 100, within: run}}, "
        "approval: block}\n"
    )
    bench = make_bench(tmp_path, policy=policy)

    async def at(tokens: int | None, run_id: str = "run") -> Outcome | None:
        origin = Origin(tool_name="search", run_id=run_id, tokens=tokens)
        return (await run(bench, Action("search"), origin)).outcome

    assert [await at(60), await at(90), await at(100), await at(101)] == [Outcome.ALLOWED] * 3 + [
        Outcome.BLOCKED
    ]
    assert await at(50, "other") is Outcome.ALLOWED
    assert await at(None, "third") is Outcome.BLOCKED


class ReplacingPolicy(RealSystem):
    """A system that replaces the policy while a call is being decided, as a reload in another thread may."""

    def __init__(self, governor: Governor, policy: Policy) -> None:
        super().__init__()
        self.governor, self.policy = governor, policy

    def new_id(self) -> str:  # type: ignore[override]
        self.governor.policy = self.policy
        return RealSystem.new_id()


@pytest.mark.parametrize("policies", [(OTHER, TWO_CHARGES), (TWO_CHARGES, OTHER)])
async def test_a_call_is_decided_by_one_policy_that_a_reload_may_replace_meanwhile(
    tmp_path: Path, policies: tuple[Policy, Policy]
) -> None:
    """Else a limit that has just come would be passed, without a mark and on the event loop."""
    bench = make_bench(tmp_path, policy=policies[0])
    governor = bench.runtime.governor
    governor.system = ReplacingPolicy(governor, policies[1])
    call = await run(bench, Action("charge"))
    assert call.outcome is Outcome.ALLOWED
    assert call.record.policy_digest == policies[0].digest
    assert (tmp_path / FILE).exists() is policies[0].has_history
    call = await run(bench, Action("charge"))
    assert call.record.policy_digest == policies[1].digest


async def test_what_does_not_run_is_recorded_without_a_look_at_the_state(tmp_path: Path) -> None:
    """On the event loop, where a state that others have locked would hold up everything."""
    bench = make_bench(tmp_path, policy=TWO_CHARGES)
    governor, origin = bench.runtime.governor, Origin(tool_name="charge", tool_call_id="c", run_id="run")
    await outcomes(bench, [Action("charge")])
    connection = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    governor.skip(Action("charge"), "an earlier one failed")
    governor.paused_calls.record_rejection(Action("charge"), origin, "{}", None)
    took = time.monotonic() - begun
    connection.close()
    assert took < 1.0
    assert [row["result_status"] for row in bench.rows()] == ["success", "skipped", "denied"]
    assert len(marks(tmp_path)) == 1


async def test_a_monitored_rule_stops_nothing_where_the_state_is_out_of_reach(tmp_path: Path) -> None:
    """The call is not counted then; a rule beside it that is enforced needs its mark all the same."""
    trial = "{name: trial, match: {type: charge}, mode: monitor, conditions: {LIMIT}, approval: block}"
    limit = "calls_over: {limit: 2, within: 1h}"
    policy = Policy.from_text(f"{HEAD}- {trial.replace('LIMIT', limit)}\n")
    bench = make_bench(tmp_path, policy=policy)
    assert (await run(bench, Action("charge"))).refusal is None
    assert marks(tmp_path) == [(1,)]
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    call = await run(bench, Action("charge"))
    assert (call.refusal, call.status) == (None, RecordStatus.SUCCESS)
    bench.runtime.update_policy(Policy.from_text(f"{HEAD}- {trial.replace('LIMIT', limit)}\n{ENFORCED}\n"))
    assert (await run(bench, Action("charge"))).outcome is Outcome.ERROR
    other.execute("ROLLBACK")
    other.close()
    assert marks(tmp_path) == [(1,)]
