"""The published JSON Schema and the loader agree, because they are one model."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from aegis_otel import Policy, PolicyError
from aegis_otel.policy.loading.schema import json_schema

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def rule(**keys: Any) -> dict[str, Any]:
    return {"rules": [keys]}


def when(**conditions: Any) -> dict[str, Any]:
    return rule(conditions=conditions)


def counting(**conditions: Any) -> dict[str, Any]:
    return rule(name="r", conditions=conditions)


GOOD: list[dict[str, Any]] = [
    {},
    {"version": "1"},
    {"version": 1},
    {"rules": []},
    {"defaults": {}},
    {"defaults": {"risk_level": "low", "approval": "block"}},
    {"rules": [{}, {"name": "a"}, {"name": "b"}]},
    rule(match={}),
    rule(match={"type": "*", "target": "a?", "agent": "x"}),
    rule(match={"type": ["a", "b*"]}),
    rule(match={"type": "a" * 1000}),
    rule(name="n" * 200),
    rule(name="削除"),
    rule(name="👩\u200d💻"),
    rule(risk_level="CRITICAL"),
    rule(risk_level="cRiTiCaL"),
    rule(approval="auto"),
    when(),
    when(time_after="00:00", time_before="23:59"),
    when(weekdays=[1, 7, "mon", "Sunday", "FRI"]),
    when(weekdays=[1.0]),
    when(timezone="Europe/Berlin"),
    when(param_eq={"a": "x", "b": 1, "c": 1.5, "d": True, "e.f": ""}),
    when(param_gt={"a": 1}, param_lt={"a": -1.5}, param_gte={"a": 0}, param_lte={"a": 10**30}),
    when(param_contains={"a": "x", "b": 2}),
    when(param_matches={"a": "(?i)^x"}),
    when(param_eq={"a b": 1}),
    when(path_within={"p": ["/work", "src", ".", "../x"]}),
    when(path_matches={"p": ["*.py", "!a", "/etc/**"]}),
    when(url_host={"u": ["a.example", "*.b.example:81", "[::1]"]}),
    when(param_in={"a": ["x", 1, 1.5, True, ""], "b.c": [0]}),
    when(date_from={"a": "today", "b": "now-24h"}, date_until={"a": "today+365d", "b": "now+2d", "c": "now"}),
    when(param_present=["a", "b.c"], param_absent=["d"], param_only=["a", "b", "x y"]),
    when(shell_only={"a": ["ls", "git status *", "find . -name '*.py'"]}),
    when(
        date_from={"a": "2026-12-01"},
        date_until={"a": "2026-12-01T09:30:00.5+02:00", "b": "2026-12-01 09:30"},
    ),
    when(
        **{"any": [{"param_eq": {"a": 1}}, {"not": {"weekdays": [1]}}], "not": {"any": [{"timezone": "UTC"}]}}
    ),
    when(param_eq={"any": 1, "not": 2}),
    counting(calls_over={"limit": 0, "within": "1s"}),
    counting(
        calls_over={"limit": 100.0, "within": "400d", "by": ["user", "params.user", "a[json].b[number]"]}
    ),
    counting(total_over={"param": "amount[number]", "limit": 99.99, "within": "session", "by": ["currency"]}),
    counting(tokens_over={"limit": 9_000_000_000_000, "within": "run"}),
    counting(after={"type": ["a*", "b"], "result": "Success", "within": "conversation"}),
    counting(after={"type": "a", "within": "15m", "by": ["conversation", "run", "tool", "agent", "tenant"]}),
    counting(repeats={"by": ["user", "order_id"], "within": "7d"}),
    counting(any=[{"not": {"after": {"type": "a", "within": "run"}}}]),
    rule(mode="monitor"),
    rule(mode="Enforce"),
    rule(message="Ask the owner of the file."),
    rule(message="m" * 500),
    rule(approvers={"users": "ann@example.com", "roles": ["finance", "*"], "count": 20, "self": True}),
    rule(approvers={"users": ["a"] * 100, "count": 2.0, "self": False}),
    *(rule(expires=value) for value in ("1s", "15m", "720h", "30d")),
    rule(match={"type": "x", "ignore_case": True}),
    rule(match={"ignore_case": False}),
]

BAD: list[Any] = [
    None,
    [],
    "rules",
    {"version": "2"},
    {"version": True},
    {"version": 1.5},
    {"version": None},
    {"rules": None},
    {"rules": {}},
    {"rules": [None]},
    {"rule": []},
    {"defaults": None},
    {"defaults": {"approval": "yes"}},
    {"defaults": {"aproval": "auto"}},
    rule(name=""),
    rule(name=5),
    rule(name="n" * 201),
    rule(name="a\n"),
    rule(name="a\x1b[2J"),
    rule(name="a\u202eb"),
    rule(name="<default>"),
    rule(name="<error>"),
    rule(mach={}),
    rule(match=None),
    rule(match={"tpye": "x"}),
    rule(match={"type": ""}),
    rule(match={"type": []}),
    rule(match={"type": [""]}),
    rule(match={"type": None}),
    rule(match={"type": "a\x00"}),
    rule(match={"type": "a" * 1001}),
    rule(match={"agent": {"a": 1}}),
    rule(risk_level="hi"),
    rule(risk_level="low\n"),
    rule(risk_level=3),
    rule(approval="AUTOM"),
    rule(approval="BLOC\u212a"),
    rule(approval=" auto"),
    rule(approval=True),
    rule(conditions=None),
    rule(conditions=[]),
    when(param_gtt={"n": 1}),
    *(when(any=value) for value in (None, {}, [], [{}], "x", [5], {"param_eq": {"a": 1}}, [[]])),
    when(any=[{"param_eq": {"a": 1}}, {"param_eqq": {"a": 1}}]),
    *(when(**{"not": value}) for value in (None, {}, [], [{"param_eq": {"a": 1}}], "x", {"match": {}})),
    when(**{"not": {"param_eq": {"a": []}}}),
    rule(any=[{"param_eq": {"a": 1}}]),
    *(
        counting(calls_over={"limit": value, "within": "1h"})
        for value in (None, "3", -1, 1.5, True, [], 9_000_000_000_001)
    ),
    *(
        counting(calls_over={"limit": 3, "within": value})
        for value in (
            None,
            0,
            60,
            "0s",
            "-1h",
            "1",
            "1w",
            "1.5h",
            " 1h",
            "1h\n",
            "run ",
            "Run",
            [],
            "100000000d",
        )
    ),
    *(
        counting(calls_over={"limit": 3, "within": "1h", "by": value})
        for value in (
            *(None, "user", [], [None], [1], [""], ["a[any]"], ["a[all].b"], ["[anywhere]"], ["a..b"]),
            *(["user", "user"], ["a"] * 2, [f"p{number}" for number in range(11)], {"user": 1}, ["params."]),
        )
    ),
    *(counting(calls_over=value) for value in (None, 5, [], {}, {"limit": 3}, {"within": "1h"})),
    counting(calls_over={"limit": 3, "within": "1h", "param": "a"}),
    *(
        counting(total_over={"param": param, "limit": limit, "within": "1h"})
        for param, limit in (
            ("a[any]", 1),
            ("", 1),
            (None, 1),
            (["a"], 1),
            ("a", -1),
            ("a", "1"),
            ("a", True),
        )
    ),
    counting(total_over={"limit": 3, "within": "1h"}),
    counting(tokens_over={"limit": -3, "within": "1h"}),
    *(
        counting(after={"type": "a", "within": "1h", "result": value})
        for value in (None, "ok", "", True, ["success"])
    ),
    *(counting(after={"type": value, "within": "1h"}) for value in (None, "", [], [""], 5)),
    counting(after={"within": "1h"}),
    *(counting(repeats=value) for value in ({"within": "1h"}, {"by": ["a"]})),
    counting(repeats={"by": ["user", "run"], "within": "1h"}),
    *(rule(mode=value) for value in (None, "", "off", "monitor\n", True, ["monitor"])),
    *(
        rule(message=value)
        for value in (None, "", "m" * 501, "a\nb", "a\u202eb", "a\u200db", "a\u00adb", 5, ["x"])
    ),
    *(rule(match={"ignore_case": value}) for value in (None, 1, "true", [], {})),
    *(rule(approvers=value) for value in (None, {}, [], "ann@example.com", ["ann"], {"user": "ann"})),
    *(rule(approvers={"users": value}) for value in (None, "", [], [""], 5, {"a": 1}, ["a"] * 101, "a\nb")),
    *(rule(approvers={"roles": value}) for value in (None, "", [], [None], True)),
    *(rule(approvers={"count": value}) for value in (None, 0, -1, 21, 1.5, "2", True, [1])),
    *(rule(approvers={"self": value}) for value in (None, 1, "true", [])),
    *(rule(expires=value) for value in (None, 0, 900, "", "0s", "15", "15 m", "1w", "15m\n", ["15m"], True)),
    {"defaults": {"approvers": {"count": 2}}},
    {"defaults": {"expires": "15m"}},
    rule(match={"approvers": {"count": 2}}),
    {"mode": "monitor"},
    {"defaults": {"mode": "monitor"}},
    {"defaults": {"message": "x"}},
    rule(ignore_case=True),
    when(time_after="24:00"),
    when(time_after="8:00"),
    when(time_after="18:00\n"),
    when(time_after=1080),
    when(time_before="6 PM"),
    when(weekdays=6),
    when(weekdays=[]),
    when(weekdays=[0]),
    when(weekdays=[8]),
    when(weekdays=["4"]),
    when(weekdays=[True]),
    when(weekdays=[1.5]),
    when(weekdays=["mon\n"]),
    when(timezone=""),
    when(timezone=1),
    when(param_gt={}),
    when(param_gt=5),
    when(path_within={"p": []}),
    when(path_within={"p": "/work"}),
    when(path_within={"p": [5]}),
    when(path_within={"p": [""]}),
    when(path_within=["/work"]),
    when(path_matches={"p": []}),
    when(path_matches={"p": ["a" * 257]}),
    when(url_host={"u": []}),
    when(url_host={"u": {"a": "b"}}),
    when(url_host={"u": [None]}),
    when(param_gt={"a": "5"}),
    when(param_gt={"a": True}),
    when(param_gt={"": 1}),
    when(param_gt={"a..b": 1}),
    when(param_gt={".a": 1}),
    when(param_gt={"a\x00": 1}),
    when(param_gt={"a" * 201: 1}),
    when(param_eq={"a": None}),
    when(param_eq={"a": [1]}),
    when(param_contains={"a": {}}),
    when(param_matches={"a": ""}),
    when(param_matches={"a": 1}),
    when(param_matches={"a": "x" * 1001}),
    when(param_in={"a": []}),
    when(param_in={"a": "x"}),
    when(param_in={"a": [None]}),
    when(param_in={"a": [[1]]}),
    when(param_in={"a": ["x"] * 10_001}),
    *(
        when(**{key: value})
        for key in ("param_present", "param_absent", "param_only")
        for value in ([], "a", {"a": 1}, None, [1], [""], ["a", "a"], ["a\x00"], ["a" * 201], [["a"]])
    ),
    when(param_present=["a..b"]),
    when(param_absent=[".a"]),
    when(param_only=[f"p{number}" for number in range(1001)]),
    when(shell_only={"a": "ls"}),
    when(shell_only={"a": []}),
    when(shell_only={"a": [""]}),
    when(shell_only={"a": [1]}),
    when(shell_only={"a": ["l" * 1001]}),
    when(shell_only={"a": ["ls"] * 1001}),
    *(
        when(date_from={"a": value})
        for value in (
            "tomorrow",
            "today+24h",
            "today+0d",
            "now+",
            "+24h",
            "-7d",
            "now-1w",
            "TODAY",
            "now\n",
            "today+99999d",
        )
    ),
    when(date_from={"a": "2026-12-01\n"}),
    when(date_until={"a": "26-12-01"}),
    when(date_until={"a": 20261201}),
]

BEYOND_JSON_SCHEMA: list[dict[str, Any]] = [
    when(param_matches={"a": "(unclosed"}),
    when(timezone="Mars/Olympus"),
    {"rules": [{"name": "a"}, {"name": "a"}]},
    when(param_gt={"a": float("inf")}),
    when(date_from={"a": "2026-02-30"}),
    when(shell_only={"a": ["ls; rm x"]}),
    when(shell_only={"a": ["eval *"]}),
]


def nested_not(depth: int) -> dict[str, Any]:
    return {"not": nested_not(depth - 1)} if depth else {"param_eq": {"a": 1}}


def loads(data: Any) -> bool:
    try:
        Policy.from_dict(data)
    except PolicyError:
        return False
    return True


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("data", GOOD, ids=repr)
def test_both_accept(data: Any) -> None:
    """Inventory 1 to 22: every key of a policy."""
    assert VALIDATOR.is_valid(data)
    assert loads(data)


@pytest.mark.parametrize("data", BAD, ids=lambda data: repr(data)[:60])
def test_both_refuse(data: Any) -> None:
    """B20 to B22: what a lenient loader takes."""
    assert not VALIDATOR.is_valid(data)
    assert not loads(data)


@pytest.mark.parametrize("data", BEYOND_JSON_SCHEMA, ids=repr)
def test_what_json_schema_cannot_say_the_loader_refuses(data: Any) -> None:
    assert not loads(data)


def named(**conditions: Any) -> dict[str, Any]:
    return {"rules": [{"name": "a", "conditions": conditions, "approval": "block"}]}


LIMITS = {
    "no two rules have the same name": [
        {"rules": [{"name": "a", "approval": "block"}, {"name": "a", "approval": "block"}]}
    ],
    "groups are nested at most 8 deep": [when(**{"not": nested_not(8)})],
    "a time zone exists": [when(time_after="09:00", timezone="Mars/Base")],
    "a number is finite": [when(param_gt={"p": math.inf})],
    "a `param_matches` pattern compiles": [
        when(param_matches={"p": "("}),
        when(param_matches={"p": "(a{1000}){1000}"}),
    ],
    "a `url_host` value can be a host": [when(url_host={"p": ["http://x y"]})],
    "a `path_within` folder is written without": [when(path_within={"p": ["/a/../b"]})],
    "a `path_matches` pattern is a gitignore pattern": [when(path_matches={"p": ["/a/[z-a]"]})],
    "a `shell_only` value is one command of plain words": [when(shell_only={"p": ["git status; rm"]})],
    "the date of `date_from` and `date_until` exists": [
        when(date_from={"p": "2026-02-30"}),
        when(date_until={"p": "2026-02-30"}),
    ],
    "text compared behind `[lower]` is in small letters": [when(param_eq={"p[lower]": "ABC"})],
    "a rule with a [condition on earlier calls](#conditions-on-earlier-calls) has a name": [
        when(calls_over={"limit": 1, "within": "1h"})
    ],
    "a word of `by` is spelled right": [named(calls_over={"limit": 1, "within": "1h", "by": ["usr"]})],
    "the `limit` of `total_over` has at most six digits after the point": [
        named(total_over={"param": "amount", "limit": 0.0000001, "within": "1h"})
    ],
    "`within` is at most `400d`, and `expires` at most `30d`": [
        named(calls_over={"limit": 1, "within": "401d"}),
        rule(expires="31d"),
    ],
}
"""By the words of docs/policy.md: policies that the schema accepts and the loader refuses."""
IN_YAML = ("rules: []\nrules: []\n", "rules: &a []\ndefaults: *a\n")


@pytest.mark.parametrize("words", LIMITS)
def test_the_limits_of_the_schema_are_documented(words: str) -> None:
    for data in LIMITS[words]:
        assert VALIDATOR.is_valid(data)
        assert not loads(data)
    assert f"- that {words}" in documented_limits()


def test_no_limit_is_documented_that_is_none() -> None:
    said = documented_limits()
    assert len(said) == len(LIMITS) + 1, said
    assert said[-1].startswith("- how the file is written in YAML")
    for text in IN_YAML:
        with pytest.raises(PolicyError):
            Policy.from_text(text)


class Limits(list[str]):
    """The items of a list, each found by its beginning."""

    def __contains__(self, beginning: object) -> bool:
        return any(each.startswith(str(beginning)) for each in self)


def documented_limits() -> Limits:
    text = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
    part = text.partition("of what it refuses. It cannot check\n\n")[2].partition("\n\n")[0]
    return Limits(part.splitlines())


def test_every_key_is_described() -> None:
    """Editors show it."""
    sections = [SCHEMA, *SCHEMA["$defs"].values()]
    undescribed = [
        key
        for section in sections
        for key, value in section["properties"].items()
        if "description" not in value and "$ref" not in value and "$ref" not in value.get("items", {})
    ]
    assert undescribed == []
    assert all(section["additionalProperties"] is False for section in sections)


def test_one_row_makes_a_condition() -> None:
    """What is added to `OPERATORS` is read, published, suggested, decided, explained and linted."""
    program = """
