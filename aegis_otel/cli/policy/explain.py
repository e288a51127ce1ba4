"""`aegis policy explain`: what a policy says about one call, rule by rule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.explanation import explanation_report, print_rules
from aegis_otel.cli.policy.inventory import read_inventory
from aegis_otel.errors import CasesError
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.model import Action
    from aegis_otel.policy.explain import Explanation


@click.command(short_help="Explain what a policy says about a call.")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--type", "action_type", metavar="NAME", help="The action type; for a tool call, the tool's name."
)
@click.option("--target", metavar="NAME", help="What is acted on.  [default: that of the tool, else default]")
@click.option("--agent", metavar="NAME", help="The agent that asks.  [default: not known]")
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
@click.option("--tools", metavar="FILE", type=click.File("rb"), help="The program's tools, as for `check`.")
@click.option(
    "--case", metavar="FILE NAME", nargs=2, help="Explain the case NAME of FILE (`aegis policy test`)."
)
@text_or_json_option
def explain(
    *,
    files: tuple[Path, ...],
    tools: Any,
    at: str | None,
    case: tuple[str, str] | None,
    form: str,
    **call: Any,
) -> None:
    """Show what the policy in FILE says about a call, and why: every rule and its tests. No tool runs.

    Several files are merged, with the rules of the first file first. With --case, FILE may be left out: the
    policy is then the one that the case is for.

    \b
    Exit codes:
      0  the call is explained, whatever the policy says about it
      2  wrong usage, or there is no such case
      3  the policy is not valid
    """
    from aegis_otel.policy import Policy
    from aegis_otel.policy.explain import explain as explain_action

    if case is not None:
        if call["action_type"] is not None:
            raise click.UsageError("--type and --case exclude each other")
        action, moment, found = _case(*case)
        files = files or found
    else:
        if call["action_type"] is None:
            raise click.UsageError("say what is called: give --type, or a case with --case FILE NAME")
        action, moment = _action(tools, **call), None
    if not files:
        raise click.UsageError("name the policy to explain by")
    policy = Policy.from_yaml_files(*files)
    now = _time(at) or moment or datetime.now(UTC)
    explanation = explain_action(policy, action, now)
    if form == "json":
        report = {"policy_digest": policy.digest, "at": now.isoformat(), **explanation_report(explanation)}
        click.echo(json.dumps(report, indent=2))
    else:
        _print(explanation)


def _print(explanation: Explanation) -> None:
    verdict = explanation.verdict
    print_rules(explanation.rules, verdict.matched_rule)
    what = f"{verdict.approval.value} by `{verdict.matched_rule}` at {verdict.risk_level.name.lower()} risk"
    click.echo(escape(f"so it decides: {what}: {verdict.reason}"))


def _action(
    tools: Any,
    *,
    action_type: str,
    target: str | None,
    agent: str | None,
    params: Sequence[str],
    user: str | None,
    tenant: str | None,
    roles: Sequence[str],
) -> Action:
    from aegis_otel.model import Subject
    from aegis_otel.policy.messages import Invalid
    from aegis_otel.policy_tools.calls import WrittenCall, action_of

    known = None if tools is None else read_inventory(tools.read())
    try:
        has_subject = user is not None or tenant is not None or roles
        subject = Subject(user, tenant, tuple(roles) or None) if has_subject else None
        call = WrittenCall(action_type, target, agent, dict(map(_param, params)), None, subject)
        return action_of(call, known)
    except (Invalid, ValueError) as error:
        raise click.UsageError(escape(str(error))) from None


def _param(text: str) -> tuple[str, Any]:
    """Return the name and the value of an argument: `amount=20`, `to=me`, `tags=["a"]`, `id="20"`."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--param `{escape(text)}` is not NAME=VALUE, such as `amount=20`")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _case(path: str, name: str) -> tuple[Action, datetime | None, tuple[Path, ...]]:
    """Return the action and the time of a case, and the policy that it is for."""
    from aegis_otel.policy_tools.cases import read_case_files

    try:
        (file,) = read_case_files([Path(path)])
    except CasesError as error:
        raise click.UsageError("\n".join(escape(str(problem)) for problem in error.problems)) from None
    for case in file.cases:
        if case.name == name:
            return case.action, case.at, file.policies
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
