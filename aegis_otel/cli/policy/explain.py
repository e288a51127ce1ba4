"""`aegis policy explain`: what a policy says about one call, rule by rule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.explanation import explanation_report, print_rules, question_words, verdict_words
from aegis_otel.cli.policy.inventory import chosen_inventory, tools_option
from aegis_otel.cli.policy_files import load_policy, problems_in_json
from aegis_otel.cli.rendering import echo_wrapped
from aegis_otel.errors import CasesError
from aegis_otel.policy.messages import quoted
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.model import Action
    from aegis_otel.policy.explain import Explanation
    from aegis_otel.policy.lint import Inventory
    from aegis_otel.policy_tools.cases import Case

_OPTIONS = {"action_type": "--type", "agent": "--agent-name", "params": "--param", "roles": "--role"}
"""The options whose names in the code are other ones."""


@click.command(short_help="Explain what a policy says about a call.")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option(
    "--type", "action_type", metavar="NAME", help="The action type; for a tool call, the tool's name."
)
@click.option("--target", metavar="NAME", help="What is acted on.  [default: that of the tool, else default]")
@click.option(
    "--agent-name",
    "--agent",
    "agent",
    metavar="NAME",
    help="The name of the agent that asks.  [default: not known]",
)
@click.option(
    "--param",
    "params",
    metavar="NAME=VALUE",
    multiple=True,
    help="An argument of the call: JSON, or else text. Repeat it for each.",
)
@click.option("--user", metavar="ID", help="The user that the agent acts for.  [default: not known]")
@click.option("--tenant", metavar="ID", help="The tenant that it acts for.  [default: not known]")
@click.option(
    "--role", "roles", metavar="NAME", multiple=True, help="A role of the user. Repeat it for each."
)
@click.option(
    "--at", metavar="TIME", help="The time of the call: ISO 8601, UTC without an offset.  [default: now]"
)
@tools_option("The program's tools, as for `check`.")
@click.option(
    "--case", metavar="FILE NAME", nargs=2, help="Explain the case NAME of FILE (`aegis policy test`)."
)
@text_or_json_option
def explain(
    *,
    files: tuple[str, ...],
    tools: Any,
    at: str | None,
    case: tuple[str, str] | None,
    form: str,
    **call: Any,
) -> None:
    """Show what the policy in FILE says about a call, and why: every rule and its tests. No tool runs.

    Several files, also separated by `:`, are merged, with the rules of the first file first. With --case,
    FILE may be left out: the policy is then the one that the case is for.

    \b
    Exit codes:
      0  the call is explained, whatever the policy says about it
      2  wrong usage, or there is no such case
      3  the policy is not valid
    """
    from aegis_otel.policy import Policy
    from aegis_otel.policy.explain import explain as explain_action
    from aegis_otel.policy_tools.case_runner import action_of_case

    known = chosen_inventory(tools)
    if case is not None:
        _refuse_options_of_a_call(call)
        chosen, found = _case(*case, known)
        oddities = chosen.oddities
    else:
        if call["action_type"] is None:
            raise click.UsageError("say what is called: give --type, or a case with --case FILE NAME")
        action, oddities = _action(known, **call)
        chosen, found = None, ()
    if not files and not found:
        raise click.UsageError("name the policy to explain by")
    with problems_in_json(form):
        policy = load_policy(*files) if files else Policy.from_yaml_files(*found)
    if chosen is not None:
        action = action_of_case(policy, chosen)
    now = _time(at) or (chosen and chosen.at) or datetime.now(UTC)
    explanation = explain_action(policy, action, now)
    for oddity in oddities:
        click.echo(f"warning: {escape(oddity)}", err=True)
    if form == "json":
        report = {"policy_digest": policy.digest, "at": now.isoformat(), **explanation_report(explanation)}
        click.echo(json.dumps(report, indent=2))
    else:
        _print(explanation)


def _refuse_options_of_a_call(call: Mapping[str, Any]) -> None:
    for name, value in call.items():
        if value not in (None, ()):
            option = _OPTIONS.get(name, f"--{name}")
            raise click.UsageError(f"{option} and --case exclude each other: the case says what is called")


def _print(explanation: Explanation) -> None:
    print_rules(explanation, explanation.verdict.matched_rule)
    echo_wrapped(escape(f"so it decides: {verdict_words(explanation.verdict)}"))
    if question := question_words(explanation.verdict):
        echo_wrapped(escape(question))
    checks = (check for trace in explanation.rules for check in trace.checks)
    if not explanation.is_schema_known and any(check.lacks is not None for check in checks):
        click.echo("the defaults of the tool were not filled in: give --tools FILE")


def _action(
    known: Inventory | None,
    *,
    action_type: str,
    target: str | None,
    agent: str | None,
    params: Sequence[str],
    user: str | None,
    tenant: str | None,
    roles: Sequence[str],
) -> tuple[Action, tuple[str, ...]]:
    """Return the action that the options describe, and why the program would hardly take it."""
    from aegis_otel.model import Subject
    from aegis_otel.policy.messages import Invalid
    from aegis_otel.policy_tools.calls import WrittenCall, action_of, oddities

    try:
        has_subject = user is not None or tenant is not None or roles
        subject = Subject(user, tenant, tuple(roles) or None) if has_subject else None
        call = WrittenCall(action_type, target, agent, dict(map(_param, params)), None, subject)
        action = action_of(call, known)
        return action, tuple(oddities(call, action, known))
    except (Invalid, ValueError) as error:
        meant = error.suggestion if isinstance(error, Invalid) else None
        hint = f" (did you mean {quoted(meant)}?)" if isinstance(meant, str) else ""
        raise click.UsageError(escape(f"{error}{hint}")) from None


def _param(text: str) -> tuple[str, Any]:
    """Return the name and the value of an argument: `amount=20`, `to=me`, `tags=["a"]`, `id="20"`."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--param `{escape(text)}` is not NAME=VALUE, such as `amount=20`")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _case(path: str, name: str, known: Inventory | None) -> tuple[Case, tuple[Path, ...]]:
    """Return a case, and the policy that it is for."""
    from aegis_otel.policy_tools.cases import read_case_files

    try:
        (file,) = read_case_files([Path(path)], known)
    except CasesError as error:
        raise click.UsageError("\n".join(escape(str(problem)) for problem in error.problems)) from None
    for case in file.cases:
        if case.name == name:
            return case, file.policies
    raise click.UsageError(f"`{escape(path)}` has no case `{escape(name)}`")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            f"--at `{escape(text)}` is not an ISO 8601 time, such as 2026-03-04T12:00:00Z"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
