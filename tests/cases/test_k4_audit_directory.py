"""What whoever can write to the audit directory can put there: nothing follows, waits, uploads or removes."""

from __future__ import annotations

import ast
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aegis_otel import AuditError, connect
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.seals.hash_chain import link, seals_origin
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.cli import main as aegis
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import completed, decided, python, select

ROOT = Path(__file__).parents[2]
LONG_AGO = "2026-11-22T00:00:00.000000+00:00"


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "work" / "audit"


def sealed(audit: Path, *names: str) -> Path:
    """Calls that have ended and are sealed."""
    journal = Journal(audit)
    for name in names:
        journal.append(decided(decision_id=name))
        journal.append(completed(decision_id=name))
    journal.close()
    assert seal(audit).problems == []
    return audit


def run(*arguments: str) -> Any:
    return CliRunner().invoke(aegis, ["audit", *arguments])


# --- mirror/ ---


def with_mirror(audit: Path, other: Path) -> Path:
    """Put the sealed part of another audit in `mirror/`, as fetching it would."""
    sealed(audit, "ours")
    sealed(other, "forged")
    mirror = audit / "mirror" / audit_id(load_key(other))
    mirror.mkdir(parents=True)
    shutil.copy(other / "seals.jsonl", mirror)
    shutil.copytree(other / "lake", mirror / "lake")
    return mirror


READERS: dict[str, Callable[[Path], str]] = {
    "connect": lambda audit: str(select(audit)),
    "logger": lambda audit: str(AuditLogger(audit).get_log()),
    "table": lambda audit: run("--db", str(audit), "--format", "jsonl").output,
    "sql": lambda audit: run("sql", "--db", str(audit), "--format", "json", "FROM audit").output,
    "views": lambda audit: run("sql", "--db", str(audit), "--views").output,
}


@pytest.mark.parametrize("reader", READERS)
def test_k4_mirror_is_not_read(audit: Path, tmp_path: Path, reader: str) -> None:
    """A local audit has no mirror: rows that lie there are shown by nobody."""
    mirror = with_mirror(audit, tmp_path / "other")
    shown = READERS[reader](audit)
    assert "forged" not in shown
    assert mirror.name not in shown
    assert any("mirror" in each for each in verify(audit).notes)


def test_k4_mirror_that_is_a_link_is_not_followed(audit: Path, tmp_path: Path) -> None:
    with_mirror(audit, tmp_path / "other")
    shutil.move(audit / "mirror", tmp_path / "elsewhere")
    (audit / "mirror").symlink_to(tmp_path / "elsewhere")
    assert select(audit) == [("ours", "success")]


# --- remote ---


