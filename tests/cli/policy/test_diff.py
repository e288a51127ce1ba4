"""`aegis policy diff`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aegis_otel.cli import main

OLD = """
rules:
  - name: large
    match: { type: pay }
    conditions: { param_gt: { amount: 1000 } }
    approval: block
  - { name: search, match: { type: "search*" }, approval: auto }
"""
NEW = OLD.replace("1000", "2000").replace("search", "find")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("old.yaml").write_text(OLD)
    Path("new.yaml").write_text(NEW)
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["policy", "diff", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_what_is_written_and_what_is_decided_otherwise() -> None:
    result = run("old.yaml", "new.yaml")
    rules, _, calls = result.output.partition("\n\n")
    assert rules.splitlines() == [
        "~ large (block) changed  [new.yaml:3:5]",
        "    conditions: `param_gt` on `amount` the number `1000` -> "
        "`param_gt` on `amount` the number `2000`",
        "+ find (auto) added  [new.yaml:7:7]",
        "    placed after `large`",
        "- search (auto) removed  [old.yaml:7:7]",
    ]
    assert (
        "  looser: block at medium risk by `large` -> approve at medium risk by `<default>`\n"
        '      pay {"amount": 1001} and '
    ) in calls
    assert "  stricter: auto at medium risk by `search` -> approve at medium risk by `<default>`\n" in calls
    assert result.exit_code == 1


def test_no_name_of_a_call_looks_like_two_or_like_another_fact() -> None:
    Path("old.yaml").write_text("""
rules:
  - name: r
    match: { type: "pay -> bank", target: "x by z", agent: "a for y", user: "eve, roles admin", role: "a, b" }
    approval: block
