"""AuditLogger: what the tutorial and its users do with it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import Action, Policy, Runtime
from aegis_otel.audit.journal.policy_changes import CHANGES, read_changes, text_name
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.location import POLICIES
from aegis_otel.audit.query.export import write_jsonl
from aegis_otel.audit.query.rows import Row
from aegis_otel.audit.record import COLUMNS
from aegis_otel.audit.verify.verify import verify
from aegis_otel.errors import AuditError, ChangeNotWritten, ConfigError
from aegis_otel.model import Approval, PolicyDecision, Result, ResultStatus, RiskLevel, Verdict
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import decided


def decision(
    action_type: str = "delete_document",
    approval: Approval = Approval.BLOCK,
    risk: RiskLevel = RiskLevel.CRITICAL,
    rule: str = "block_deletes",
    **params: Any,
) -> PolicyDecision:
    action = Action(action_type, "storage", params, agent="Assistant")
    return PolicyDecision(
        action, Verdict(approval, risk, rule, "deletes are blocked", policy_digest="sha256:00")
    )


@pytest.fixture
def logger(tmp_path: Path) -> AuditLogger:
    return AuditLogger(tmp_path / "audit")


def hours(logger: AuditLogger, *ids: str) -> None:
    """One row an hour, from 12:00 UTC on."""
    for n, name in enumerate(ids):
        logger.append(decided(decision_id=name, timestamp=f"2026-11-22T{12 + n}:00:00.000000+00:00"))


def ids(rows: list[dict[str, Any]]) -> str:
    return "".join(row["decision_id"] for row in rows)


class TestLog:
    def test_inventory_89_96_a_blocked_row(self, logger: AuditLogger) -> None:
        """Every field of the tutorial's table, every column there is, and the id that was returned."""
        before = datetime.now(UTC)
        decision_id = logger.log("a3f1b2c4d5e6", decision(document_id="42"))
        (row,) = logger.get_log()
        assert list(row) == [column.name for column in COLUMNS]
        time, digest, pid, host = (row.pop(name) for name in ("timestamp", "args_digest", "pid", "host"))
        assert before <= datetime.fromisoformat(time) <= datetime.now(UTC)
        assert time.endswith("+00:00")
        assert digest == logger.digest(b'{"document_id":"42"}')
        assert pid > 0
        assert host
        assert {name: value for name, value in row.items() if value is not None} == {
            "decision_id": decision_id,
            "session_id": "a3f1b2c4d5e6",
            "action_type": "delete_document",
            "action_target": "storage",
            "action_params": {"document_id": "42"},
            "risk_level": "CRITICAL",
            "mode": "enforce",
            "approval": "block",
            "matched_rule": "block_deletes",
            "reason": "deletes are blocked",
            "policy_digest": "sha256:00",
            "result_status": "blocked",
            "result_error": "Action blocked by policy rule: block_deletes",
            "agent_name": "Assistant",
            "schema_version": 6,
            "outcome": "blocked",
            "redaction_digest": row["redaction_digest"],
        }

    @pytest.mark.parametrize(
        "key",
        [
            "password",
            "secret",
            "token",
            "api_key",
            "apikey",
            "authorization",
            "credential",
            "private_key",
            "access_key",
        ],
    )
    def test_inventory_97_b41_secrets_are_not_in_the_row(self, logger: AuditLogger, key: str) -> None:
        """Neither the arguments nor the error show them, in the rows or in any file of the audit."""
        result = Result(Action("x"), ResultStatus.FAILED, error=f"login failed: {key}=hunter2-{key}")
        logger.log("s", decision(**{key: f"hunter2-{key}", "plain": "kept"}), result=result)
        (row,) = logger.get_log()
        assert row["action_params"] == {
            key: f"[REDACTED {8 + len(key)} chars]",
            "plain": "kept",
        }
        assert "hunter2" not in json.dumps(row)
        assert not [
            path for path in logger.path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()
        ]

    def test_a_result_is_recorded(self, logger: AuditLogger) -> None:
        start = datetime(2026, 11, 22, tzinfo=UTC)
        result = Result(
            Action("x"),
            ResultStatus.FAILED,
            error="boom",
            started_at=start,
            completed_at=start + timedelta(seconds=1.5),
        )
        logger.log("s", decision(approval=Approval.APPROVE), result=result, human_decision="approved")
        (row,) = logger.get_log()
        columns = ("result_status", "result_error", "duration_s", "human_decision")
        assert [row[name] for name in columns] == ["failed", "boom", 1.5, "approved"]

    @pytest.mark.parametrize(
        ("human", "status", "error"),
        [
            (None, None, None),
            ("approved", None, None),
            ("denied", "denied", "Action denied by human operator"),
            ("expired", "denied", "Approval timed out"),
        ],
    )
    def test_a_human_decision_is_recorded(
        self, logger: AuditLogger, human: str | None, status: str | None, error: str | None
    ) -> None:
        """Without a result nothing is claimed about what ran, unless the decision was that nothing may."""
        logger.log("s", decision(approval=Approval.APPROVE), human_decision=human)
        (row,) = logger.get_log()
        assert (row["human_decision"], row["result_status"], row["result_error"]) == (human, status, error)

    def test_b40_any_arguments_are_recorded(self, logger: AuditLogger) -> None:
        """B40: keys that are no text, sets, bytes, objects and lone surrogates cost no row."""
        logger.log("s", decision(m={1: "a"}, s={1}, b=b"\xff", o=object(), u="\ud800", n=float("nan")))
        assert logger.count() == 1

    def test_nonsense_is_refused_before_anything_is_made(self, logger: AuditLogger) -> None:
        with pytest.raises(
            ConfigError, match="`human_decision` is `yes`: expected one of None, approved, denied"
        ):
            logger.log("s", decision(), human_decision="yes")
        with pytest.raises(ConfigError, match="a result `would_run` is of a dry run"):
            logger.log("s", decision(), result=Result(Action("x"), ResultStatus.WOULD_RUN))
        assert not logger.path.exists()


