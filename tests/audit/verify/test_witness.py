"""The witness: events of sealings as the SDK exports them, in the collector's file, against the audit."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from aegis_otel.audit.findings import Proof
from aegis_otel.audit.journal import seal_trigger
from aegis_otel.audit.journal import writer as journal_module
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.seals.seal_log import Seal, read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.model import Action
from aegis_otel.telemetry.recorder import Recorder
from tests.support.kit import Bench
from tests.support.receiver import otlp_line
from tests.support.records import decided, write_call

ROOT = Path(__file__).parents[3]


class Collector:
    """What seals become on their way: a recorder, the SDK, its exporter's encoding, a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def saw(self, *seals: Seal) -> None:
        """A batch with the events of these seals."""
        exporter = InMemoryLogRecordExporter()
        provider = LoggerProvider()
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        recorder = Recorder(logger_provider=provider)
        for each in seals:
            recorder.audit_sealed(each)
        with self.file.open("a") as file:
            file.write(otlp_line(encode_logs(exporter.get_finished_logs())))
        provider.shutdown()


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    return Collector(tmp_path / "witness.jsonl")


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "audit"


def sealed(audit: Path, name: str) -> Seal:
    write_call(audit, name)
    (made,) = seal(audit).seals
    return made


def rewrite(audit: Path, seals: int) -> None:
    """What the owner of the directory can do: begin it anew, under its own key."""
    for path in sorted(audit.rglob("*"), reverse=True):
        if path.is_file() and path.name != "key":
            path.unlink()
    for n in range(seals):
        sealed(audit, f"invented {n}")


def against(audit: Path, *witness: Path) -> Proof:
    return verify(audit, witness=witness)


def wrong(audit: Path, *witness: Path) -> list[str]:
    return [each.what for each in against(audit, *witness).findings]


def test_an_untouched_audit_and_its_witness(audit: Path, collector: Collector) -> None:
    for n in range(3):
        collector.saw(sealed(audit, str(n)))
    proof = against(audit, collector.file)
    assert (proof.findings, proof.notes, proof.unproven) == ([], [], [])


