"""Print tables, bars and progress on a terminal. Values come from agents and models, so all are escaped.

A pipe or a file takes lines of any length; a terminal, or `COLUMNS`, limits them. `click.echo` leaves out
colours where nobody sees them.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any, Generic, NamedTuple, TypeVar

import click

from aegis_otel.audit.query.rows import Row
from aegis_otel.model import Mode
from aegis_otel.redaction.terminal import escape

MONITOR = "(monitor)"
NOT_ENFORCED = "decided and recorded, not enforced"
UNBOUNDED = 1_000_000  # columns of a pipe or a file
_USUAL = 80  # columns of a terminal that does not know its size
_GAP = 2  # columns between two columns of a table, and of both its edges together
_WIDE = 120  # columns of a terminal from which on lines of the widest table may be broken
_LONGEST = 60  # characters of a value that a terminal is shown; `--format json` has all of them
_LONGEST_IN_A_PIPE = 1_000
_LONGEST_ID = 16
_LONGEST_BAR = 40
_SHORTEST_BAR = 4
_NAMES = 16  # the fewest columns of the names beside bars
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")
_STYLES: dict[str, dict[str, Any]] = {
    "LOW": {"fg": "green"},
    "MEDIUM": {"fg": "yellow"},
    "HIGH": {"fg": "red"},
    "CRITICAL": {"fg": "red", "bold": True},
    "success": {"fg": "green"},
    "failed": {"fg": "red"},
    "blocked": {"fg": "red"},
    "denied": {"fg": "red"},
    "unknown": {"fg": "magenta"},
    "pending": {"fg": "yellow"},
    "open": {"fg": "yellow"},
    MONITOR: {"fg": "magenta"},
}


# --- one row of the audit ---


def is_monitored(row: Row) -> bool:
    """Return whether the call was in monitor mode: it ran whatever the decision was."""
    return bool(row["mode"] == Mode.MONITOR.value)


def action(row: Row) -> str:
    """Return what the call does, and to what. `default`, the target that nobody named, is left out."""
    kind, target = row["action_type"] or "-", row["action_target"] or "-"
    return kind if target == "default" else f"{kind} -> {target}"


def feed_line(row: Row) -> str:
    """Return a row as one line of `aegis audit --follow`."""
    parts = (
        _time(row),
        (row["risk_level"] or "-").ljust(8),
        (row["human_decision"] or row["approval"] or "-").ljust(8),
        *_mode(row),
        (row["result_status"] or "-").ljust(9),
        action(row),
        f"({visible(row['matched_rule'] or '-')})",
        row["decision_id"][-8:],
    )
    return "  ".join(_coloured(visible(part)) for part in parts)


def _time(row: Row) -> str:
    return (row["timestamp"] or "")[:19].replace("T", " ")


def _mode(row: Row) -> list[str]:
    return [MONITOR] if is_monitored(row) else []


def _conversation_end(row: Row) -> str | None:
    """Return the end of a long id, which distinguishes it from others."""
    value: str | None = row["conversation_id"]
    return value if value is None or len(value) <= _LONGEST_ID else f"...{value[-_LONGEST_ID + 3 :]}"


# --- tables of rows ---


Item = TypeVar("Item")


class Column(NamedTuple, Generic[Item]):
    """A column of a table with a line, or several, for each item."""

    header: str
    value: Callable[[Item], str | None]
    is_whole: bool = False
    """Whether its values are so short that they are never broken into lines."""
    below: Callable[[Item], Sequence[str | None]] = lambda _: ()
    """What stands under the value, a line each."""


class TableLayout(NamedTuple, Generic[Item]):
    """The columns of a table, and whether their lines may be broken between words to make room."""

    columns: Sequence[Column[Item]]
    may_break: bool = False


_RISK: Column[Row] = Column("Risk", lambda row: row["risk_level"], True)
_RULE: Column[Row] = Column("Rule", lambda row: row["matched_rule"])
_RESULT: Column[Row] = Column("Result", lambda row: row["result_status"], True)
_DECISION: Column[Row] = Column("Decision", lambda row: row["human_decision"] or row["approval"], True, _mode)
_ID: Column[Row] = Column("ID", lambda row: row["decision_id"][-8:], True)
_AGENT: Column[Row] = Column("Agent", lambda row: row["agent_name"])
_CONVERSATION: Column[Row] = Column("Conversation", lambda row: row["conversation_id"])
_ACTION: Column[Row] = Column("Action -> Target", action)
_TIME: Column[Row] = Column("Time (UTC)", _time, True)
_SHORT_TIME: Column[Row] = Column("Time (UTC)", lambda row: _time(row)[5:16], True)

_WIDEST = (_TIME, _AGENT, _CONVERSATION, _ACTION, _RISK, _DECISION, _RULE, _RESULT, _ID)
_WIDE_TABLE = (*_WIDEST[:2], _CONVERSATION._replace(value=_conversation_end), *_WIDEST[3:])
_STACKED = Column(
    "Action -> Target\n(Rule)",
    action,
    below=lambda row: [f"({row['matched_rule'] or '-'})", row["agent_name"], _conversation_end(row)],
)
_NARROW_TABLE = (_SHORT_TIME, _STACKED, _RISK, _DECISION, _RESULT, _ID)
_SMALLEST_TABLE = (
    *(_SHORT_TIME, _STACKED),
    Column(
        "Decision\nResult\nRisk",
        _DECISION.value,
        True,
        lambda row: [row["result_status"] or "-", row["risk_level"] or "-", *_mode(row)],
    ),
    _ID,
)


def print_rows(rows: Sequence[Row], total: int) -> None:
    """Print rows of the audit as the widest table that has room.

    The smaller tables have rule, agent and conversation below the action, the smallest one decision, result
    and risk below each other. Where no table has room, each value is on a line of its own.

    Args:
        rows: The rows, in this order.
        total: The number of rows that match.
    """
    if not rows:
        echo("No audit entries found.")
        return
    has_conversations = any(map(_CONVERSATION.value, rows))
    layouts = []
    for chosen in (_WIDEST, _WIDE_TABLE, _NARROW_TABLE, _SMALLEST_TABLE):
        columns = [each for each in chosen if has_conversations or each.header != _CONVERSATION.header]
        is_broken = _STACKED in chosen or (chosen is _WIDE_TABLE and terminal_width() >= _WIDE)
        layouts.append(TableLayout(columns, is_broken))
    print_items(layouts, rows)
    if any(map(is_monitored, rows)):
        echo(f"{MONITOR}: {NOT_ENFORCED}.")
    if total > len(rows):
        echo(f"The newest {len(rows)} of {total} entries: more with --limit, all with --format json.")


def print_items(layouts: Sequence[TableLayout[Item]], items: Sequence[Item]) -> None:
    """Print items as the first table that has room; where none has, each value is on a line of its own."""
    room = terminal_width()
    longest = _longest(room)
    for columns, may_break in layouts:
        cells = [[column.header, *(_cell(column, item, longest) for item in items)] for column in columns]
        sizes = _sizes(cells, [column.is_whole for column in columns], room)
        if sizes and (may_break or sum(map(_longest_line, cells)) + _GAP * len(cells) <= room):
            echo(_table(cells, sizes))
            return
    for item in items:  # the terminal breaks the lines
        lines = [line for each in layouts[-1].columns for line in _cell(each, item, longest).split("\n")]
        echo("\n".join([*map(_coloured, lines), ""]))


def _cell(column: Column[Item], item: Item, longest: int) -> str:
    below = (part for part in column.below(item) if part)
    return "\n".join(visible(part, longest) for part in (column.value(item) or "-", *below))


def print_answer(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print the answer to a query as a table, or one value a line where a row has no room on a line."""
    room = terminal_width()
    longest = _longest(room)
    names = [visible(column, longest) for column in columns]
    texts = [[visible(_text(value), longest) for value in row] for row in rows]
    cells = [[name, *column] for name, *column in zip(names, *texts, strict=True)]
    if sum(map(_longest_line, cells)) + _GAP * len(cells) <= room:
        numeric = [
            any(isinstance(value, int | float) for value in column) for column in zip(*rows, strict=True)
        ]
        echo(_table(cells, list(map(_longest_line, cells)), numeric))
        return
    indent = max(map(_width, names)) + _GAP
    for row in texts:
        lines = [f"{_padded(name, indent)}{_coloured(value)}" for name, value in zip(names, row, strict=True)]
        echo("\n".join([*lines, ""]))


