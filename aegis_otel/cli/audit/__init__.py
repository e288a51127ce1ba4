"""`aegis audit`: who wanted to do what, what was decided, and what came of it."""

from __future__ import annotations

from importlib import import_module

import click
from click.core import ParameterSource

from aegis_otel.cli.audit.options import (
    filter_options,
    find_audit,
    limit_option,
    matching,
    open_audit,
    path_option,
)

_TABLE_ROWS = 50
_FOLLOWED_ROWS = 10
_COMMANDS = {
    "export": "export",
    "prune": "maintain",
    "resend": "resend",
    "seal": "maintain",
    "show": "show",
    "sql": "sql",
    "stats": "stats",
    "verify": "verify",
}
"""The module of this package that defines each command."""


class _Audit(click.Group):
    """Loads a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"{__name__}.{_COMMANDS[cmd_name]}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_Audit,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND]",
    short_help="Show the audit, newest entries first.",
)
@path_option
@filter_options
@limit_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "jsonl", "csv", "parquet"]),
    help="[default: table; for a file its suffix, else jsonl]",
)
@click.option(
    "-o",
    "--output",
    "--export",
    metavar="FILE",
    help="Write all entries to a file, oldest first, as `export` does; `-` is standard output.",
)
@click.option(
    "-f", "--follow", "--tail", is_flag=True, help="Go on with what is new or changes, until Ctrl-C."
)
@click.pass_context
def audit(
    ctx: click.Context,
    /,
    *,
    path: str | None,
    limit: int | None,
    form: str | None,
    output: str | None,
    follow: bool,
    **filters: str | None,
) -> None:
    """Show the audit, newest entries first; all filters given must hold.

    A table has the newest 50 where no --limit says otherwise.
    """
    if ctx.invoked_subcommand is not None:
        _hand_down(ctx, ctx.invoked_subcommand)
        return
    if output is not None and (form == "table" or follow):
        raise click.UsageError(f"--output does not go with {'--follow' if follow else '--format table'}")
    if output is None and form == "parquet":
        raise click.UsageError("--format parquet is a file: say where with --output FILE")
    if follow and form not in (None, "table", "jsonl"):
        raise click.UsageError("--follow prints lines: its formats are table and jsonl")
    condition = matching(**filters)
    if output is not None:
        from aegis_otel.cli.audit.export import form_of

        form = form_of(output, form)
    directory = find_audit(ctx, path)
    if follow:
        from aegis_otel.cli.audit.follow import print_feed

        print_feed(
            directory, condition, limit or _FOLLOWED_ROWS, form or "table", color=ctx.color is not False
        )
        return

    from aegis_otel.audit.query.rows import count_rows, read_rows
    from aegis_otel.audit.record import COLUMNS
    from aegis_otel.cli.audit.export import print_text, write_entries
    from aegis_otel.cli.audit.table import print_table

    connection = open_audit(directory)
    if output is not None and form is not None:
        write_entries(connection, condition, output, form, limit)
    elif form is None or form == "table":
        total = count_rows(connection, condition)
        rows = read_rows(connection, condition, limit=limit or _TABLE_ROWS)
        print_table(list(rows), total, color=ctx.color is not False)
    else:
        rows = read_rows(connection, condition, limit=limit)
        print_text(form, rows, [column.name for column in COLUMNS])


def _hand_down(ctx: click.Context, name: str) -> None:
    """Options given before a command are the command's: `aegis audit --path DIR show ID`."""
    command = ctx.command
    assert isinstance(command, click.Group)
    chosen = command.get_command(ctx, name)
    assert chosen is not None
    known = {option.name for option in chosen.params}
    given = {}
    for option in command.params:
        assert option.name is not None
        if ctx.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            if option.name not in known:
                raise click.UsageError(f"{option.opts[-1]} does not go with `{name}`")
            given[option.name] = ctx.params[option.name]
    ctx.default_map = {name: given}
