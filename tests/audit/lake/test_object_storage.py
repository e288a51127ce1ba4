"""An audit on object storage, against moto's S3 server: what is sent, what is read, and what can go wrong."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from aegis_otel import AuditError, ConfigError, Policy, Runtime, connect
from aegis_otel.audit.journal.policy_changes import CHANGES, read_changes, text_name
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.location import locate
from aegis_otel.audit.maintenance import object_store, upload
from aegis_otel.audit.maintenance.download import fetch
from aegis_otel.audit.maintenance.upload import push
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.cli import main as aegis
from aegis_otel.runtime.audit import AuditLogger
from tests.support.object_storage import machines
from tests.support.records import completed, decided, python


class Server:
    """moto's S3 on a port of its own; it keeps what it has while it is down."""

    def __init__(self) -> None:
        self.port = 0
        self.up()

    def up(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def down(self) -> None:
        self._server.stop()
        self._server._server.server_close()

    def make(self, bucket: str) -> None:
        url = f"http://127.0.0.1:{self.port}/{bucket}"
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT")):
            pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.down()


@pytest.fixture
def url(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix in a bucket that has nothing yet."""
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{time.monotonic_ns()}"
    server.make(bucket)
    return f"s3://{bucket}/our/audits"


@pytest.fixture
def machine(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Become the machine of that name: its local part of the audit at `url`."""
    return machines(url, tmp_path, monkeypatch)


def calls(url: str, *names: str, **first: Any) -> Journal:
    """Calls of now that have ended, of a journal that is still held."""
    journal = Journal(url)
    for name in names:
        journal.append(decided(**{"decision_id": name, "timestamp": datetime.now(UTC).isoformat()} | first))
        journal.append(completed(decision_id=name))
    return journal


def sent(url: str, *names: str) -> None:
    """Calls that are sealed and sent."""
    calls(url, *names).close()
    directory = locate(url)
    assert seal(directory).problems == []
    assert push(directory, url) == []


def ids(url: str) -> list[str]:
    with connect(url) as audit:
        return [name for (name,) in audit.execute("SELECT decision_id FROM audit ORDER BY 1").fetchall()]


def objects(url: str) -> dict[str, bytes]:
    store = S3Store.from_url(url)
    return {each["path"]: bytes(store.get(each["path"]).bytes()) for page in store.list() for each in page}


def test_what_is_sealed_is_sent(url: str, machine: Any) -> None:
    """Seals and segments, laid out as they are in the directory, in a folder with the audit's id."""
    directory = machine("one")
    sent(url, "a", "b")
    audit = audit_id(load_key(directory))
    (segment,) = read_seals(directory)[0].segments
    assert objects(url) == {
        f"{audit}/seals.jsonl": (directory / "seals.jsonl").read_bytes(),
        f"{audit}/lake/{segment.file}": (directory / "lake" / segment.file).read_bytes(),
    }
    assert ids(url) == ["a", "b"]


def test_the_key_and_the_journal_stay(url: str, machine: Any) -> None:
    """Nothing that is sent has the key in it, nor what is not sealed yet."""
    directory = machine("one")
    journal = calls(url, "open call")
    sent(url, "sealed call")
    key = (directory / "key").read_bytes()
    everything = b"".join([*map(str.encode, objects(url)), *objects(url).values()])
    assert everything
    for secret in (key, key.hex().encode(), b"open call"):
        assert secret not in everything
    journal.close()


def test_all_machines_are_read_each_call_once(url: str, machine: Any) -> None:
    """Own sealed and live calls, and the sealed ones of others; for who only reads, the sealed ones."""
    machine("one")
    sent(url, "one 1", "one 2")
    machine("two")
    sent(url, "two 1")
    sent(url, "two 2")
    journal = calls(url, "two live")
    assert ids(url) == ["one 1", "one 2", "two 1", "two 2", "two live"]
    machine("reader")
    assert ids(url) == ["one 1", "one 2", "two 1", "two 2"]
    machine("one")
    sent(url, "one 3")
    machine("reader")
    assert ids(url) == ["one 1", "one 2", "one 3", "two 1", "two 2"]
    journal.close()


def test_merged_files_are_read_once_and_go(url: str, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge replaces files that were sent: readers see its rows once, and the old objects are removed."""
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    directory = machine("one")
    for n in range(3):
        calls(url, f"call {n}", timestamp=yesterday).close()
        assert seal(directory).problems == []
        assert push(directory, url) == []
        machine("reader")
        assert ids(url) == [f"call {each}" for each in range(n + 1)]
        machine("one")
    assert any(each.replaces for each in read_seals(directory))
    assert len(_parquet(url)) > 1
    monkeypatch.setattr(upload, "GRACE", timedelta(0))
    assert push(directory, url) == []
    assert len(_parquet(url)) == 1
    machine("reader")
    assert ids(url) == ["call 0", "call 1", "call 2"]
    machine("late reader")
    assert ids(url) == ["call 0", "call 1", "call 2"]


def _parquet(url: str) -> list[str]:
    return [name for name in objects(url) if name.endswith(".parquet")]


def _read_by(directory: Path, url: str) -> Path:
    connect(url).close()
    return directory


CRASH = """
import os, sys
from obstore.store import S3Store
from aegis_otel.audit.location import locate
from aegis_otel.audit.maintenance.upload import push
left = [int(sys.argv[2])]
put = S3Store.put
def crashing(self, name, content, **options):
    if left[0] == 0:
        os._exit(9)
    left[0] -= 1
    return put(self, name, content, **options)
S3Store.put = crashing
push(locate(sys.argv[1]), sys.argv[1])
"""


def test_a_crash_at_any_step_of_sending(url: str, machine: Any) -> None:
    """Readers see the state of before, and the next try sends the rest; no call is lost or doubled."""
    directory = machine("one")
    sent(url, "before")
    days = [(datetime.now(UTC) - timedelta(days=n)).isoformat() for n in (1, 2)]
    for day in days:
        calls(url, day, timestamp=day).close()
    assert seal(directory).problems == []
    for step, sent_before in enumerate((0, 1, 1)):  # before the first file, the second, and the seals
        process = python(CRASH, url, sent_before)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 9
        assert fetch(_read_by(machine(f"reader {step}"), url), url) == []
        assert ids(url) == ["before"]
        machine("one")
    assert push(directory, url) == []
    machine("reader")
    assert ids(url) == sorted(["before", *days])


def test_an_object_that_is_not_whole_is_sent_again(url: str, machine: Any, server: Server) -> None:
    """What counts as sent has the size of what was sealed."""
    directory = machine("one")
    calls(url, "a").close()
    seal(directory)
    audit = audit_id(load_key(directory))
    (segment,) = read_seals(directory)[0].segments
    whole = (directory / "lake" / segment.file).read_bytes()
    S3Store.from_url(url).put(f"{audit}/lake/{segment.file}", whole[:-7])
    assert push(directory, url) == []
    assert objects(url)[f"{audit}/lake/{segment.file}"] == whole


def test_an_object_that_was_changed_is_not_shown(url: str, machine: Any, server: Server) -> None:
    """It is named; the other rows are shown, and the next look finds it mended."""
    directory = machine("one")
    sent(url, "a")
    machine("two")
    sent(url, "b")
    audit = audit_id(load_key(directory))
    (segment,) = read_seals(directory)[0].segments
    whole = objects(url)[f"{audit}/lake/{segment.file}"]
    S3Store.from_url(url).put(f"{audit}/lake/{segment.file}", whole[:-1] + b"x")
    reader = machine("reader")
    assert ids(url) == ["b"]
    assert fetch(reader, url) == [f"`{audit}/lake/{segment.file}` is not as it was sealed, and is not shown"]
    result = CliRunner().invoke(aegis, ["audit", "--db", url, "--format", "jsonl"])
    assert "is not as it was sealed" in result.stderr
    assert '"decision_id":"b"' in result.stdout.replace(" ", "")
    S3Store.from_url(url).put(f"{audit}/lake/{segment.file}", whole)
    assert ids(url) == ["a", "b"]


def test_seals_that_were_rewritten_are_not_followed(url: str, machine: Any, server: Server) -> None:
    """A reader keeps what it had read, and says so."""
    directory = machine("one")
    sent(url, "a")
    reader = machine("reader")
    assert ids(url) == ["a"]
    audit = audit_id(load_key(directory))
    S3Store.from_url(url).put(f"{audit}/seals.jsonl", b"")
    assert ids(url) == ["a"]
    (problem,) = fetch(reader, url)
    assert "its seals are not those of before" in problem


def test_a_copy_of_an_audit_does_not_overwrite_it(url: str, machine: Any, tmp_path: Path) -> None:
    """Two machines with one key and different seals: the second sends nothing."""
    directory = machine("one")
    sent(url, "both")
    shutil.copytree(directory, tmp_path / "copy")
    sent(url, "original")
    before = objects(url)
    copy = machine("copy")
    calls(url, "of the copy").close()
    seal(copy)
    with pytest.raises(AuditError, match=r"has seals that .* does not have"):
        push(copy, url)
    assert objects(url) == before


def test_a_server_that_is_down_is_named_and_tried_again(
    url: str, machine: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealing goes on, reading says what it lacks; once the server is up, everything is sent."""
    monkeypatch.setattr(object_store, "RETRIED", timedelta(seconds=0.2))
    directory = machine("one")
    sent(url, "before")
    server.down()
    try:
        calls(url, "while down").close()
        assert seal(directory).problems == []
        with pytest.raises(AuditError, match=r"cannot use `s3://"):
            push(directory, url)
        with pytest.raises(AuditError, match=r"cannot use `s3://"):
            connect(url)
        result = CliRunner().invoke(aegis, ["audit", "--db", url, "--format", "jsonl"])
        assert result.exit_code == 0
        assert "cannot use `s3://" in result.stderr
        assert "while down" in result.stdout  # what is here
    finally:
        server.up()
    assert push(directory, url) == []
    machine("reader")
    assert ids(url) == ["before", "while down"]


def test_the_agent_has_it_sent_by_itself(url: str, machine: Any) -> None:
    """An agent that writes to `s3://` needs no other command: what its sealer seals is there."""
    code = """
import logging, sys, time
from datetime import UTC, datetime
from aegis_otel.audit.journal import seal_trigger, writer as module
from aegis_otel.audit.journal.writer import Journal
from tests.support.records import completed, decided
logging.basicConfig()
module.ROTATE_BYTES = seal_trigger.SEAL_BYTES = 20_000
journal = Journal(sys.argv[1])
told = []
journal.on_seal = told.append
for n in range(100):
    journal.append(decided(decision_id=f"{n}", timestamp=datetime.now(UTC).isoformat(), reason="x" * 300))
    journal.append(completed(decision_id=f"{n}"))
deadline = time.monotonic() + 60
while not told and time.monotonic() < deadline:
    time.sleep(0.02)
print(len(told) > 0)
"""
    machine("agent")
    output, errors = python(code, url).communicate(timeout=100)
    assert (output, errors) == ("True\n", "")
    machine("reader")
    assert {"0", "1", "2"} <= set(ids(url))


def test_the_commands(url: str, machine: Any) -> None:
    """`aegis audit` over all machines, `sql` in its sandbox, and `seal`, which sends."""
    machine("one")
    sent(url, "sent")
    machine("two")
    calls(url, "sealed by hand").close()
    run = CliRunner().invoke
    sealed = run(aegis, ["audit", "seal", "--db", url])
    assert sealed.exit_code == 0, sealed.output
    assert len(_parquet(url)) == 2
    listed = run(aegis, ["audit", "--db", url, "--format", "jsonl"])
    assert listed.exit_code == 0
    assert "sent" in listed.stdout
    assert "sealed by hand" in listed.stdout
    counted = run(
        aegis, ["audit", "sql", "--db", url, "--format", "csv", "SELECT count(*) AS calls FROM audit"]
    )
    assert (counted.exit_code, counted.output.split()) == (0, ["calls", "2"]), counted.output


def test_the_commands_of_the_document(url: str, machine: Any) -> None:
    """docs/audit-storage.md: each command, with this bucket for its bucket."""
    text = (Path(__file__).parents[3] / "docs" / "audit-storage.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line)[2:] for line in block.replace("s3://acme-audit/agents", url).splitlines()]
    machine("one")
    calls(url, "a", host="one").close()
    results = [CliRunner().invoke(aegis, command) for command in commands]
    assert [result.exit_code for result in results] == [0, 0, 0], results
    assert len(_parquet(url)) == 1
    assert "delete_document" in results[1].output
    assert "one" in results[2].output


def test_the_local_part_is_of_one_place(url: str, machine: Any) -> None:
    """A directory that belongs to one address is not used for another."""
    directory = machine("one")
    calls(url, "a").close()
    with pytest.raises(AuditError, match="is the local part of the audit at"):
        calls(f"{url}/other", "b")
    assert (directory / "remote").read_text() == f"{url}\n"


def test_the_local_part_is_named_after_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate("s3://bucket/a/b/") == tmp_path / "aegis_audit-bucket-a-b"


@pytest.mark.parametrize(
    "name", ["gs://bucket/x", "s3://", "s3:///x", "s3://user:secret@bucket/x", "s3://bucket/a b"]
)
def test_other_addresses_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected a directory, or `s3://bucket/prefix`"):
        Journal(name)


def test_without_the_extra_it_is_named(url: str, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("one")
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(AuditError, match=r"pip install '\.\[s3\]' in a clone"):
        connect(url)


def test_policies_are_sent_fetched_and_verified(url: str, machine: Callable[[str], Path]) -> None:
    one = machine("one")
    policy = Policy.from_text("# why\nrules: [{name: a, approval: block}]\n")
    runtime = Runtime(policy=policy, audit_logger=AuditLogger(url))
    runtime.check()
    sent(url, "1")
    runtime.governance_stopped()  # not sealed, and so not sent
    audit = audit_id(load_key(one))
    name = f"{audit}/{text_name(policy.digest)}"
    assert objects(url)[name] == b"# why\nrules: [{name: a, approval: block}]\n"

    two = machine("two")
    assert fetch(two, url) == []
    assert [each.change for each in read_changes(two / "mirror" / audit)] == ["started"]
    assert verify(two, mirrors=True).findings == []
    with connect(url) as connection:
        found = connection.execute("SELECT change, policy_digest FROM policy_changes").fetchall()
    assert found == [("started", policy.digest)]
    shown = CliRunner().invoke(aegis, ["policy", "show", "--path", url, policy.digest])
    assert shown.output.startswith("# why")

    (two / "mirror" / audit / text_name(policy.digest)).unlink()
    S3Store.from_url(url).put(f"{audit}/{text_name(policy.digest)}", b"rules: [{approval: auto}]")
    assert any("is missing or not as it was sealed" in problem for problem in fetch(two, url))
    assert any("is missing" in str(finding) for finding in verify(two, mirrors=True).findings)


@pytest.mark.parametrize("planted", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("key")])
def test_what_has_the_name_of_a_policys_text_keeps_no_row_from_being_sent(
    url: str, machine: Any, planted: Callable[[Path], object]
) -> None:
    one = machine("one")
    policy = Policy.from_text("rules: []")
    Runtime(policy=policy, audit_logger=AuditLogger(url)).check()
    calls(url, "1").close()
    text = one / text_name(policy.digest)
    text.unlink()
    planted(text)
    assert seal(one).problems == []
    (problem,) = push(one, url)
    assert f"the policy's text `{text}` is missing or changed and is not sent" in problem
    machine("two")
    assert ids(url) == ["1"]


def test_a_log_of_changes_that_is_a_pipe_keeps_no_row_from_being_sent(url: str, machine: Any) -> None:
    one = machine("one")
    Runtime(policy=Policy.from_text("rules: []"), audit_logger=AuditLogger(url)).check()
    sent(url, "1")
    (one / CHANGES).unlink()
    os.mkfifo(one / CHANGES)
    calls(url, "2").close()
    assert "is a named pipe" in "".join(seal(one).problems)
    assert "is a named pipe" in "".join(push(one, url))
    machine("two")
    assert ids(url) == ["1", "2"]