class TestGetLog:
    def test_b45_newest_first(self, logger: AuditLogger) -> None:
        """B45: the two newest of five, not the two oldest."""
        hours(logger, "a", "b", "c", "d", "e")
        assert ids(logger.get_log()) == "edcba"
        assert ids(logger.get_log(limit=2)) == "ed"
        assert logger.get_log(limit=0) == []

    def test_b45_since_and_until_are_times_not_text(self, logger: AuditLogger) -> None:
        """B45: the same moment in another offset means the same rows; from `since` up to before `until`."""
        hours(logger, "a", "b", "c", "d", "e")
        assert ids(logger.get_log(since="2026-11-22T14:00:00+00:00")) == "edc"
        assert ids(logger.get_log(since="2026-11-22T09:00:00-05:00")) == "edc"
        assert ids(logger.get_log(since="2026-11-23T01:00:00+11:00", until="2026-11-22T15:30:00")) == "dc"
        assert ids(logger.get_log(until=datetime(2026, 11, 22, 13))) == "a"
        assert logger.get_log(since=datetime(2026, 11, 22, 17, tzinfo=UTC)) == []

    def test_inventory_90_91_every_filter(self, logger: AuditLogger) -> None:
        """Rows and counts are of the same filters; all of them must hold."""
        logger.log("one", decision())
        logger.log(
            "one", decision("write_record", Approval.APPROVE, RiskLevel.HIGH, "ask"), human_decision="denied"
        )
        logger.log("two", decision("search", Approval.AUTO, RiskLevel.LOW, "search_auto"))
        for filters, count in (
            ({}, 3),
            ({"session_id": "one"}, 2),
            ({"session_id": "one", "risk_level": "critical"}, 1),
            ({"session_id": "two", "risk_level": "critical"}, 0),
            ({"risk_level": RiskLevel.HIGH}, 1),
            ({"result_status": "BLOCKED"}, 1),
            ({"action_type": "search"}, 1),
            ({"action_type": "sear"}, 0),
            ({"agent_name": "Assistant"}, 3),
            ({"matched_rule": "ask"}, 1),
            ({"matched_rule": "' OR true --"}, 0),
        ):
            assert (logger.count(**filters), len(logger.get_log(**filters))) == (count, count), filters
        assert logger.count("one") == 2

    @pytest.mark.parametrize("limit", [-1, 1.5, "2", True])
    def test_a_limit_that_is_no_number_of_rows(self, logger: AuditLogger, limit: Any) -> None:
        with pytest.raises(ConfigError, match=f"`limit` is `{limit}`: expected a number of rows"):
            logger.get_log(limit=limit)

    def test_no_audit_has_no_rows(self, logger: AuditLogger) -> None:
        """Reading is not a reason to make a directory."""
        assert (logger.get_log(), logger.count()) == ([], 0)
        assert not logger.path.exists()

    def test_a_directory_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(AuditError, match="is not an audit directory"):
            AuditLogger(tmp_path).get_log()


