"""Group the recorded calls that a policy cannot tell apart, by queries of the audit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from aegis_otel.audit.lake.fold import literal
from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.rows import run_query
from aegis_otel.audit.record import recorded_names
from aegis_otel.model import Where
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.parameter_paths import names_at_the_top
from aegis_otel.policy.json_text import Ambiguous, read_once

if TYPE_CHECKING:
    import duckdb

_MOST_CLASSES = 8
"""The most queries of the audit; what needs more of them is asked for with all columns that any needs."""
_ODD = frozenset('"\\*')
"""Characters of a name that mean something else in a JSON path of DuckDB."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOWHERE = Where()
Names = tuple[str | None, str | None]
"""A type, and the column `other_names`."""


class CallGroup(NamedTuple):
    """Calls that the policy cannot tell apart, and that were decided alike. What it does not read is None."""

    action_type: str | None
    other_names: str | None
    schema_version: int
    reading: str | None
    approval: str | None
    """What the policy enforced, in a program that enforces."""
    rule: str | None
    risk: str | None
    terms: str | None
    """Who might answer, as JSON; None where the rule did not say it, or asked nobody."""
    target: str | None
    agent: str | None
    user: str | None
    tenant: str | None
    roles: str | None
    at_us: int | None
    """Microseconds since 1970; of the beginning of the minute, where no more than that is read."""
    keys: Sequence[str] | None
    """The names of the parameters; None where they are not read, or where the row has none."""
    values: Sequence[str | None] | None
    """The JSON of the parameters that are read, in the order of the class; None for one that is absent."""
    number: int
    examples: Sequence[str]
    interest: Interest
    where: Where = NOWHERE
    """What a single call is part of, where it is decided by what went before it."""


class Interest(NamedTuple):
    """What a policy reads of calls of some types."""

    params: frozenset[str] | None = frozenset()
    """The names of parameters at the top; None for all of them."""
    target: bool = False
    agent: bool = False
    subject: bool = False
    time: str = ""
    """`minute`, `moment`, or empty."""

    def joined(self, other: Interest) -> Interest:
        params = None if self.params is None or other.params is None else self.params | other.params
        return Interest(
            params,
            self.target or other.target,
            self.agent or other.agent,
            self.subject or other.subject,
            next((each for each in ("moment", "minute") if each in (self.time, other.time)), ""),
        )


def interest_of(rules: Iterable[CompiledRule]) -> Interest:
    """Return what `rules` read."""
    found = Interest()
    for rule in rules:
        names: set[str] = set()
        whole = False
        history = rule.rule.conditions.all_history
        for test in (*rule.rule.conditions.all_tests, *(each for past in history for each in past.params)):
            whole = whole or not test.keys
            names.update(names_at_the_top(test))
        texts = {name for name, _ in rule.texts}.union(*(past.words for past in history))
        moment = any(test.reads_time for test in rule.rule.conditions.all_tests)
        reads_time = rule.rule.conditions.reads_time
        found = found.joined(
            Interest(
                None if whole or _ODD.intersection("".join(names)) else frozenset(names),
                "target" in texts,
                "agent" in texts,
                not texts.isdisjoint(("user", "tenant", "role")),
                "moment" if moment else "minute" if reads_time else "",
            )
        )
    return found


def group_calls(
    audit: duckdb.DuckDBPyConnection,
    condition: Condition,
    find_interest: Callable[[str | None, str | None], Interest | None],
) -> Iterator[CallGroup]:
    """Yield the rows that match, in groups.

    Args:
        audit: A connection of `audit.query.connection`.
        condition: Which rows.
        find_interest: Returns what the policy reads of calls of an action type with these other names; None
            where they are not grouped.
    """
    classes: dict[Interest, list[Names]] = {}
    sql = f"SELECT action_type, other_names FROM audit WHERE {condition.sql} GROUP BY ALL"  # noqa: S608
    for action_type, other_names in list(run_query(audit, sql, condition.values)):
        interest = find_interest(action_type, other_names)
        if interest is None:
            continue
        if len(classes) >= _MOST_CLASSES and interest not in classes:
            merged = interest
            for each in classes:
                merged = merged.joined(each)
            classes = {merged: [each for members in classes.values() for each in members]}
            interest = merged
        classes.setdefault(interest, []).append((action_type, other_names))
    for interest, members in classes.items():
        select_names(audit, members)
        for row in run_query(audit, _grouping(interest, condition.sql), condition.values):
            yield CallGroup._make((*row, interest, NOWHERE))


