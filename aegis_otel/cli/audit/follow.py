"""`aegis audit --follow`: the audit as it grows, a line for each new or changed entry."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.rows import Row, to_json
from aegis_otel.audit.query.tail import Feed
from aegis_otel.cli.audit.mode import MONITOR, watched
from aegis_otel.cli.audit.options import address_given
from aegis_otel.cli.audit.table import action, short_id, styled, when

_PAUSE_S = 0.5


def print_feed(directory: Path, condition: Condition, limit: int, form: str, *, color: bool) -> None:
    """Print the newest entries, and what comes after them, until Ctrl-C.

    Raises:
        AuditError: when the audit cannot be read.
    """
    console = Console(highlight=False, soft_wrap=True, color_system="auto" if color else None)
    feed = Feed(directory, condition, mirrors=address_given() is not None)
    try:
        rows = feed.begin(limit)
        while True:
            for row in rows:
                if form == "jsonl":
                    click.echo(to_json(row))
                else:
                    console.print(_line(row))
            time.sleep(_PAUSE_S)
            rows = feed.poll()
    except KeyboardInterrupt:
        return
    except RuntimeError as error:
        if str(error) != "Query interrupted":  # what DuckDB makes of Ctrl-C
            raise


def _line(row: Row) -> Text:
    parts = (
        Text(when(row)),
        styled((row["risk_level"] or "-").ljust(8)),
        styled((row["human_decision"] or row["approval"] or "-").ljust(8)),
        *([styled(MONITOR)] if watched(row) else []),
        styled((row["result_status"] or "-").ljust(9)),
        styled(action(row)),
        Text(f"({(styled(row['matched_rule'] or '-')).plain})"),
        Text(short_id(row)),
    )
    return Text("  ").join(parts)