def shortened(value: Any) -> Any:
    """Return as much of a value of an answer as is printed: numbers as they are, else a text."""
    return value if isinstance(value, int | float) else _text(value)[: _LONGEST_IN_A_PIPE + 1]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return "-" if value is None else json.dumps(value)
    if _MOMENT.fullmatch(value):
        return value.replace("T", " ").replace("+00:00", "").replace(".000000", "")
    return value


def print_bars(title: str, bars: Sequence[tuple[str, int]]) -> None:
    """Print names with their counts and bars, which are as long as there is room for."""
    if not bars:
        return
    most = max(count for _, count in bars)
    names = [visible(name) for name, _ in bars]
    column = max(_NAMES, *map(_width, names))
    digits = len(str(most))
    longest = max(_SHORTEST_BAR, min(_LONGEST_BAR, terminal_width() - column - digits - 3))
    mark = _drawable("\N{BOX DRAWINGS HEAVY HORIZONTAL}", "#")
    lines = [click.style(f"\n{title}", bold=True)]
    for name, (_, count) in zip(names, bars, strict=True):
        bar = click.style(mark * round(longest * count / most), fg="cyan")
        lines.append(f"{_coloured(name)}{' ' * (column - _width(name))} {count:>{digits}} {bar}".rstrip())
    echo("\n".join(lines))


