"""Follow an audit as it grows: rows that are new, and rows that have changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from aegis_otel.audit.query.connection import open_view
from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.rows import Row, read_rows

if TYPE_CHECKING:
    import duckdb


_LATE = timedelta(seconds=60)
"""How far behind the newest row a new one may be: clocks differ, and a row has the time of its decision."""
_UNFINISHED = ("open", "pending")
_CHANGES = ("result_status", "human_decision", "result_error", "duration_s", "matched_rule")


class Feed:
    """Rows that match a condition, each when it comes and again when something about it changes.

    Only what can have changed is read again: rows from the newest on, and those that were unfinished.
    """

    def __init__(self, directory: Path, condition: Condition, *, mirrors: bool = False) -> None:
        """
        Args:
            mirrors: See `audit.query.connection.open_view`.
        """
        self._directory = directory
        self._mirrors = mirrors
        self._condition = condition
        self._newest = datetime.min.replace(tzinfo=UTC) + _LATE
        self._unfinished: set[str] = set()
        self._shown: dict[str, tuple[object, ...]] = {}

    def begin(self, limit: int) -> list[Row]:
        """Return the newest rows there are, oldest first.

        Raises:
            AuditError: the audit cannot be read.
        """
        # Opened anew each time, which finds out anew which writers have ended.
        with open_view(self._directory, mirrors=self._mirrors) as audit:
            unfinished = read_rows(audit, _any_of("result_status = ?", _UNFINISHED))
            self._unfinished = {row["decision_id"] for row in unfinished}
            self._note_times(read_rows(audit, Condition("true", []), limit=1))
            self._read_changes(audit)
            newest = list(read_rows(audit, self._condition, limit=limit, oldest_first=True))
            self._changed(newest)
            return newest

    def poll(self) -> list[Row]:
        """Return the rows that are new or have changed since the last call, oldest first.

        Raises:
            AuditError: the audit cannot be read.
        """
        with open_view(self._directory, mirrors=self._mirrors) as audit:
            return self._read_changes(audit)

    def _read_changes(self, audit: duckdb.DuckDBPyConnection) -> list[Row]:
        since = min(self._newest, datetime.now(UTC)) - _LATE  # one wrong clock must not hide all others
        recent = Condition("timestamp >= ?::TIMESTAMPTZ", [since.isoformat()])
        known = _any_of("decision_id = ?", sorted(self._unfinished))
        candidates = Condition(f"({recent.sql} OR {known.sql})", [*recent.values, *known.values])
        # Whatever the condition: a row may come to match it when it is finished.
        seen = list(read_rows(audit, candidates))
        wanted = Condition(
            f"{candidates.sql} AND {self._condition.sql}", [*candidates.values, *self._condition.values]
        )
        changed = self._changed(read_rows(audit, wanted, oldest_first=True))
        self._note_times(seen)
        self._unfinished = {row["decision_id"] for row in seen if row["result_status"] in _UNFINISHED}
        ids = {row["decision_id"] for row in seen}
        self._shown = {key: state for key, state in self._shown.items() if key in ids}
        return changed

    def _note_times(self, rows: Iterable[Row]) -> None:
        times = (datetime.fromisoformat(row["timestamp"]) for row in rows if row["timestamp"] is not None)
        self._newest = max([self._newest, *times])

    def _changed(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows that were not shown before as they are now, and note that they are."""
        states = [(row, tuple(row[name] for name in _CHANGES)) for row in rows]
        changed = [row for row, state in states if self._shown.get(row["decision_id"]) != state]
        self._shown |= {row["decision_id"]: state for row, state in states}
        return changed


def _any_of(sql: str, values: Sequence[str]) -> Condition:
    return Condition(" OR ".join([sql] * len(values)) or "false", list(values))