""")
    Path("new.yaml").write_text("rules: []\n")
    (call,) = [line for line in run("old.yaml", "new.yaml").output.splitlines() if "eve" in line]
    assert call.split(" and ")[0].strip() == (
        '"pay -> bank" -> "x by z" {} by "a for y" for user "eve, roles admin", roles "a, b"'
    )


def test_what_is_only_stricter_is_exit_0() -> None:
    Path("new.yaml").write_text(OLD.replace("1000", "500"))
    result = run("old.yaml", "new.yaml")
    assert "stricter" in result.output
    assert "looser" not in result.output
    assert result.exit_code == 0


def test_the_same_policy_is_no_difference() -> None:
    Path("new.yaml").write_text(f"# the same\n{OLD}")
    result = run("old.yaml", "new.yaml")
    assert result.output.startswith("no difference: both are sha256:")
    assert result.exit_code == 0


def test_defaults_are_compared() -> None:
    Path("new.yaml").write_text(f"defaults: {{ approval: auto, risk_level: low }}\n{OLD}")
    result = run("old.yaml", "new.yaml")
    assert result.output.startswith("~ defaults: approve at medium risk -> auto at low risk\n")
    assert result.exit_code == 1


def test_merged_files_are_separated_as_in_the_environment() -> None:
    Path("more.yaml").write_text("rules: [{ name: more, match: { type: x }, approval: block }]\n")
    result = run("old.yaml", os.pathsep.join(["old.yaml", "more.yaml"]))
    assert result.output.startswith("+ more (block) added  [more.yaml:1:11]\n")
    assert result.exit_code == 0


def test_json_says_the_same() -> None:
    result = run("old.yaml", "new.yaml", "--format", "json")
    report = json.loads(result.output)
    assert result.exit_code == 1
    assert report["loosens"] is True
    assert [(each["change"], each["rule"], each["line"]) for each in report["rules"]] == [
        ("changed", "large", 3),
        ("added", "find", 7),
        ("removed", "search", 7),
    ]
    first = report["differences"][0]
    assert first["effect"] == "looser"
    assert list(first["old"].values()) == ["block", "large", "medium", "enforce"]
    assert first["example"]["params"] == {"amount": 1001}


def test_tools_are_tried() -> None:
    Path("tools.json").write_text(json.dumps({"look_up": {"type": "object"}}))
    Path("new.yaml").write_text(OLD + '  - { name: l, match: { type: "look?up" }, approval: auto }\n')
    result = run("old.yaml", "new.yaml", "--tools", "tools.json")
    assert "      look_up {} and" in result.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("old.yaml",), 2),
        (("old.yaml", "none.yaml"), 3),
        (("old.yaml", "new.yaml", "--tools", "none.json"), 2),
    ],
)
def test_wrong_usage_and_invalid_policies(arguments: tuple[str, ...], code: int) -> None:
    assert run(*arguments).exit_code == code


@pytest.mark.parametrize("form", ["text", "json"])
def test_hostile_policies_cannot_steer_the_terminal(form: str) -> None:
    """Names and globs cannot hold control characters; values can."""
    for name, value in (("old.yaml", r"\e[2J\u202e"), ("new.yaml", r"\e[3J\u202e")):
        Path(name).write_text(
            f'rules: [{{ name: a, approval: block, conditions: {{ param_eq: {{ a: "{value}" }} }} }}]\n'
        )
    result = run("old.yaml", "new.yaml", "--format", form)
    assert result.exit_code == 1
    assert all(c.isprintable() or c == "\n" for c in result.output)


def test_a_time_is_shown_only_where_a_rule_reads_it() -> None:
    nights = (
        "  - { name: nights, match: { type: pay }, conditions: { time_after: '20:00' }, approval: block }\n"
    )
    Path("new.yaml").write_text(NEW + nights)
    output = run("old.yaml", "new.yaml").output
    assert "      pay {} at Wed 20:01 UTC" in output
    assert "      search {}\n" in output or "      search {} and" in output


def test_one_condition_that_is_changed_among_others_has_one_line() -> None:
    several = OLD.replace("amount: 1000 }", "amount: 1000 }, param_lt: { amount: 5000 }")
    Path("old.yaml").write_text(several)
    Path("new.yaml").write_text(several.replace("5000", "8000"))
    assert (
        "    conditions: `param_lt` on `amount` the number `5000` -> "
        "`param_lt` on `amount` the number `8000`\n"
    ) in run("old.yaml", "new.yaml").output


def test_the_example_is_a_call_that_a_rule_decides_for_certain() -> None:
    """A call without a required argument says less: the rule only may match it."""
    tools = {"mail": {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}}
    Path("tools.json").write_text(json.dumps(tools))
    rule = '{ name: rivals, match: { type: mail }, conditions: { param_contains: { to: "@evil.test" } } }'
    Path("new.yaml").write_text(f"{OLD}  - {rule[:-2]}, approval: block }}\n")
    output = run("old.yaml", "new.yaml", "--tools", "tools.json").output
    assert '      mail {"to": "@evil.test"}' in output


def test_lines_are_wrapped_at_a_terminal_and_not_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("old.yaml", "new.yaml").output
    assert max(map(len, whole.splitlines())) > 80
    monkeypatch.setenv("COLUMNS", "80")
    wrapped = run("old.yaml", "new.yaml").output
    assert max(map(len, wrapped.splitlines())) <= 80
    assert wrapped.split() == whole.split()


@pytest.mark.parametrize("command", [("diff", "old.yaml"), ("explain", "--type", "pay"), ("replay",)])
def test_an_invalid_policy_is_json_where_json_is_asked_for(command: tuple[str, ...]) -> None:
    Path("bad.yaml").write_text("rules: 5\n")
    result = CliRunner().invoke(main, ["policy", *command, "bad.yaml", "--format", "json"])
    assert result.exit_code == 3
    report = json.loads(result.stdout)
    assert (report["valid"], report["problems"][0]["source"]) == (False, "bad.yaml")


@pytest.mark.parametrize("command", ["check", "diff", "explain", "init", "replay", "show", "test", "tools"])
def test_no_line_of_help_is_wider_than_a_terminal(command: str) -> None:
    result = CliRunner().invoke(main, ["policy", command, "--help"])
    assert max(map(len, result.output.splitlines())) <= 80


def test_other_approvers_are_shown_with_the_calls() -> None:
    rule = "rules: [{ name: pay, match: { type: pay }, approval: approve, approvers: { roles: [%s] } }]"
    Path("old.yaml").write_text(rule % "finance")
    Path("new.yaml").write_text(rule % "finance, sales")
    result = run("old.yaml", "new.yaml")
    assert result.exit_code == 1
    assert "    approvers.roles: + `sales`\n" in result.output
    assert (
        "looser: approve at medium risk by `pay`, asking role `finance`, not the user that the agent acts "
        "for -> approve at medium risk by `pay`, asking role `finance`, `sales`, not the user"
        in result.output
    )
    (found,) = json.loads(run("old.yaml", "new.yaml", "--format", "json").output)["differences"]
    assert found["new"]["approvers"]["roles"] == ["finance", "sales"]
