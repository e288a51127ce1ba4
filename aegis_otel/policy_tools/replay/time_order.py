"""Decide recorded calls one after the other, each by what the audit says went before it.

Only calls that the policy asks about the past are decided here. The others are read where they count for one
of these: also those before the first call that is decided, as far back as a condition reaches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.rows import run_query
from aegis_otel.audit.record import NOT_BEGUN, NOT_STARTED, RecordStatus
from aegis_otel.model import Verdict, Where
from aegis_otel.policy_tools.replay.call_groups import (
    OF_THESE_NAMES,
    CallGroup,
    Names,
    recorded_time,
    select_names,
    selected_columns,
)
from aegis_otel.policy_tools.replay.decider import Decider, is_of_another_version
from aegis_otel.policy_tools.replay.recorded_past import ALWAYS, AuditStart, BodyTimes, RecordedPast

if TYPE_CHECKING:
    import duckdb

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = timedelta(days=1)
"""A session or a conversation that the audit has in its first day may have begun before it."""
_ORDER = "ORDER BY timestamp NULLS FIRST, decision_id"
_ROWS_AT_ONCE = 200_000
"""The most rows that are sorted at once, unless one hour has more."""
_COLUMNS = {"session": "session_id", "conversation": "conversation_id"}
"""The columns of what `within` names; what a run is part of, the audit does not say."""
_RAN = frozenset(
    {
        *(RecordStatus.SUCCESS, RecordStatus.FAILED, RecordStatus.CANCELLED),
        *(RecordStatus.OPEN, RecordStatus.UNKNOWN),
    }
)
"""The statuses of calls whose bodies ran, unless their rows say that these were never begun."""
_ENDED = frozenset({RecordStatus.SUCCESS, RecordStatus.FAILED})
_UNBEGUN = f"""CASE result_status
                WHEN '{RecordStatus.CANCELLED}' THEN result_error = '{NOT_BEGUN}'
                WHEN '{RecordStatus.FAILED}' THEN starts_with(result_error, '{NOT_STARTED}') END"""


class _Execution(NamedTuple):
    """What a row says of the body of its call."""

    status: str | None
    is_unbegun: bool
    """Whether the row says that the body of a call that was cancelled, or has failed, never ran."""
    wait_s: float | None
    """How long a human was waited for."""
    duration_s: float | None

    @property
    def has_run(self) -> bool:
        if self.is_unbegun:
            return False
        if self.status == RecordStatus.PENDING:
            return self.duration_s is not None  # a human is asked about a call inside of it
        return self.status in _RAN

    def course(self, at: datetime | None) -> BodyTimes:
        """Return when the body ran, of a call that was decided on at a time."""
        outcome = self.status if self.status in _ENDED else ""
        try:
            if at is not None:
                begun = at + _seconds(self.wait_s)
                return BodyTimes(begun, begun + _seconds(self.duration_s), outcome or "")
        except OverflowError:
            pass
        return BodyTimes(ALWAYS, ALWAYS, "")


def _seconds(value: float | None) -> timedelta:
    return timedelta(seconds=value if value is not None and math.isfinite(value) and value > 0 else 0)


def decide_in_order(
    decider: Decider, audit: duckdb.DuckDBPyConnection, condition: Condition
) -> Iterator[tuple[CallGroup, Verdict | str]]:
    """Yield the calls that match and that are asked about their past, each with the verdict on it.

    Args:
        decider: Decides.
        audit: A connection of `audit.query.connection`.
        condition: Which rows are decided; what went before them is read whether it matches or not.
    """
    asking, first, last = _asking(decider, audit, condition)
    if not asking:
        return
    since = None if first is None else _before(first, decider.reach_s)
    period = _period(since, last)
    names = f"SELECT action_type, other_names FROM audit WHERE {period.sql} GROUP BY ALL"  # noqa: S608
    read = [
        each for each in run_query(audit, names, period.values) if each in asking or decider.counts(*each)
    ]
    past = RecordedPast(_beginning(decider, audit, since))
    select_names(audit, read)
    interest = decider.interest_in_order(read)
    selected = ", ".join(f"{sql} AS {name}" for name, sql in selected_columns(interest).items())
    counted = f"{period.sql} AND ({OF_THESE_NAMES} OR {is_of_another_version('schema_version')})"
    stream = f"""
        SELECT {selected}, 1, [decision_id], {condition.sql},
            session_id, conversation_id, run_id, tool_name,
            result_status, coalesce({_UNBEGUN}, false), approval_wait_s, duration_s
        FROM audit WHERE {counted} AND """  # noqa: S608
    rows = itertools.chain.from_iterable(
        run_query(audit, f"{stream}{part.sql} {_ORDER}", [*condition.values, *period.values, *part.values])
        for part in list(_parts(audit, Condition(counted, period.values)))
    )
    for *row, is_asked, session, conversation, run, tool, status, is_unbegun, wait_s, duration_s in rows:
        calls = CallGroup._make((*row, interest, Where(session, conversation, run, tool)))
        now = recorded_time(calls)
        if now is not None:
            past.go_on_to(now)
        if is_asked and (calls.action_type, calls.other_names) in asking:
            yield calls, decider.decide(calls, past)
        execution = _Execution(status, is_unbegun, wait_s, duration_s)
        if execution.has_run and (marks := decider.marks(calls)):
            past.leave(marks, execution.course(now))


def _asking(
    decider: Decider, audit: duckdb.DuckDBPyConnection, condition: Condition
) -> tuple[set[Names], datetime | None, datetime | None]:
    """Return the names of the calls that are decided by their past, and the times of the first and last."""
    sql = (
        "SELECT action_type, other_names, min(epoch_us(timestamp)), max(epoch_us(timestamp)) "  # noqa: S608
        f"FROM audit WHERE {condition.sql} GROUP BY ALL"
    )
    found = [row for row in run_query(audit, sql, condition.values) if decider.asks(*row[:2])]
    times = [time for *_, first, last in found for time in (first, last) if time is not None]
    first, last = (_time(choose(times)) if times else None for choose in (min, max))
    return {(action_type, names) for action_type, names, _, _ in found}, first, last


def _parts(audit: duckdb.DuckDBPyConnection, counted: Condition) -> Iterator[Condition]:
    """Yield conditions that part the rows by their times, in order: to sort all at once takes memory."""
    sql = (
        "SELECT epoch_us(date_trunc('hour', timestamp)) AS hour, count(*) "  # noqa: S608
        f"FROM audit WHERE {counted.sql} AND timestamp IS NOT NULL GROUP BY ALL ORDER BY hour"
    )
    bounds: list[str] = []
    number = 0
    for hour, rows in run_query(audit, sql, counted.values):
        number += rows
        if number > _ROWS_AT_ONCE and number > rows and (time := _time(hour)) is not None:
            bounds.append(time.isoformat())
            number = rows
    if not bounds:
        yield Condition("true", [])
        return
    yield Condition("(timestamp IS NULL OR timestamp < ?::TIMESTAMPTZ)", bounds[:1])
    for since, until in itertools.pairwise(bounds):
        yield Condition("timestamp >= ?::TIMESTAMPTZ AND timestamp < ?::TIMESTAMPTZ", [since, until])
    yield Condition("timestamp >= ?::TIMESTAMPTZ", bounds[-1:])


def _beginning(decider: Decider, audit: duckdb.DuckDBPyConnection, since: datetime | None) -> AuditStart:
    """Return where the audit begins.

    Args:
        since: The earliest time about which a condition asks; None: no time is too early.
    """
    ((first,),) = run_query(audit, "SELECT min(epoch_us(timestamp)) FROM audit")
    at = None if first is None else _time(first)
    if at is None or (since is not None and at <= since):
        return AuditStart(at, {})
    period = _period(None, at + _FIRST_DAY)
    return AuditStart(
        at,
        {
            span: frozenset(
                each
                for (each,) in run_query(
                    audit,
                    f"SELECT DISTINCT {_COLUMNS[span]} FROM audit WHERE {period.sql}",  # noqa: S608
                    period.values,
                )
            )
            for span in _COLUMNS
            if span in decider.spans
        },
    )


def _time(microseconds: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return None


def _before(time: datetime, seconds: float) -> datetime | None:
    try:
        return time - timedelta(seconds=seconds)
    except OverflowError:
        return None


def _period(since: datetime | None, until: datetime | None) -> Condition:
    """Return the condition on rows of this time, and on those that have none."""
    bounds = [(">=", since), ("<=", until)]
    given = [(sign, time.isoformat()) for sign, time in bounds if time is not None]
    parts = [f"timestamp {sign} ?::TIMESTAMPTZ" for sign, _ in given] or ["true"]
    return Condition(f"(timestamp IS NULL OR ({' AND '.join(parts)}))", [time for _, time in given])
