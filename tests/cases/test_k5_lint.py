"""K5: policies that open the gate have a pertinent finding, and sound ones have no error."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from aegis_otel import Action, Policy
from aegis_otel.cli import main
from aegis_otel.policy.lint import lint

ROOT = Path(__file__).parents[2]
OPEN = sorted((ROOT / "tests/cases/lint/open").glob("*.yaml"))
SOUND = ROOT / "tests/cases/lint/sound"
NOON = "2026-01-07T12:00:00"


def read(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    if isinstance(case["finding"], str):
        case["finding"] = [case["finding"]]
    return case


def findings(case: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """What `aegis policy check` says of the policy, given the tools as JSON Schemas by name."""
    tools: Any = case["tools"]
    if case.keys() & {"agents", "targets"}:
        target = {"target": case["targets"]} if "targets" in case else {}
        tools = {"tools": [{"name": name, "inputSchema": each} | target for name, each in tools.items()]}
        tools |= {"agents": case["agents"]} if "agents" in case else {}
    (folder / "tools.json").write_text(json.dumps(tools))
    (folder / "p.yaml").write_text(case["policy"], encoding="utf-8")
    arguments = ["check", str(folder / "p.yaml"), "--tools", str(folder / "tools.json"), "--format", "json"]
    result = CliRunner().invoke(main, ["policy", *arguments])
    assert result.exit_code in (0, 1), result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)["findings"]
    return found


def test_k5_the_corpus_is_large_enough_holds() -> None:
    assert len(OPEN) >= 180
    assert len({kind for path in OPEN for kind in read(path)["finding"]}) >= 38


@pytest.mark.parametrize("path", OPEN, ids=lambda path: path.stem)
def test_k5_a_policy_that_opens_the_gate_has_a_finding(path: Path, tmp_path: Path) -> None:
    """The attack runs unasked, and the finding names its cause, its place and what to write."""
    case = read(path)
    attack = case["attack"]
    action = Action(
        attack["type"],
        attack.get("target", "default"),
        attack["params"],
        agent=attack.get("agent"),
        schema=case["tools"].get(attack["type"]),
    )
    now = datetime.fromisoformat(attack.get("at", NOON)).replace(tzinfo=UTC)
    assert Policy.from_text(case["policy"]).evaluate(action, now=now).approval == "auto"
    said = findings(case, tmp_path)
    found = [finding for finding in said if finding["kind"] in case["finding"]]
    assert found, said
    assert all(finding["line"] and len(finding["message"]) > 30 for finding in found)
    if "level" in case:
        assert case["level"] in {finding["severity"] for finding in found}


def documented() -> dict[str, str]:
    """Every policy of README, docs and examples that is meant to be sound."""
    found = {}
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        blocks = re.findall(r"^```yaml(?: (\S+))?\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
        for number, (name, text) in enumerate(blocks):
            if re.search("^rules:", text, re.MULTILINE) and name not in ("broken.yaml", "shadowed.yaml"):
                found[f"{page.name}-{number}"] = text
    for file in sorted((ROOT / "examples").rglob("*.yaml")):
        if file.name != "cases.yaml":  # calls for `aegis policy test`, and no policy
            found[f"{file.parent.name}-{file.name}"] = file.read_text()
    for file in sorted((ROOT / "tests/cases/lint/sound").glob("*.yaml")):
        found[f"sound-{file.stem}"] = file.read_text()
    return found


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in documented().items()])
def test_k5_a_sound_policy_has_no_error_holds(text: str) -> None:
    assert [str(each) for each in lint(Policy.from_text(text)) if each.severity == "error"] == []


GLOBS = st.text(alphabet="ab*?", max_size=6)
TEXTS = ["".join(letters) for size in range(6) for letters in itertools.product("abc", repeat=size)]


@given(GLOBS, GLOBS)
def test_k5_overlap_and_containment_are_decided(one: str, other: str) -> None:
    from aegis_otel.policy.patterns import compile_glob, covers, overlap

    first = {text for text in TEXTS if compile_glob(one).matches(text)}
    second = {text for text in TEXTS if compile_glob(other).matches(text)}
    shared = overlap(one, other)
    if shared is None:
        assert not first & second
    else:
        assert compile_glob(one).matches(shared)
        assert compile_glob(other).matches(shared)
    assert not covers(one, other) or second <= first


LONG = "a" * 150
SHAPES = {
    "infix": "*{0}_" + LONG + "*" + LONG + "_{0}*",
    "prefix": LONG + "{0}_*",
    "mixed": LONG + "*_{0}_*" + LONG + "?",
    "stars": "*a" * 100 + "*{0}",
    "a thousand letters": "*ab?c" * 190 + "*{0}",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_k5_a_thousand_rules_with_long_globs_are_checked_quickly(tmp_path: Path, shape: str) -> None:
    rules = [
        {"match": {"type": SHAPES[shape].format(number)}, "approval": ("auto", "block")[number % 2]}
        for number in range(1000)
    ]
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({"defaults": {"approval": "approve"}, "rules": rules}))
    began = time.process_time()
    output = CliRunner().invoke(main, ["policy", "check", str(file)]).output
    assert "p.yaml" in output or "1000 rules" in output
    assert time.process_time() - began < 5


def shaped(shape: str, count: int) -> Policy:
    """Rules whose globs no other test has, so that no cache knows them."""
    spec = importlib.util.spec_from_file_location("policy_check", ROOT / "benchmarks" / "policy_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Policy.from_dict(module.policy(shape, first=10_000 * count, count=count))


def work(policy: Policy) -> int:
    """The number of calls that the linter makes: the same on every machine."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        lint(policy)
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize(
    "shape", ["literal types", "long globs, infix", "five types", "lists", "five conditions", "times"]
)
def test_k5_the_work_grows_with_the_rules_and_not_with_their_pairs(shape: str) -> None:
    few, many = work(shaped(shape, 60)), work(shaped(shape, 240))
    assert many < 9 * few, (few, many)  # pairs would be sixteen times as many


