"""`aegis policy init`: a first policy for an agent, or for what an audit saw in monitor mode."""

from __future__ import annotations

from pathlib import Path

import click

from aegis_otel.cli.policy.inventory import inventory_of
from aegis_otel.redaction.terminal import escape


@click.command(short_help="Write a first policy.")
@click.argument("target", metavar="MODULE:AGENT")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to a new FILE instead.",
)
@click.pass_context
def init(ctx: click.Context, target: str, out: Path | None) -> None:
    """Write a first policy for the tools that an agent can reach, with a comment at every rule.

    Tools that destroy something are blocked and tools that only read run, as far as their names and their MCP
    servers say so; everything else is asked about. Importing MODULE runs its code.

    \b
    Exit codes:
      0  the policy is written
      1  FILE exists already, or the tools of a server could not be listed
      2  there is no such agent
    """
    from aegis_otel.policy_tools.agent_draft import draft_for_agent

    known = inventory_of(target)
    _write(draft_for_agent(known, f"aegis policy init {target}"), out)
    if not known.is_complete:
        click.echo("warning: the tools of a server could not be listed", err=True)
        ctx.exit(1)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        click.echo(f"Error: `{escape(str(out))}` exists: it is not replaced", err=True)
        raise click.exceptions.Exit(1) from None
