"""Audit rows as a table for people. Values are text of agents and models: shown, never obeyed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from aegis_otel.audit.rows import Row
from aegis_otel.terminal import escape

_WIDE = 120
"""Columns of a terminal from which on every column of the table has room."""
_LONGEST = 60
"""Characters of one value that are shown; `--format json` has all of them."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")

_STYLES = {
    "LOW": "green",
    "MEDIUM": "yellow",
    "HIGH": "red",
    "CRITICAL": "bold red",
    "success": "green",
    "failed": "red",
    "blocked": "red",
    "denied": "red",
    "unknown": "magenta",
    "pending": "yellow",
    "open": "yellow",
}


def when(row: Row) -> str:
    """The row's time for people, in UTC."""
    return (row["timestamp"] or "")[:19].replace("T", " ")


def short_id(row: Row) -> str:
    """What tells calls apart: of a UUIDv7 the end."""
    return styled(row["decision_id"][-8:]).plain


class _Column(NamedTuple):
    header: str
    value: Callable[[Row], str | None]
    whole: bool = False
    """Never broken into lines: its values are short."""
    wide: bool | None = None
    """Shown on wide terminals only (True), on narrow ones only (False), or on all."""


_COLUMNS = (
    _Column("Time (UTC)", lambda row: when(row)[5:], True, wide=False),
    _Column("Time (UTC)", when, True, wide=True),
    _Column("Session", lambda row: row["session_id"], wide=True),
    _Column("Agent", lambda row: row["agent_name"], wide=True),
    _Column("Action -> Target", lambda row: f"{row['action_type'] or '-'} -> {row['action_target'] or '-'}"),
    _Column("Risk", lambda row: row["risk_level"], True),
    _Column("Decision", lambda row: row["human_decision"] or row["approval"], True, wide=True),
    _Column("Rule", lambda row: row["matched_rule"]),
    _Column("Result", lambda row: row["result_status"], True),
    _Column("ID", lambda row: row["decision_id"][-8:], True),
)


def print_table(rows: Sequence[Row], total: int, *, color: bool) -> None:
    """Write rows to standard output, and how many more there are.

    Args:
        rows: What to show, in this order.
        total: How many rows match.
        color: False for none; else there are colours on a terminal that has them.
    """
    console = Console(highlight=False, color_system="auto" if color else None)
    if not rows:
        console.print("No audit entries found.")
        return
    columns = [column for column in _COLUMNS if column.wide in (None, console.width >= _WIDE)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column.header, overflow="fold", no_wrap=column.whole)
    for row in rows:
        table.add_row(*(styled(column.value(row) or "-") for column in columns))
    console.print(table)
    if total > len(rows):
        console.print(
            f"The newest {len(rows)} of {total} entries: more with --limit, all with --format json."
        )


def styled(value: str) -> Text:
    """A value as it may be printed: cut, escaped, and in the colour that it has everywhere."""
    shown = value if len(value) <= _LONGEST else value[:_LONGEST] + "..."
    return Text(escape(shown), style=_STYLES.get(value.strip(), ""))


def print_grid(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, color: bool) -> None:
    """Write the answer to a query to standard output; one value a line where a row has no room on one."""
    console = Console(highlight=False, color_system="auto" if color else None)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        numeric = any(isinstance(row[number], int | float) for row in rows)
        table.add_column(styled(column), no_wrap=True, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(styled(_text(value)) for value in row))
    if Measurement.get(console, console.options.update(width=100_000), table).maximum <= console.width:
        console.print(table)
        return
    names = [styled(column).plain for column in columns]
    for row in rows:
        for name, value in zip(names, row, strict=True):
            console.print(Text(name.ljust(max(map(len, names)) + 2)) + styled(_text(value)), soft_wrap=True)
        console.print()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return "-" if value is None else json.dumps(value)
    if _MOMENT.fullmatch(value):
        return value.replace("T", " ").replace("+00:00", "").replace(".000000", "")
    return value