class TestExport:
    def test_inventory_92_json_lines_oldest_first(self, logger: AuditLogger, tmp_path: Path) -> None:
        """Each line is the row as `get_log` gives it, and the number of lines is returned."""
        hours(logger, "a", "b", "c")
        logger.log("é\u2028\x7f\x9b\n", decision())
        target = tmp_path / "out.jsonl"
        assert logger.export_jsonl(target) == 4
        lines = target.read_bytes().splitlines()
        assert [json.loads(line) for line in lines] == logger.get_log()[::-1]
        assert all(0x20 <= byte < 0x7F for line in lines for byte in line)  # safe to be shown by `cat`
        assert stat.S_IMODE(target.stat().st_mode) == 0o600

    def test_b43_filters_apply(self, logger: AuditLogger, tmp_path: Path) -> None:
        """B43: an export holds the rows asked for; of a limit, the newest."""
        hours(logger, "a", "b", "c")
        logger.log("other", decision())
        target = tmp_path / "out.jsonl"
        assert logger.export_jsonl(target, "other") == 1
        assert logger.export_jsonl(target, result_status="open", limit=2) == 2
        assert [json.loads(line)["decision_id"] for line in target.read_text().splitlines()] == ["b", "c"]
        assert logger.export_jsonl(target, risk_level="LOW") == 0
        assert target.read_bytes() == b""

    def test_an_export_that_fails_leaves_the_old_file(self, tmp_path: Path) -> None:
        """Whole or not at all, and nothing is left beside it."""
        target = tmp_path / "out.jsonl"
        target.write_text("old")

        def rows() -> Iterator[Row]:
            yield {"decision_id": "a"}
            raise AuditError("the audit went away")

        with pytest.raises(AuditError, match="went away"):
            write_jsonl(target, rows())
        assert target.read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]

    def test_a_place_that_cannot_be_written(self, logger: AuditLogger, tmp_path: Path) -> None:
        """A clear error for a directory, a device (it must not be replaced) and a place that is not there."""
        logger.append(decided())
        with pytest.raises(AuditError, match=r"cannot export to .*: it is not a regular file"):
            logger.export_jsonl(tmp_path)
        with pytest.raises(AuditError, match="it is not a regular file"):
            logger.export_jsonl("/dev/null")
        with pytest.raises(AuditError, match="no such file or directory; choose another place"):
            logger.export_jsonl(tmp_path / "none" / "out.jsonl")

    def test_a_link_is_followed(self, logger: AuditLogger, tmp_path: Path) -> None:
        logger.append(decided())
        (tmp_path / "link").symlink_to("real")
        logger.export_jsonl(tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real").read_bytes().count(b"\n") == 1


class TestPlace:
    def test_inventory_88_the_tutorials_names(self, tmp_path: Path) -> None:
        """`AuditLogger()` reads what `AuditLogger(db_path="aegis_audit.db")` wrote."""
        AuditLogger(db_path="aegis_audit.db").log("s", decision())
        assert AuditLogger().count() == AuditLogger("aegis_audit").count() == 1
        assert AuditLogger().path == tmp_path / "aegis_audit"

    def test_two_names_of_one_setting(self) -> None:
        with pytest.raises(ConfigError, match="give one of them"):
            AuditLogger("a", db_path="b")

    def test_inventory_93_after_close_it_can_still_be_used(self, logger: AuditLogger) -> None:
        """Runtimes share loggers: one that closes must not cost another its record."""
        logger.log("s", decision())
        logger.close()
        logger.close()
        assert logger.count() == 1
        logger.log("s", decision())
        assert logger.count() == 2


def test_a_subclass_may_have_its_own_of_everything(tmp_path: Path) -> None:
    """What it defines is what is called, also for methods that only hand on."""
    called: list[str] = []

    class Own(AuditLogger):
        @property
        def path(self) -> Path:
            called.append("path")
            return super().path

        def mark(self) -> int | None:
            called.append("mark")
            return super().mark()

        def digest(self, payload: bytes) -> str:
            called.append("digest")
            return super().digest(payload)

    runtime = Runtime(policy=Policy.from_dict({"version": "1"}), audit_logger=Own(tmp_path / "audit"))
    asyncio.run(runtime.governor.authorize(Action("search")))
    runtime.audit.check()
    assert set(called) == {"path", "mark", "digest"}


def test_no_line_of_another_thread_overtakes_a_change(tmp_path: Path) -> None:
    """While the change waits for the lock of its log, a call is not taken as one whose change is written."""
    audit = AuditLogger(tmp_path / "audit")
    policy = Policy.from_text("rules: [{approval: auto}]")
    runtime = Runtime(policy=policy, audit_logger=audit)
    audit.check()
    with open(tmp_path / "audit" / CHANGES, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        thread = threading.Thread(target=lambda: runtime.update_policy(Policy.from_text("rules: []")))
        thread.start()
        thread.join(0.3)
        with pytest.raises(ChangeNotWritten):
            audit.log("s", policy.evaluate(Action("x")))
        thread.join()
    audit.check()
    assert [each.change for each in read_changes(tmp_path / "audit")] == ["started", "reloaded"]


def test_a_lock_that_is_never_let_go_costs_calls_little(tmp_path: Path) -> None:
    """No thread and no descriptor is left, most calls do not try it, and once it is free all is written."""
    audit = AuditLogger(tmp_path / "audit")
    policy = Policy.from_text("rules: [{approval: auto}]")
    runtime = Runtime(policy=policy, audit_logger=audit)
    audit.check()
    audit.log("s", policy.evaluate(Action("x")))
    with open(tmp_path / "audit" / CHANGES, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
        began = time.monotonic()
        runtime.governance_stopped()
        for _ in range(100):
            with pytest.raises(ChangeNotWritten, match="has held its lock"):
                audit.log("s", policy.evaluate(Action("x")))
        assert time.monotonic() - began < 10, "each line waited"
        assert threading.active_count() <= threads
        assert len(os.listdir("/proc/self/fd")) <= descriptors
    deadline = time.monotonic() + 30
    while audit._changes and time.monotonic() < deadline:
        with suppress(ChangeNotWritten):
            audit.log("s", policy.evaluate(Action("x")))
        time.sleep(0.05)
    assert [each.change for each in read_changes(tmp_path / "audit")] == ["started", "stopped"]


PLANTED: dict[str, Callable[[Path], object]] = {
    "a directory": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("planted", [*PLANTED, "a large text"])
async def test_what_has_the_name_of_a_policys_text_stops_no_call(tmp_path: Path, planted: str) -> None:
    AuditLogger(tmp_path / "audit").check()
    audit = AuditLogger(tmp_path / "audit")
    policy = Policy.from_text("rules: [{approval: auto}]")
    runtime = Runtime(policy=policy, audit_logger=audit)
    there = tmp_path / "audit" / text_name(policy.digest)
    there.parent.mkdir()
    PLANTED.get(planted, lambda path: path.write_bytes(b"- [1, 2]\n" * (1 << 20)))(there)
    began = time.monotonic()
    call = await runtime.governor.authorize(Action("search"))
    assert time.monotonic() - began < 2
    assert call.refusal is None
    assert [each.change for each in read_changes(tmp_path / "audit")] == ["started"]
    assert any(each.file == text_name(policy.digest) for each in verify(tmp_path / "audit").findings)


@pytest.mark.parametrize(
    ("name", "planted"), [*product([CHANGES], PLANTED), *product([POLICIES], list(PLANTED)[1:])]
)
async def test_what_has_the_name_of_the_log_of_changes_refuses_calls_at_once(
    tmp_path: Path, name: str, planted: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The change cannot be recorded, so calls are refused, and the message names what is to be moved away."""
    AuditLogger(tmp_path / "audit").check()
    audit = AuditLogger(tmp_path / "audit")
    policy = Policy.from_text("rules: [{approval: auto}]")
    runtime = Runtime(policy=policy, audit_logger=audit)
    there = tmp_path / "audit" / name
    there.parent.mkdir(exist_ok=True)
    PLANTED[planted](there)
    began = time.monotonic()
    call = await runtime.governor.authorize(Action("search"))
    assert time.monotonic() - began < 2
    assert call.refusal is not None
    assert re.search(rf"/{name}` is an? .* and is not a regular file, .*: move it away", caplog.text)
    audit.close()
    assert any(f"/{name}" in each for each in seal(tmp_path / "audit").problems)
    assert [each["action_type"] for each in audit.get_log()] == ["search"]
