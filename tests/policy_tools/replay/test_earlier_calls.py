"""Replays of calls that a policy decides by what went before them, against a scan of what the audit has."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aegis_otel import Action, Policy
from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.query.filters import compile_filters
from aegis_otel.audit.record import NOT_BEGUN, NOT_STARTED, AuditRecord
from aegis_otel.governance.body import BodyFailed
from aegis_otel.governance.call import Origin
from aegis_otel.governance.recording import record_call, utc
from aegis_otel.model import Mode, Subject
from aegis_otel.policy_tools.replay import time_order
from aegis_otel.policy_tools.replay.replay import Replay, replay
from aegis_otel.runtime.audit import AuditLogger
from tests.support.kit import make_bench
from tests.support.recorded_calls import START_NS, FixedSystem

ALL = compile_filters(None, {})
OLD = Policy.from_text("rules: []\ndefaults: {approval: auto}\n")
TOO_LATE = "rules count calls from before the audit begins"


class Made(NamedTuple):
    """A call as it is recorded."""

    minute: float
    action: Action
    status: str = "success"
    wait: float = 0.0
    """Minutes for which a human was waited for."""
    takes: float = 0.0
    """Minutes."""
    conversation: str | None = "c1"
    run: str | None = "r1"
    error: str | None = None
    changes: tuple[tuple[str, Any], ...] = ()
    """Columns, and what they have instead."""

    @property
    def at(self) -> datetime:
        return utc(START_NS) + timedelta(minutes=self.minute)

    @property
    def begun(self) -> datetime:
        return self.at + timedelta(minutes=self.wait)

    @property
    def has_run(self) -> bool:
        if self.status == "failed":
            return not (self.error or "").startswith(NOT_STARTED)
        return self.status in ("success", "unknown") or (
            self.status == "cancelled" and self.error != NOT_BEGUN
        )

    def outcome(self, now: datetime) -> str:
        is_over = self.begun + timedelta(minutes=self.takes) <= now
        return self.status if is_over and self.status in ("success", "failed") else ""


ERRORS = {
    "cancelled": [NOT_BEGUN, "Cancelled while running"],
    "failed": [f"{NOT_STARTED}ModelBehaviorError: no", f"ValueError: {NOT_STARTED}", NOT_BEGUN],
}
"""What the rows of calls that did not succeed have as `result_error`."""
LONG_AGO = Made(-100 * 24 * 60, Action("other"), conversation=None, run=None)


def write(folder: Path, calls: Sequence[Made]) -> None:
    """Write the rows of calls, each by a rule of its own: the id of its decision."""
    logger, system = AuditLogger(folder), FixedSystem()
    for call in calls:
        ns = START_NS + round(call.minute * 60_000) * 1_000_000
        origin = Origin(tool_name="tool", conversation_id=call.conversation, run_id=call.run)
        decision = OLD.evaluate(call.action)
        record: AuditRecord
        record, *_ = record_call(decision, system, "session", ns, origin, mode=Mode.ENFORCE)
        record.matched_rule = record.decision_id
        record.result_status, record.result_error = call.status, call.error
        record.approval_wait_s = call.wait * 60 or None
        record.duration_s = call.takes * 60 if call.status in ("success", "failed") else None
        for name, value in call.changes:
            setattr(record, name, value)
        logger.append(record)
    logger.close()


def replayed(folder: Path, policy: Policy, calls: Sequence[Made], since: str | None = None) -> Replay:
    write(folder, calls)
    filters = ALL if since is None else compile_filters(None, {"since": since})
    return replay(policy, connect(folder), filters)


def said(found: Replay) -> dict[int, str]:
    """What would be decided, by the numbers of the calls."""
    return {int(each.rule[2:]): each.new_rule for each in found.differences}


def why(found: Replay) -> list[str]:
    return [each.reason for each in found.obstacles]


def blocking(conditions: dict[str, Any], **match: Any) -> Policy:
    rule = {"name": "r", "match": match or {"type": "pay"}, "conditions": conditions, "approval": "block"}
    return Policy.from_dict({"defaults": {"approval": "auto"}, "rules": [rule]})


def rule(name: str, types: Any, **conditions: Any) -> dict[str, Any]:
    return {"name": name, "match": {"type": types}, "conditions": conditions, "approval": "block"}


POLICY = Policy.from_dict(
    {
        "defaults": {"approval": "auto"},
        "rules": [
            rule("count", "pay", calls_over={"limit": 3, "within": "1h", "by": ["tenant", "user"]}),
            rule(
                "total",
                "pay",
                any=[{"total_over": {"param": "amount", "limit": 20, "within": "3h", "by": ["tenant"]}}],
            ),
            rule("twice", "pay", repeats={"by": ["order", "tenant"], "within": "2h"}, param_gt={"amount": 1}),
            rule("leak", "send", after={"type": "read_*", "result": "success", "within": "conversation"}),
            {
                "name": "watched",
                "match": {"type": "send"},
                "conditions": {"calls_over": {"limit": 2, "within": "conversation"}},
                "approval": "block",
                "mode": "monitor",
            },
            rule(
                "unverified",
                "close",
                **{"not": {"after": {"type": "verify", "within": "2h", "by": ["tenant", "customer"]}}},
            ),
        ],
    }
)


def history(pick: random.Random, tenant: str) -> list[Made]:
    """Calls of one tenant, which no other one's change anything of."""
    calls, minute = [], pick.uniform(0, 5_000)
    for _ in range(pick.randint(5, 25)):
        minute += pick.choice([0, 0.5, 5, 20, 70])
        type_ = pick.choice(["pay", "pay", "send", "read_file", "verify", "close", "other"])
        params = {"pay": {"amount": pick.randint(0, 9), "order": pick.randint(1, 4)}}.get(type_, {})
        if type_ in ("verify", "close") and pick.random() < 0.8:
            params = {"customer": pick.choice("AB")}
        subject = Subject(pick.choice(["ann", "bob"]), tenant)
        status = pick.choice(
            ["success"] * 11 + ["failed", "unknown", "blocked", "denied", "cancelled", "skipped"]
        )
        error = pick.choice(ERRORS[status]) if status in ERRORS else None
        calls.append(
            Made(
                minute,
                Action(type_, params=params, subject=subject, schema={"type": "object"}),
                status,
                pick.choice([0, 0, 0, 3, 30]),
                pick.choice([0, 0, 1, 25]),
                f"{tenant}-{pick.choice('xy')}",
                f"{tenant}-{pick.choice('rs')}",
                error,
            )
        )
    return calls