class Recorder(http.server.BaseHTTPRequestHandler):
    """Writes down what is asked of it, and refuses it."""

    asked: list[str]

    def _any(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.send_error(403)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What object storage is asked for, by whoever has this environment."""
    requests: list[str] = []
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Server", (Recorder,), {"asked": requests})
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "user",
        "AWS_SECRET_ACCESS_KEY": "the user's secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    yield requests
    server.shutdown()
    server.server_close()


def test_k4_remote_file_names_no_address(audit: Path, asked: list[str]) -> None:
    """A file in the directory sends nothing: neither by command, nor by a reader, nor by itself."""
    sealed(audit, "a")
    (audit / "remote").write_text("s3://stolen/audits\n")
    result = run("seal", "--db", str(audit))
    assert asked == []
    assert result.exit_code == 0
    assert "not sent: name the audit as `s3://stolen/audits`" in result.output
    run("--db", str(audit))
    connect(audit).close()
    assert AuditLogger(audit).address is None
    verify(audit)
    assert asked == []


def test_k4_remote_file_gives_the_sealer_no_credentials(
    audit: Path, asked: list[str], tmp_path: Path
) -> None:
    """The sealing process has those of object storage only where an address is configured."""
    sealed(audit, "a")
    (audit / "remote").write_text("s3://stolen/audits\n")
    code = """
import os, sys, threading
from pathlib import Path
wrapper = Path(sys.argv[2]) / "python-that-tells"
wrapper.write_text(f'#!/bin/sh\\nenv > {sys.argv[2]}/environment\\nexec {sys.executable} "$@"\\n')
wrapper.chmod(0o700)
sys.executable = str(wrapper)
from aegis_otel.audit.journal import seal_trigger, writer as module
from aegis_otel.audit.journal.writer import Journal
from tests.support.records import decided
module.ROTATE_BYTES = seal_trigger.SEAL_BYTES = 500
done = threading.Event()
journal = Journal(sys.argv[1])
journal.on_seal = lambda seal: done.set()
for n in range(5):
    journal.append(decided(decision_id=f"new {n}", result_status="blocked"))
print(done.wait(60))
"""
    output, errors = python(code, audit, tmp_path).communicate(timeout=90)
    assert (output, errors) == ("True\n", "")
    environment = (tmp_path / "environment").read_text()
    assert "the user's secret" not in environment
    assert asked == []


def test_k4_remote_file_that_is_no_address(audit: Path) -> None:
    """It is named, and costs no traceback, where an address is configured."""
    sealed(audit, "a")
    for content in (b"\xff\xfe", b"s3://x", b"file:///etc", b"s3://bucket/" + b"x" * 10_000):
        (audit / "remote").write_bytes(content)
        assert run("--db", str(audit), "--format", "jsonl").exit_code == 0
        assert run("seal", "--db", str(audit)).exception.__class__ in (type(None), SystemExit)


# --- names in seals.jsonl ---


def forge(audit: Path, **members: Any) -> None:
    """Add a line to the seals whose chain holds: everybody who can write there can compute it."""
    seals = read_seals(audit)
    head = seals[-1].chain if seals else seals_origin(audit_id(load_key(audit)))
    line = {
        "seal": len(seals) + 1,
        "version": 1,
        "audit": audit_id(load_key(audit)),
        "sealed_at": LONG_AGO,
        "segments": [],
        "replaces": [],
        "journals": [],
        "carried": None,
    } | members
    with (audit / "seals.jsonl").open("ab") as file:
        file.write(link(head, json.dumps(line, separators=(",", ":")).encode())[1])


def segment(file: str, number: int = 77) -> dict[str, Any]:
    return {
        "segment": number,
        "file": file,
        "rows": 1,
        "bytes": 12,
        "sha256": "0" * 64,
        "first": LONG_AGO,
        "last": LONG_AGO,
    }


NAMES = ("../../notes.md", "{notes}", "date=2026-11-22/../../../notes.md", "../journal/../../notes.md")


def forgeries(name: str) -> dict[str, dict[str, Any]]:
    return {
        "journal": {"journals": [{"file": name, "lines": 2, "chain": ""}]},
        "segment": {"segments": [segment(name)], "replaces": [77]},
        "carried": {"carried": {"file": name, "lines": 2, "sha256": "0" * 64}},
    }


@pytest.mark.parametrize("place", ["journal", "segment", "carried"])
@pytest.mark.parametrize("name", NAMES)
def test_k4_seal_with_a_path_removes_nothing(
    audit: Path, tmp_path: Path, name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither sealing nor pruning opens or removes what a seal names outside of the audit."""
    from tests.audit.seals.test_signing import make_key

    notes = audit.parent / "notes.md"
    sealed(audit, "a")
    notes.write_text("one\ntwo\n")
    (audit / "seals.jsonl").write_bytes(b"")
    shutil.rmtree(audit / "lake")
    forge(audit, **forgeries(name.format(notes=notes))[place])
    with pytest.raises(AuditError, match=r"line 1 of .*seals\.jsonl.* is no seal"):
        seal(audit)
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(make_key(tmp_path / "key.pem")[0]))
    assert run("prune", "--db", str(audit), "--keep", "1d").exit_code == 1
    for read in (select, lambda audit: AuditLogger(audit).waiting("call")):
        with pytest.raises(AuditError, match="is no seal"):
            read(audit)
    assert "it says `" in str(verify(audit).findings[0])
    assert notes.read_text() == "one\ntwo\n"


HOSTILE = {
    "a name twice": b'"replaces":[],"replaces":[1]',
    "spaces": b'"replaces": []',
    "another member": b'"replaces":[],"note":1',
}


@pytest.mark.parametrize("what", HOSTILE)
def test_k4_a_seal_is_read_alike_by_all(audit: Path, what: str) -> None:
    """DuckDB and this package parse the same line; one that they could read differently is no seal."""
    sealed(audit, "a")
    path = audit / "seals.jsonl"
    line = path.read_bytes().splitlines()[0].replace(b'"replaces":[]', HOSTILE[what])
    body = line[: line.rindex(b',"chain"')] + b"}"
    path.write_bytes(link(seals_origin(audit_id(load_key(audit))), body)[1])
    with pytest.raises(AuditError, match="is no seal"):
        select(audit)
    assert verify(audit).findings


@pytest.mark.parametrize(
    "members",
    [
        {"seal": 10**30},
        {"seal": 0},
        {"sealed_at": "2026-W47-7T00:00:00+00:00"},
        {"sealed_at": "20261122T000000+00:00"},
        {"sealed_at": "2026-11-22T00:00:00+00:00:30"},
        {"sealed_at": "2026-11-22T00:00:00Z"},
        {"sealed_at": "2026-11-22"},
    ],
    ids=str,
)
def test_k4_a_seal_whose_number_or_time_duckdb_reads_otherwise(audit: Path, members: dict[str, Any]) -> None:
    """Python would take it, and DuckDB pass over the line: then rows would be hidden."""
    sealed(audit, "a")
    forge(audit, **members)
    with pytest.raises(AuditError, match=r"line 2 of .* is no seal"):
        select(audit)
    assert verify(audit).findings