@pytest.mark.parametrize(
    "shape", ["one condition for every tool", "random globs of few letters", "five conditions", "times"]
)
def test_k5_the_work_on_a_thousand_rules_is_bounded_and_what_is_left_out_is_said(shape: str) -> None:
    policy = shaped(shape, 1000)
    assert work(policy) < 4_000_000
    kinds = {finding.kind for finding in lint(policy)}
    assert kinds & {"limits", "shadowed"}


def with_patterns(count: int) -> Policy:
    patterns = [f"*.x{number}" for number in range(count)]
    return Policy.from_dict(
        {"rules": [{"conditions": {"path_matches": {"p": patterns}}, "approval": "auto"}]}
    )


def test_k5_the_work_grows_with_the_patterns_of_a_condition_and_not_with_their_pairs() -> None:
    few, many = work(with_patterns(50)), work(with_patterns(200))
    assert many < 6 * few, (few, many)  # pairs would be sixteen times as many


def any_of(deep: int, first: int) -> dict[str, Any]:
    if deep == 0:
        return {"param_eq": {f"p{first}": "x"}}
    return {"any": [any_of(deep - 1, 4 * first + number) for number in range(4)]}


def test_k5_the_work_on_nested_groups_is_bounded_and_what_is_left_out_is_said() -> None:
    rules = [{"match": {"type": f"t{n}"}, "conditions": any_of(4, 0), "approval": "auto"} for n in range(4)]
    policy = Policy.from_dict({"rules": rules})
    assert work(policy) < 1_000_000
    assert "limits" in {finding.kind for finding in lint(policy)}


def test_k5_rules_that_only_blocks_try_are_said_to_be_left_out() -> None:
    """The budget of tried inputs ends within the last family that uses it."""
    rules = [
        {"match": {"type": "*"}, "conditions": {"param_eq": {"env": f"e{n}"}}, "approval": "block"}
        for n in range(900)
    ]
    policy = Policy.from_dict({"defaults": {"approval": "auto"}, "rules": rules})
    assert "limits" in {finding.kind for finding in lint(policy)}


def test_k5_the_sound_corpus_is_large_enough_holds() -> None:
    assert len(list((ROOT / "tests/cases/lint/sound").glob("*.yaml"))) >= 55


@pytest.mark.parametrize(
    "tools", sorted(SOUND.glob("*.tools.json")), ids=lambda path: path.name.split(".")[0]
)
def test_k5_a_sound_policy_has_no_error_with_its_tools_holds(tools: Path) -> None:
    policy = Policy.from_yaml(tools.with_name(tools.name.replace(".tools.json", ".yaml")))
    known = json.loads(tools.read_text())
    assert [str(each) for each in lint(policy, known) if each.severity == "error"] == []


WHOLE = {
    "url": (
        r"^https://api\.example\.com(/|$)",
        r"^https://([a-z0-9-]+\.)?example\.com/",
        r"^https://api\.example\.com/v[0-9]+/[a-z]+\?id=[0-9]+$",
        r"^https://example\.com(:443)?/",
        r"^https://[a-z]{2}\.wikipedia\.org/wiki/[^?#\n]*$",
    ),
    "path": (
        r"^docs/[\w-]+\.md$",
        r"^/srv/data/[a-z0-9]+/[a-z0-9]+\.csv$",
        r"^(README|LICENSE)\.md$",
        r"^src/(?:[a-z]+/)*[a-z]+\.py$",
    ),
    "command": (
        r"^git (status|log|diff)$",
        r"^ls( -[la]+)?$",
        r"^pytest( tests/[a-z_]+\.py)?$",
        r"^git log --oneline -[0-9]{1,2}$",
        r"^make (test|lint)$",
    ),
    "to": (r"^[a-z.]+@example\.com$", r"^(support|sales)@example\.com$"),
    "sql": (r"^select 1$", r"^select id from (orders|users) limit [0-9]{1,3}$"),
    "key": (r"^user:[0-9]+$", r"^[a-f0-9]{32}$", r"^v\d+\.\d+\.\d+$"),
}


@pytest.mark.parametrize("behind", ["block", "approve"])
@pytest.mark.parametrize(
    ("parameter", "pattern"), [(name, each) for name, patterns in WHOLE.items() for each in patterns]
)
def test_k5_a_pattern_that_says_all_has_no_finding_holds(parameter: str, pattern: str, behind: str) -> None:
    rule = {
        "match": {"type": "read"},
        "conditions": {"param_matches": {parameter: pattern}},
        "risk_level": "low",
        "approval": "auto",
    }
    schema = {
        "type": "object",
        "properties": {parameter: {"type": "string"}},
        "required": [parameter],
        "additionalProperties": False,
    }
    policy = Policy.from_dict({"defaults": {"approval": behind}, "rules": [rule]})
    assert [str(each) for each in lint(policy, {"read": schema})] == []


def test_k5_strict_makes_warnings_count(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "defaults: {}\nrules:\n  - { name: ok, match: { type: x }, risk_level: critical, approval: auto }\n"
    )
    assert CliRunner().invoke(main, ["policy", "check", str(file)]).exit_code == 0
    assert CliRunner().invoke(main, ["policy", "check", "--strict", str(file)]).exit_code == 1
