"""What replay says of recorded calls against what the policy says of the calls themselves."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from aegis_otel import Policy
from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.query.filters import compile_filters
from aegis_otel.audit.record import SCHEMA_VERSION, encode
from aegis_otel.governance.recording import record_call, utc
from aegis_otel.model import Action, Mode
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy_tools.replay.replay import Effect, Replay, replay
from tests.support.recorded_calls import (
    POLICY_A,
    POLICY_B,
    SCHEMAS,
    START_NS,
    FixedSystem,
    MadeCall,
    made_calls,
    write_calls,
)

ALL = compile_filters(None, {})
CALLS = 1_500
WITHOUT_SCHEMA = "give the schemas with --tools"


def replayed(folder: Path, policy: Policy, inventory: Inventory | None = None) -> Replay:
    return replay(policy, connect(folder), ALL, inventory)


@pytest.fixture(scope="module")
def calls() -> list[MadeCall]:
    return list(made_calls(CALLS))


@pytest.fixture(scope="module")
def apart(calls: list[MadeCall], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit in which each call has a rule of its own, so that what is said of it can be seen."""
    folder = tmp_path_factory.mktemp("apart")
    write_calls(folder, calls, POLICY_A, apart=True).close()
    return folder


@pytest.fixture(scope="module")
def audit(calls: list[MadeCall], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    write_calls(folder, calls, POLICY_A).close()
    return folder


def wrong(found: Replay, calls: list[MadeCall], policy: Policy) -> dict[int, Any]:
    """The calls that are said to be decided otherwise than they are."""
    said = {each.rule: (each.new_approval, each.new_rule, each.new_risk) for each in found.differences}
    assert found.same == 0
    assert len(said) + found.unreplayed == len(calls)
    mistakes = {}
    for number, (action, ns) in enumerate(calls, 1):
        verdict = policy.evaluate(action, now=utc(ns)).verdict
        truth = (verdict.enforced_approval.value, verdict.matched_rule, verdict.risk_level.name)
        if said.get(f"d-{number:07}", truth) != truth:
            mistakes[number] = (said[f"d-{number:07}"], truth, action, action.params)
    return mistakes


@pytest.mark.parametrize("policy", [POLICY_A, POLICY_B], ids=["A", "B"])
def test_each_verdict_is_that_on_the_call_itself_or_none(
    apart: Path, calls: list[MadeCall], policy: Policy
) -> None:
    """What redaction, a cut or a missing schema hides never makes a call one that is decided alike."""
    found = replayed(apart, policy)
    assert not wrong(found, calls, policy)
    assert len(found.differences) > CALLS * 0.1


def with_monitored_rules(seed: int) -> Policy:
    """The rules of POLICY_B that need no schema for most calls; some are only monitored."""
    pick = random.Random(seed)
    written = yaml.safe_load(POLICY_B.to_yaml() or "")
    written["rules"] = [rule for rule in written["rules"] if rule["name"] not in ("secrets", "keyed")]
    for rule in written["rules"]:
        rule["mode"] = pick.choice(["enforce", "monitor"])
    return Policy.from_dict(written)


def calls_by_several_names(number: int, seed: int) -> list[MadeCall]:
    """Calls that are judged by one to three other names of the tool, also with the same arguments."""
    pick = random.Random(seed)
    names = ["pay", "send_mail", "read_file", "drop_rows", "wipe", "other"]
    made = []
    for action, ns in made_calls(number, seed, schemas=1):
        others = [replace(action, type=pick.choice(names)) for _ in range(pick.randint(1, 3))]
        made.append(MadeCall(replace(action).qualify(others), ns))
    return made


@pytest.mark.parametrize("seed", range(4))
def test_monitored_rules_are_replayed_by_every_name_as_they_decide(tmp_path: Path, seed: int) -> None:
    policy, calls = with_monitored_rules(seed), calls_by_several_names(500, seed)
    write_calls(tmp_path, calls, POLICY_A, apart=True).close()
    found = replayed(tmp_path, policy, Inventory.from_schemas(SCHEMAS))
    assert not wrong(found, calls, policy)
    monitored = {rule.name for rule in policy.compiled.rules if rule.verdict.mode is Mode.MONITOR}
    assert len(found.differences) > 100
    assert sum(each.new_rule in monitored for each in found.differences) > 10


@pytest.mark.parametrize("policy", [POLICY_A, POLICY_B], ids=["A", "B"])
def test_with_the_schemas_more_calls_can_be_replayed(tmp_path: Path, policy: Policy) -> None:
    calls = list(made_calls(CALLS, 2, schemas=1))
    write_calls(tmp_path, calls, POLICY_A, apart=True).close()
    without, found = (replayed(tmp_path, policy, known) for known in (None, Inventory.from_schemas(SCHEMAS)))
    assert not wrong(found, calls, policy)
    assert len(found.differences) > len(without.differences) + CALLS * 0.1


@pytest.mark.parametrize("policy", [POLICY_A, POLICY_B], ids=["A", "B"])
def test_groups_are_decided_as_their_calls_are(
    apart: Path, audit: Path, calls: list[MadeCall], policy: Policy
) -> None:
    by_call, by_group = replayed(apart, policy), replayed(audit, policy)
    rules = {
        f"d-{number:07}": POLICY_A.evaluate(action, now=utc(ns)).matched_rule
        for number, (action, ns) in enumerate(calls, 1)
    }
    one = Counter(
        (each.approval, rules[each.rule], each.new_approval, each.new_rule) for each in by_call.differences
    )
    other = Counter(
        {
            (each.approval, each.rule, each.new_approval, each.new_rule): each.calls
            for each in by_group.differences
        }
    )
    alike = {key: number for key, number in one.items() if key[:2] == key[2:]}
    assert sum(alike.values()) == by_group.same
    assert Counter({key: number for key, number in one.items() if key not in alike}) == other
    assert by_call.unreplayed == by_group.unreplayed
    assert [(each.reason, each.calls) for each in by_call.obstacles] == [
        (each.reason, each.calls) for each in by_group.obstacles
    ]


def test_a_policy_replayed_under_itself_decides_nothing_otherwise(audit: Path) -> None:
    found = replayed(audit, POLICY_A)
    assert (found.calls, found.differences, found.loosens) == (CALLS, (), False)
    assert (found.policies, found.by_others) == (1, 0)
    assert found.same > CALLS * 0.4


def test_every_reason_is_met(audit: Path) -> None:
    reasons = " ".join(each.reason for each in replayed(audit, POLICY_B).obstacles)
    for part in (
        WITHOUT_SCHEMA,
        "of which something was redacted or cut",
        "the tool's validation made others",
        "try the policy as a candidate",
        "the name of the tool was redacted or cut",
        "rules match the agent",
        "rules match the role",
    ):
        assert part in reasons


# --- one call at a time ---


def one(tmp_path: Path, action: Action, policy: str, inventory: Inventory | None = None) -> Any:
    """The effect and the new verdict of one call that was allowed, or why it cannot be replayed."""
    allow = Policy.from_text('version: "1"\ndefaults: {approval: auto}')
    write_calls(tmp_path / "audit", [MadeCall(action, START_NS)], allow).close()
    found = replayed(tmp_path / "audit", Policy.from_text(f'version: "1"\n{policy}'), inventory)
    assert found.calls == 1
    if found.obstacles:
        return found.obstacles[0].reason
    if not found.differences:
        return "same"
    (difference,) = found.differences
    return difference.effect, difference.new_approval, difference.new_rule


BLOCKS = (
    "defaults: {approval: auto}\nrules: [{name: r, match: {type: pay}, conditions: {%s}, approval: block}]"
)


def test_an_absent_parameter_needs_the_schema(tmp_path: Path) -> None:
    """With the schema it is plain: the tool does not require it, so the call does not have it."""
    action = Action("pay", params={"amount": 5}, schema=SCHEMAS["pay"])
    policy = BLOCKS % "param_contains: {note: x}"
    assert WITHOUT_SCHEMA in one(tmp_path / "1", action, policy)
    assert one(tmp_path / "2", action, policy, Inventory.from_schemas(SCHEMAS)) == "same"


def test_what_is_redacted_cannot_be_replayed_but_what_is_beside_it_can(tmp_path: Path) -> None:
    action = Action("pay", params={"password": "hunter2", "amount": 5})
    assert "redacted or cut" in one(tmp_path / "1", action, BLOCKS % "param_eq: {password: hunter2}")
    blocked = (Effect.STRICTER, "block", "r")
    assert one(tmp_path / "2", action, BLOCKS % "param_lt: {amount: 10}") == blocked
    both = BLOCKS % "param_eq: {password: hunter2}, param_lt: {amount: 1}"
    assert one(tmp_path / "3", action, both) == "same"


def test_what_may_have_gone_before_cannot_be_replayed(tmp_path: Path) -> None:
    """Unless the verdict is the same in any case. `test_earlier_calls` has what can."""
    action = Action("pay", params={"amount": 5}, schema=SCHEMAS["pay"])
    too_late = "rules count calls from before the audit begins"
    for number, (condition, expected) in enumerate(
        (
            ("calls_over: {limit: 1, within: 1h}", too_late),
            (
                "not: {after: {type: a, within: run}}",
                "rules count earlier calls by the run, which the row does not have",
            ),
            ("any: [{repeats: {by: [amount], within: 1h}}]", too_late),
        )
    ):
        folder = tmp_path / str(number)
        reason = one(folder / "1", action, BLOCKS % condition)
        assert reason == expected
        beside = f"{condition}, param_gt: {{amount: 100}}"
        assert one(folder / "2", action, BLOCKS % beside) == "same"


def test_a_row_of_an_earlier_version_cannot_be_replayed(tmp_path: Path) -> None:
    logger = write_calls(tmp_path / "audit", [], POLICY_A)
    record, *_ = record_call(POLICY_A.evaluate(Action("read_x")), FixedSystem(), "s", START_NS)
    record.schema_version = 3
    logger.append(record)
    logger.close()
    (obstacle,) = replayed(tmp_path / "audit", POLICY_A).obstacles
    assert obstacle.reason.startswith("an earlier version recorded them")


def test_an_empty_audit_has_nothing_to_replay(tmp_path: Path) -> None:
    write_calls(tmp_path / "audit", [], POLICY_A).close()
    (tmp_path / "audit" / "journal").mkdir(parents=True, exist_ok=True)
    found = replayed(tmp_path / "audit", POLICY_B)
    assert (found.calls, found.same, found.differences, found.obstacles) == (0, 0, (), ())


def test_another_reading_of_the_arguments_cannot_be_replayed(tmp_path: Path) -> None:
    """Unless nothing could be stricter than what is said of the one that is recorded."""
    read_otherwise = Action("pay", params={"amount": 500})
    action = Action("pay", params={"amount": 5}).qualify([read_otherwise])
    reason = one(tmp_path / "1", action, BLOCKS % "param_gt: {amount: 100}")
    assert "the tool's validation made others" in reason
    blocked = (Effect.STRICTER, "block", "r")
    assert one(tmp_path / "2", action, BLOCKS % "param_lt: {amount: 10}") == blocked


READS = Policy.from_text("""
version: "1"
defaults: {approval: auto}
rules:
  - {name: large, match: {type: pay}, conditions: {param_gt: {amount: 9}}, approval: block}
  - {name: secret, match: {type: send}, conditions: {param_contains: {"[anywhere]": x}}, approval: block}
  - {name: night, match: {type: read}, conditions: {time_before: "06:30"}, approval: block}
  - {name: boss, match: {type: list, role: boss}, approval: block}
""")
NO_ARGUMENTS, NO_VERDICT = "does not have their arguments", "does not say what a policy decided"
NOT_UNDERSTOOD = "says what this version does not understand of their"
MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"schema_version": SCHEMA_VERSION + 1}, "a newer version recorded them"),
    *(
        ({"schema_version": each}, "an earlier version recorded them")
        for each in (None, -1, 10**30, True, "x")
    ),
    *(
        ({"arguments_reading": each}, f"{NOT_UNDERSTOOD} arguments")
        for each in ("guessed", 5, "", ["several"])
    ),
    *(
        ({"other_names": each}, f"{NOT_UNDERSTOOD} other names")
        for each in ('{"ab": 1}', '["ab"]', "[]", "5", "null", "[", '[["a"]]', '[["a", 1]]', "[" * 5_000)
    ),
    *(
        ({"action_type": type_, "action_params": each}, NO_ARGUMENTS)
        for type_ in ("pay", "send")
        for each in ("[1]", "5", '"x"', "null", "{", None, '{"amount": 1, "amount": 10}', '{"b": 1, "b": 2}')
    ),
    *(
        ({"action_params": f'{{"amount": {each}}}'}, NO_ARGUMENTS)
        for each in ("9" * 5_000, '{"a": 1, "a": 2}')
    ),
    ({"action_type": "send", "action_params": f'{{"a": {"[" * 5_000}{"]" * 5_000}}}'}, NO_ARGUMENTS),
    *(({"matched_rule": None, "approval": each}, NO_VERDICT) for each in ("auto", "block")),
    *(({"approval": each}, NO_VERDICT) for each in ("weird", 5, ["auto"])),
    ({"enforced_approval": "weird"}, NO_VERDICT),
    *(({"risk_level": each}, NO_VERDICT) for each in ("low", "SEVERE", None, 5)),
    ({"approval": None}, "no policy decided them"),
    ({"action_type": None}, "the name of the tool"),
    *(
        ({"action_type": "read", "timestamp": each}, "does not have their time")
        for each in ("x", None, "290000-01-01T00:00:00+00:00", "infinity", 5)
    ),
    *(
        ({"action_type": "list", "user_roles": each}, "rules match the role")
        for each in ("5", "[1]", '{"a": 1}')
    ),
]


