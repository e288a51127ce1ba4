"""Cases that say what went before, and policies with conditions on earlier calls in explain and diff."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from aegis_otel import Policy
from aegis_otel.cli import main
from aegis_otel.errors import CasesError
from aegis_otel.policy_tools.case_runner import Report, run_cases
from aegis_otel.policy_tools.cases import json_schema, read_case_files
from aegis_otel.policy_tools.diff import Effect, diff_policies

POLICY = """
defaults: { approval: auto }
rules:
  - name: payments
    match: { type: pay }
    conditions: { calls_over: { limit: 3, within: 1h, by: [user] } }
    approval: block
  - name: twice
    match: { type: pay }
    conditions: { repeats: { by: [order], within: 7d } }
    approval: approve
  - name: leak
    match: { type: send }
    conditions: { after: { type: "read_*", result: success, within: conversation } }
    approval: block
  - name: tokens
    match: { type: think }
    conditions: { tokens_over: { limit: 1000, within: run } }
    approval: block
  - name: total
    match: { type: refund }
    conditions: { total_over: { param: amount, limit: 100, within: 24h } }
    approval: block
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(POLICY)
    return tmp_path


def run(*cases: str) -> Report:
    lines = "".join(f"  - {{ name: case {number}, {case} }}\n" for number, case in enumerate(cases))
    Path("cases.yaml").write_text(f"policy: policy.yaml\ncases:\n{lines}")
    return run_cases(read_case_files([Path("cases.yaml")]))


def problems(*cases: str) -> list[str]:
    with pytest.raises(CasesError) as caught:
        run(*cases)
    return [str(problem) for problem in caught.value.problems]


PAY = "user: ann, action: { type: pay, params: { order: %s } }, expect: { rule: %s }"
SEND = "action: { type: send }, expect: { approval: %s }"
READ = "before: [{ action: { type: read_secret }%s }]"


@pytest.mark.parametrize(
    "case",
    [
        PAY % (1, "<default>"),
        PAY % (1, "<default>") + ", before: [{ action: { type: pay, params: { order: 2 } }, times: 2 }]",
        PAY % (1, "payments") + ", before: [{ action: { type: pay }, times: 3 }]",
        PAY % (1, "payments") + ", before: [{ action: { type: pay }, times: 3, ago: 60m, result: failed }]",
        PAY % (1, "<default>") + ", before: [{ action: { type: pay }, times: 9, ago: 61m }]",
        PAY % (1, "<default>") + ", before: [{ action: { type: pay }, times: 9, user: bob }]",
        PAY % (1, "twice") + ", before: [{ action: { type: pay, params: { order: 1.0 } }, ago: 6d }]",
        PAY % (1, "twice") + ", before: [{ action: { type: pay, params: { order: 1 } }, result: unknown }]",
        PAY % (1, "<default>") + ", before: [{ action: { type: pay, params: { order: 1 } }, ago: 8d }]",
        PAY % ("[1]", "twice"),
        SEND % "auto",
        f"{SEND % 'block'}, {READ % ''}",
        f"{SEND % 'block'}, {READ % ', result: unknown'}",
        f"{SEND % 'auto'}, {READ % ', result: failed'}",
        f"{SEND % 'auto'}, {READ % ', conversation: other'}",
        f"{SEND % 'block'}, conversation: mine, {READ % ', run: other'}",
        f"{SEND % 'block'}, conversation: null",
        f"{SEND % 'block'}, {READ % ', conversation: null'}",
        f"{SEND % 'block'}, conversation: null, {READ % ', conversation: other'}",
        f"{SEND % 'auto'}, session: null, run: null, user: null",
        PAY % (1, "<default>") + ", before: [{ action: { type: pay }, times: 9, user: null }]",
        "action: { type: pay, params: { order: 1 } }, user: null, expect: { rule: payments }",
        "action: { type: think }, tokens: 9, run: null, expect: { rule: tokens }",
        "action: { type: think }, tokens: null, expect: { rule: tokens }",
        "action: { type: think }, tokens: 1001, expect: { rule: tokens }",
        "action: { type: think }, tokens: 1000, expect: { approval: auto }",
        "action: { type: think }, expect: { rule: tokens }",
        "action: { type: refund, params: { amount: 60 } }, expect: { rule: total }, "
        "before: [{ action: { type: refund, params: { amount: 20.5 } }, times: 2 }]",
    ],
)
def test_a_case_says_what_went_before(case: str) -> None:
    report = run(case)
    assert report.failed == []


def test_a_case_without_a_conversation_does_not_reach_the_rule_that_is_unknown() -> None:
    report = run(f"{SEND % 'block'}, conversation: null")
    assert [rule.name for rule in report.unknown] == ["leak"]