def scanned(call: Made, before: Sequence[Made]) -> str:
    """The rule that decides, found by a scan of all calls that ran before."""
    ran = [each for each in before if each.has_run and each.begun <= call.at]

    def since(minutes: float, types: str, *same: str) -> list[Made]:
        return [
            each
            for each in ran
            if each.action.type.startswith(types)
            and call.at - each.begun <= timedelta(minutes=minutes)
            and all(each.action.params.get(name) == call.action.params.get(name) for name in same)
        ]

    params, user = call.action.params, call.action.subject and call.action.subject.user
    match call.action.type:
        case "pay":
            own = [
                each for each in since(60, "pay") if each.action.subject and each.action.subject.user == user
            ]
            if len(own) + 1 > 3:
                return "count"
            if sum(each.action.params["amount"] for each in since(180, "pay")) + params["amount"] > 20:
                return "total"
            large = [each for each in since(120, "pay", "order") if each.action.params["amount"] > 1]
            return "twice" if large and params["amount"] > 1 else "<default>"
        case "send":
            read = [each for each in ran if each.action.type == "read_file"]
            read = [each for each in read if each.conversation == call.conversation]
            if any(each.outcome(call.at) != "failed" for each in read):  # it succeeded, or nobody knows
                return "leak"
            sent = [each for each in ran if each.action.type == "send"]
            sent = [each for each in sent if each.conversation == call.conversation]
            return "watched" if len(sent) + 1 > 2 else "<default>"
        case "close":
            if "customer" not in params:
                return "unverified"
            verified = since(120, "verify", "customer")
            return "<default>" if any(each.outcome(call.at) for each in verified) else "unverified"
    return "<default>"


