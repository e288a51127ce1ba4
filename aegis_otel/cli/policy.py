"""`aegis policy`: check a policy before it is in force, and its JSON Schema for editors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.errors import PolicyError, Problem
from aegis_otel.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.policy import Policy
    from aegis_otel.policy.lint.findings import Finding

_FORMAT = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)


@click.group()
def policy() -> None:
    """Check policies."""


@policy.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--tools",
    metavar="FILE",
    type=click.File("rb"),
    help="Hold the policy against tools: JSON, a schema of the parameters by the name of each tool.",
)
@click.option("--strict", is_flag=True, help="Exit 1 on warnings, too.")
@_FORMAT
@click.pass_context
def check(ctx: click.Context, files: tuple[Path, ...], tools: Any, strict: bool, form: str) -> None:
    """Load the policy in FILE and look for what is probably not meant.

    Several files are merged, the first file's rules first.

    \b
    Exit codes:
      0  the policy is valid; there may be warnings
      1  it is valid, but has an error of the table in docs/policy.md; with --strict, or a warning
      2  wrong usage
      3  it is not valid
    """
    from aegis_otel.policy import Policy
    from aegis_otel.policy.lint import lint
    from aegis_otel.policy.lint.findings import Severity

    schemas = None if tools is None else _schemas(tools.read())
    try:
        loaded = Policy.from_yaml_files(*files)
    except PolicyError as error:
        if form == "json":
            _print_json({"valid": False, "problems": [_fields(problem) for problem in error.problems]})
        else:
            _print_lines(error.problems)
        ctx.exit(3)
    findings = lint(loaded, schemas)
    if form == "json":
        _print_json(_report(loaded, findings))
    else:
        _print_lines(findings)
        _print_summary(loaded)
    ctx.exit(1 if any(strict or finding.severity is Severity.ERROR for finding in findings) else 0)


@policy.command()
def schema() -> None:
    """Print the JSON Schema of a policy file."""
    from aegis_otel.policy.grammar import json_schema

    _print_json(json_schema())


def _schemas(content: bytes) -> Mapping[str, Mapping[str, Any]]:
    try:
        schemas = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--tools is not JSON: {escape(str(error))}") from None
    if not isinstance(schemas, dict) or not all(isinstance(schema, dict) for schema in schemas.values()):
        raise click.UsageError("--tools must be a JSON object of tool names and JSON Schemas")
    return schemas


def _print_lines(lines: Iterable[Problem | Finding]) -> None:
    for line in lines:
        click.echo(escape(str(line)))


def _print_summary(loaded: Policy) -> None:
    approval, risk_level = loaded.default
    count = len(loaded.rules)
    click.echo(
        f"policy valid: {count} rule{'' if count == 1 else 's'}, "
        f"default {approval.value} at {risk_level.name.lower()} risk, {loaded.digest}"
    )


def _print_json(document: Mapping[str, Any]) -> None:
    # ASCII, so that nothing in a policy file reaches the terminal as anything but text.
    click.echo(json.dumps(document, indent=2))


def _fields(problem: Problem) -> dict[str, Any]:
    return {
        "message": problem.message,
        "source": problem.source,
        "line": problem.line,
        "column": problem.column,
        "suggestion": problem.suggestion,
    }


def _report(loaded: Policy, findings: Iterable[Finding]) -> dict[str, Any]:
    approval, risk_level = loaded.default
    return {
        "valid": True,
        "sources": loaded.sources,
        "rules": len(loaded.rules),
        "defaults": {"approval": approval.value, "risk_level": risk_level.name.lower()},
        "digest": loaded.digest,
        "findings": [
            {
                "severity": finding.severity.value,
                "kind": finding.kind,
                "message": finding.message,
                **finding.place._asdict(),
                "suggestion": finding.suggestion,
            }
            for finding in findings
        ],
    }
