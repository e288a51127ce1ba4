"""`aegis audit stats`: the audit in numbers and bars."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from aegis_otel.audit.query.stats import Spread, Stats, take_stats
from aegis_otel.cli.audit.options import filter_options, find_audit, matching, open_audit, path_option

if TYPE_CHECKING:
    from rich.console import Console


_LONGEST_LIST = 10
_HOURS = 24
_LONGEST_BAR = 40
_SHORTEST_BAR = 4
_TITLES = {
    "result_status": "Result",
    "risk_level": "Risk",
    "answer": "Human answer",
    "matched_rule": "Rule",
    "tool_name": "Tool",
    "agent_name": "Agent",
}


@click.command(short_help="Count calls.")
@path_option
@filter_options
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def stats(ctx: click.Context, /, *, path: str | None, form: str, **filters: str | None) -> None:
    """Count entries by result, risk, rule, tool, agent, answer and hour; all filters given must hold."""
    condition = matching(**filters)
    found = take_stats(open_audit(find_audit(ctx, path)), condition)
    if form == "json":
        click.echo(json.dumps(_report(found), indent=2))
    else:
        _print(found, color=ctx.color is not False)


def _report(found: Stats) -> dict[str, object]:
    return {
        "calls": found.calls,
        "first": _iso(found.first),
        "last": _iso(found.last),
        "wait_s": found.wait_s._asdict(),
        "duration_s": found.duration_s._asdict(),
        "by": {
            dimension: [
                {"value": value if isinstance(value, str) else _iso(value), "calls": calls}
                for value, calls in counts
            ]
            for dimension, counts in found.by.items()
        },
    }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _print(found: Stats, *, color: bool) -> None:
    from aegis_otel.cli.rendering import standard_output

    console = standard_output(color=color)
    if found.calls == 0:
        console.print("No audit entries found.")
        return
    times = [f"{time:%Y-%m-%d %H:%M:%S}" for time in (found.first, found.last) if time is not None]
    console.print(
        f"{found.calls} call{'' if found.calls == 1 else 's'}, {' to '.join(dict.fromkeys(times))} UTC"
    )
    for words, spread in (("humans answered after", found.wait_s), ("bodies took", found.duration_s)):
        if spread.max is not None:
            console.print(f"{words} {_seconds(spread)}")
    for dimension, title in _TITLES.items():
        counts = [(value, calls) for value, calls in found.by[dimension] if dimension != "answer" or value]
        bars = [(str(value) if value else "-", calls) for value, calls in counts[:_LONGEST_LIST]]
        if rest := counts[_LONGEST_LIST:]:
            bars.append((f"({len(rest)} more)", sum(calls for _, calls in rest)))
        _chart(console, title, bars)
    _chart(console, "Hour (UTC)", _last_hours(found))


def _seconds(spread: Spread) -> str:
    return f"{spread.p50:.3g} s (p50), {spread.p95:.3g} s (p95), {spread.max:.3g} s at most"


def _last_hours(found: Stats) -> list[tuple[str, int]]:
    """The day that ends with the last call, hours without calls too."""
    calls = {hour: number for hour, number in found.by["hour"] if isinstance(hour, datetime)}
    if not calls:
        return []
    last = max(calls)
    hours = [last - timedelta(hours=ago) for ago in reversed(range(_HOURS))]
    first = next(number for number, hour in enumerate(hours) if hour in calls)
    return [(f"{hour:%m-%d %H}:00", calls.get(hour, 0)) for hour in hours[first:]]


def _chart(console: Console, title: str, bars: list[tuple[str, int]]) -> None:
    """Bars that are as long as there is room for beside the names."""
    from rich.table import Table
    from rich.text import Text

    from aegis_otel.cli.audit.table import styled

    if not bars:
        return
    most = max(calls for _, calls in bars)
    cells = [(styled(value), str(calls), calls / most) for value, calls in bars]
    room = console.width - max(16, *(cell.cell_len for cell, _, _ in cells)) - len(str(most)) - 3
    longest = max(_SHORTEST_BAR, min(_LONGEST_BAR, room))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(overflow="fold", min_width=16)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    mark = "#" if console.options.ascii_only else "\N{BOX DRAWINGS HEAVY HORIZONTAL}"
    for value, calls, part in cells:
        table.add_row(value, calls, Text(mark * round(longest * part), style="cyan"))
    console.print(Text(f"\n{title}", style="bold"))
    console.print(table)