@pytest.mark.parametrize(("fields", "reason"), MALFORMED)
def test_a_malformed_row_cannot_be_replayed(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    """Whoever can write to the audit, or a version that is yet to come, makes no call the same."""
    action = Action("pay", params={"amount": 1})
    record, *_ = record_call(READS.evaluate(action), FixedSystem(), "s", START_NS)
    row = json.loads(encode(record)) | {"decision_id": "d-1", "action_params": '{"amount": 1}'} | fields
    write_calls(tmp_path / "audit", [MadeCall(action, START_NS)], READS).close()
    (tmp_path / "audit" / "journal" / "planted-000001.jsonl").write_text(json.dumps(row) + "\n")
    found = replayed(tmp_path / "audit", READS)
    assert (found.calls, found.same, found.differences) == (2, 1, ())
    (obstacle,) = found.obstacles
    assert reason in obstacle.reason
    assert (obstacle.calls, obstacle.example) == (1, "d-1")


# --- rules and programs that only monitor ---

PAYS = 'version: "1"\ndefaults: {approval: auto}\nrules: [{name: x, match: {type: pay}, approval: block%s}]'
ENFORCED, MONITORED = (Policy.from_text(PAYS % each) for each in ("", ", mode: monitor"))
NO_RULE = Policy.from_text('version: "1"\ndefaults: {approval: auto}')
STRICTER, LOOSER = (Effect.STRICTER, "auto", "block"), (Effect.LOOSER, "block", "auto")
OTHER_RULE = (Effect.OTHER_RULE, "auto", "auto")


@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.MONITOR])
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (MONITORED, MONITORED, None),
        (MONITORED, ENFORCED, STRICTER),
        (MONITORED, NO_RULE, OTHER_RULE),
        (ENFORCED, ENFORCED, None),
        (ENFORCED, MONITORED, LOOSER),
        (ENFORCED, NO_RULE, LOOSER),
    ],
)
def test_what_a_rule_enforces_is_compared(
    tmp_path: Path, before: Policy, after: Policy, expected: Any, mode: Mode
) -> None:
    """Also in a program in monitor mode, as if it enforced."""
    logger = write_calls(tmp_path / "audit", [], before)
    decision = before.evaluate(Action("pay"))
    record, *_ = record_call(decision, FixedSystem(), "s", START_NS, mode=mode)
    logger.append(record)
    logger.close()
    found = replayed(tmp_path / "audit", after)
    assert [(*each[:2], each.new_approval) for each in found.differences] == ([expected] if expected else [])
    assert (found.same, found.calls) == (int(expected is None), 1)
    assert found.monitored == int(mode is Mode.MONITOR and before is ENFORCED)
