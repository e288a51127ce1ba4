"""Audit rows as a table for people. Values are text of agents and models: shown, never obeyed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aegis_otel.audit.rows import Row
from aegis_otel.terminal import escape

_WIDE = 120
"""Columns of a terminal from which on every column of the table has room."""
_LONGEST = 60
"""Characters of one value that are shown; `--format json` has all of them."""

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


def _time(row: Row) -> str:
    return (row["timestamp"] or "")[:19].replace("T", " ")


class _Column(NamedTuple):
    header: str
    value: Callable[[Row], str | None]
    whole: bool = False
    """Never broken into lines: its values are short."""
    wide: bool | None = None
    """Shown on wide terminals only (True), on narrow ones only (False), or on all."""


_COLUMNS = (
    _Column("Time (UTC)", lambda row: _time(row)[5:], True, wide=False),
    _Column("Time (UTC)", _time, True, wide=True),
    _Column("Session", lambda row: row["session_id"], wide=True),
    _Column("Agent", lambda row: row["agent_name"], wide=True),
    _Column("Action -> Target", lambda row: f"{row['action_type'] or '-'} -> {row['action_target'] or '-'}"),
    _Column("Risk", lambda row: row["risk_level"], True),
    _Column("Decision", lambda row: row["human_decision"] or row["approval"], True, wide=True),
    _Column("Rule", lambda row: row["matched_rule"]),
    _Column("Result", lambda row: row["result_status"], True),
    _Column("ID", lambda row: row["decision_id"][-8:], True),  # of a UUIDv7 the end tells calls apart
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
        table.add_row(*(_cell(column.value(row) or "-") for column in columns))
    console.print(table)
    if total > len(rows):
        console.print(
            f"The newest {len(rows)} of {total} entries: more with --limit, all with --format json."
        )


def _cell(value: str) -> Text:
    shown = value if len(value) <= _LONGEST else value[:_LONGEST] + "..."
    return Text(escape(shown), style=_STYLES.get(value, ""))
