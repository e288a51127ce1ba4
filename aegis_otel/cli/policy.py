"""`aegis policy`: check a policy before it is used, and print the JSON Schema of policies for editors."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.cli import Group, text_or_json_option
from aegis_otel.cli.load_agent import load_agent
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


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def policy() -> None:
    """Check policies before they are used."""


@policy.command(short_help="Find errors and likely mistakes in a policy.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--tools",
    metavar="FILE",
    type=click.File("rb"),
    help="Check against these tools (JSON): the output of `aegis policy tools`, of MCP's `tools/list`, a "
    "list of tools as for OpenAI's API, or an object of JSON Schemas by tool name.",
)
@click.option(
    "--agent", metavar="MODULE:AGENT", help="Check against the tools of this agent; this runs MODULE's code."
)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings, too.")
@text_or_json_option
@click.pass_context
def check(
    ctx: click.Context, /, *, files: tuple[Path, ...], tools: Any, agent: str | None, strict: bool, form: str
) -> None:
    """Load the policy in FILE and report errors and likely mistakes.

    Several files are merged, with the rules of the first file first.

    \b
    Exit codes:
      0  the policy is valid; there may be warnings
      1  the policy loads, but the check found an error (see docs/policy.md),
         or with --strict a warning
      2  wrong usage
      3  the policy is not valid
    """
    from aegis_otel.policy import Policy
    from aegis_otel.policy.lint import lint
    from aegis_otel.policy.lint.finding import Severity

    if tools is not None and agent is not None:
        raise click.UsageError("--tools and --agent exclude each other")
    known = _read(tools.read()) if tools is not None else None if agent is None else _inventory(agent)
    try:
        with _without_gc():
            loaded = Policy.from_yaml_files(*files)
            findings = lint(loaded, known)
    except PolicyError as error:
        if form == "json":
            _print_json({"valid": False, "problems": [asdict(problem) for problem in error.problems]})
        else:
            _print_lines(error.problems)
        ctx.exit(3)
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    if form == "json":
        _print_json(_report(loaded, findings))
    else:
        _print_lines(findings)
        _print_summary(loaded, errors)
    ctx.exit(1 if errors or (strict and findings) else 0)


@policy.command()
def schema() -> None:
    """Print the JSON Schema of policy files."""
    from aegis_otel.policy.loading.schema import json_schema

    _print_json(json_schema())


@policy.command(short_help="List an agent's tools, for `policy check --tools`.")
@click.argument("target", metavar="MODULE:AGENT")
@click.option(
    "--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write to FILE instead."
)
@click.pass_context
def tools(ctx: click.Context, target: str, out: Path | None) -> None:
    """Print an agent's tools as JSON, for `aegis policy check --tools`.

    These are all tools that the agent can reach: also by handoffs, through agents that are tools, and on
    MCP servers, to which it connects. Importing MODULE runs its code. If a server's tools cannot be listed,
    the exit code is 1.
    """
    known = _inventory(target)
    listed = [tool._asdict() for tool in known.tools]
    for tool in listed:
        tool["parameters"] = tool.pop("schema")
    document = {"version": "1", "agents": list(known.agents or ()), "tools": listed}
    if out is None:
        _print_json(document)
    else:
        out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if not known.is_complete:
        click.echo("warning: the tools of a server could not be listed", err=True)
        ctx.exit(1)


def _inventory(target: str) -> Inventory:
    from aegis_otel.adapters.openai_agents.coverage.tool_inventory import inventory

    return inventory(load_agent(target))


def _read(content: bytes) -> Inventory:
    from aegis_otel.policy.lint.tool_list import NotTools, read_tools

    try:
        return read_tools(json.loads(content))
    except NotTools as error:
        raise click.UsageError(f"--tools: {escape(str(error))}") from None
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--tools is not JSON: {escape(str(error))}") from None


def _print_lines(lines: Iterable[Problem | Finding]) -> None:
    for line in lines:
        click.echo(escape(str(line)))


def _print_summary(loaded: Policy, errors: int) -> None:
    approval, risk_level = loaded.default
    count = len(loaded.rules)
    state = "valid" if not errors else f"loads, with {errors} error{'' if errors == 1 else 's'}"
    click.echo(
        f"policy {state}: {count} rule{'' if count == 1 else 's'}, "
        f"default {approval.value} at {risk_level.name.lower()} risk, {loaded.digest}"
    )


def _print_json(document: Mapping[str, Any]) -> None:
    # JSON in ASCII, so that no text of a policy file acts on the terminal.
    click.echo(json.dumps(document, indent=2))


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
                "severity": each.severity.value,
                "kind": each.kind,
                "message": each.message,
                **each.place._asdict(),
                "suggestion": each.suggestion,
            }
            for each in findings
        ],
    }
