"""What a crash leaves: sealers killed at every step, writers killed at any moment, full and closed disks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.audit.verify.verify import verify
from tests.support.killed_at_every_step import killed_at_every_step
from tests.support.records import completed, decided, python, select, wait_until_seen

EXPECTED = {"old": "success", "done": "success", "died": "unknown", "asks": "pending", "late": "success"}


def test_a_sealer_killed_at_any_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Before the next sealing and after it; a seal that merges, amends, carries over and cleans up.

    Each step is the last one once; with the variable `STEPS=all`, each time that it is taken.
    """
    audit, copies = tmp_path / "audit", tmp_path / "copies"
    copies.mkdir()
    day = {"timestamp": "2025-01-01T10:00:00+00:00"}
    closed = Journal(audit)
    closed.append(decided(decision_id="late", **day))
    closed.append(decided(decision_id="asks", result_status="pending", **day))
    closed.close()
    seal(audit)
    closed.append(completed(decision_id="late", **day))
    other = Journal(audit)
    other.append(decided(decision_id="old", **day))
    other.append(completed(decision_id="old", **day))
    other.close()
    seal(audit)
    other.append(decided(decision_id="done", **day))
    other.append(completed(decision_id="done", **day))
    other.append(decided(decision_id="died", **day))
    other.close()
    closed.close()

    left = killed_at_every_step(
        audit,
        copies,
        ("files", "lake.cleanup", "lake.complete_files", "lake.sealing", "lake.segments", "seals.seal_log"),
        (
            *("os.unlink", "os.rename", "os.fsync", "os.mkdir", "os.write", "os.open", "os.ftruncate"),
            *("execute(", ".write(", "drafts.", "log.append("),
        ),
        "sealing.seal(audit)",
        again=os.environ.get("STEPS") == "all",
    )
    assert len(left) > 30
    wait_until_seen(audit, left[-1])
    before = Counter()
    for step, copy in enumerate(left, 1):
        found = statuses_once(copy)
        amended = found.pop("late")
        assert amended in ("unknown", "success"), step
        assert found == {name: value for name, value in EXPECTED.items() if name != "late"}, step
        before[len(read_seals(copy))] += 1
        assert seal(copy).problems == [], step
    assert before[2] > 20
    assert before[3] >= 1
    wait_until_seen(left[-1])
    for step, copy in enumerate(left, 1):
        assert statuses_once(copy) == EXPECTED, step
        assert len(read_seals(copy)) == 3, step
        assert not list(copy.rglob("*.draft")), step
        named = {segment.file for each in read_seals(copy) for segment in each.segments}
        assert {
            str(path.relative_to(copy / "lake")) for path in copy.glob("lake/date=*/*.parquet")
        } <= named, step


def statuses_once(audit: Path) -> dict[str, str]:
    rows = select(audit)
    assert len(rows) == len(dict(rows)), rows
    return dict(rows)


def test_two_sealers_at_once(tmp_path: Path) -> None:
    """One of them seals; the other waits, or leaves at once."""
    audit = tmp_path / "audit"
    for n in range(6):
        journal = Journal(audit)
        journal.append(decided(decision_id=str(n)))
        journal.append(completed(decision_id=str(n)))
        journal.close()
    code = """
import sys
from pathlib import Path
from aegis_otel.audit.lake.sealing import seal
report = seal(Path(sys.argv[1]), wait=sys.argv[2] == "wait")
print(len(report.seals), report.busy, len(report.problems))
"""
    found = [
        process.communicate()
        for process in [python(code, audit, how) for how in ("wait", "wait", "leave", "leave")]
    ]
    assert [err for _, err in found] == [""] * 4
    outs = [out.split() for out, _ in found]
    assert sum(int(made) for made, *_ in outs) == 1
    assert [busy for _, busy, _ in outs[:2]] == ["False", "False"]
    assert len(read_seals(audit)) == 1
    assert statuses_once(audit) == {str(n): "success" for n in range(6)}


