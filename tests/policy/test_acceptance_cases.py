"""The acceptance cases B12 to B24: what a policy engine let through, and must not."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from aegis_otel import Action, Policy, PolicyError
from aegis_otel.model import PolicyDecision
from aegis_otel.policy.lint import lint

CASES = Path(__file__).parent / "acceptance_cases"

PAYMENT = {
    "type": "object",
    "properties": {
        "amount": {"type": "number"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "order": {"$ref": "#/$defs/Order"},
    },
    "additionalProperties": False,
    "$defs": {"Order": {"type": "object", "properties": {"amount": {"type": "number"}}}},
}
"""The JSON Schema of a tool's parameters, as the SDK makes it."""


def blocking(**conditions: Any) -> Policy:
    """Blocks `t` under `conditions`, allows everything else."""
    rule = {"name": "b", "match": {"type": "t"}, "approval": "block", "conditions": conditions}
    return Policy.from_dict({"version": "1", "defaults": {"approval": "auto"}, "rules": [rule]})


def decide(
    policy: Policy, schema: Any = None, now: str = "2026-03-04T12:00", **params: Any
) -> PolicyDecision:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    action = Action("t", "x", params, schema=schema)
    decision = policy.evaluate(action, now=moment)
    assert policy.evaluate(action, now=moment) == decision  # the second time, by the plan
    return decision


def problems(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        Policy.from_text(text, source="p.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_b12_an_unknown_condition_is_a_load_error() -> None:
    assert problems("rules:\n  - approval: block\n    conditions: { param_gtt: { n: 1 } }\n") == [
        "p.yaml:3:19: unknown key `param_gtt` in `conditions` (did you mean `param_gt`?)"
    ]


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"amt": 1000}, None),
        ({"amount": None}, "the value is null"),
        ({"order": {"amount": 1000}}, None),
        ({"kwargs": {"amount": 1000}}, None),
        ({"amount": float("nan")}, "the value is not a number (NaN)"),
        ({"amount": True}, "the value is a boolean, not a number"),
        ({"amount": [1000]}, "the value is a list, not a number"),
        ({"amount": {"value": 1000}}, "the value is a mapping, not a number"),
        ({"amount": b"1000"}, "the value is of a type that conditions cannot compare, not a number"),
    ],
)
def test_b13_what_cannot_be_compared_blocks(params: dict[str, Any], why: str | None) -> None:
    """DESIGN 3: absent is false, what cannot be compared is unknown, and the stricter verdict wins."""
    decision = decide(blocking(param_gt={"amount": 100}), **params)
    if why is None:
        assert (decision.approval, decision.errors) == ("auto", ())
    else:
        assert (decision.approval, decision.matched_rule) == ("block", "b")
        assert decision.errors == (f"rule `b`: `param_gt` on `amount` is unknown: {why}",)
        assert (
            decision.reason
            == f"rule `b` may match, so it counts as a match: `param_gt` on `amount` is unknown: {why}"
        )


def test_b13_a_path_the_tool_does_not_have_blocks() -> None:
    """A typo in the policy: the schema says so, and the rule counts as a match."""
    decision = decide(blocking(param_gt={"amuont": 100}), PAYMENT, amount=1000)
    assert decision.approval == "block"
    assert decision.errors == ("rule `b`: `param_gt` on `amuont` is unknown: the tool has no such parameter",)


def test_b13_dotted_paths_reach_nested_values() -> None:
    policy = blocking(param_gt={"order.amount": 100})
    assert decide(policy, PAYMENT, order={"amount": 1000}).approval == "block"
    assert decide(policy, PAYMENT, order={"amount": 10}).approval == "auto"
    assert decide(policy, PAYMENT, order={}).approval == "auto"
    assert decide(policy, PAYMENT, order=[{"amount": 1000}]).errors == (
        "rule `b`: `param_gt` on `order.amount` is unknown: "
        "the path leads through a value that is not a mapping",
    )


def test_b14_text_where_a_number_is_expected_blocks_without_an_exception() -> None:
    decision = decide(blocking(param_gt={"amount": 100}), amount="1000")
    assert decision.approval == "block"
    assert decision.errors == (
        "rule `b`: `param_gt` on `amount` is unknown: the value is text, not a number",
    )
    assert "1000" not in decision.reason


def test_b15_a_window_wraps_midnight() -> None:
    """Acacian/aegis#6: from six in the evening to eight in the morning."""
    policy = blocking(time_after="18:00", time_before="08:00")
    hours = {"23:00": "block", "03:00": "block", "18:00": "block", "08:00": "auto", "07:59": "block"}
    assert {hour: decide(policy, now=f"2026-03-04T{hour}").approval for hour in hours} == hours


