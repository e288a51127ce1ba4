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

from aegis_otel.audit.query.rows import Row
from aegis_otel.cli.audit.mode import MONITOR, NOT_ENFORCED, watched
from aegis_otel.cli.rendering import is_unbounded, make_table, standard_output, takes, widths
from aegis_otel.redaction.terminal import escape

_WIDE = 120
"""Columns of a terminal from which on lines of the widest table may be broken."""
_LONGEST = 60
"""Characters of one value that are shown on a terminal; `--format json` has all of them."""
_LONGEST_IN_A_PIPE = 1_000
_LONGEST_ID = 16

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

_AGENT = _Column("Agent", lambda row: row["agent_name"])
_CONVERSATION = _Column("Conversation", lambda row: row["conversation_id"])
_SHORT_CONVERSATION = _Column("Conversation", lambda row: _end(row["conversation_id"]))

_WIDE_COLUMNS = (
    _Column("Time (UTC)", when, True),
    _AGENT,
    _CONVERSATION,
    _Column("Action -> Target", action),
    _RISK,
    _Column("Decision", lambda row: row["human_decision"] or row["approval"], True, _mode),
    _RULE,
    _RESULT,
    _ID,
)
_SHORTER_COLUMNS = tuple(
    _SHORT_CONVERSATION if column is _CONVERSATION else column for column in _WIDE_COLUMNS
)
_NARROW_COLUMNS = (
    _Column("Time (UTC)", lambda row: when(row)[5:16], True),
    _AGENT._replace(below=lambda row: _given(_end(row["conversation_id"]))),
    _Column("Action -> Target", action),
    _RISK,
    _RULE._replace(below=_mode),
    _RESULT,
    _ID,
)
_SMALL_COLUMNS = (
    _Column("Time (UTC)", lambda row: when(row)[5:16], True),
    _Column(
        "Action -> Target\n(Rule)",
        action,
        below=lambda row: [
            f"({row['matched_rule'] or '-'})",
            *_given(row["agent_name"]),
            *_given(_end(row["conversation_id"])),
        ],
    ),
    _Column("Result\nRisk", _RESULT.value, True, lambda row: [row["risk_level"] or "-", *_mode(row)]),
    _ID,
)


def print_table(rows: Sequence[Row], total: int, *, color: bool) -> None:
    """Write rows to standard output, and how many more there are.

    The widest table that has room is taken: all in a line each, then with agent and conversation, rule or
    risk below each other. Where none has, a value is on a line of its own.

    Args:
        rows: What to show, in this order.
        total: How many rows match.
        color: False for none; else there are colours on a terminal that has them.
    """
    console = standard_output(color=color)
    if not rows:
        console.print("No audit entries found.")
        return
    longest = _LONGEST_IN_A_PIPE if is_unbounded(console) else _LONGEST
    table = _table(rows, console.width, longest)
    if table is not None:
        console.print(table)
    else:
        _print_values(console, _SMALL_COLUMNS, rows, longest)
    if any(map(watched, rows)):
        console.print(f"{MONITOR}: {NOT_ENFORCED}.", soft_wrap=True)
    if total > len(rows):
        console.print(
            f"The newest {len(rows)} of {total} entries: more with --limit, all with --format json.",
            soft_wrap=True,
        )


def _table(rows: Sequence[Row], width: int, longest: int) -> Table | None:
    """The widest table that has room in so many columns."""
    unused = () if any(map(_CONVERSATION.value, rows)) else (_CONVERSATION, _SHORT_CONVERSATION)
    for chosen in (_WIDE_COLUMNS, _SHORTER_COLUMNS, _NARROW_COLUMNS, _SMALL_COLUMNS):
        named = [each for each in chosen if each not in unused]
        cells = [[Text(column.header), *(_cell(column, row, longest) for row in rows)] for column in named]
        may_break = chosen in (_NARROW_COLUMNS, _SMALL_COLUMNS) or (
            chosen is _SHORTER_COLUMNS and width >= _WIDE
        )
        if not may_break and takes(cells) > width:
            continue
        sizes = widths(cells, [column.whole for column in named], width)
        if sizes is not None:
            return make_table(cells, sizes)
    return None


def _print_values(console: Console, columns: Sequence[_Column], rows: Sequence[Row], longest: int) -> None:
    """Below the smallest table the terminal breaks lines as it has to; nothing is hidden."""
    for row in rows:
        for column in columns:
            console.print(_cell(column, row, longest), soft_wrap=True)
        console.print()


def _end(value: str | None) -> str | None:
    """The end of a long id, which tells it from others."""
    return value if value is None or len(value) <= _LONGEST_ID else f"...{value[-_LONGEST_ID + 3 :]}"


def _given(value: str | None) -> list[str]:
    return [value] if value else []


def _cell(column: _Column, row: Row, longest: int) -> Text:
    parts = (column.value(row) or "-", *column.below(row))
    return Text("\n").join(styled(part, longest) for part in parts)


def styled(value: str, longest: int = _LONGEST) -> Text:
    """A value as it may be printed: cut, escaped, and in the colour that it has everywhere."""
    shown = value if len(value) <= longest else value[:longest] + "..."
    return Text(escape(shown), style=_STYLES.get(value.strip(), ""))


def shown(value: Any) -> Any:
    """What of a value of an answer is needed to print it: numbers as they are, else a text of some length."""
    return value if isinstance(value, int | float) else _text(value)[: _LONGEST_IN_A_PIPE + 1]


def print_grid(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, color: bool) -> None:
    """Write the answer to a query to standard output; one value a line where a row has no room on one."""
    console = standard_output(color=color)
    longest = _LONGEST_IN_A_PIPE if is_unbounded(console) else _LONGEST
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        numeric = any(isinstance(row[number], int | float) for row in rows)
        table.add_column(styled(column, longest), no_wrap=True, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(styled(_text(value), longest) for value in row))
    if Measurement.get(console, console.options.update(width=10**9), table).maximum <= console.width:
        console.print(table)
        return
    names = [styled(column, longest).plain for column in columns]
    for row in rows:
        for name, value in zip(names, row, strict=True):
            label = Text(name.ljust(max(map(len, names)) + 2))
            console.print(label + styled(_text(value), longest), soft_wrap=True)
        console.print()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return "-" if value is None else json.dumps(value)
    if _MOMENT.fullmatch(value):
        return value.replace("T", " ").replace("+00:00", "").replace(".000000", "")
    return value
