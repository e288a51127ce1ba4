"""`aegis audit`: show what agents wanted to do, what was decided, and how it ended."""

from __future__ import annotations

import click
from click.core import ParameterSource

from aegis_otel.audit.query.export import FORMATS
from aegis_otel.cli import LazyGroup
from aegis_otel.cli.audit.options import (
    checked_output,
    condition_of,
    filter_options,
    format_option,
    limit_option,
    output_option,
    path_option,
)
from aegis_otel.cli.audit.source import open_audit

_TABLE_ROWS = 50
_FOLLOWED_ROWS = 10
_MODULES = {
    "export": "query",
    "prune": "maintain",
    "resend": "maintain",
    "seal": "maintain",
    "show": "show",
    "sql": "query",
    "stats": "query",
    "verify": "maintain",
}


@click.group(
    cls=LazyGroup,
    modules={name: f"{__name__}.{module}" for name, module in _MODULES.items()},
    invoke_without_command=True,
    subcommand_metavar="[COMMAND]",
    short_help="Show the audit, newest entries first.",
)
@path_option
@filter_options
@limit_option
@format_option("table", *FORMATS)
@output_option("--export", help="Write the entries to a file, oldest first; `-` is standard output.")
@click.option("-f", "--follow", "--tail", is_flag=True, help="Show new and changed entries until Ctrl-C.")
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
    """Show the audit, newest entries first. All filters given must match.

    A table shows the newest 50 entries unless --limit is given.
    """
    if ctx.invoked_subcommand is not None:
        _pass_on_options(ctx, ctx.invoked_subcommand)
        return
    if output is not None and follow:
        raise click.UsageError("--output does not go with --follow")
    if follow and form not in (None, "table", "jsonl"):
        raise click.UsageError("--follow prints lines: its formats are table and jsonl")
    form = checked_output(output, form)
    condition = condition_of(filters)
    if follow:
        from aegis_otel.cli.audit.query import print_feed

        print_feed(path, condition, limit or _FOLLOWED_ROWS, as_json=form == "jsonl")
        return
    connection = open_audit(path)
    if form == "table":
        from aegis_otel.audit.query.rows import count_rows, read_rows
        from aegis_otel.cli.rendering import print_rows

        total = count_rows(connection, condition)
        print_rows(list(read_rows(connection, condition, limit=limit or _TABLE_ROWS)), total)
        return
    from aegis_otel.cli.audit.query import print_entries, write_entries

    if output is not None:
        write_entries(connection, condition, output, form, limit)
    else:
        print_entries(connection, condition, form, limit)


def _pass_on_options(ctx: click.Context, name: str) -> None:
    """Give options before a command to the command: `aegis audit --path DIR show ID`."""
    group = ctx.command
    assert isinstance(group, click.Group)
    command = group.get_command(ctx, name)
    assert command is not None
    known = {option.name for option in command.params}
    given = {}
    for option in group.params:
        assert option.name is not None
        if ctx.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            if option.name not in known:
                raise click.UsageError(f"{option.opts[-1]} does not go with `{name}`")
            given[option.name] = ctx.params[option.name]
    ctx.default_map = {name: given}