def test_b15_a_window_can_be_in_a_time_zone() -> None:
    """17:30 UTC is 18:30 in Berlin in winter and 19:30 in summer."""
    policy = blocking(time_after="19:00", timezone="Europe/Berlin")
    assert decide(policy, now="2026-01-15T17:30").approval == "auto"
    assert decide(policy, now="2026-07-15T17:30").approval == "block"


@pytest.mark.parametrize(
    ("written", "suggestion"),
    [
        ("18:00", '"18:00"'),
        ('"24:00"', '"00:00"'),
        ('"6 PM"', '"18:00"'),
        ('"12am"', '"00:00"'),
        ("1080", '"18:00"'),
        ('"8:00"', '"08:00"'),
        ('"18:60"', None),
        ('"soon"', None),
        ("true", None),
        ("", None),
    ],
)
def test_b16_an_impossible_time_is_a_load_error_with_its_line(written: str, suggestion: str | None) -> None:
    (problem,) = problems(f"rules:\n  - conditions:\n      time_after: {written}\n")
    assert problem.startswith("p.yaml:3:")
    assert problem.endswith(f"(did you mean `{suggestion}`?)") == (suggestion is not None)


@pytest.mark.parametrize(
    ("written", "suggestion"),
    [("[wendesday]", "wednesday"), ('["4"]', "4"), ("[0]", None), ("6", "[6]"), ("[8]", None), ("[]", None)],
)
def test_b17_a_wrong_weekday_is_a_load_error(written: str, suggestion: str | None) -> None:
    (problem,) = problems(f"rules:\n  - conditions:\n      weekdays: {written}\n")
    assert problem.startswith("p.yaml:3:")
    assert "`weekdays` must" in problem
    assert suggestion is None or f"(did you mean `{suggestion}`?)" in problem


def test_b17_weekdays_have_names() -> None:
    wednesdays = ["wed", "Wednesday", 3]
    assert [decide(blocking(weekdays=[day])).approval for day in wednesdays] == ["block"] * 3
    assert decide(blocking(weekdays=["mon", 2, "thursday"])).approval == "auto"


def test_b18_a_regex_is_compiled_at_load() -> None:
    assert problems('rules:\n  - conditions:\n      param_matches: { q: "(DROP" }\n') == [
        "p.yaml:3:27: `param_matches` on `q` is not a regular expression in RE2 syntax: missing ): (DROP"
    ]


def test_b18_the_whole_value_is_searched() -> None:
    policy = blocking(param_matches={"q": "DROP TABLE"})
    assert decide(policy, q="x" * 1_000_000 + "DROP TABLE").approval == "block"
    assert decide(policy, q="drop table").approval == "auto"
    assert decide(blocking(param_matches={"q": "(?i)DROP TABLE"}), q="drop table").approval == "block"


def test_b18_text_that_re2_cannot_read_blocks() -> None:
    """A lone surrogate is possible in JSON, and in no UTF-8."""
    decision = decide(blocking(param_matches={"q": "DROP"}), q="\ud800")
    assert decision.errors == ("rule `b`: `param_matches` on `q` is unknown: the value is not valid Unicode",)