WRITE_UNTIL_KILLED = """
import os, sys, time
from aegis_otel.audit.journal import seal_trigger, writer as module
from aegis_otel.audit.journal.writer import Journal
from tests.support.records import completed, decided
module.ROTATE_BYTES, seal_trigger.SEAL_BYTES = 20_000, 1 << 60
journal = Journal(sys.argv[1])
effects = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
n = 0
while True:
    name = f"{os.getpid()}-{n}"
    journal.append(decided(decision_id=name))
    os.write(effects, f"{name} ran\\n".encode())
    journal.append(completed(decision_id=name))
    os.write(effects, f"{name} ended\\n".encode())
    n += 1
    time.sleep(0.001)
"""
SEAL_UNTIL_KILLED = """
import sys
from pathlib import Path
from aegis_otel.audit.lake.sealing import seal
while True:
    seal(Path(sys.argv[1]))
"""


def test_processes_killed_at_random_moments(tmp_path: Path) -> None:
    """Two write and one seals: every side effect has one row, and what was completed is never `unknown`.

    The variable `KILLS` says how often; `make soak` asks for 200.
    """
    rounds = int(os.environ.get("KILLS", "10"))
    chance = random.Random(rounds)
    audit, effects = tmp_path / "audit", tmp_path / "effects"
    codes = {0: WRITE_UNTIL_KILLED, 1: WRITE_UNTIL_KILLED, 2: SEAL_UNTIL_KILLED}
    running = {n: python(code, audit, effects) for n, code in codes.items()}
    try:
        while not effects.exists():  # a busy machine takes longer than a round to start the first writer
            time.sleep(0.05)
        for _ in range(rounds):
            time.sleep(chance.uniform(0.2, 0.9))
            chosen = chance.choice(list(running))
            kill(running[chosen])
            running[chosen] = python(codes[chosen], audit, effects)
    finally:
        for process in running.values():
            kill(process)
    check(audit, effects)
    assert seal(audit).problems == []
    assert verify(audit).findings == []
    wait_until_seen(audit)
    check(audit, effects)
    assert set(statuses_once(audit).values()) <= {"success", "unknown"}


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    _, err = process.communicate()
    assert "Error" not in err, err


def check(audit: Path, effects: Path) -> None:
    rows = statuses_once(audit)
    said = [line.split() for line in effects.read_text().splitlines()]
    ran = {name for name, what in said if what == "ran"}
    ended = {name for name, what in said if what == "ended"}
    assert len(ran) > 20
    assert ran <= rows.keys()
    assert {rows[name] for name in ended} == {"success"}