def test_k4_a_seal_that_replaces_what_there_is_not(audit: Path) -> None:
    """It is an AuditError for everybody, and no KeyError."""
    sealed(audit, "a")
    forge(audit, replaces=[99])
    for use in (seal, select):
        with pytest.raises(AuditError, match="replaces a segment that no seal has"):
            use(audit)


def test_k4_a_hard_link_is_not_written_to(audit: Path, tmp_path: Path) -> None:
    """A file of the user with the name `seals.jsonl` too is neither cut nor appended to."""
    sealed(audit, "a")
    notes = tmp_path / "notes.md"
    notes.write_text("a note without a newline")
    (audit / "seals.jsonl").unlink()
    (audit / "seals.jsonl").hardlink_to(notes)
    Journal(audit).append(decided(decision_id="b", result_status="blocked"))
    with pytest.raises(AuditError, match=r"seals\.jsonl.*hard links"):
        seal(audit)
    assert notes.read_text() == "a note without a newline"


# --- what stands in the place of a file ---

PLACES = (
    "seals.jsonl",
    "remote",
    "key",
    "journal/{journal}",
    "lake/{segment}",
    "lake/_schema.parquet",
    "mirror",
    "lake",
    "journal",
)
KINDS = ("pipe", "folder", "link", "link to a pipe")

USE_ALL = """
import sys, traceback
from pathlib import Path
from click.testing import CliRunner
from aegis_otel import AuditError, ConfigError
from aegis_otel.audit.answers.pending_calls import taking_over
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.verify.verify import verify
from aegis_otel.cli import main as aegis
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import decided, select

def command(*arguments):
    result = CliRunner().invoke(aegis, ["audit", *arguments, "--db", str(audit)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
def take():
    with taking_over(audit):
        pass
uses = {
    "select": lambda: select(audit), "waiting": lambda: AuditLogger(audit).waiting("call"), "take": take,
    "verify": lambda: verify(audit), "append": lambda: AuditLogger(audit).append(decided(decision_id="new")),
    "check": lambda: AuditLogger(audit).check(), "list": lambda: command(), "stats": lambda: command("stats"),
    "seal": lambda: seal(audit), "prune": lambda: command("prune", "--keep", "1d", "--dry-run"),
}
for each in sys.argv[1:]:
    audit = Path(each)
    for name, use in uses.items():
        print(audit.parent.name, name, end=" ", flush=True)
        try:
            use()
            print("fine")
        except (AuditError, ConfigError) as error:
            print("refused", error)
        except Exception:
            print("TRACEBACK", traceback.format_exc())
"""


def put(path: Path, kind: str, elsewhere: Path) -> None:
    """Something else in the place of a file or folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    elsewhere.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
        (path / "notes.md").write_text("kept")
    elif kind == "link":
        (elsewhere / "notes.md").write_text("one\ntwo\nthree")
        path.symlink_to(elsewhere / "notes.md")
    else:
        if not (elsewhere / "pipe").exists():
            os.mkfifo(elsewhere / "pipe")
        path.symlink_to(elsewhere / "pipe")


@pytest.mark.parametrize("kind", KINDS)
def test_k4_something_else_in_the_place_of_a_file(audit: Path, tmp_path: Path, kind: str) -> None:
    """No reader, writer, sealing or verification waits for it, follows it, or ends in a traceback."""
    sealed(audit, "a")
    Journal(audit).append(decided(decision_id="live", result_status="blocked"))
    names = {
        "journal": next(p.name for p in (audit / "journal").iterdir() if "carried" not in p.name),
        "segment": read_seals(audit)[0].segments[0].file,
    }
    copies = []
    for place in PLACES:
        if kind == "folder" and place in ("lake", "journal", "mirror"):
            continue
        copy = tmp_path / place.partition("{")[0].replace("/", ":") / "audit"
        shutil.copytree(audit, copy)
        put(copy / place.format(**names), kind, copy.parent / "elsewhere")
        copies.append(copy)
    process = python(USE_ALL, *copies)
    try:
        output, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"it hangs: {process.communicate()[0].splitlines()[-1]}")
    assert len(output.splitlines()) >= 10 * len(copies), (output, errors)
    assert "TRACEBACK" not in output
    if kind == "link":
        for copy in copies:
            elsewhere = copy.parent / "elsewhere"
            assert (elsewhere / "notes.md").read_text() == "one\ntwo\nthree", copy
            assert [each.name for each in elsewhere.iterdir()] == ["notes.md"], copy


def test_k4_a_pipe_does_not_hold_up_the_loop(audit: Path) -> None:
    """With approvals by the SDK the seals are read on the event loop: the file is named at once."""
    sealed(audit, "a")
    Journal(audit).append(decided(decision_id="b", tool_call_id="call", result_status="pending"))
    (audit / "seals.jsonl").unlink()
    os.mkfifo(audit / "seals.jsonl")
    code = """
