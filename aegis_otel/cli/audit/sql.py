"""`aegis audit sql`: any question to the audit, and nothing but questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import click

from aegis_otel.audit.query import sandbox
from aegis_otel.cli.audit.export import STDOUT, form_of, print_text, told, write_text
from aegis_otel.cli.audit.options import (
    Within,
    address_given,
    fetch_others,
    find_audit,
    path_option,
    say_left_out,
)
from aegis_otel.redaction.terminal import escape

_TABLE_ROWS = 1_000


@click.command(short_help="Answer a query in SQL.")
@path_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "jsonl", "csv", "parquet"]),
    help="[default: table; for a file its suffix, else jsonl]",
)
@click.option("-o", "--output", metavar="FILE", help="Write the answer to a file; `-` is standard output.")
@click.option(
    "--timeout",
    type=Within(click.FloatRange(0, 1e6, min_open=True)),
    default=sandbox.TIMEOUT,
    show_default=True,
    help="Seconds that the query may take.",
)
@click.option("--views", is_flag=True, help="Print SQL that makes the same views in any DuckDB.")
@click.argument("query", required=False)
@click.pass_context
def sql(
    ctx: click.Context,
    /,
    *,
    path: str | None,
    form: str | None,
    output: str | None,
    timeout: float,
    views: bool,
    query: str | None,
) -> None:
    """Answer QUERY, one SELECT in DuckDB's SQL; also FROM, WITH, DESCRIBE, SUMMARIZE, SHOW.

    The view `audit` has a row for each call (`describe audit`), and `show tables` lists the ready views
    beside it. The query can read the audit and nothing else: no other file, no network, no settings.
    """
    if (query is None) is not views:
        raise click.UsageError("give one query, in quotes" if query is None else "--views takes no query")
    if output is None and form == "parquet":
        raise click.UsageError("--format parquet is a file: say where with --output FILE")
    if output is not None and form == "table":
        raise click.UsageError("--output does not go with --format table")
    if output is not None:
        form = form_of(output, form)
        output = None if output == STDOUT else output
    directory = find_audit(ctx, path)
    if query is None:
        from aegis_otel.audit.query.connection import open_view
        from aegis_otel.audit.query.views import create_views, views_sql

        audit = open_view(directory, keep=False, mirrors=address_given() is not None)
        create_views(audit)
        click.echo(views_sql(audit), nl=False)
        return
    mirrors = address_given() is not None
    fetch_others(directory)
    if output is not None and form == "parquet":
        from aegis_otel.audit.query.export import parquet_draft

        with parquet_draft(output) as draft:
            count, left_out = sandbox.select_parquet(
                directory, query, draft, timeout=timeout, mirrors=mirrors
            )
        say_left_out(left_out)
        told(count, output)
        return
    answer = sandbox.select(directory, query, timeout=timeout, mirrors=mirrors)
    say_left_out(answer.problems)
    with closing(answer.rows):
        if output is not None:
            from aegis_otel.audit.query.export import write_file

            rows, chosen = _named(answer), str(form)
            count = write_file(output, lambda file: write_text(file, chosen, rows, answer.columns))
            told(count, output)
        elif form in (None, "table"):
            from aegis_otel.audit.query.sandbox import spellings
            from aegis_otel.cli.audit.table import print_grid, shown

            found = [list(map(shown, row)) for row in islice(answer.rows, _TABLE_ROWS + 1)]
            if not found:
                click.echo(f"No rows; the columns are {escape(', '.join(answer.columns))}")
                for hint in spellings(query):
                    click.echo(f"Note: {hint}", err=True)
                return
            print_grid(answer.columns, found[:_TABLE_ROWS], color=ctx.color is not False)
            if len(found) > _TABLE_ROWS:
                click.echo(f"The first {_TABLE_ROWS} rows: all with --format jsonl or --output.")
        else:
            assert form is not None
            print_text(form, _named(answer), answer.columns)


def _named(answer: sandbox.Answer) -> Iterator[dict[str, Any]]:
    return (dict(zip(answer.columns, row, strict=True)) for row in answer.rows)
