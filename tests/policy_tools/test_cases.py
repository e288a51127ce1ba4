"""Files with cases: what is read, what is refused and where, and the schema that editors get."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from aegis_otel.errors import CasesError
from aegis_otel.model import Subject
from aegis_otel.policy_tools.cases import Case, json_schema, read_case_files

WHOLE = """
version: "1"
policy: [prod.yaml, base.yaml]
cases:
  - name: a
    action: { type: pay, target: bank, agent: clerk, params: { amount: 20, note: null } }
    at: "2026-03-04T12:00:00+01:00"
    expect: { approval: Block, rule: "<default>", risk_level: HIGH }
  - name: b
    action: { type: search }
    expect: { rule: searches }
"""
PAY = {
    "type": "object",
    "properties": {"amount": {"type": "number"}, "currency": {"type": "string", "default": "EUR"}},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str, name: str = "cases.yaml") -> tuple[Case, ...]:
    Path(name).parent.mkdir(exist_ok=True, parents=True)
    Path(name).write_text(text, encoding="utf-8")
    (file,) = read_case_files([Path(name)])
    return file.cases


def refused(text: str | bytes, name: str = "cases.yaml") -> list[str]:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CasesError) as caught:
        read_case_files([Path(name)])
    return [str(problem) for problem in caught.value.problems]


def test_a_case_says_what_is_called_when_and_what_must_be_decided() -> None:
    first, second = read(WHOLE)
    assert (first.action.type, first.action.target, first.action.agent) == ("pay", "bank", "clerk")
    assert first.action.params == {"amount": 20, "note": None}
    assert first.at == datetime(2026, 3, 4, 11, tzinfo=UTC)
    assert [str(each) for each in first.expected if each is not None] == ["block", "<default>", "3"]
    assert (second.action.target, second.action.agent, second.at) == ("default", None, None)
    assert second.expected == (None, "searches", None, None, None)
    assert (first.place.line, first.rule_place.line) == (5, 8)


def test_a_file_names_its_policy_relative_to_itself() -> None:
    read(WHOLE, "checks/deep/cases.yaml")
    (file,) = read_case_files([Path("checks/deep/cases.yaml")])
    assert file.policies == (Path("checks/deep/prod.yaml"), Path("checks/deep/base.yaml"))


def test_a_time_without_an_offset_is_utc() -> None:
    (case,) = read('cases: [{ name: a, action: { type: x }, at: "2026-03-04T12:00", expect: { rule: r } }]')
    assert case.at == datetime(2026, 3, 4, 12, tzinfo=UTC)


def test_the_tools_give_schema_defaults_target_and_the_other_name() -> None:
    """The action is judged as the call of the tool would be."""
    tools = [{"name": "mcp_bank__pay", "original_name": "pay", "target": "bank", "parameters": PAY}]
    Path("tools.json").write_text(json.dumps({"tools": tools}))
    (case,) = read(
        "tools: tools.json\ncases:\n"
        "  - { name: a, action: { type: pay, params: { amount: 1 } }, expect: { rule: r } }"
    )
    assert case.action.target == "bank"
    assert case.action.params == {"amount": 1, "currency": "EUR"}
    assert case.action.schema == PAY
    assert [form.type for form in case.action.forms] == ["mcp_bank__pay"]


def test_what_the_case_says_goes_before_what_the_tools_say() -> None:
    Path("tools.json").write_text(json.dumps([{"name": "pay", "target": "bank", "parameters": PAY}]))
    (case,) = read(
        "tools: tools.json\ncases:\n"
        "  - { name: a, action: { type: pay, target: x, schema: {} }, expect: { rule: r } }"
    )
    assert (case.action.target, case.action.schema, case.action.params) == ("x", {}, {})


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("{ nam: a, action: { type: x }, expect: { rule: r } }", "unknown key `nam` in a case (did you"),
        ("{ name: a, action: { tool: x }, expect: { rule: r } }", "(did you mean `type`?)"),
        ("{ name: a, action: { type: x }, expected: { rule: r } }", "in a case (did you mean `expect`?)"),
        ("{ name: a, action: { type: x }, expect: { aproval: auto } }", "(did you mean `approval`?)"),
        ("{ name: a, action: { type: x } }", "a case needs `expect`"),
        ("{}", "a case needs `name` and `action` and `expect`"),
        ("{ name: a, action: {}, expect: { rule: r } }", "`action` needs `type`"),
        ("{ name: a, action: { type: x }, expect: {} }", "`expect` must not be empty"),
        ("{ name: 5, action: { type: x }, expect: { rule: r } }", "`name` must be text, not the number `5`"),
        ("{ name: '', action: { type: x }, expect: { rule: r } }", "`name` must have 1 to 1000 characters"),
        ("{ name: a, action: x, expect: { rule: r } }", "`action` must be a mapping, not `x`"),
        ("{ name: a, action: { type: [x] }, expect: { rule: r } }", "`action.type` must be text, not a list"),
        ("{ name: a, action: { type: x, params: [] }, expect: { rule: r } }", "`action.params` must be a"),
        ("{ name: a, action: { type: x, schema: { a: 1 } }, expect: { rule: r } }", "not a JSON Schema"),
        ("{ name: a, action: { type: x }, at: noon, expect: { rule: r } }", "`at` must be an ISO 8601 time"),
        ("{ name: a, action: { type: x }, at: 5, expect: { rule: r } }", "`at` must be an ISO 8601 time"),
        ("{ name: a, action: { type: x }, at: 2026-03-04, expect: { rule: r } }", 'mean `"2026-03-04"`?)'),
        ("{ name: a, action: { type: x }, expect: { approval: deny } }", "`expect.approval` must be `auto`,"),
        ("{ name: a, action: { type: x }, expect: { mode: off } }", "a boolean to some YAML readers"),
        ("{ name: a, action: { type: x }, expect: { mode: watch } }", "`expect.mode` must be `enforce` or"),
        ("{ name: a, action: { type: x }, expect: { risk_level: 3 } }", "`expect.risk_level` must be `low`,"),
        ("{ name: null, action: { type: x }, expect: { rule: r } }", "`name` must be text, not nothing"),
        ("{ name: a, action: { type: null }, expect: { rule: r } }", "`action.type` must be text, not"),
        ("{ name: a, action: { type: x }, user: 7, expect: { rule: r } }", "`user` must be text or `null`"),
        ("{ name: a, action: { type: x }, roles: a, expect: { rule: r } }", "of texts or `null`, not `a`"),
        ("5", "a case must be a mapping, not the number `5`"),
    ],
)  # fmt: skip
def test_what_is_not_a_case_is_refused_with_its_place(case: str, problem: str) -> None:
    found = refused(f"policy: p.yaml\ncases:\n  - {case}\n")
    assert any(problem in each for each in found), found
    assert all(each.startswith("cases.yaml:3:") for each in found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "cases.yaml:1:1: the file is empty: write at least one case"),
        ("- a\n", "cases.yaml:1:1: a file with cases must be a mapping, not a list"),
        ("policy: p.yaml\n", "cases.yaml:1:1: a file with cases needs `cases`"),
        ("cases: []\n", "cases.yaml:1:8: `cases` must not be empty"),
        ("cases: 5\n", "cases.yaml:1:8: `cases` must be a list of cases, not the number `5`"),
        (
            "cases: [{ name: a, action: { type: x, user: u }, expect: { rule: r } }]\n",
            "unknown key `user` in `action`: it stands beside `action`",
        ),
        ("tests: []\n", "cases.yaml:1:1: unknown key `tests` in a file with cases (did you mean `cases`?)"),
        ("policy: []\ncases: 5\n", "cases.yaml:1:9: `policy` must not be empty"),
        ("policy: { a: b }\ncases: 5\n", "`policy` must be text or a list of texts, not a mapping"),
        ("version: 2\ncases: 5\n", 'cases.yaml:1:10: `version` must be "1", not the number `2`'),
        ("cases: [\n", "cases.yaml:2:1: not valid YAML:"),
        ("cases: &a [*a]\n", "anchor `&a` is not supported"),
        ("\xff".encode("latin-1"), "cases.yaml:1:1: not UTF-8"),
    ],
)
def test_what_is_not_a_file_with_cases_is_refused(text: str | bytes, problem: str) -> None:
    assert any(problem in each for each in refused(text))


def test_files_that_cannot_be_read_are_named_with_their_problems_together() -> None:
    Path("a.yaml").write_text("cases: 5\n")
    with pytest.raises(CasesError) as caught:
        read_case_files([Path("a.yaml"), Path("none.yaml"), Path(".")])
    assert [str(problem) for problem in caught.value.problems] == [
        "a.yaml:1:8: `cases` must be a list of cases, not the number `5`",
        "none.yaml: file with cases not found",
        ".: file with cases cannot be read: is a directory",
    ]


def test_names_are_unique_in_all_files() -> None:
    text = "cases: [{ name: a, action: { type: x }, expect: { rule: r } }]\n"
    Path("one.yaml").write_text(text)
    Path("two.yaml").write_text(text)
    with pytest.raises(
        CasesError, match=r"two.yaml:1:17: duplicate name `a`: it is already at one.yaml:1:17"
    ):
        read_case_files([Path("one.yaml"), Path("two.yaml")])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cases.yaml:1:8: `tools`: list of tools not found: `tools.json`"),
        ("{", "cases.yaml:1:8: `tools`: `tools.json`: it is not JSON: "),
        ("[5]", "cases.yaml:1:8: `tools`: `tools.json`: a tool must be an object"),
    ],
)
def test_tools_that_cannot_be_read_are_refused_where_they_are_named(
    content: str | None, problem: str
) -> None:
    if content is not None:
        Path("tools.json").write_text(content)
    (found,) = refused("tools: tools.json\ncases: [{ name: a, action: { type: x }, expect: { rule: r } }]\n")
    assert found.startswith(problem)


def test_a_tool_that_two_agents_have_differently_needs_the_agent() -> None:
    tools = [{"name": "pay", "target": target, "agent": target} for target in ("bank", "shop")]
    Path("tools.json").write_text(json.dumps(tools))
    text = "tools: tools.json\ncases: [{ name: a, action: { type: pay%s }, expect: { rule: r } }]\n"
    assert refused(text % "") == ["cases.yaml:2:36: several tools are called `pay`: say whose by the agent"]
    (case,) = read(text % ", agent: shop")
    assert case.action.target == "shop"


SCHEMA = Draft202012Validator(json_schema())
VALID: dict[str, Any] = yaml.safe_load(WHOLE)


def test_the_published_schema_takes_what_the_reader_takes() -> None:
    SCHEMA.check_schema(json_schema())
    lower = json.loads(json.dumps(VALID).replace("Block", "block").replace("HIGH", "high"))
    assert list(SCHEMA.iter_errors(lower)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"polcy": "x"}, {"cases": []}, {"cases": [{}]}, {"policy": []}, {"version": "2"}, {"tools": ""},
        {"cases": [{"name": "a", "action": {}, "expect": {"rule": "r"}}]},
        {"cases": [{"name": "a", "action": {"type": "x"}, "expect": {}}]},
        {"cases": [{"name": "a", "action": {"type": "x", "args": {}}, "expect": {"rule": "r"}}]},
        {"cases": [{"name": "a", "action": {"type": "x"}, "expect": {"approval": "deny"}}]},
    ],
)  # fmt: skip
def test_the_published_schema_refuses_what_the_reader_refuses(change: dict[str, Any]) -> None:
    assert list(SCHEMA.iter_errors({**VALID, **change}))
    assert refused(json.dumps({**VALID, **change}))


def test_a_case_says_for_whom_the_agent_acts() -> None:
    """No roles are known, and roles of which there are none, are two things."""
    first, second, third, fourth, fifth, before = read(
        "cases:\n"
        "  - { name: a, action: { type: x }, user: alice, tenant: acme, roles: [b, a],"
        " expect: { rule: r } }\n"
        "  - { name: b, action: { type: x }, roles: [], expect: { rule: r } }\n"
        "  - { name: c, action: { type: x }, expect: { rule: r } }\n"
        "  - { name: d, action: { type: x }, user: null, tenant: ~, roles: null, expect: { rule: r } }\n"
        "  - { name: e, action: { type: x, agent: null }, user: alice, roles: null, expect: { rule: r } }\n"
        "  - { name: f, action: { type: x }, user: alice, roles: [a], expect: { rule: r },"
        " before: [{ action: { type: y }, user: null }] }\n"
    )
    assert first.action.subject == Subject("alice", "acme", ("a", "b"))
    assert second.action.subject == Subject(None, None, ())
    assert third.action.subject is None
    assert fourth.action.subject is None
    assert (fifth.action.subject, fifth.action.agent) == (Subject("alice"), None)
    assert before.before[0].action.subject == Subject(None, None, ("a",))
