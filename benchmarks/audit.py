"""The audit against agent-aegis's, in one process: writing, bytes at rest, and queries.

Writing: both record the same decisions, in turns; ours is two lines a call, chained, on disk when `append`
returns. Queries: the same rows in an audit of one segment a day with a live journal of 5,000 calls, and in
the peer's SQLite with its indexes. `python benchmarks/audit.py [rows]`; loading 5 million takes minutes.
"""

from __future__ import annotations

import gc
import hashlib
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aegis
import duckdb
import msgspec
from aegis.runtime.audit import AuditLogger as PeerAuditLogger

from aegis_otel import Action
from aegis_otel import Policy as OurPolicy
from aegis_otel.audit.journal import seal_trigger
from aegis_otel.audit.journal import writer as journal_module
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.scan import SCHEMA
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.lake.segments import ROW_GROUP, SegmentBuilder, opened
from aegis_otel.audit.location import LAKE
from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.query.filters import compile_filters
from aegis_otel.audit.query.rows import read_rows
from aegis_otel.audit.query.views import HOUR
from aegis_otel.audit.record import COLUMNS, SCHEMA_VERSION, AuditRecord
from aegis_otel.audit.seals.seal_log import VERSION, Seal, Segment, locked, segment_name
from aegis_otel.governance.recording import record_call
from aegis_otel.runtime.system import RealSystem

ROWS, DAYS, LIVE = 5_000_000, 30, 5_000
BATCH, ROUNDS = 500, 12
RULES = {
    "version": "1",
    "rules": [{"name": "search", "match": {"type": "search*"}, "risk_level": "low", "approval": "auto"}],
}

# A call as governed tools record it, made of its number: what is random there is a hash here.
ROW = """
SELECT i, substr(ms, 1, 8) || '-' || substr(ms, 9, 4) || '-7' || substr(h, 1, 3) || '-8' || substr(h, 4, 3)
        || '-' || substr(h, 7, 12) AS decision_id,
    substr(md5('s' || i // 50), 1, 12) AS session_id, moment AS "timestamp",
    ['search_web', 'read_file', 'write_file', 'delete_document', 'send_mail', 'query_db'][1 + r % 6]
        AS action_type,
    ['web', 'files', 'crm', 'storage'][1 + r % 4] AS action_target,
    '{{"query":"' || substr(h, 1, 8) || ' and more","limit":' || r % 50 || '}}' AS action_params,
    'hmac-sha256:' || sha256(h) AS args_digest,
    ['LOW', 'LOW', 'LOW', 'MEDIUM', 'HIGH', 'CRITICAL'][1 + r % 6] AS risk_level,
    ['auto', 'auto', 'auto', 'approve', 'block'][1 + r % 5] AS approval, 'rule_' || r % 40 AS matched_rule,
    NULL AS reason, 'sha256:4f1c' AS policy_digest, 'enforce' AS mode,
    CASE WHEN r % 5 = 3 THEN 'approved' END AS human_decision, NULL AS approver, NULL AS approval_reason,
    CASE WHEN r % 5 = 3 THEN r / 10.0 END AS approval_wait_s,
    ['success', 'success', 'failed', 'success', 'blocked'][1 + r % 5] AS result_status, NULL AS result_error,
    r / 1000.0 AS duration_s, 'Assistant' AS agent_name, 'tool_' || r % 6 AS tool_name,
    'call_' || substr(md5('c' || h), 1, 24) AS tool_call_id, NULL AS conversation_id,
    md5('t' || i // 10) AS trace_id, substr(md5('p' || i), 1, 16) AS span_id, 'service' AS service,
    'host' AS host, 4242 AS pid, 1 AS schema_version, NULL AS tool_original_name, NULL AS run_id,
    NULL AS error_type, NULL AS redaction_digest,
    ['allowed', 'allowed', 'allowed', 'approved', 'blocked'][1 + r % 5] AS outcome
FROM (SELECT i, md5(i::VARCHAR) AS h, (i * 2654435761) % 1000 AS r, moment,
    lpad(to_hex(epoch_ms(moment)), 12, '0') AS ms
    FROM (SELECT i, '{start}'::TIMESTAMPTZ + to_microseconds(i * {step}) AS moment
        FROM range({first}, {last}) t(i)))
"""
TYPED = ", ".join(f'"{column.name}"::{column.sql_type} AS "{column.name}"' for column in COLUMNS)
PEER_COLUMNS = (
    "session_id, timestamp, action_type, action_target, action_params, risk_level, approval, matched_rule, "
    "human_decision, result_status, agent_id, chain_id"
)
PEER_ROW = (
    "session_id, strftime(\"timestamp\", '%Y-%m-%dT%H:%M:%S.%f+00:00'), action_type, action_target, "
    "action_params, risk_level, approval, matched_rule, human_decision, result_status, agent_name, NULL"
)