@pytest.mark.parametrize("seed", range(5))
def test_replays_of_generated_histories_say_what_a_scan_says(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 histories, in five audits in which they are mixed; read at once, and in parts."""
    monkeypatch.setattr(time_order, "_ROWS_AT_ONCE", 200 if seed % 2 else 200_000)
    pick = random.Random(seed)
    histories = [history(pick, f"t{number}") for number in range(100)]
    calls = sorted((call for each in histories for call in each), key=lambda call: call.minute)
    found = replayed(tmp_path, POLICY, [LONG_AGO, *calls])
    before: dict[str, list[Made]] = {}
    expected = {1: "<default>"}
    for number, call in enumerate(calls, 2):
        assert call.action.subject
        own = before.setdefault(str(call.action.subject.tenant), [])
        expected[number] = scanned(call, own)
        own.append(call)
    assert not why(found)
    assert said(found) == expected
    assert {"count", "total", "twice", "leak", "watched", "unverified"} <= set(expected.values())


def pay(minute: float, order: object = 1, **more: Any) -> Made:
    return Made(minute, Action("pay", params={"order": order}, subject=Subject("ann", "acme")), **more)


LIMIT = {"calls_over": {"limit": 1, "within": "1h", "by": ["user"]}}
ONCE = {"repeats": {"by": ["order"], "within": "1h"}}


def test_what_ran_counts_whatever_the_policy_says_of_it(tmp_path: Path) -> None:
    """The second one would be blocked, and counts for the third; what was blocked then does not count."""
    calls = [LONG_AGO, pay(0), pay(10), pay(65), pay(200, status="blocked"), pay(210)]
    found = replayed(tmp_path, blocking(LIMIT), calls)
    assert [said(found)[number] for number in range(1, 7)] == [
        "<default>",
        "<default>",
        "r",
        "r",
        "<default>",
        "<default>",
    ]
    assert found.unreplayed == 0


def test_calls_before_the_first_are_read_and_not_decided(tmp_path: Path) -> None:
    calls = [LONG_AGO, pay(0), pay(10), pay(75)]
    since = (calls[2].at - timedelta(minutes=1)).isoformat()
    found = replayed(tmp_path, blocking(LIMIT), calls, since)
    assert found.calls == 2
    assert said(found) == {3: "r", 4: "<default>"}


def test_an_audit_that_begins_too_late_leaves_open_what_may_have_been_before(tmp_path: Path) -> None:
    """But for a limit that is passed without it."""
    found = replayed(tmp_path, blocking(LIMIT), [pay(0), pay(10), pay(61), pay(200)])
    assert said(found) == {2: "r", 3: "r", 4: "<default>"}
    assert why(found) == [TOO_LATE]


def test_a_conversation_of_the_first_day_may_have_begun_before_the_audit(tmp_path: Path) -> None:
    condition = {"after": {"type": "read", "within": "conversation"}}
    day = 24 * 60
    calls = [
        Made(0, Action("send"), conversation="c1"),
        Made(day + 1, Action("send"), conversation="c1"),
        Made(day + 2, Action("send"), conversation="c2"),
        Made(day + 3, Action("read"), conversation="c1"),
        Made(day + 4, Action("send"), conversation="c1"),
    ]
    found = replayed(tmp_path, blocking(condition, type="send"), calls)
    assert said(found) == {3: "<default>", 4: "<default>", 5: "r"}
    assert found.unreplayed == 2


SECRET = "password=hunter2hunter2"


def test_a_value_that_was_redacted_may_be_any(tmp_path: Path) -> None:
    """In the call itself, and in one before; until it is too old to count."""
    calls = [LONG_AGO, pay(0, SECRET), pay(10, 7), pay(20, 7), pay(80, 8)]
    found = replayed(tmp_path, blocking(ONCE), calls)
    assert said(found) == {1: "<default>", 4: "r", 5: "<default>"}
    assert sorted(why(found)) == [
        "rules count earlier calls by parameter `order`, of which something was redacted or cut",
        "rules count earlier calls, and of one the audit does not have what says whether or where it counts",
    ]


def test_a_value_that_was_redacted_is_of_the_same_user(tmp_path: Path) -> None:
    condition = {"repeats": {"by": ["order", "user"], "within": "1h"}}
    other = Made(10, Action("pay", params={"order": 7}, subject=Subject("bob", "acme")))
    found = replayed(tmp_path, blocking(condition), [LONG_AGO, pay(0, SECRET), other, pay(20, 7)])
    assert said(found) == {1: "<default>", 3: "<default>"}


def test_a_row_without_its_conversation_cannot_be_placed(tmp_path: Path) -> None:
    condition = {"calls_over": {"limit": 1, "within": "conversation"}}
    calls = [LONG_AGO, pay(0), pay(1, conversation=None), pay(2)]
    found = replayed(tmp_path, blocking(condition), calls)
    assert said(found) == {1: "<default>", 2: "<default>", 4: "r"}
    assert why(found) == ["rules count earlier calls by the conversation, which the row does not have"]
    found = replayed(tmp_path / "2", blocking(condition), [LONG_AGO, pay(1, conversation=None), pay(2)])
    assert found.unreplayed == 2


def test_the_audit_does_not_say_which_runs_are_parts_of_others(tmp_path: Path) -> None:
    """What one run has passed alone is decided."""
    condition = {"calls_over": {"limit": 1, "within": "run"}}
    found = replayed(
        tmp_path, blocking(condition), [LONG_AGO, pay(0), pay(1, run="r2"), pay(2), pay(3, run=None)]
    )
    assert said(found) == {1: "<default>", 4: "r"}
    assert sorted(why(found)) == [
        "rules count by the run, and the audit does not say which runs began inside of another one's tools",
        "rules count earlier calls by the run, which the row does not have",
    ]


def test_tokens_are_not_recorded(tmp_path: Path) -> None:
    condition = {"tokens_over": {"limit": 10, "within": "run"}}
    found = replayed(tmp_path, blocking(condition), [LONG_AGO, pay(0)])
    assert why(found) == ["rules count tokens, which the audit does not have"]
    either = {"any": [condition, ONCE]}
    found = replayed(tmp_path / "2", blocking(either), [LONG_AGO, pay(0), pay(1)])
    assert said(found) == {1: "<default>", 3: "r"}


@pytest.mark.parametrize("version", [3, 99, None])
def test_a_call_before_that_is_not_understood_may_be_any(tmp_path: Path, version: int | None) -> None:
    """By the version that wrote it, or because its name was redacted."""
    odd = (
        Made(0, Action(SECRET))
        if version is None
        else Made(0, Action("else"), changes=(("schema_version", version),))
    )
    condition = {"after": {"type": "read", "within": "1h"}}
    found = replayed(tmp_path, blocking(condition), [LONG_AGO, odd, pay(10), pay(61)])
    assert said(found)[4] == "<default>"
    assert 3 not in said(found)


def test_what_validation_may_have_made_of_a_call_before_is_not_known(tmp_path: Path) -> None:
    odd = pay(0, 1, changes=(("arguments_reading", "several"),))
    found = replayed(tmp_path, blocking(ONCE), [LONG_AGO, odd, pay(10, 1), pay(11, 2)])
    assert 3 in said(found)
    assert 4 not in said(found)


def test_a_call_before_with_another_name_is_not_surely_of_its_type(tmp_path: Path) -> None:
    after = {"after": {"type": "read", "result": "success", "within": "1h"}}
    alike = Made(0, Action("read "), changes=(("other_names", '[["read", "default"]]'),))
    calls = [LONG_AGO, alike, pay(10), pay(61)]
    for number, condition, blocked in ((0, {"not": after}, {3, 4}), (1, after, {3})):
        found = replayed(tmp_path / str(number), blocking(condition), calls)
        assert {key for key, name in said(found).items() if name == "r"} == blocked
        assert not found.obstacles
    found = replayed(tmp_path / "2", blocking({"not": after}), [LONG_AGO, Made(0, Action("read")), pay(10)])
    assert said(found)[3] == "<default>"


def test_an_uncertain_call_does_not_matter_where_the_limit_is_not_near(tmp_path: Path) -> None:
    many = {"calls_over": {"limit": 3, "within": "1h", "by": ["order"]}}
    calls = [LONG_AGO, pay(0, SECRET), pay(1), pay(2), pay(3)]
    found = replayed(tmp_path, blocking(many), calls)
    assert said(found) == {1: "<default>", 3: "<default>", 4: "<default>"}


def test_a_policy_without_history_reads_no_call_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one that has some the calls of which it is not asked."""

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(time_order, "selected_columns", never)
    calls = [LONG_AGO, pay(0), pay(1)]
    assert replayed(tmp_path, OLD, calls).calls == 3
    assert replay(blocking(ONCE, type="send"), connect(tmp_path), ALL).calls == 3


async def test_a_policy_decides_its_own_calls_anew_as_it_decided_them(tmp_path: Path) -> None:
    """Calls that a governor decided by marks in a shared state, and their audit."""
    write(tmp_path, [LONG_AGO])
    bench, pick = make_bench(tmp_path, policy=POLICY), random.Random(4)
    governor = bench.runtime.governor
    for call in itertools.chain.from_iterable(history(pick, f"t{number}") for number in range(30)):
        origin = Origin(tool_name="tool", conversation_id=call.conversation, run_id=call.run)
        made = await governor.authorize(call.action, origin)

        async def body(status: str = call.status) -> None:
            if status == "failed":
                raise BodyFailed("it failed")

        if made.refusal is None:
            with suppress(BodyFailed):
                await governor.run(made, body)
    found = replay(POLICY, connect(tmp_path), ALL)
    assert not why(found)
    assert {each.rule for each in found.differences} == {"d-0000001"}
    decided = {row["matched_rule"] for row in bench.rows()}
    assert {"count", "twice", "leak", "watched", "unverified"} <= decided
