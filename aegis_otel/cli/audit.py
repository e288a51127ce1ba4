"""`aegis audit`: who wanted to do what, what was decided, and what came of it."""

from __future__ import annotations

import click

from aegis_otel.audit.filters import RISK_LEVELS, STATUSES, Filters, compile_filters
from aegis_otel.audit.location import exists, locate
from aegis_otel.config import AUDIT_DIR
from aegis_otel.terminal import escape

_TABLE_ROWS = 50
_TIME = "ISO 8601, UTC unless it has an offset"


@click.group(invoke_without_command=True, subcommand_metavar="")
@click.option(
    "--path",
    "--db",
    metavar="DIR",
    help=f"The audit directory.  [default: {AUDIT_DIR.env}, else {AUDIT_DIR.default}]",
)
@click.option(
    "--risk",
    type=click.Choice([r.lower() for r in RISK_LEVELS], case_sensitive=False),
    help="Only this risk.",
)
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only this result.")
@click.option("--session", metavar="ID", help="Only this session.")
@click.option("--rule", metavar="NAME", help="Decided by this rule.")
@click.option("--agent", metavar="NAME", help="Asked for by this agent.")
@click.option("--since", metavar="TIME", help=f"Of this time or later ({_TIME}).")
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option(
    "--limit",
    type=click.IntRange(1, 2**63 - 1),
    help=f"At most so many, the newest.  [default for a table: {_TABLE_ROWS}]",
)
@click.option("--format", "form", type=click.Choice(["table", "json", "jsonl"]), help="[default: table]")
@click.option("--export", metavar="FILE", help="Write the entries to a file, as JSON lines, oldest first.")
@click.pass_context
def audit(
    ctx: click.Context,
    *,
    path: str | None,
    risk: str | None,
    status: str | None,
    session: str | None,
    rule: str | None,
    agent: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    form: str | None,
    export: str | None,
) -> None:
    """Show the audit, newest entries first; all filters given must hold."""
    if ctx.invoked_subcommand is not None:
        return
    if form is not None and export is not None:
        raise click.UsageError("--export always writes JSON lines: leave out --format")
    filters: Filters = {
        "risk_level": risk,
        "result_status": status,
        "matched_rule": rule,
        "agent_name": agent,
        "since": since,
        "until": until,
    }
    condition = compile_filters(session, filters)
    directory = locate(path)
    if not exists(directory):
        click.echo(f"no audit at `{escape(str(directory))}`", err=True)
        ctx.exit(1)

    from aegis_otel.audit.export import write_jsonl
    from aegis_otel.audit.rows import count_rows, read_rows, to_json
    from aegis_otel.audit.store import connect, unreadable_lines
    from aegis_otel.cli.audit_table import print_table

    connection = connect(directory)
    if unreadable := unreadable_lines(connection):
        click.echo(f"Journal lines left out because they cannot be read: {unreadable}", err=True)
    if export is not None:
        count = write_jsonl(export, read_rows(connection, condition, limit=limit, oldest_first=True))
        click.echo(f"Exported {count} {'entry' if count == 1 else 'entries'} to {escape(export)}")
    elif form == "json":
        before = "[\n"
        for row in read_rows(connection, condition, limit=limit):
            click.echo(before + to_json(row), nl=False)
            before = ",\n"
        click.echo("[]" if before == "[\n" else "\n]")
    elif form == "jsonl":
        for row in read_rows(connection, condition, limit=limit):
            click.echo(to_json(row))
    else:
        total = count_rows(connection, condition)
        rows = read_rows(connection, condition, limit=limit or _TABLE_ROWS)
        print_table(list(rows), total, color=ctx.color is not False)