@pytest.mark.parametrize("word", ["user", "tenant", "agent", "session", "conversation", "run"])
def test_each_word_that_a_call_may_lack_can_be_null(word: str) -> None:
    Path("policy.yaml").write_text(
        "defaults: { approval: auto }\n"
        f"rules: [{{ name: r, conditions: {{ calls_over: {{ limit: 1, within: 1h, by: [{word}] }} }} }}]"
    )

    def case(approval: str, lacking: str = "") -> str:
        known = {"user": "u", "tenant": "t", lacking: "null"}
        agent = known.pop("agent", "a")
        said = ", ".join(f"{key}: {value}" for key, value in known.items() if key)
        return f"{said}, action: {{ type: x, agent: {agent} }}, expect: {{ approval: {approval} }}"

    assert run(case("auto")).failed == []
    report = run(case("approve", word))
    assert report.failed == []
    assert [rule.name for rule in report.unknown] == ["r"]


def test_a_rule_is_reached_by_what_went_before() -> None:
    report = run(PAY % (1, "payments") + ", before: [{ action: { type: pay }, times: 3 }]")
    assert [rule.name for rule in report.unreached] == ["twice", "leak", "tokens", "total"]


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("[]", "cases.yaml:3:81: `before` must not be empty"),
        ("{}", "cases.yaml:3:81: `before` must be a list of calls, not a mapping"),
        ("[5]", "cases.yaml:3:82: a call of `before` must be a mapping, not the number `5`"),
        ("[{ ago: 5m }]", "cases.yaml:3:82: a call of `before` needs `action`"),
        ("[{ action: {} }]", "cases.yaml:3:92: `before.action` needs `type`"),
        (
            "[{ action: { tool: x } }]",
            "cases.yaml:3:94: unknown key `tool` in `action` (did you mean `type`?)",
        ),
        (
            "[{ action: { type: x }, ago: 1w }]",
            "cases.yaml:3:110: `before.ago` must be `30s`, `15m`, `1h` or `7d` (at most `400d`), "
            "not the text `1w` (did you mean `7d`?)",
        ),
        ("[{ action: { type: x }, ago: run }]", "not `run`"),
        ("[{ action: { type: x }, times: 0 }]", "`before.times` must be a whole number from 1 to 10000, not"),
        ("[{ action: { type: x }, times: true }]", "`before.times` must be a whole number from 1 to 10000"),
        (
            "[{ action: { type: x }, result: faild }]",
            "`before.result` must be `success`, `failed` or `unknown`, not `faild` (did you mean `failed`?)",
        ),
        (
            "[{ action: { type: x }, conversation: 5 }]",
            '`before.conversation` must be text or `null`, not the number `5` (did you mean `"5"`?)',
        ),
        ("[{ action: { type: x }, times: null }]", "`before.times` must be a whole number from 1 to 10000"),
        ("[{ action: { type: x }, result: null }]", "`before.result` must be `success`, `failed` or"),
        ("[{ action: { type: x }, tokens: -1 }]", "`before.tokens` must be a whole number from 0 to"),
        ("[{ action: { type: x }, expect: {} }]", "unknown key `expect` in a call of `before`"),
        ("[{ action: { type: x }, past: {} }]", "unknown key `past` in a call of `before`"),
    ],
)
def test_what_is_wrong_with_earlier_calls_is_said_with_its_place(before: str, message: str) -> None:
    found = problems(f"action: {{ type: send }}, expect: {{ approval: auto }}, before: {before}")
    assert any(message in each for each in found), found


def test_a_time_is_needed_where_a_limit_counts_by_the_time() -> None:
    conditions = "{ time_after: '08:00', calls_over: { limit: 1, within: 1h } }"
    limit = f"rules: [{{ name: r, match: {{ type: a }}, conditions: {conditions} }}]"
    Path("policy.yaml").write_text(limit)
    (problem,) = problems(
        "action: { type: b }, expect: { approval: approve }, before: [{ action: { type: a } }]"
    )
    assert "`at` is missing" in problem


def test_the_schema_takes_what_the_reader_takes() -> None:
    validator = Draft202012Validator(json_schema())

    def case(before: Any) -> dict[str, Any]:
        return {
            "cases": [
                {"name": "a", "action": {"type": "x"}, "expect": {"rule": "r"}, "before": before, "tokens": 5}
            ]
        }

    good = {"action": {"type": "x"}, "ago": "5m", "result": "unknown", "times": 3, "run": "r", "roles": []}
    assert validator.is_valid(case([good]))
    lacking = dict.fromkeys(("user", "tenant", "roles", "session", "conversation", "run", "tokens"))
    without = {"action": {"type": "x", "agent": None}, **lacking}
    assert validator.is_valid(case([without]))
    assert validator.is_valid({"cases": [{"name": "a", "expect": {"rule": "r"}, **without}]})
    for wrong in ([], [{}], [{**good, "ago": "5"}], [{**good, "times": 0}], [{**good, "result": "ok"}]):
        assert not validator.is_valid(case(wrong))


