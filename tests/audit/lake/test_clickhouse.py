"""collector/clickhouse: the schema and its questions in ClickHouse's engine, against the audit's answers.

`make test-engines` runs it. The rows are those of a governed run, by the names of the exporter's columns.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, Policy, connect
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.model import Result, ResultStatus
from tests.support.kit import POLICY, Bench

if importlib.util.find_spec("chdb") is None and os.environ.get("AEGIS_REQUIRE_STACK") != "1":
    pytest.skip("needs chdb: pip install --group engines", allow_module_level=True)

FOLDER = Path(__file__).parents[3] / "collector" / "clickhouse"
QUESTIONS = dict(re.findall(r"-- name: (\w+)\n(.*?);\n", (FOLDER / "questions.sql").read_text(), re.DOTALL))
LOGS = [
    *(
        "Timestamp",
        "TraceId",
        "SpanId",
        "TraceFlags",
        "SeverityText",
        "SeverityNumber",
        "ServiceName",
        "Body",
    ),
    *("ResourceSchemaUrl", "ResourceAttributes", "ScopeSchemaUrl", "ScopeName", "ScopeVersion"),
    *("ScopeAttributes", "LogAttributes", "EventName"),
]
"""What clickhouseexporter 0.161 inserts into: its internal/sqltemplates/logs_insert.sql, and EventName."""
TRACES = [
    *("Timestamp", "TraceId", "SpanId", "ParentSpanId", "TraceState", "SpanName", "SpanKind", "ServiceName"),
    *("ResourceAttributes", "ScopeName", "ScopeVersion", "SpanAttributes", "Duration", "StatusCode"),
    *("StatusMessage", "Events.Timestamp", "Events.Name", "Events.Attributes"),
    *("Links.TraceId", "Links.SpanId", "Links.TraceState", "Links.Attributes"),
]
"""The same of its traces_insert.sql."""
CRITICAL = {"name": "wire", "match": {"type": "wire"}, "risk_level": "critical", "approval": "auto"}

Ask = Callable[..., list[list[Any]]]


class Executor(BaseExecutor):
    async def execute(self, action: Action) -> Result:
        if action.params.get("fails"):
            raise OSError("boom")
        return Result(action, ResultStatus.SUCCESS)


@pytest.fixture
async def told(bench: Callable[..., Bench]) -> Bench:
    """A run with every kind of decision, under two policies."""
    policy = POLICY | {"rules": [CRITICAL, *POLICY["rules"]]}
    b = bench(True, True, False, policy=policy, executor=Executor())
    for action in (
        Action("search", agent="research"),
        Action("search", params={"fails": True}, agent="research"),
        Action("write_x", agent="ops"),
        Action("write_x", agent="ops"),
        Action("write_y", agent="ops"),
        Action("delete_x", agent="ops"),
        Action("wire", agent="billing"),
    ):
        await b.runtime.run_one(action)
    b.runtime.update_policy(Policy.from_dict(POLICY))
    await b.runtime.run_one(Action("delete_y", agent="ops"))
    return b


@pytest.fixture
def ask(told: Bench) -> Iterator[Ask]:
    """The schema, filled with what the run told."""
    from chdb.session import Session

    session = Session()
    session.query("CREATE DATABASE audit; USE audit")
    for statement in (FOLDER / "schema.sql").read_text().split(";\n"):
        if statement.strip():
            session.query(statement)
    _insert(session, "otel_logs", LOGS, [_log(each) for each in told.telemetry.logs("")])
    _insert(session, "otel_traces", TRACES, [_span(each) for each in told.telemetry.spans()])

    def ask(sql: str, **parameters: str) -> list[list[Any]]:
        for name, value in parameters.items():
            sql = sql.replace(f"{{{name}:String}}", f"'{value}'")
        text = session.query(sql, "JSONCompactEachRow").bytes().decode()
        return [[_plain(value) for value in json.loads(line)] for line in text.splitlines()]

    yield ask
    session.close()


def _insert(session: Any, table: str, columns: list[str], rows: list[dict[str, Any]]) -> None:
    assert rows
    assert all(set(row) == set(columns) for row in rows)
    names = ", ".join(f"`{name}`" for name in columns)
    lines = "\n".join(json.dumps(row) for row in rows)
    session.query(f"INSERT INTO {table} ({names}) FORMAT JSONEachRow {lines}")


def _log(event: Any) -> dict[str, Any]:
    record = event.log_record
    return dict.fromkeys(LOGS, "") | {
        "Timestamp": _time(record.timestamp),
        "TraceId": f"{record.trace_id:032x}",
        "SpanId": f"{record.span_id:016x}",
        "TraceFlags": 1,
        "SeverityText": record.severity_text,
        "SeverityNumber": record.severity_number.value,
        "ServiceName": "clerks",
        "ResourceAttributes": {"service.name": "clerks"},
        "ScopeName": "aegis_otel",
        "ScopeAttributes": {},
        "LogAttributes": _texts(record.attributes),
        "EventName": record.event_name,
    }


def _span(span: Any) -> dict[str, Any]:
    return dict.fromkeys(TRACES, "") | {
        "Timestamp": _time(span.start_time),
        "TraceId": f"{span.context.trace_id:032x}",
        "SpanId": f"{span.context.span_id:016x}",
        "ParentSpanId": f"{span.parent.span_id:016x}" if span.parent else "",
        "SpanName": span.name,
        "SpanKind": span.kind.name.title(),
        "ServiceName": "clerks",
        "ResourceAttributes": {"service.name": "clerks"},
        "ScopeName": "aegis_otel",
        "SpanAttributes": _texts(span.attributes),
        "Duration": span.end_time - span.start_time,
        "StatusCode": span.status.status_code.name.title(),
        "Events.Timestamp": [_time(event.timestamp) for event in span.events],
        "Events.Name": [event.name for event in span.events],
        "Events.Attributes": [_texts(event.attributes) for event in span.events],
        "Links.TraceId": [],
        "Links.SpanId": [],
        "Links.TraceState": [],
        "Links.Attributes": [],
    }


def _time(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y-%m-%d %H:%M:%S}.{ns % 10**9:09d}"


def _texts(attributes: Any) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in attributes.items()
    }


def _plain(value: Any) -> Any:
    """64-bit integers come as texts."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


