"""`aegis audit export`, `sql`, `stats` and `--follow`: rows of the audit for programs and for people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.audit.query import sandbox
from aegis_otel.audit.query.export import FORMATS, parquet_draft, write_file, write_parquet
from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.rows import Row, count_rows, read_rows, to_json
from aegis_otel.audit.query.stats import Spread, Stats, take_stats
from aegis_otel.audit.record import COLUMNS
from aegis_otel.cli.audit.options import (
    STDOUT,
    Within,
    checked_output,
    condition_of,
    filter_options,
    format_option,
    limit_option,
    output_option,
    path_option,
)
from aegis_otel.cli.audit.source import find_audit, open_audit, report_problems
from aegis_otel.cli.rendering import (
    echo,
    feed_line,
    plural,
    print_answer,
    print_bars,
    progress_bar,
    shortened,
)
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    import duckdb

_NAMES = [column.name for column in COLUMNS]
_TABLE_ROWS = 1_000
_FEED_PAUSE_S = 0.5
_LONGEST_LIST = 10
_DIMENSIONS = {
    "result_status": "Result",
    "risk_level": "Risk",
    "answer": "Human answer",
    "matched_rule": "Rule",
    "tool_name": "Tool",
    "agent_name": "Agent",
}
"""The title of each dimension of `aegis audit stats`."""


@click.command(short_help="Write entries to a file.")
@path_option
@filter_options
@limit_option
@format_option(*FORMATS)
@click.argument("file", metavar="FILE")
def export(path: str | None, limit: int | None, form: str | None, file: str, **filters: str | None) -> None:
    """Write entries to FILE, oldest first; `-` is standard output. All filters given must match.

    Only this user can read the file. It appears, or replaces an older one, once it is complete. JSON and
    Parquet have every value as it is. CSV is for spreadsheets: control characters are escaped, and an
    apostrophe stands before what a spreadsheet would run as a formula.
    """
    condition = condition_of(filters)
    form = checked_output(file, form)
    write_entries(open_audit(path), condition, file, form, limit)


def write_entries(
    audit: duckdb.DuckDBPyConnection, condition: Condition, file: str, form: str, limit: int | None
) -> None:
    """Write the rows that match to a file, oldest first, with progress on a terminal.

    Raises:
        AuditError: the audit cannot be read, or the file cannot be written.
    """
    if file == STDOUT:
        print_entries(audit, condition, form, limit, oldest_first=True)
        return
    with progress_bar("Exporting") as progress:
        if FORMATS[form] is None:
            progress(0, 1)
            count = write_parquet(file, audit, condition, limit)
        else:
            found = read_rows(audit, condition, limit=limit, oldest_first=True)
            total = min(count_rows(audit, condition), limit or sys.maxsize)

            def rows() -> Iterator[Row]:
                for number, row in enumerate(found, 1):
                    yield row
                    progress(number, total)

            count = write_file(file, lambda text: _write_text(text, form, rows(), _NAMES))
    _report_export(count, file)


def print_entries(
    audit: duckdb.DuckDBPyConnection,
    condition: Condition,
    form: str,
    limit: int | None,
    *,
    oldest_first: bool = False,
) -> None:
    """Write the rows that match to standard output in a format of text."""
    _print_text(form, read_rows(audit, condition, limit=limit, oldest_first=oldest_first), _NAMES)


def _write_text(file: Any, form: str, rows: Iterable[Row], columns: list[str]) -> int:
    write = FORMATS[form]
    assert write is not None
    return write(file, rows, columns)


def _print_text(form: str, rows: Iterable[Row], columns: list[str]) -> None:
    _write_text(sys.stdout, form, rows, columns)
    sys.stdout.flush()


def _report_export(count: int, file: str) -> None:
    click.echo(f"Exported {count} {'entry' if count == 1 else 'entries'} to {escape(file)}")


@click.command(short_help="Query the audit with SQL.")
@path_option
@format_option("table", *FORMATS)
@output_option(help="Write the answer to a file; `-` is standard output.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=Within(click.FloatRange(0, 1e6, min_open=True)),
    default=sandbox.TIMEOUT,
    show_default=True,
    help="How long the query may take.",
)
@click.option("--views", is_flag=True, help="Print SQL that makes the same views in any DuckDB.")
@click.argument("query", required=False)
def sql(
    *, path: str | None, form: str | None, output: str | None, timeout: float, views: bool, query: str | None
) -> None:
    """Run QUERY over the audit: one SELECT in DuckDB's SQL, or FROM, WITH, DESCRIBE, SUMMARIZE or SHOW.

    The view `audit` has a row for each call: `describe audit` lists its columns, `show tables` the other
    views. The query can read the audit and nothing else: no other file, no network, no settings.
    """
    if (query is None) is not views:
        raise click.UsageError("give one query, in quotes" if query is None else "--views takes no query")
    form = checked_output(output, form)
    source = find_audit(path)
    if query is None:
        from aegis_otel.audit.query.connection import open_view, problems
        from aegis_otel.audit.query.views import create_views, views_sql

        audit = open_view(source.directory, keep=False, mirrors=source.is_shared)
        create_views(audit, source.directory, mirrors=source.is_shared)
        report_problems(problems(audit))
        click.echo(views_sql(audit), nl=False)
        return
    source.fetch()
    bounds: dict[str, Any] = {"timeout": timeout, "mirrors": source.is_shared}
    if output is not None and FORMATS[form] is None:
        with parquet_draft(output) as draft:
            count, left_out = sandbox.select_parquet(source.directory, query, draft, **bounds)
        report_problems(left_out)
        _report_export(count, output)
        return
    answer = sandbox.select(source.directory, query, **bounds)
    report_problems(answer.problems)
    with closing(answer.rows):
        named = (dict(zip(answer.columns, row, strict=True)) for row in answer.rows)
        if output not in (None, STDOUT):
            count = write_file(output, lambda file: _write_text(file, form, named, answer.columns))
            _report_export(count, output)
        elif form == "table":
            _print_answer(answer, query)
        else:
            _print_text(form, named, answer.columns)


def _print_answer(answer: sandbox.Answer, query: str) -> None:
    found = [list(map(shortened, row)) for row in islice(answer.rows, _TABLE_ROWS + 1)]
    if not found:
        click.echo(f"No rows; the columns are {escape(', '.join(answer.columns))}")
        for hint in sandbox.spellings(query):
            click.echo(f"Note: {hint}", err=True)
        return
    print_answer(answer.columns, found[:_TABLE_ROWS])
    if len(found) > _TABLE_ROWS:
        click.echo(f"The first {_TABLE_ROWS} rows: all with --format jsonl or --output.")


@click.command(short_help="Count calls.")
@path_option
@filter_options
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def stats(path: str | None, form: str, **filters: str | None) -> None:
    """Count calls by result, risk, human answer, rule, tool, agent and hour. All filters given must match."""
    condition = condition_of(filters)
    found = take_stats(open_audit(path), condition)
    if form == "json":
        click.echo(json.dumps(_stats_report(found), indent=2))
    elif found.calls == 0:
        click.echo("No audit entries found.")
    else:
        _print_stats(found)


def _stats_report(found: Stats) -> dict[str, object]:
    def plain(value: object) -> object:
        return value.isoformat() if isinstance(value, datetime) else value

    return {
        "calls": found.calls,
        "first": plain(found.first),
        "last": plain(found.last),
        "wait_s": found.wait_s._asdict(),
        "duration_s": found.duration_s._asdict(),
        "by": {
            dimension: [{"value": plain(value), "calls": calls} for value, calls in counts]
            for dimension, counts in found.by.items()
        },
    }


def _print_stats(found: Stats) -> None:
    times = [f"{time:%Y-%m-%d %H:%M:%S}" for time in (found.first, found.last) if time is not None]
    click.echo(f"{plural(found.calls, 'call')}, {' to '.join(dict.fromkeys(times))} UTC")
    expired = dict(found.by["answer"]).get("expired", 0)
    unanswered = f"{plural(expired, 'question')} expired unanswered" if expired else None
    waits = _spread_words("humans answered after", found.wait_s)
    for line in (
        "; ".join(filter(None, (waits, unanswered))),
        _spread_words("bodies took", found.duration_s),
    ):
        if line:
            click.echo(line)
    for dimension, title in _DIMENSIONS.items():
        counts = [(value, calls) for value, calls in found.by[dimension] if dimension != "answer" or value]
        bars = [(str(value) if value else "-", calls) for value, calls in counts[:_LONGEST_LIST]]
        if rest := counts[_LONGEST_LIST:]:
            bars.append((f"({len(rest)} more)", sum(calls for _, calls in rest)))
        print_bars(title, bars)
    print_bars("Hour (UTC)", _last_hours(found))


def _spread_words(words: str, spread: Spread) -> str | None:
    if spread.max is None:
        return None
    return f"{words} {spread.p50:.3g} s (p50), {spread.p95:.3g} s (p95), {spread.max:.3g} s at most"


def _last_hours(found: Stats) -> list[tuple[str, int]]:
    """Return the calls of each hour of the day that ends with the last call, from the first with a call."""
    calls = {hour: number for hour, number in found.by["hour"] if isinstance(hour, datetime)}
    if not calls:
        return []
    hours = [max(calls) - timedelta(hours=ago) for ago in reversed(range(24))]
    first = next(number for number, hour in enumerate(hours) if hour in calls)
    return [(f"{hour:%m-%d %H}:00", calls.get(hour, 0)) for hour in hours[first:]]


def print_feed(path: str | None, condition: Condition, limit: int, *, as_json: bool) -> None:
    """Print the newest entries, and a line for each new or changed one, until Ctrl-C.

    Raises:
        AuditError: the audit cannot be read.
    """
    from aegis_otel.audit.query.tail import Feed

    source = find_audit(path)
    feed = Feed(source.directory, condition, mirrors=source.is_shared)
    try:
        rows = feed.begin(limit)
        while True:
            for row in rows:
                echo(to_json(row) if as_json else feed_line(row))
            time.sleep(_FEED_PAUSE_S)
            rows = feed.poll()
    except KeyboardInterrupt:
        return
    except RuntimeError as error:
        if str(error) != "Query interrupted":  # DuckDB's error after Ctrl-C
            raise