def _table(cells: Sequence[Sequence[str]], sizes: Sequence[int], numeric: Sequence[bool] = ()) -> str:
    """Return a table of columns of these widths, with a rule below the header."""
    right = numeric or [False] * len(cells)
    lines = [""]
    for number, row in enumerate(zip(*cells, strict=True)):
        parts = list(map(_wrapped, row, sizes))
        if number == 0:  # headers stand on the rule
            high = max(map(len, parts))
            parts = [
                [""] * (high - len(part)) + [click.style(each, bold=True) for each in part] for part in parts
            ]
        wrapped = zip_longest(*parts, fillvalue="")
        lines += [f" {'  '.join(map(_padded, line, sizes, right))}".rstrip() for line in wrapped]
        if number == 0:
            lines.append(f" {_drawable(chr(0x2500), '-') * (sum(sizes) + _GAP * (len(sizes) - 1))}")
    return "\n".join([*lines, ""])


def _sizes(cells: Sequence[Sequence[str]], whole: Sequence[bool], room: int) -> list[int] | None:
    """Return the width of each column, so that lines are broken between words only.

    Args:
        cells: The cells of each column, its header among them.
        whole: Whether a column is never broken.
        room: The width of the table.

    Returns:
        None where there is not so much room.
    """
    longest = list(map(_longest_line, cells))
    sizes = [
        most if never else max(_width(word) for cell in column for word in cell.split() or [""])
        for column, never, most in zip(cells, whole, longest, strict=True)
    ]
    free = room - sum(sizes) - _GAP * len(cells)
    if free < 0:
        return None
    for index in sorted(range(len(cells)), key=lambda index: longest[index] - sizes[index]):
        more = min(free, longest[index] - sizes[index])
        sizes[index] += more
        free -= more
    return sizes


def _wrapped(cell: str, size: int) -> list[str]:
    """Return the lines of a cell, with colours; no word is longer than `size`."""
    lines: list[str] = []
    for line in cell.split("\n"):
        if _width(line) <= size:
            lines.append(_coloured(line))
            continue
        first, *words = line.split()
        lines.append(first)
        for word in words:
            if _width(lines[-1]) + 1 + _width(word) <= size:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
    return lines


# --- characters ---


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 call`, `2 calls`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def echo(text: str) -> None:
    """Print a text. Without `file`, click would write UTF-8 to a terminal of another encoding."""
    click.echo(text, file=sys.stdout)


def echo_wrapped(line: str) -> None:
    """Print a line that is escaped already: a terminal gets as many lines as it takes, a pipe gets one."""
    room = terminal_width()
    if _width(line) <= room:
        echo(line)
        return
    import textwrap

    indent = " " * (len(line) - len(line.lstrip()) + 4)
    lines = textwrap.wrap(
        line, room, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    echo("\n".join(lines))


def visible(value: str, longest: int = _LONGEST) -> str:
    """Return a value cut, and with an escape for each character that a terminal would obey or not show."""
    return escape(value if len(value) <= longest else value[:longest] + "...")


def terminal_width() -> int:
    """Return the columns of standard output."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _USUAL
    except (OSError, ValueError):  # not a terminal
        return UNBOUNDED


def _longest(room: int) -> int:
    return _LONGEST_IN_A_PIPE if room >= UNBOUNDED else _LONGEST


def _coloured(value: str) -> str:
    style = _STYLES.get(value.strip())
    return click.style(value, **style) if style else value


def _padded(text: str, size: int, right: bool = False) -> str:
    room = " " * (size - _width(click.unstyle(text)))
    return room + text if right else text + room


def _longest_line(column: Sequence[str]) -> int:
    return max(_width(line) for cell in column for line in cell.split("\n"))


def _width(text: str) -> int:
    """Return the columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "FW" else 1
        for char in text
    )


def _drawable(char: str, instead: str) -> str:
    """Return a character if standard output can show it, else another one."""
    try:
        char.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return instead
    return char


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function for how much is done, and of how much; it shows that on a terminal.

    It writes to standard error, nothing before there is something to do, and takes its line away at the end.
    """
    shown = 0.0

    def update(done: int, total: int) -> None:
        nonlocal shown
        if total and sys.stderr.isatty() and time.monotonic() > shown + 0.1:
            shown = time.monotonic()
            part = f"{done / total:.0%}" if done else "..."
            click.echo(f"\r{label} {part:4}", nl=False, err=True)

    try:
        yield update
    finally:
        if shown:  # with spaces: click takes escape sequences away where there are to be no colours
            click.echo(f"\r{' ' * len(f'{label} 100%')}\r", nl=False, err=True)