async def test_every_question_has_an_answer(ask: Ask, told: Bench) -> None:
    """None of them is broken, and but for monitor mode each finds something in this run."""
    decision = told.rows()[0]["decision_id"]
    found = {name: ask(sql, decision_id=decision) for name, sql in QUESTIONS.items()}
    assert len(found) == 11
    assert [name for name, rows in found.items() if not rows] == ["monitored"]


async def test_the_answers_are_those_of_the_audit(ask: Ask, told: Bench) -> None:
    """Rules, refusals, policies and agents, by ClickHouse from the events and by DuckDB from the audit."""
    with connect(told.audit) as audit:

        def duck(sql: str) -> list[list[Any]]:
            return [list(row) for row in audit.execute(sql).fetchall()]

        blocked = (
            "SELECT agent_name, matched_rule FROM audit WHERE result_status = 'blocked' ORDER BY timestamp"
        )
        assert [[agent, rule] for _, agent, _, rule in ask(QUESTIONS["blocked"])] == duck(blocked)
        rules = "SELECT matched_rule, lower(risk_level), count(*) FROM audit GROUP BY ALL ORDER BY 3 DESC, 1"
        assert [row[:3] for row in ask(QUESTIONS["rules"])] == duck(rules)
        policies = "SELECT policy_digest, count(*) FROM audit GROUP BY ALL ORDER BY min(timestamp)"
        assert [[row[0], row[3]] for row in ask(QUESTIONS["policies"])] == duck(policies)
        agents = "SELECT agent_name, count(*) FROM audit GROUP BY ALL ORDER BY 1"
        by_agent: dict[str, int] = {}
        for agent, _, calls, _ in ask(QUESTIONS["agents"]):
            by_agent[agent] = by_agent.get(agent, 0) + calls
        assert sorted(map(list, by_agent.items())) == duck(agents)
        critical = "SELECT decision_id FROM critical WHERE approval = 'auto'"
        assert [row[:1] for row in ask(QUESTIONS["critical_without_human"])] == duck(critical)


async def test_waits_tools_and_one_call(ask: Ask, told: Bench) -> None:
    assert [row[:3] for row in ask(QUESTIONS["waits"])] == [
        ["scripted", "approved", 2],
        ["scripted", "denied", 1],
    ]
    assert [row[:3] for row in ask(QUESTIONS["tools"])] == [
        ["search", 2, 1],
        ["wire", 1, 0],
        ["write_x", 2, 0],
    ]
    (failed,) = [row for row in told.rows() if row["result_status"] == "failed"]
    assert ask(QUESTIONS["one_call"], decision_id=failed["decision_id"]) == [
        [failed["decision_id"], "allowed", "govern_tool search", "Error"],
        [failed["decision_id"], "allowed", "execute_tool search", "Error"],
    ]


async def test_what_was_sent_twice_counts_once(ask: Ask) -> None:
    """A retry of the collector's, or `aegis audit resend`."""
    before, reconciled = ask(QUESTIONS["rules"]), ask(QUESTIONS["reconciliation"])
    ask("INSERT INTO otel_logs SELECT * FROM otel_logs")
    assert ask(QUESTIONS["rules"]) == before
    assert reconciled == [["clerks", 8, 8]]
    assert ask(QUESTIONS["reconciliation"]) == [["clerks", 8, 16]]


async def test_an_id_is_found_by_its_index(ask: Ask, told: Bench) -> None:
    """A look-up does not read the whole table once it is large."""
    decision = told.rows()[0]["decision_id"]
    sql = f"EXPLAIN indexes = 1 SELECT * FROM otel_logs WHERE DecisionId = '{decision}'"
    assert "by_decision" in "".join(str(line) for line in ask(sql))
