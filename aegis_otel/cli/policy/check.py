"""`aegis policy check`: find errors and likely mistakes in a policy before it is used."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.policy.inventory import chosen_inventory, tools_option, ungovernable_lines
from aegis_otel.cli.policy_files import load_policy
from aegis_otel.cli.rendering import echo_wrapped, plural
from aegis_otel.errors import PolicyError, Problem
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.policy import Policy
    from aegis_otel.policy.lint import Inventory
    from aegis_otel.policy.lint.finding import Finding


@contextmanager
def _without_gc() -> Iterator[None]:
    """Collect no garbage: all of a policy is in use, and the search would take a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@click.command(short_help="Find errors and likely mistakes in a policy.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@tools_option(
    "Check against these tools (JSON): the output of `aegis policy tools`, of MCP's `tools/list`, a "
    "list of tools as for OpenAI's API, or an object of JSON Schemas by tool name."
)
@click.option(
    "--agent", metavar="MODULE:AGENT", help="Check against the tools of this agent; this runs MODULE's code."
)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings, too.")
@click.option(
    "--allow",
    "allowed",
    metavar="KIND",
    multiple=True,
    help="Accept warnings of this kind, which stands in brackets. Repeat it for each.",
)
@text_or_json_option
@click.pass_context
def check(
    ctx: click.Context,
    /,
    *,
    files: tuple[str, ...],
    tools: Any,
    agent: str | None,
    strict: bool,
    allowed: tuple[str, ...],
    form: str,
) -> None:
    """Load the policy in FILE and report errors and likely mistakes.

    Several files, also separated by `:`, are merged, with the rules of the first file first. `-` is standard
    input.

    \b
    Exit codes:
      0  the policy is valid; there may be warnings
      1  the policy loads, but the check found an error (see docs/policy.md),
         or with --strict a warning that --allow does not accept
      2  wrong usage
      3  the policy is not valid
    """
    from aegis_otel.policy.lint import lint
    from aegis_otel.policy.lint.finding import Severity

    _check_kinds(allowed)
    known = chosen_inventory(tools, agent)
    try:
        with _without_gc():
            loaded = load_policy(*files)
            found = lint(loaded, known)
    except PolicyError as error:
        if form == "json":
            _print_json({"valid": False, "problems": [asdict(problem) for problem in error.problems]})
        else:
            _print_lines(error.problems)
        ctx.exit(3)
    findings = [each for each in found if each.kind not in allowed or each.severity is Severity.ERROR]
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    if form == "json":
        _print_json(_report(loaded, findings, len(found) - len(findings), known))
    else:
        _print_lines(findings)
        for line in () if known is None else ungovernable_lines(known):
            click.echo(line)
        _print_summary(loaded, errors, len(found) - len(findings))
    ctx.exit(1 if errors or (strict and findings) else 0)


def _check_kinds(kinds: Iterable[str]) -> None:
    """Raise UsageError where one of them is no kind of finding: it would accept nothing."""
    from aegis_otel.policy.lint.finding import KINDS
    from aegis_otel.policy.messages import closest, quoted

    for kind in kinds:
        if kind not in KINDS:
            meant = closest(kind, sorted(KINDS))
            hint = f" (did you mean `{meant}`?)" if meant else ""
            raise click.UsageError(f"--allow {quoted(kind)} is no kind of finding{hint}: see docs/policy.md")


def _print_lines(lines: Iterable[Problem | Finding]) -> None:
    for line in lines:
        echo_wrapped(escape(str(line)))


def _print_summary(loaded: Policy, errors: int, accepted: int) -> None:
    approval, risk_level = loaded.default
    count = len(loaded.rules)
    state = "valid" if not errors else f"loads, with {errors} error{'' if errors == 1 else 's'}"
    click.echo(
        f"policy {state}: {count} rule{'' if count == 1 else 's'}, "
        f"default {approval.value} at {risk_level.name.lower()} risk, {loaded.digest}"
        + (f"; {plural(accepted, 'warning')} allowed" if accepted else "")
    )


def _print_json(document: Mapping[str, Any]) -> None:
    # JSON in ASCII, so that no text of a policy file acts on the terminal.
    click.echo(json.dumps(document, indent=2))


def _report(
    loaded: Policy, findings: Iterable[Finding], accepted: int, known: Inventory | None
) -> dict[str, Any]:
    approval, risk_level = loaded.default
    return {
        "valid": True,
        "sources": loaded.sources,
        "rules": len(loaded.rules),
        "defaults": {"approval": approval.value, "risk_level": risk_level.name.lower()},
        "digest": loaded.digest,
        "findings": [
            {
                "severity": each.severity.value,
                "kind": each.kind,
                "message": each.message,
                **each.place._asdict(),
                "suggestion": each.suggestion,
            }
            for each in findings
        ],
        "allowed": accepted,
        "not_governable": [each._asdict() for each in (known.ungovernable if known else ())],
    }