def write_path(folder: Path) -> None:
    """One writer, sequential: what a caller waits, and records a second."""
    system = RealSystem()
    ours, theirs = Journal(folder / "ours"), PeerAuditLogger(folder / "peer.db")
    seal_trigger.SEAL_BYTES = 1 << 60
    our_decision = OurPolicy.from_dict(RULES).evaluate(
        Action("search_web", "web", {"query": "x", "limit": 5})
    )
    peer_policy = aegis.Policy.from_dict(RULES)
    peer_decision = peer_policy.evaluate(aegis.Action("search_web", "web", params={"query": "x", "limit": 5}))

    def record() -> AuditRecord:
        made, arguments, _ = record_call(our_decision, system, "session", time.time_ns())
        made.args_digest = ours.digest(arguments)
        made.result_status = "open"
        return made

    def encoded() -> Callable[[], None]:
        made = record()
        return lambda: ours.append(made)

    def whole() -> None:
        made = record()
        ours.append(made)
        ours.append(
            AuditRecord(
                stage="completed",
                decision_id=made.decision_id,
                timestamp=made.timestamp,
                result_status="success",
                duration_s=0.1,
            )
        )

    sides: dict[str, Callable[[], object]] = {
        "ours: one line": encoded(),
        "ours: a whole call, redaction and digest included": whole,
        "agent-aegis: log": lambda: theirs.log("session", peer_decision),
    }
    waits: dict[str, list[float]] = {name: [] for name in sides}
    gc.disable()
    for _ in range(ROUNDS):
        for name, work in sides.items():
            work()  # not counted: it waits for what the other side's sync left the file system to do
            for _ in range(BATCH):
                begun = time.perf_counter()
                work()
                waits[name].append(time.perf_counter() - begun)
        gc.collect()
    gc.enable()
    ours.close()
    theirs.close()
    print(f"{'caller waits, us':52}{'p50':>8}{'p99':>9}{'per s':>10}")
    for name, taken in waits.items():
        print(f"{name:52}{p(taken, 50):8.1f}{p(taken, 99):9.1f}{len(taken) / sum(taken):10,.0f}")
    one, call, peer = waits.values()
    for what, over, least in (
        ("p50", lambda taken: p(taken, 50), 50),
        ("p99", lambda taken: p(taken, 99), 25),
        ("time a record", sum, 50),
    ):
        a_line, a_call = (over(peer) / over(ours) for ours in (one, call))
        print(f"agent-aegis / ours, {what}: {a_line:.0f}x a line (at least {least}), {a_call:.0f}x a call")


def p(taken: list[float], percent: int) -> float:
    return statistics.quantiles(taken, n=100)[percent - 1] * 1e6


def sealing(folder: Path) -> None:
    """How long the sealer's work takes, for what a journal hands it at a time."""
    seal_trigger.SEAL_BYTES = journal_module.ROTATE_BYTES = 1 << 60
    journal = write_live(folder / "seal", LIVE, datetime.now(UTC))
    journal.close()
    begun = time.perf_counter()
    (made,) = seal(folder / "seal").seals
    taken = time.perf_counter() - begun
    (segment,) = made.segments
    size = segment.bytes / segment.rows
    print(f"sealing {segment.rows:,} calls: {taken * 1e3:.0f} ms, {size:.0f} bytes a row")


