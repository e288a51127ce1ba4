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
from aegis_otel.cli.audit_mode import MONITOR, NOT_ENFORCED, watched
from aegis_otel.terminal import escape

_WIDE = 120
"""Columns of a terminal from which on every column of the table has room."""
_SMALL = 80
"""Columns of a terminal below which rule and risk go under action and result."""
_SMALLEST = 46
"""Below it a table would have to hide something: the terminal then breaks its lines."""
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
    MONITOR: "magenta",
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
    below: Callable[[Row], list[str]] = lambda _: []
    """What stands under the value, a line each."""


def action(row: Row) -> str:
    """What was to be done, and to what; a target that nobody named is left out, as in signals."""
    kind, target = row["action_type"] or "-", row["action_target"] or "-"
    return kind if target == "default" else f"{kind} -> {target}"


def _mode(row: Row) -> list[str]:
    return [MONITOR] if watched(row) else []


_RISK = _Column("Risk", lambda row: row["risk_level"], True)
_RULE = _Column("Rule", lambda row: row["matched_rule"])
_RESULT = _Column("Result", lambda row: row["result_status"], True)
_ID = _Column("ID", lambda row: row["decision_id"][-8:], True)

_WIDE_COLUMNS = (
    _Column("Time (UTC)", when, True),
    _Column("Session", lambda row: row["session_id"]),
    _Column("Agent", lambda row: row["agent_name"]),
    _Column("Action -> Target", action),
    _RISK,
    _Column("Decision", lambda row: row["human_decision"] or row["approval"], True, _mode),
    _RULE,
    _RESULT,
    _ID,
)
_NARROW_COLUMNS = (
    _Column("Time (UTC)", lambda row: when(row)[5:], True),
    _Column("Action -> Target", action),
    _RISK,
    _RULE._replace(below=_mode),
    _RESULT,
    _ID,
)
_SMALL_COLUMNS = (
    _Column("Time (UTC)", lambda row: when(row)[5:16], True),
    _Column("Action -> Target\n(Rule)", action, below=lambda row: [f"({row['matched_rule'] or '-'})"]),
    _Column("Result\nRisk", _RESULT.value, True, lambda row: [row["risk_level"] or "-", *_mode(row)]),
    _ID,
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
    width = console.width = max(console.width, _SMALLEST)
    columns = _WIDE_COLUMNS if width >= _WIDE else _NARROW_COLUMNS if width >= _SMALL else _SMALL_COLUMNS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column.header, overflow="fold", no_wrap=column.whole)
    for row in rows:
        table.add_row(*(_cell(column, row) for column in columns))
    console.print(table)
    if any(map(watched, rows)):
        console.print(f"{MONITOR}: {NOT_ENFORCED}.")
    if total > len(rows):
        console.print(
            f"The newest {len(rows)} of {total} entries: more with --limit, all with --format json."
        )


def _cell(column: _Column, row: Row) -> Text:
    return Text("\n").join(map(styled, (column.value(row) or "-", *column.below(row))))


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