import json
import math
import subprocess
import sys
from pathlib import Path
from datetime import UTC, datetime
from aegis_otel.policy.operators.table import OPERATORS
OPERATORS["param_divides"] = OPERATORS["param_gt"]._replace(
    about="parameter is a multiple of", judge=lambda value, expected: value % expected == 0, symbol=None,
    synonyms="multiple_of",
)
from aegis_otel import Action, Policy, PolicyError
from aegis_otel.policy.explain import explain
from aegis_otel.policy.lint import lint
from aegis_otel.policy.loading.schema import json_schema
text = "rules: [{name: even, conditions: {param_divides: {n: 2}}, approval: block}]"
policy = Policy.from_text(text)
found = [policy.evaluate(Action("t", params={"n": n})).matched_rule for n in (3, 4)]
trace = explain(policy, Action("t", params={"n": 4}), datetime.now(UTC)).rules[0]
refused = []
for wrong in (text.replace("2", "x"), text.replace("param_divides", "multiple_of")):
    try:
        Policy.from_text(wrong)
    except PolicyError as error:
        refused.append(str(error))
published = json_schema()["$defs"]["Conditions"]["properties"]["param_divides"]
lint(policy, {"t": {"properties": {"n": {"type": "integer"}}}})
print(json.dumps([found, trace.match, trace.checks[0].label, published["description"], refused]))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found, match, label, about, refused = json.loads(ran.stdout)
    assert found == ["<default>", "even"]
    assert (match, label) == ("matches", "`param_divides` on `n`")
    assert about == "parameter is a multiple of"
    assert "`param_divides` on `n` must be a finite number, not `x`" in refused[0]
    assert "did you mean `param_divides`?" in refused[1]