import sys
from pathlib import Path
from aegis_otel import AuditError
from aegis_otel.runtime.audit import AuditLogger
try:
    AuditLogger(sys.argv[1]).waiting("call")
except AuditError as error:
    print(error)
"""
    output, _ = python(code, audit).communicate(timeout=30)
    assert "seals.jsonl` is a named pipe and is not a regular file" in output


def test_k4_a_huge_file_is_not_read(audit: Path) -> None:
    """A sparse file of a terabyte costs no memory: it is refused by its size."""
    sealed(audit, "a")
    with (audit / "seals.jsonl").open("ab") as file:
        file.truncate(1 << 40)
    code = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
from aegis_otel import AuditError
from aegis_otel.audit.verify.verify import verify
from tests.support.records import select
try:
    select(sys.argv[1])
except AuditError as error:
    print(error)
print(verify(Path(sys.argv[1])).findings)
"""
    output, errors = python(code, audit).communicate(timeout=60)
    assert output.count("is larger than any file of its kind") == 3, errors


# --- a journal that is moved away ---


def moved(path: Path) -> None:
    path.rename(path.parent.parent / "stolen.jsonl")


def linked(path: Path) -> None:
    os.link(path, path.parent.parent / "stolen.jsonl")
    path.unlink()


def replaced(path: Path) -> None:
    os.link(path, path.parent.parent / "stolen.jsonl")
    (path.parent / "other").write_bytes(b"")
    (path.parent / "other").rename(path)


def linked_back(path: Path) -> None:
    path.rename(path.parent.parent / "stolen.jsonl")
    path.symlink_to(path.parent.parent / "stolen.jsonl")


def folder_moved(path: Path) -> None:
    path.parent.rename(path.parent.parent / "stolen")
    (path.parent).mkdir(mode=0o700)


@pytest.mark.parametrize("steal", [moved, linked, replaced, folder_moved])
def test_k4_a_journal_that_is_moved_away(audit: Path, steal: Callable[[Path], None]) -> None:
    """What is written after it lies in a new file, where readers find it."""
    journal = Journal(audit)
    journal.append(decided(decision_id="before"))
    (path,) = (audit / "journal").iterdir()
    steal(path)
    time.sleep(0.01)  # ten times what one check counts for
    for n in range(11):
        journal.append(decided(decision_id=f"after {n}", result_status="blocked"))
    rows = [name for name, _ in select(audit) if name.startswith("after")]
    assert len(rows) == 11
    journal.close()


def test_k4_a_journal_that_is_moved_away_with_a_link_in_its_place(audit: Path) -> None:
    """The link is no file of the audit: writing goes on elsewhere, and readers name it."""
    journal = Journal(audit)
    journal.append(decided(decision_id="before"))
    (path,) = (audit / "journal").iterdir()
    linked_back(path)
    time.sleep(0.01)
    journal.append(decided(decision_id="after", result_status="blocked"))
    with pytest.raises(AuditError, match="is not a regular file"):
        select(audit)
    path.unlink()
    assert select(audit) == [("after", "blocked")]
    journal.close()


# --- one helper ---

OPENERS = {
    "open",
    "read_bytes",
    "read_text",
    "write_bytes",
    "write_text",
    "fdopen",
    "mkstemp",
    "TemporaryFile",
}
MAY_OPEN = {"files"}


def test_k4_one_helper_opens_every_file() -> None:
    """No other module of `audit/` opens, renames or removes a file by itself."""
    found = []
    for path in sorted((ROOT / "aegis_otel" / "audit").rglob("*.py")):
        if path.stem in MAY_OPEN:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            last = name.rpartition(".")[2]
            ours = name.startswith("files.") or name in ("os.fdopen", "self.open", "proof.open", "opened")
            if (
                last in OPENERS or last in {"unlink", "rename", "replace", "link", "symlink_to"}
            ) and not ours:
                if last == "replace" and not name.startswith("os."):
                    continue  # of a text or a struct
                if last == "link" and name == "link":
                    continue  # of a chain
                found.append(f"{path.name}:{node.lineno}: {name}")
    assert found == []