def write_live(audit: Path, count: int, start: datetime) -> Journal:
    journal = Journal(audit)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        sql = ROW.format(start=start.isoformat(), step=1_000, first=0, last=count)
        names = [column.name for column in COLUMNS]
        written = "strftime(\"timestamp\", '%Y-%m-%dT%H:%M:%S.%f+00:00')"
        columns = ", ".join(f'"{name}"' for name in names).replace('"timestamp"', written)
        for values in connection.execute(f"SELECT {columns} FROM ({sql})").fetchall():
            row = dict(zip(names, values, strict=True)) | {"schema_version": SCHEMA_VERSION}
            last = {"result_status": row.pop("result_status"), "duration_s": float(row.pop("duration_s"))}
            # An answer needs its proof.
            row |= {
                "human_decision": None,
                "approval_wait_s": None,
                "outcome": None if last["result_status"] == "blocked" else "allowed",
            }
            journal.append(AuditRecord(stage="decided", **row, result_status="open"))
            journal.append(
                AuditRecord(
                    stage="completed", decision_id=row["decision_id"], timestamp=row["timestamp"], **last
                )
            )
    return journal


def load(folder: Path, rows: int) -> tuple[Path, Path, str]:
    """The same rows as an audit and as the peer's database; returns both, and a session in the middle."""
    audit, database = folder / "audit", folder / "peer_rows.db"
    start = (datetime.now(UTC) - timedelta(days=DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    step = DAYS * 86_400_000_000 // rows
    journal = write_live(audit, LIVE, start + timedelta(days=DAYS))
    PeerAuditLogger(database).close()
    (audit / LAKE).mkdir()
    placeholders = ", ".join("?" for _ in PEER_COLUMNS.split(","))
    with opened() as connection, closing(sqlite3.connect(database)) as peer:
        segments = list(write_days(connection, audit, start, step, rows))
        name = audit_id(load_key(audit))
        with locked(audit, name, wait=True) as log:
            assert log is not None
            named = []
            for segment in segments:
                renamed = segment_name(segment.day, segment.segment, log.tag)
                (audit / LAKE / segment.file).rename(audit / LAKE / renamed)
                named.append(msgspec.structs.replace(segment, file=renamed))
            sealed_at = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
            log.append(Seal(1, VERSION, name, sealed_at, tuple(named), (), (), None))
        sql = ROW.format(start=start.isoformat(), step=step, first=0, last=rows)
        answer = connection.execute(f"SELECT {PEER_ROW} FROM ({sql})")
        while batch := answer.fetchmany(50_000):
            peer.executemany(f"INSERT INTO audit_log ({PEER_COLUMNS}) VALUES ({placeholders})", batch)
        peer.commit()
        middle = hashlib.md5(f"s{rows // 2 // 50}".encode()).hexdigest()[:12]
    journal.close()
    return audit, database, middle


def write_days(
    connection: duckdb.DuckDBPyConnection, audit: Path, start: datetime, step: int, rows: int
) -> Iterator[Segment]:
    for day in range(DAYS):
        first, last = rows * day // DAYS, rows * (day + 1) // DAYS
        date = f"{start + timedelta(days=day):%Y-%m-%d}"
        file = f"date={date}/{day + 1}.parquet"
        path = audit / LAKE / file
        path.parent.mkdir()
        sql = ROW.format(start=start.isoformat(), step=step, first=first, last=last)
        typed = f"SELECT {TYPED}, {day + 1}::BIGINT AS segment FROM ({sql}) ORDER BY i"
        options = f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
        connection.execute(f"COPY ({typed}) TO '{path}' {options}")
        if day == 0:
            SegmentBuilder(connection, [], [], [], {}).write_schema(audit / LAKE / SCHEMA)
        times = [(start + timedelta(microseconds=each * step)).isoformat() for each in (first, last - 1)]
        yield Segment(day + 1, file, last - first, path.stat().st_size, "0" * 64, *times)


def at_rest(audit: Path, database: Path, rows: int) -> None:
    sealed = sum(path.stat().st_size for path in audit.glob("lake/date=*/*.parquet")) / rows
    peer = sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*")) / rows
    print(
        f"bytes a row at rest: ours {sealed:.0f}, agent-aegis {peer:.0f}: {sealed / peer:.2f}x (at most 0.12)"
    )


def same_columns(audit: Path, database: Path) -> None:
    """What is at rest where SQLite has all of our columns as well: the peer has no ids and no digest."""
    segment = min(audit.glob("lake/date=*/*.parquet"))
    names = ", ".join(f'"{column.name}"' for column in COLUMNS)
    with duckdb.connect() as connection, closing(sqlite3.connect(database)) as peer:
        connection.execute("SET TimeZone = 'UTC'")
        texts = ", ".join(f'"{column.name}"::VARCHAR' for column in COLUMNS)
        found = connection.execute(f"SELECT {texts} FROM '{segment}'").fetchall()
        peer.execute(f"CREATE TABLE audit_log (id INTEGER PRIMARY KEY, {names})")
        for indexed in ("session_id", "timestamp", "agent_name", "action_type"):
            peer.execute(f"CREATE INDEX by_{indexed} ON audit_log ({indexed})")
        marks = ", ".join("?" for _ in COLUMNS)
        peer.executemany(f"INSERT INTO audit_log ({names}) VALUES ({marks})", found)
        peer.commit()
    ours, theirs = segment.stat().st_size / len(found), database.stat().st_size / len(found)
    print(f"the same columns in SQLite with its indexes: {theirs:.0f} bytes a row: {ours / theirs:.2f}x")


def queries(audit: Path, database: Path, session: str) -> None:
    with connect(audit) as ours, closing(sqlite3.connect(database)) as peer:
        last = peer.execute("SELECT max(timestamp) FROM audit_log").fetchone()[0]
        since = f"timestamp >= '{(datetime.fromisoformat(last) - timedelta(days=1)).isoformat()}'"
        hour = {"audit": HOUR, "audit_log": "substr(timestamp, 1, 13)"}
        cases = [
            ("count of all", "count(*)", "true", ""),
            ("tools by CRITICAL", "action_type, count(*)", "risk_level = 'CRITICAL'", "GROUP BY 1"),
            ("rules by result", "matched_rule, result_status, count(*)", "true", "GROUP BY 1, 2"),
            ("results by hour", "{hour}, result_status, count(*)", "true", "GROUP BY 1, 2"),
            (
                "blocked by rule, a day",
                "matched_rule, count(*)",
                f"{since} AND approval = 'block'",
                "GROUP BY 1",
            ),
            ("results by hour, a day", "{hour}, result_status, count(*)", since, "GROUP BY 1, 2"),
        ]

        def ask(on: Any, table: str, what: str, condition: str, group: str) -> list[Any]:
            columns = what.format(hour=hour[table])
            return on.execute(f"SELECT {columns} FROM {table} WHERE {condition} {group}").fetchall()

        print(f"{'query, ms (minimum of 7)':30}{'ours':>9}{'SQLite':>10}{'ratio':>8}")
        for name, *query in cases:
            mine = best(partial(ask, ours, "audit", *query))
            theirs = best(partial(ask, peer, "audit_log", *query), 2)
            print(f"{name:30}{mine:9.1f}{theirs:10.1f}{theirs / mine:7.1f}x")
        print("to hold: 25x over all time, 2x over a day")
        condition = compile_filters(session, {})
        mine = best(lambda: list(read_rows(ours, condition)))
        theirs = best(
            lambda: peer.execute("SELECT * FROM audit_log WHERE session_id = ?", [session]).fetchall()
        )
        print(f"{'one session':30}{mine:9.1f}{theirs:10.1f}          at most 30 ms")
        everything = compile_filters(None, {})
        mine = best(lambda: list(read_rows(ours, everything, limit=100)))
        theirs = best(
            lambda: peer.execute("SELECT * FROM audit_log ORDER BY timestamp DESC LIMIT 100").fetchall()
        )
        print(f"{'last 100':30}{mine:9.1f}{theirs:10.1f}          at most 80 ms")


def best(work: Callable[[], Any], times: int = 7) -> float:
    """Milliseconds, the minimum."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken) * 1e3


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_path(folder)
        sealing(folder)
        print(f"loading {rows:,} rows, twice, on {os.cpu_count()} cores", flush=True)
        audit, database, session = load(folder, rows)
        at_rest(audit, database, rows)
        same_columns(audit, folder / "same_columns.db")
        queries(audit, database, session)


if __name__ == "__main__":
    main()
