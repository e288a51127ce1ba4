"""`aegis policy init`: a first policy for an agent, or for what an audit saw in monitor mode."""

from __future__ import annotations

from pathlib import Path

import click

from aegis_otel.cli.audit.source import open_audit
from aegis_otel.cli.policy.inventory import inventory_of
from aegis_otel.config.storage_schemes import examples
from aegis_otel.redaction.terminal import escape


@click.command(short_help="Write a first policy.")
@click.argument("target", metavar="[MODULE:AGENT]", required=False)
@click.option(
    "--from-audit",
    "path",
    metavar="DIR",
    help=f"Let run what this audit (a directory, or {examples()}) saw in monitor mode.",
)
@click.option(
    "--since",
    metavar="TIME",
    help="Only calls since then: ISO 8601 (UTC without an offset), or how long ago: 30m, 2h, 7d.",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to a new FILE instead.",
)
@click.pass_context
def init(
    ctx: click.Context, /, *, target: str | None, path: str | None, since: str | None, out: Path | None
) -> None:
    """Write a first policy, with a comment at every rule, for an agent or from an audit.

    For the tools that an agent can reach: tools that destroy something are blocked and tools that only read
    run, as far as their names and their MCP servers say so; everything else is asked about. Importing MODULE
    runs its code.

    From an audit: calls that ran in monitor mode run, by their exact tool, target, agent and parameters, and
    with the values that were seen where these are few; everything else is asked about. So are calls that
    would have been blocked, and calls of tools that change something with many different texts.

    \b
    Exit codes:
      0  the policy is written
      1  FILE exists already, the tools of a server could not be listed, or the
         audit has no calls in monitor mode
      2  wrong usage, or there is no such agent
    """
    if (target is None) == (path is None):
        raise click.UsageError("name an agent as MODULE:AGENT, or an audit with --from-audit")
    if path is not None:
        _write(_from_audit(path, since), out)
        return
    if since is not None:
        raise click.UsageError("--since goes with --from-audit only")
    from aegis_otel.policy_tools.drafts.agent_draft import draft_for_agent

    assert target is not None
    known = inventory_of(target)
    _write(draft_for_agent(known, f"aegis policy init {target}"), out)
    if not known.is_complete:
        click.echo("warning: the tools of a server could not be listed", err=True)
        ctx.exit(1)


def _from_audit(path: str, since: str | None) -> str:
    from aegis_otel.audit.query.filters import compile_filters
    from aegis_otel.policy_tools.drafts.audit_draft import draft_from_calls, seen_calls

    condition = compile_filters(None, {"since": since})
    when = "" if since is None else f" --since {since}"
    text = draft_from_calls(
        seen_calls(open_audit(path), condition), f"aegis policy init --from-audit {path}{when}"
    )
    if text is None:
        click.echo("no calls in monitor mode: nothing to write a policy from", err=True)
        raise click.exceptions.Exit(1)
    return text


def _write(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
        shown = escape(str(out))
        click.echo(f"wrote {shown}; next: aegis policy check {shown}")
    except FileExistsError:
        click.echo(f"Error: `{escape(str(out))}` exists: it is not replaced", err=True)
        raise click.exceptions.Exit(1) from None