def select_names(audit: duckdb.DuckDBPyConnection, members: Sequence[Names]) -> None:
    """Write the types and other names of calls into the table `replayed`, for `OF_THESE_NAMES`."""
    audit.execute("CREATE OR REPLACE TEMP TABLE replayed (action_type VARCHAR, other_names VARCHAR)")
    for start in range(0, len(members), 500):
        some = members[start : start + 500]
        marks = ", ".join(["(?, ?)"] * len(some))
        audit.execute(f"INSERT INTO replayed VALUES {marks}", [name for each in some for name in each])  # noqa: S608


OF_THESE_NAMES = """EXISTS (
    SELECT 1 FROM replayed
    WHERE replayed.action_type IS NOT DISTINCT FROM audit.action_type
        AND replayed.other_names IS NOT DISTINCT FROM audit.other_names)"""


def selected_columns(interest: Interest) -> dict[str, str]:
    """Return what a query selects for the first fields of a `CallGroup`, by names for the columns."""
    params = "CASE WHEN json_valid(action_params::VARCHAR) THEN action_params::JSON END"
    keys = values = none = "NULL"
    if interest.params is None:
        values = f"[({params})::VARCHAR]"
    elif interest.params:
        paths = ", ".join(literal(f'$."{name}"') for name in sorted(interest.params))
        keys = f"CASE WHEN json_type({params}) = 'OBJECT' THEN json_keys({params}) END"
        values = f"json_extract({params}, [{paths}])::VARCHAR[]"
    at = {"minute": "epoch_us(date_trunc('minute', timestamp))", "moment": "epoch_us(timestamp)"}
    return {
        "c_type": "action_type",
        "c_names": "other_names",
        "c_version": "coalesce(schema_version, 1)",
        "c_reading": "arguments_reading",
        "c_approval": "coalesce(enforced_approval, approval)",
        "c_rule": "matched_rule",
        "c_risk": "risk_level",
        "c_terms": "nullif(approval_terms, '')",
        "c_target": "action_target" if interest.target else none,
        "c_agent": "agent_name" if interest.agent else none,
        **{
            f"c_{name}": name if interest.subject else none for name in ("user_id", "tenant_id", "user_roles")
        },
        "c_at": at.get(interest.time, none),
        "c_keys": keys,
        "c_given": values,
    }


def _grouping(interest: Interest, condition: str) -> str:
    """Return the query of the groups of one class, whose types are in the table `replayed`."""
    columns = selected_columns(interest)
    selected = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
    grouped = ", ".join(columns)
    return f"""
        SELECT {grouped}, count(*), [max(decision_id), min(decision_id)]
        FROM (SELECT decision_id, {selected} FROM audit WHERE {condition} AND {OF_THESE_NAMES})
        GROUP BY {grouped}
    """  # noqa: S608


def judged_names(
    action_type: str | None, target: str | None, others: str | None
) -> list[tuple[str, str]] | None:
    """Return the types and targets that a call was judged by, its own first; None where it is not known."""
    pairs = [] if others is None else recorded_names(others)
    return None if pairs is None else [(action_type or "", target or ""), *pairs]


def recorded_params(calls: CallGroup) -> dict[str, Any] | None:
    """Return the parameters that the policy reads; None where the row does not have them for certain."""
    interest = calls.interest
    try:
        if interest.params is None:
            text = None if calls.values is None else calls.values[0]
            found = None if text is None else read_once(text)
            return found if isinstance(found, dict) else None
        if not interest.params:
            return {}
        if calls.keys is None or calls.values is None or len(set(calls.keys)) < len(calls.keys):
            return None
        params: dict[str, Any] = dict.fromkeys(calls.keys, 0)  # the values of the others are not read
        for name, text in zip(sorted(interest.params), calls.values, strict=True):
            if text is not None:
                params[name] = read_once(text)
    except (Ambiguous, ValueError, RecursionError):
        return None
    return params


def recorded_time(calls: CallGroup) -> datetime | None:
    """Return when calls were decided, or any time if the policy reads none; None where the row lacks it."""
    if not calls.interest.time:
        return _EPOCH
    try:
        return None if calls.at_us is None else _EPOCH + timedelta(microseconds=calls.at_us)
    except OverflowError:
        return None