def test_explain_shows_the_counts() -> None:
    run(
        PAY % (1, "payments") + ", before: [{ action: { type: pay }, times: 3 }]",
        f"{SEND % 'block'}, {READ % ', result: unknown'}",
        "action: { type: refund, params: { amount: 60 } }, expect: { rule: total }, "
        "before: [{ action: { type: refund, params: { amount: 20.5 } }, times: 2 }]",
        "action: { type: think }, tokens: 1001, expect: { rule: tokens }",
        "action: { type: refund }, expect: { rule: total }",
        f"{SEND % 'block'}, conversation: null, {READ % ''}",
    )
    said = [
        CliRunner().invoke(main, ["policy", "explain", "--case", "cases.yaml", f"case {number}"]).output
        for number in range(6)
    ]
    assert "`calls_over` more than 3 within 1h by `user` (3 before): yes" in said[0]
    assert (
        "`after` `read_*` that succeeded within conversation (0 succeeded, 0 failed, 1 not ended): unknown"
        in said[1]
    )
    assert "`total_over` of `amount` more than 100 within 24h (41 before): yes" in said[2]
    assert "more than 1000 within run (0 before, 1001 in this run by now): yes" in said[3]
    assert "(0 before): unknown: the amount in `amount` is not known" in said[4]
    assert "within conversation: unknown: the conversation of the call is not known" in said[5]
    plain = CliRunner().invoke(main, ["policy", "explain", "policy.yaml", "--type", "send"]).output
    assert "within conversation: unknown: the calls that went before are not known" in plain


def differences(old: str, new: str) -> list[tuple[str, str, str, str]]:
    one, other = (
        Policy.from_text(
            f"defaults: {{ approval: auto }}\n"
            f"rules: [{{ name: r, match: {{ type: pay }}, approval: block, conditions: {{ {each} }} }}]"
        )
        for each in (old, new)
    )
    found = diff_policies(one, other)
    assert all(each.effect is not Effect.RISK for each in found.differences)
    return [
        (each.effect.value, each.old.approval.value, each.new.approval.value, each.example.before)
        for each in found.differences
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "calls_over: { limit: 3, within: 1h }",
            "calls_over: { limit: 9, within: 1h }",
            [("looser", "block", "auto", "after 3 calls")],
        ),
        (
            "calls_over: { limit: 9, within: 1h }",
            "calls_over: { limit: 3, within: 1h }",
            [("stricter", "auto", "block", "after 8 calls")],
        ),
        (
            "tokens_over: { limit: 10, within: run }",
            "tokens_over: { limit: 20, within: run }",
            [("looser", "block", "auto", "after 11 tokens")],
        ),
        (
            "total_over: { param: amount, limit: 10, within: 1h }",
            "total_over: { param: amount, limit: 20, within: 1h }",
            [("looser", "block", "auto", "after 10 in total")],
        ),
        (
            "after: { type: a, within: run }",
            "after: { type: a, result: failed, within: run }",
            [("looser", "block", "auto", "after calls that succeeded")],
        ),
        (
            "after: { type: a, within: run }",
            "not: { after: { type: a, within: run } }",
            [
                ("looser", "block", "auto", "after very much"),
                ("stricter", "auto", "block", "after nothing"),
            ],
        ),
        (
            "repeats: { by: [order], within: 1h }",
            "repeats: { by: [other], within: 1h }",
            [
                ("looser", "block", "auto", "after nothing"),
                ("stricter", "auto", "block", "after nothing"),
            ],
        ),
    ],
)
def test_diff_tries_what_went_before(old: str, new: str, expected: list[tuple[str, ...]]) -> None:
    assert sorted(differences(old, new)) == expected


def test_diff_says_what_it_does_not_try() -> None:
    one, other = (
        Policy.from_text(
            f"rules: [{{ name: r, conditions: {{ calls_over: {{ limit: 3, within: {each} }} }} }}]"
        )
        for each in ("1h", "2h")
    )
    found = diff_policies(one, other)
    assert found.untried[-1] == "rule `r` counts calls apart by other things, or for another time"
    assert found.rules[0].details == (
        "conditions: `calls_over` more than 3 within 1h -> `calls_over` more than 3 within 2h",
    )
