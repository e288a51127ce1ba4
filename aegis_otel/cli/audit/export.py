"""`aegis audit export`, and every other way of rows into a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.rows import Row
from aegis_otel.audit.record import COLUMNS
from aegis_otel.cli.audit.options import (
    filter_options,
    find_audit,
    limit_option,
    matching,
    open_audit,
    path_option,
)
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    import duckdb


STDOUT = "-"
FORMS = ("json", "jsonl", "csv", "parquet")


@click.command(short_help="Write the entries to a file.")
@path_option
@filter_options
@limit_option
@click.option("--format", "form", type=click.Choice(FORMS), help="[default: the file's suffix, else jsonl]")
@click.argument("file", metavar="FILE")
@click.pass_context
def export(
    ctx: click.Context,
    /,
    *,
    path: str | None,
    limit: int | None,
    form: str | None,
    file: str,
    **filters: str | None,
) -> None:
    """Write the entries to FILE, oldest first; all filters given must hold. `-` is standard output.

    The file can be read by this user only, and appears, or replaces an older one, only when it is complete.
    JSON and Parquet have every value as it is; CSV is for spreadsheets: control characters are escaped in it,
    and what a spreadsheet would run as a formula has an apostrophe before it.
    """
    condition = matching(**filters)
    form = form_of(file, form)
    write_entries(open_audit(find_audit(ctx, path)), condition, file, form, limit)


def write_entries(
    audit: duckdb.DuckDBPyConnection, condition: Condition, file: str, form: str, limit: int | None
) -> None:
    """Write the rows that match to a file, oldest first, with a progress bar on a terminal.

    Raises:
        AuditError: when the audit cannot be read, or the file not be written.
    """
    from rich.console import Console
    from rich.progress import track

    from aegis_otel.audit.query.export import write_file, write_parquet
    from aegis_otel.audit.query.rows import count_rows, read_rows

    console = Console(stderr=True)
    columns = [column.name for column in COLUMNS]
    if file == STDOUT:
        print_text(form, read_rows(audit, condition, limit=limit, oldest_first=True), columns)
        return
    if form == "parquet":
        with console.status("Exporting"):
            count = write_parquet(file, audit, condition, limit)
    else:
        total = count_rows(audit, condition)
        rows = track(
            read_rows(audit, condition, limit=limit, oldest_first=True),
            "Exporting",
            total=total if limit is None else min(limit, total),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        count = write_file(file, lambda text: write_text(text, form, rows, columns))
    told(count, file)


def form_of(file: str, form: str | None) -> str:
    """The format given, else the one that the file's suffix names, else JSON lines.

    Raises:
        UsageError: there can be no such file, or its suffix names no format.
    """
    if not file:
        raise click.UsageError(f"give the file a name, or `{STDOUT}` for standard output")
    suffix = Path(file).suffix.lower().removeprefix(".")
    if form is None and suffix and suffix not in FORMS:
        raise click.UsageError(
            f"`{escape(Path(file).suffix)}` is no format: give --format "
            f"{', '.join(FORMS[:-1])} or {FORMS[-1]}"
        )
    form = form or suffix or "jsonl"
    if file == STDOUT and form == "parquet":
        raise click.UsageError("parquet needs a file: it cannot go to standard output")
    return form


def told(count: int, file: str) -> None:
    click.echo(f"Exported {count} {'entry' if count == 1 else 'entries'} to {escape(file)}")


def write_text(file: TextIO, form: str, rows: Iterable[Row], columns: list[str]) -> int:
    """Write rows in any format but Parquet; returns how many."""
    from aegis_otel.audit.query.export import csv_table, json_array, json_lines

    if form == "csv":
        return csv_table(file, rows, columns)
    return json_array(file, rows) if form == "json" else json_lines(file, rows)


def print_text(form: str, rows: Iterable[Row], columns: list[str]) -> None:
    """The same to standard output."""
    write_text(sys.stdout, form, rows, columns)
    sys.stdout.flush()