class TestDisk:
    def test_a_file_size_limit_stops_the_seal_and_nothing_else(self, tmp_path: Path) -> None:
        """As a full disk does: said in one line, drafts taken away, sealed when there is room again."""
        audit = tmp_path / "audit"
        journal = Journal(audit)
        for n in range(400):
            journal.append(decided(decision_id=str(n), reason=os.urandom(200).hex()))
            journal.append(completed(decision_id=str(n)))
        journal.close()
        code = """
import resource, signal, sys
from pathlib import Path
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.errors import AuditError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    seal(Path(sys.argv[1]))
except AuditError as error:
    print(error)
"""
        out, err = python(code, audit).communicate()
        assert err == ""
        assert out.startswith(f"cannot seal the audit at `{audit}`")
        assert out.count("\n") == 1
        assert [path for path in (audit / "lake").rglob("*") if path.is_file()] == []
        assert (audit / "seals.jsonl").read_bytes() == b""
        assert set(statuses_once(audit).values()) == {"success"}
        assert seal(audit).seals[0].segments[0].rows == 400

    def test_no_room_for_the_line_of_the_seal(self, tmp_path: Path) -> None:
        """The seal is then not in force, and is made anew with the same names."""
        audit = tmp_path / "audit"
        journal = Journal(audit)
        journal.append(decided(decision_id="x", result_status="blocked"))
        journal.close()
        code = """
import os, sys
from pathlib import Path
from aegis_otel.audit.seals import seal_log as seals
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.errors import AuditError
write = os.write
seals.os = type("os", (), dict(vars(os), write=lambda to, line: write(to, line[:len(line) // 2])))
try:
    seal(Path(sys.argv[1]))
except AuditError as error:
    print(error)
"""
        out, err = python(code, audit).communicate()
        assert (out, err) == (
            f"cannot seal the audit at `{audit}`: no space left on device; free some space on its disk\n",
            "",
        )
        assert (audit / "seals.jsonl").read_bytes() == b""
        assert statuses_once(audit) == {"x": "blocked"}
        assert seal(audit).problems == []
        assert len(list(audit.glob("lake/date=*/*.parquet"))) == 1

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
    def test_a_directory_that_cannot_be_written(self, tmp_path: Path) -> None:
        """Reading and verifying go on, also of what is sealed; sealing and writing say what is wrong."""
        audit = tmp_path / "audit"
        for n in range(2):
            journal = Journal(audit)
            journal.append(decided(decision_id=str(n), result_status="blocked"))
            journal.close()
            if n == 0:
                seal(audit)
        for path in (audit, *audit.rglob("*")):
            os.chown(path, 65534, 65534)
            path.chmod(0o500 if path.is_dir() else 0o400)
        for path in (tmp_path, *tmp_path.parents[:3]):
            path.chmod(path.stat().st_mode | 0o011)
        code = """
import os, sys
from pathlib import Path
import duckdb, pytz
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.verify.verify import verify
from aegis_otel.errors import AuditError
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import decided, statuses
os.setuid(65534)
audit = Path(sys.argv[1])
for work in (seal, lambda audit: AuditLogger(audit).append(decided())):
    try:
        work(audit)
    except AuditError as error:
        print(error)
print(verify(audit).findings)
print(sorted(statuses(audit).items()))
"""
        out, err = python(code, audit).communicate()
        assert err == ""
        assert out.splitlines() == [
            f"cannot seal the audit at `{audit}`: permission denied; nothing is lost by it",
            f"cannot write the audit at `{audit}/journal`: permission denied; choose another directory with "
            "`AEGIS_AUDIT_DIR` or `AuditLogger(path)`",
            "[]",
            "[('0', 'blocked'), ('1', 'blocked')]",
        ]

    def test_a_torn_line_of_the_seals_is_cut_off(self, tmp_path: Path) -> None:
        """A power cut in the middle of the commit: there is no such seal, and the next takes its number."""
        audit = tmp_path / "audit"
        for n in range(2):
            journal = Journal(audit)
            journal.append(decided(decision_id=str(n), result_status="blocked"))
            journal.close()
            seal(audit)
        path = audit / "seals.jsonl"
        path.write_bytes(path.read_bytes()[:-30])
        wait_until_seen(audit)
        assert statuses_once(audit) == {"0": "blocked", "1": "blocked"}
        report = seal(audit)
        assert ([each.seal for each in report.seals], report.problems) == ([2], [])
        wait_until_seen(audit)
        assert statuses_once(audit) == {"0": "blocked", "1": "blocked"}


def test_a_sealer_in_a_thread_of_readers(tmp_path: Path) -> None:
    """Queries that run while a process is killed and sealed see its call open, then unknown, once each."""
    audit = tmp_path / "audit"
    journal = Journal(audit)
    journal.append(decided(decision_id="x"))
    stop = threading.Event()
    seen: list[dict[str, str]] = []

    def read() -> None:
        with connect(audit) as connection:
            while not stop.is_set():
                rows = connection.execute("SELECT decision_id, result_status FROM audit").fetchall()
                assert len(rows) == 1
                seen.append(dict(rows))

    thread = threading.Thread(target=read)
    thread.start()
    while not seen:
        time.sleep(0.01)
    journal.close()
    try:
        seal(audit)
        wait_until_seen(audit)
        already = len(seen)
        while len(seen) < already + 3:
            time.sleep(0.01)
    finally:
        stop.set()
        thread.join()
    values = [each["x"] for each in seen]
    assert values[0] == "open"
    assert values[-1] == "unknown"
    assert values == sorted(values)