def test_the_event_has_what_the_seal_has(audit: Path, collector: Collector) -> None:
    """With 64-bit integers as text, and the name of the event beside its attributes."""
    sealed(audit, "0")
    made = sealed(audit, "1")
    collector.saw(made)
    (record,) = json.loads(collector.file.read_text())["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert (record["eventName"], record["severityText"]) == ("aegis.audit.sealed", "INFO")
    assert {each["key"]: each["value"] for each in record["attributes"]} == {
        "aegis.audit.id": {"stringValue": made.audit},
        "aegis.audit.seal": {"intValue": "2"},
        "aegis.audit.unknown": {"intValue": "0"},
        "aegis.audit.chain": {"stringValue": made.chain},
        "aegis.audit.previous_chain": {"stringValue": read_seals(audit)[0].chain},
        "aegis.audit.rows": {"intValue": str(sum(each.rows for each in made.segments))},
    }


def test_seals_taken_from_the_end(audit: Path, collector: Collector) -> None:
    """A cut tail: alone it is not seen."""
    for n in range(3):
        collector.saw(sealed(audit, str(n)))
    path = audit / "seals.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]))
    for file in audit.glob("lake/date=*/0000000[23]-*"):
        file.unlink()
    assert verify(audit).findings == []
    (what,) = wrong(audit, collector.file)
    assert what.startswith("ends with seal 1, and the witness saw seals up to 3")
    assert f"{collector.file}, line 2" in what


def test_an_older_copy_put_back(audit: Path, collector: Collector, tmp_path: Path) -> None:
    """And gone on with: then the same seals were made twice, otherwise."""
    collector.saw(sealed(audit, "0"))
    shutil.copytree(audit, tmp_path / "copy")
    collector.saw(sealed(audit, "1"))
    shutil.rmtree(audit)
    shutil.copytree(tmp_path / "copy", audit)
    assert verify(audit).findings == []
    assert wrong(audit, collector.file)[0].startswith("ends with seal 1, and the witness saw seals up to 2")
    collector.saw(sealed(audit, "another"))
    assert verify(audit).findings == []
    assert wrong(audit, collector.file)[0].startswith("seal 2 is not the one that the witness saw")


def test_a_rewritten_directory(audit: Path, collector: Collector) -> None:
    """Alone it is not seen: it is an audit without fault. It is not the one that was witnessed."""
    for n in range(3):
        collector.saw(sealed(audit, str(n)))
    rewrite(audit, 4)
    assert verify(audit).findings == []
    (finding,) = against(audit, collector.file).findings
    assert (finding.file, finding.line) == ("seals.jsonl", 1)
    assert finding.what == f"seal 1 is not the one that the witness saw ({collector.file}, line 1)"


def test_another_audit_in_its_place(audit: Path, collector: Collector) -> None:
    """Begun anew, with a key of its own."""
    collector.saw(sealed(audit, "0"))
    shutil.rmtree(audit)
    sealed(audit, "0")
    assert wrong(audit, collector.file)[0].startswith("the witness does not know this audit")


def test_what_the_witness_did_not_see(audit: Path, collector: Collector) -> None:
    """A gap in it proves no less, for each seal stands on those before it; what came after is said."""
    made = [sealed(audit, str(n)) for n in range(4)]
    collector.saw(made[2])
    proof = against(audit, collector.file)
    assert proof.findings == []
    assert len(proof.unproven) == 1
    assert proof.unproven[0].startswith("that seals 4 to 4 were not rewritten")
    rewrite(audit, 4)
    assert wrong(audit, collector.file)[0].startswith("seal 2 is not the one that the witness saw")


def test_the_key_may_stay_at_home_where_there_is_a_witness(audit: Path, collector: Collector) -> None:
    """An auditor's copy needs none: the witness says which audit it is."""
    collector.saw(sealed(audit, "0"))
    (audit / "key").unlink()
    assert wrong(audit) == [
        "is missing: nothing says that these seals are of this audit (see docs/audit-proof.md)"
    ]
    assert wrong(audit, collector.file) == []


def test_a_copy_of_what_is_sealed_alone(audit: Path, collector: Collector) -> None:
    """Without journal and key, as on object storage: only with a witness can it be checked."""
    for n in range(2):
        collector.saw(sealed(audit, str(n)))
    (audit / "key").unlink()
    shutil.rmtree(audit / "journal")
    assert aegis("verify", str(audit)).returncode == 1
    ran = aegis("verify", str(audit), "--witness", str(collector.file))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "journal: is not there" in ran.stdout
    next(audit.glob("lake/date=*/*2-*")).unlink()
    assert aegis("verify", str(audit), "--witness", str(collector.file)).returncode == 1


class TestOddFiles:
    def test_other_signals_other_audits_and_what_is_no_json(
        self, audit: Path, collector: Collector, tmp_path: Path, bench: Callable[..., Bench]
    ) -> None:
        made = sealed(audit, "0")
        other = sealed(tmp_path / "other", "0")
        lines = [
            '{"resourceSpans":[]}',
            '{"resourceLogs":null}',
            '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"aegis.audit.sealed"}]}]}]}',
            '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"aegis.audit.sealed","attributes":'
            '[7,{"key":"aegis.audit.seal","value":{"intValue":"-1"}},{"key":3,"value":{}}]}]}]}]}',
            '["aegis.audit.sealed"]',
            "\x00\xff aegis.audit.sealed",
            "[" * 100_000 + "aegis.audit.sealed",
            "",
        ]
        collector.file.write_text("".join(f"{line}\n" for line in lines))
        collector.saw(other, made)
        with collector.file.open("a") as file:
            file.write(collector.file.read_text().splitlines()[-1][:-30])
        proof = against(audit, collector.file)
        assert proof.findings == []
        (unproven,) = proof.unproven
        assert "(the witness knows 1 more): give --audit" in unproven
        assert proof.notes == [
            f"{collector.file}: 4 lines are no OTLP/JSON, or cut off, and were passed over"
        ]

    def test_a_line_of_any_length(
        self, audit: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is passed over without being held, and what follows it counts."""
        from aegis_otel.audit.verify import witness

        monkeypatch.setattr(witness, "_LONGEST", 10_000)
        made = sealed(audit, "0")
        collector.file.write_text("x" * 55_000 + "\n")
        collector.saw(made)
        proof = against(audit, collector.file)
        assert proof.findings == []
        assert "1 lines" in proof.notes[0]

    def test_rotated_files(self, audit: Path, tmp_path: Path) -> None:
        """In any order."""
        for n in range(3):
            Collector(tmp_path / f"{n}.jsonl").saw(sealed(audit, str(n)))
        proof = against(audit, *(tmp_path / f"{n}.jsonl" for n in (2, 0, 1)))
        assert (proof.findings, proof.unproven) == ([], [])

    def test_an_empty_file_is_no_witness(self, audit: Path, collector: Collector) -> None:
        sealed(audit, "0")
        collector.file.touch()
        assert "does not know this audit" in wrong(audit, collector.file)[0]


async def test_a_runtime_tells_its_seals(
    audit: Path, bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its journal has sealed becomes an event of its recorder."""
    monkeypatch.setattr(journal_module, "ROTATE_BYTES", 500)
    monkeypatch.setattr(seal_trigger, "SEAL_BYTES", 500)
    made = bench()
    for _ in range(4):
        await made.runtime.governor.authorize(Action("delete_it", "x"))
    until = time.monotonic() + 60
    while not (events := made.telemetry.events("aegis.audit.sealed")) and time.monotonic() < until:
        await asyncio.sleep(0.02)
    assert events
    assert [each["aegis.audit.chain"] for each in events] == [
        each.chain for each in read_seals(audit)[: len(events)]
    ]


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An OTLP receiver that writes what it gets as the collector does; its address, and the file."""
    file = tmp_path / "received.jsonl"

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/logs", "nothing but events is sent"
            with file.open("a") as out:
                out.write(otlp_line(ExportLogsServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", file
    server.shutdown()
    thread.join()
    server.server_close()


def aegis(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aegis_otel", "audit", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_line_tells_its_seals(audit: Path, endpoint: tuple[str, Path]) -> None:
    """`aegis audit seal` to the endpoint of the standard variables, and `verify` against what came there."""
    url, file = endpoint
    journal = Journal(audit)
    journal.append(decided(result_status="blocked"))
    journal.close()
    ran = aegis("seal", "--path", str(audit), OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert (ran.returncode, ran.stderr) == (0, "")
    ran = aegis("verify", str(audit), "--witness", str(file))
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    assert "Not proven" not in ran.stdout


def test_the_command_line_says_that_it_told_nobody(audit: Path) -> None:
    journal = Journal(audit)
    journal.append(decided(result_status="blocked"))
    journal.close()
    ran = aegis("seal", "--path", str(audit))
    assert (ran.returncode, ran.stderr) == (
        0,
        "no OTLP endpoint is set: the seals were sent to no witness\n",
    )


def test_a_witness_that_takes_long_keeps_no_sealer_waiting(audit: Path, tmp_path: Path) -> None:
    """It may be a pipe; the seals are locked only while the directory is read."""
    sealed(audit, "a")
    pipe = tmp_path / "witness"
    os.mkfifo(pipe)
    checked: list[Proof] = []
    work = threading.Thread(target=lambda: checked.append(verify(audit, witness=[pipe])))
    work.start()
    try:
        # Opened by both ends: the directory was checked, and the witness is waited for.
        with open(pipe, "w"), open(audit / "seals.jsonl", "r+") as seals:
            fcntl.flock(seals, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        work.join(30)
    assert len(checked) == 1