def test_b19_matching_takes_linear_time() -> None:
    """Python's `re` needs hours for this one: the time doubles with each `a`."""
    policy = blocking(param_matches={"q": r"^(\w+\s?)*$"})
    began = time.perf_counter()
    assert decide(policy, q="a" * 100_000 + "!").approval == "auto"
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    ("text", "place", "suggestion"),
    [
        ("rules:\n  - aproval: block\n", "2:5", "approval"),
        ('rules:\n  - match: { tpye: "x" }\n', "2:14", "type"),
        ("rules:\n  - mach: {}\n", "2:5", "match"),
        ("rules:\n  - condition: {}\n", "2:5", "conditions"),
        ("rule: []\n", "1:1", "rules"),
        ("default: {}\n", "1:1", "defaults"),
        ("defaults:\n  aproval: auto\n", "2:3", "approval"),
        ("rules:\n  - time_after: '18:00'\n", "2:5", "conditions.time_after"),
    ],
)
def test_b20_a_misspelt_key_is_a_load_error(text: str, place: str, suggestion: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(f"p.yaml:{place}: ")
    assert problem.endswith(f"(did you mean `{suggestion}`?)")


def test_b21_duplicates_are_load_errors() -> None:
    assert problems("rules:\n  - approval: block\n    approval: auto\nrules: []\n") == [
        "p.yaml:3:5: duplicate key `approval`: it is already on line 2",
        "p.yaml:4:1: duplicate key `rules`: it is already on line 1",
    ]
    assert problems("rules:\n  - name: a\n  - name: a\n") == [
        "p.yaml:3:5: duplicate rule name `a`: it is already at p.yaml:2:5"
    ]


def test_b22_a_list_of_patterns_matches_each_of_them() -> None:
    policy = Policy.from_dict(
        {
            "defaults": {"approval": "auto"},
            "rules": [{"match": {"type": ["delete*", "drop*"]}, "approval": "block"}],
        }
    )
    verdicts = [policy.evaluate(Action(name)).approval for name in ("delete_x", "drop_x", "read_x")]
    assert verdicts == ["block", "block", "auto"]


@pytest.mark.parametrize("version", ['"99"', "2", '"1.0"', "true", "", "[1]"])
def test_b22_an_unsupported_version_is_a_load_error(version: str) -> None:
    (problem,) = problems(f"version: {version}\nrules: []\n")
    assert problem.startswith("p.yaml:1:")
    assert '`version` must be "1"' in problem


@pytest.mark.parametrize("version", ['version: "1"', "version: 1", "# no version"])
def test_b22_the_supported_version_has_three_spellings(version: str) -> None:
    assert Policy.from_text(f"{version}\nrules: []\n").rules == ()


def test_b23_what_a_pattern_does_not_match() -> None:
    """Another case, another separator, another alphabet: docs/policy.md says so, and the linter warns."""
    policy = Policy.from_text(
        "defaults: { approval: auto }\nrules: [{ match: { type: 'delete_*' }, approval: block }]\n"
    )
    others = ["Delete_x", "delete-x", "del\u0435te_x", "xdelete_x"]
    assert [policy.evaluate(Action(name)).approval for name in others] == ["auto"] * 4


def test_b23_a_bracket_is_literal_and_warned_of() -> None:
    policy = Policy.from_text(
        "rules:\n  - match: { type: 'db[prod]_drop' }\n    approval: block\n", source="p"
    )
    assert policy.evaluate(Action("db[prod]_drop")).matched_rule == "rule_0"
    assert policy.evaluate(Action("dbp_drop")).matched_rule == "<default>"
    assert [str(finding) for finding in lint(policy)] == [
        "p:2:20: error[pattern]: pattern `db[prod]_drop` has a `[`, which is literal: "
        "only `*` and `?` are wild"
    ]


def test_b23_a_letter_of_another_alphabet_is_warned_of() -> None:
    policy = Policy.from_text("rules:\n  - match: { type: 'del\u0435te_*', target: '\uff44b' }\n", source="p")
    assert [(finding.kind, finding.place.column) for finding in lint(policy)] == [
        ("pattern", 20),
        ("pattern", 40),
    ]


def test_b24_the_first_file_that_states_defaults_wins(tmp_path: Path) -> None:
    """The tutorial's merge: the overrides state no defaults, so the base's hold."""
    prod, base = tmp_path / "prod-overrides.yaml", tmp_path / "base-policy.yaml"
    prod.write_text("rules: [{ name: prod_block_deletes, match: { type: 'delete_*' }, approval: block }]\n")
    base.write_text("defaults: { approval: approve }\nrules: [{ name: s, match: { type: 'search*' } }]\n")
    merged = Policy.from_yaml_files(prod, base)
    decision = merged.evaluate(Action("send_email"))
    assert (decision.approval, decision.risk_level.name, decision.matched_rule) == (
        "approve",
        "MEDIUM",
        "<default>",
    )
    assert [finding.message for finding in lint(merged)] == [
        f"no `defaults` here: those of {base}:1:1 hold, approve and medium"
    ]
    ignored = base.with_name("ignored.yaml")
    ignored.write_text("defaults: { approval: auto }\nrules: []\n")
    assert [finding.place.source for finding in lint(Policy.from_yaml_files(base, ignored))] == [str(ignored)]


def _case_files() -> list[Any]:
    return [
        pytest.param(document["policy"], case, id=f"{path.stem}: {case['about']}")
        for path in sorted(CASES.glob("*.yaml"))
        for document in [yaml.safe_load(path.read_text(encoding="utf-8"))]
        for case in document["cases"]
    ]


@pytest.mark.parametrize(("policy", "case"), _case_files())
def test_policy_case(policy: dict[str, Any], case: dict[str, Any]) -> None:
    """Each data file holds a policy, actions, and what must be decided."""
    action = case["action"]
    decision = Policy.from_dict(policy).evaluate(
        Action(
            action["type"],
            action.get("target", "default"),
            action.get("params", {}),
            agent=action.get("agent"),
            schema=action.get("schema"),
        ),
        now=datetime.fromisoformat(case["now"]) if "now" in case else None,
    )
    expected = case["expect"]
    assert decision.approval == expected["approval"]
    assert decision.matched_rule == expected["rule"]
    assert list(decision.errors) == expected.get("errors", [])
