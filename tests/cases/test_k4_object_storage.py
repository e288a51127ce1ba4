"""What whoever can write to the bucket, or to the local part of an audit, cannot have shown or removed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from aegis_otel import AuditError, connect
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.location import locate
from aegis_otel.audit.maintenance import object_store, upload
from aegis_otel.audit.maintenance.download import fetch
from aegis_otel.audit.maintenance.retention import prune
from aegis_otel.audit.maintenance.upload import push
from aegis_otel.audit.seals.hash_chain import link, seals_origin
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.cli import main as aegis
from tests.audit.seals.test_signing import make_key
from tests.support.object_storage import Asked, Bucket, listing, machines
from tests.support.records import completed, decided

URL = "s3://bucket/our/audits"
FOLDER = "our/audits"
OTHER = "e" * 32


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    made = Bucket()
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


@pytest.fixture
def machine(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Become the machine of that name: its local part of the audit at `URL`."""
    return machines(URL, tmp_path, monkeypatch)


def sent(*names: str, **first: Any) -> str:
    """Calls that are sealed and sent; returns the id of their audit."""
    journal = Journal(URL)
    for name in names:
        journal.append(decided(**{"decision_id": name, "timestamp": datetime.now(UTC).isoformat()} | first))
        journal.append(completed(decision_id=name))
    journal.close()
    directory = locate(URL)
    assert seal(directory).problems == []
    assert push(directory, URL) == []
    return audit_id(load_key(directory))


def ids() -> list[str]:
    with connect(URL) as audit:
        return [name for (name,) in audit.execute("SELECT decision_id FROM audit ORDER BY 1").fetchall()]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(aegis, list(arguments))


# --- what a verification is of ---


def rewritten(bucket: Bucket, audit: str) -> None:
    bucket.objects[f"{FOLDER}/{audit}/seals.jsonl"] = b""


def edited(bucket: Bucket, audit: str) -> None:
    name = f"{FOLDER}/{audit}/seals.jsonl"
    bucket.objects[name] = bucket.objects[name].replace(b'"rows":1', b'"rows":2')


def taken_away(bucket: Bucket, audit: str) -> None:
    for name in [each for each in bucket.objects if audit in each]:
        del bucket.objects[name]


def unreadable(bucket: Bucket, audit: str) -> None:
    def instead(asked: Asked) -> bool:
        if audit in asked.key:
            asked.answer(403, b"<Error><Code>InvalidObjectState</Code></Error>")
        return audit in asked.key

    bucket.instead = instead


@pytest.mark.parametrize("change", [rewritten, edited, taken_away, unreadable])
@pytest.mark.parametrize("command", [("audit", "verify"), ("report", "--verify", "-o", "-")])
def test_k4_verify_finds_what_was_changed_in_the_bucket(
    bucket: Bucket, machine: Any, change: Callable[[Bucket, str], None], command: tuple[str, ...]
) -> None:
    """What was fetched before is whole, and what is there now is not it: that is not passed."""
    machine("one")
    theirs = sent("theirs")
    machine("two")
    sent("ours")
    assert ids() == ["ours", "theirs"]
    whole = run(*command, "--path", URL)
    assert whole.exit_code == 0, whole.output
    assert "PASSED" in whole.output
    change(bucket, theirs)
    result = run(*command, "--path", URL)
    assert result.exit_code == 1
    assert "FAILED" in result.output
    assert theirs in result.output


def test_k4_a_report_shows_no_rows_that_came_after_its_verification(bucket: Bucket, machine: Any) -> None:
    """What is fetched is fetched first, then verified, then shown."""
    machine("one")
    theirs = sent("theirs")
    machine("two")
    sent("ours")
    assert ids() == ["ours", "theirs"]
    directory = machine("one")
    sent("forged")
    lines = (directory / "seals.jsonl").read_bytes().splitlines()
    seals = read_seals(directory)
    second = json.loads(lines[1])
    second["segments"][0]["new"] = second["segments"][0]["rows"] = 7
    del second["chain"]
    _, forged = link(seals[0].chain, json.dumps(second, separators=(",", ":")).encode())
    bucket.objects[f"{FOLDER}/{theirs}/seals.jsonl"] = lines[0] + b"\n" + forged
    machine("two")
    result = run("report", "--verify", "--path", URL, "-o", "-")
    assert result.exit_code == 1
    assert "FAILED" in result.output


def test_k4_verify_says_what_it_could_not_reach(bucket: Bucket, machine: Any) -> None:
    """A place that cannot be reached is no tampering, and is not left out either."""
    machine("one")
    sent("ours")

    def instead(asked: Asked) -> bool:
        asked.answer(403)
        return True

    bucket.instead = instead
    result = run("audit", "verify", "--path", URL)
    assert result.exit_code == 0
    _, _, unproven = result.stdout.partition("Not proven:")
    assert f"cannot use `{URL}`" in unproven


# --- what is sent and removed there ---


def plant(directory: Path, **members: Any) -> None:
    """Add a seal whose chain holds: whoever can write to the directory can compute it."""
    last = read_seals(directory)[-1]
    line = {
        "seal": last.seal + 1,
        "version": 2,
        "audit": last.audit,
        "sealed_at": last.sealed_at,
        "segments": [],
        "replaces": [],
        "journals": [],
        "carried": None,
    }
    _, linked = link(last.chain, json.dumps(line | members, separators=(",", ":")).encode())
    with open(directory / "seals.jsonl", "ab") as file:
        file.write(linked)


def removal(directory: Path, **members: Any) -> None:
    (first, second) = [each for one in read_seals(directory) for each in one.segments]
    gone = {"segments": [1, 2], "rows": 2, "first": first.first, "last": second.last, "why": "it is old"}
    plant(directory, replaces=[1, 2], removed=gone, **members)


def replacement(directory: Path) -> None:
    plant(directory, replaces=[1, 2])


def unsigned_removal(directory: Path) -> None:
    removal(directory)


def removal_that_looks_signed(directory: Path) -> None:
    removal(directory, signature="0" * 128)


def merge_of_other_rows(directory: Path) -> None:
    """A file with as many rows, whose place and digest the seal has right."""
    seals = read_seals(directory)
    (first, second) = [each for one in seals for each in one.segments]
    file = f"{first.file[:15]}/00000003-{seals[-1].chain[:8]}.parquet"
    path = directory / "lake" / file
    duckdb.execute(
        f"COPY (FROM read_parquet('{directory}/lake/{first.file[:15]}/*.parquet', hive_partitioning = false) "
        f"SELECT * REPLACE ('blocked' AS result_status)) TO '{path}' (FORMAT parquet)"
    )
    content = path.read_bytes()
    merged = {
        "segment": 3,
        "file": file,
        "rows": 2,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "first": first.first,
        "last": second.last,
        "digest": "0" * 64,
    }
    plant(directory, replaces=[1, 2], segments=[merged])


@pytest.mark.parametrize(
    "planted", [replacement, unsigned_removal, removal_that_looks_signed, merge_of_other_rows]
)
def test_k4_a_planted_seal_removes_nothing_that_was_sent(
    bucket: Bucket, machine: Any, monkeypatch: pytest.MonkeyPatch, planted: Callable[[Path], None]
) -> None:
    """What was sent is what is left when somebody rewrites the directory: no seal of theirs reaches it."""
    monkeypatch.setattr(upload, "GRACE", timedelta(0))
    directory = machine("one")
    sent("a")
    sent("b")
    before = dict(bucket.objects)
    planted(directory)
    try:
        problems = push(directory, URL)
    except AuditError as error:
        problems = [str(error)]
    assert len(problems) == 1
    assert "contradict each other" in problems[0] or "and stay there" in problems[0]
    assert {name: bucket.objects.get(name) for name in before if name.endswith(".parquet")} == {
        name: content for name, content in before.items() if name.endswith(".parquet")
    }


def test_k4_what_retention_removed_is_removed_there_by_who_has_the_key(
    bucket: Bucket, machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process than that with the key cannot tell who signed, and leaves the files where they are."""
    monkeypatch.setattr(upload, "GRACE", timedelta(0))
    key, _ = make_key(tmp_path / "seals.pem")
    directory = machine("one")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(key))
    sent("old", timestamp="2026-10-01T00:00:00.000000+00:00")
    sent("new")
    assert prune(directory, keep=timedelta(days=30)).seal is not None
    monkeypatch.delenv("AEGIS_SEAL_KEY")
    (problem,) = push(directory, URL)
    assert "date=2026-10-01" in problem
    assert any("date=2026-10-01" in name for name in bucket.objects)
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(key))
    assert push(directory, URL) == []
    assert not any("date=2026-10-01" in name for name in bucket.objects)
    machine("reader")
    assert ids() == ["new"]


# --- what others put there ---


def planted_audit(bucket: Bucket, content: bytes, audit: str = OTHER) -> str:
    """An audit of one row that nobody sealed; returns the name of its file."""
    file = f"date=2026-11-22/00000001-{seals_origin(audit)[:8]}.parquet"
    segment = {
        "segment": 1,
        "file": file,
        "rows": 1,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "first": None,
        "last": None,
        "new": 1,
        "digest": "0" * 64,
    }
    seal = {
        "seal": 1,
        "version": 2,
        "audit": audit,
        "sealed_at": "2026-11-22T00:00:00.000000+00:00",
        "segments": [segment],
        "replaces": [],
        "journals": [],
        "carried": None,
    }
    _, line = link(seals_origin(audit), json.dumps(seal, separators=(",", ":")).encode())
    bucket.objects[f"{FOLDER}/{audit}/seals.jsonl"] = line
    bucket.objects[f"{FOLDER}/{audit}/lake/{file}"] = content
    return file


def parquet(tmp_path: Path, rows: str) -> bytes:
    duckdb.execute(f"COPY ({rows}) TO '{tmp_path / 'rows.parquet'}' (FORMAT parquet)")
    return (tmp_path / "rows.parquet").read_bytes()


@pytest.mark.parametrize(
    "rows",
    [
        "",
        "SELECT 'theirs' AS decision_id, 'never' AS \"timestamp\"",
        "SELECT {'theirs': 1} AS decision_id",
        "SELECT 1 AS something",
    ],
)
def test_k4_a_file_that_is_no_segment_keeps_nobody_from_reading(
    bucket: Bucket, machine: Any, tmp_path: Path, rows: str
) -> None:
    """Its digest is right, for who put it there made that too; it is named, and everything else is shown."""
    machine("one")
    sent("ours")
    file = planted_audit(bucket, parquet(tmp_path, rows) if rows else b"no Parquet")
    assert ids() == ["ours"]
    assert fetch(locate(URL), URL) == [
        f"`{OTHER}/lake/{file}` has not the columns of a segment that this version knows, and is not shown"
    ]
    assert run("audit", "sql", "--path", URL, "FROM audit").exit_code == 0


@pytest.mark.parametrize(
    "added",
    [
        b'{"no":"seal"}\n',
        b'{"seal":2,"version":999}\n',
        b"\xff\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_k4_seals_that_are_none_keep_nobody_from_reading(bucket: Bucket, machine: Any, added: bytes) -> None:
    """They are not kept: once they are whole again in the bucket, everything is as before."""
    machine("one")
    theirs = sent("theirs")
    name = f"{FOLDER}/{theirs}/seals.jsonl"
    machine("two")
    sent("ours")
    whole = bucket.objects[name]
    bucket.objects[name] = whole + added
    assert ids() == ["ours"]
    bucket.objects[name] = whole
    assert ids() == ["ours", "theirs"]
    bucket.objects[name] = whole + added
    assert ids() == ["ours", "theirs"]
    (problem,) = fetch(locate(URL), URL)
    assert f"`{URL}/{theirs}` is shown as it was fetched last: " in problem
    bucket.objects[name] = whole
    assert fetch(locate(URL), URL) == []


def test_k4_an_audit_is_shown_by_its_own_name_only(bucket: Bucket, machine: Any) -> None:
    """A copy of an audit under another id does not show its rows twice."""
    machine("one")
    theirs = sent("theirs")
    for name, content in list(bucket.objects.items()):
        bucket.objects[name.replace(theirs, OTHER)] = content
    machine("two")
    assert ids() == ["theirs"]
    (problem,) = fetch(locate(URL), URL)
    assert OTHER in problem


def test_k4_one_object_that_cannot_be_read_hides_no_other_audit(bucket: Bucket, machine: Any) -> None:
    machine("one")
    planted_audit(bucket, b"x", audit="0" * 32)
    theirs = sent("theirs")
    unreadable(bucket, "0" * 32)
    machine("two")
    assert ids() == ["theirs"]
    (problem,) = fetch(locate(URL), URL)
    assert "0" * 32 in problem
    assert theirs not in problem


# --- mirror/ in the local part ---


def test_k4_a_mirror_of_the_audit_itself_is_none(bucket: Bucket, machine: Any) -> None:
    """It would show every call twice, and verification would find each part of it whole."""
    directory = machine("one")
    own = sent("a")
    mirror = directory / "mirror" / own
    mirror.mkdir(parents=True)
    shutil.copy(directory / "seals.jsonl", mirror)
    shutil.copytree(directory / "lake", mirror / "lake")
    assert ids() == ["a"]
    result = run("audit", "verify", "--path", URL)
    assert f"mirror/{own}: is of this audit itself, and is not read" in result.output
    assert "1 sealed row in 1 file" in result.output


def test_k4_a_mirror_of_what_is_not_there_is_found(bucket: Bucket, machine: Any, tmp_path: Path) -> None:
    """Rows that somebody puts into the local part do not pass for those of another machine."""
    other = machine("other")
    forged = sent("forged")
    for name in [each for each in bucket.objects if forged in each]:
        del bucket.objects[name]
    directory = machine("one")
    sent("ours")
    mirror = directory / "mirror" / forged
    mirror.mkdir(parents=True)
    shutil.copy(other / "seals.jsonl", mirror)
    shutil.copytree(other / "lake", mirror / "lake")
    result = run("audit", "verify", "--path", URL)
    assert result.exit_code == 1
    assert f"`{URL}/{forged}` is not there" in result.output


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"no seal\n")])
def test_k4_a_mirror_whose_seals_are_none_keeps_nobody_from_reading(
    bucket: Bucket, machine: Any, spoil: Callable[[Path], Any]
) -> None:
    machine("one")
    theirs = sent("theirs")
    directory = machine("two")
    sent("ours")
    assert ids() == ["ours", "theirs"]
    seals = directory / "mirror" / theirs / "seals.jsonl"
    spoil(seals)
    assert "ours" in ids()
    seals.unlink(missing_ok=True)
    os.mkfifo(seals)
    assert ids() == ["ours"]


# --- how much, and how long ---

_MIB = 1 << 20


def endless(bucket: Bucket, ending: str) -> list[int]:
    """Have objects with that ending be a GiB each; returns how many MiB of them were taken."""
    taken: list[int] = []

    def instead(asked: Asked) -> bool:
        if asked.command != "GET" or not asked.key.endswith(ending):
            return False
        try:
            asked.answer(200, size=1024 * _MIB)
            for _ in range(1024):
                asked.wfile.write(b"\n" * _MIB)
                taken.append(1)
        except OSError:
            asked.close_connection = True
        return True

    bucket.instead = instead
    return taken


@pytest.mark.parametrize("ending", ["seals.jsonl", ".parquet"])
def test_k4_no_more_is_read_of_an_object_than_it_can_have(bucket: Bucket, machine: Any, ending: str) -> None:
    """What is in the bucket is as long as whoever can write there likes."""
    machine("one")
    theirs = sent("theirs")
    directory = machine("two")
    sent("ours")
    taken = endless(bucket, ending)
    (problem,) = fetch(directory, URL)
    assert theirs in problem
    if ending == "seals.jsonl":
        with pytest.raises(AuditError, match=r"has seals that .* does not have"):
            push(directory, URL)
    assert len(taken) < 400


@pytest.mark.parametrize("names", [0, 100])
def test_k4_a_listing_that_does_not_end_is_given_up(
    bucket: Bucket, machine: Any, monkeypatch: pytest.MonkeyPatch, names: int
) -> None:
    """Also where the caller is in an event loop; nothing goes on asking behind its back."""
    directory = machine("one")
    sent("ours")
    pages = 0

    def instead(asked: Asked) -> bool:
        nonlocal pages
        if "list-type" in asked.query:
            pages += 1
            prefix = asked.query.get("prefix", "")
            keys = {f"{prefix}{pages:06d}{n:026d}/x": b"" for n in range(names)}
            asked.answer(200, listing(keys, asked.query, after=f"page {pages}"))
        return "list-type" in asked.query

    bucket.instead = instead
    monkeypatch.setattr(object_store, "LISTED", timedelta(seconds=1))

    async def within_a_loop(act: Callable[[Path, str], list[str]]) -> list[str]:
        return act(directory, URL)

    for act in (fetch, push):
        with pytest.raises(AuditError, match="its listing has not ended in 1 seconds"):
            asyncio.run(within_a_loop(act))
    time.sleep(0.5)  # the request that was under way may still arrive
    before = pages
    time.sleep(0.5)
    assert pages == before > 2


# --- a machine that only reads ---


def test_k4_a_machine_that_only_reads_verifies_what_others_have_sealed(
    bucket: Bucket, machine: Any, tmp_path: Path
) -> None:
    """It has no key and no seals, and that is no tampering; what it fetched is checked as everywhere."""
    directory = machine("reader")
    nothing = run("audit", "verify", "--path", URL)
    assert nothing.exit_code == 1
    assert "there is no audit in it, and none at the address" in nothing.output
    machine("one")
    theirs = sent("theirs")
    machine("reader")
    result = run("audit", "verify", "--path", URL)
    assert result.exit_code == 0, result.output
    assert "1 sealed row in 1 file" in result.output
    assert "this machine has no audit of its own" in result.output
    assert run("audit", "verify", "--path", URL, "--audit", OTHER).exit_code == 1
    _, public = make_key(tmp_path / "key.pem")
    unsigned = run("audit", "verify", "--path", URL, "--public-key", str(public))
    assert unsigned.exit_code == 1
    assert f"mirror/{theirs}/seals.jsonl: no seal is signed" in unsigned.output
    assert run("audit", "verify", "--path", str(directory)).exit_code == 1
    rewritten(bucket, theirs)
    assert run("audit", "verify", "--path", URL).exit_code == 1


@pytest.mark.parametrize("part", ["seals.jsonl", "lake/x", "journal/x.jsonl"])
def test_k4_a_machine_that_lost_its_key_does_not_only_read(bucket: Bucket, machine: Any, part: str) -> None:
    machine("one")
    sent("theirs")
    directory = machine("two")
    assert ids() == ["theirs"]
    (directory / part).parent.mkdir(exist_ok=True)
    (directory / part).touch()
    result = run("audit", "verify", "--path", URL)
    assert result.exit_code == 1
    assert "key: is missing" in result.output


def test_k4_a_report_counts_what_others_have_sealed_as_sealed(bucket: Bucket, machine: Any) -> None:
    machine("one")
    sent("theirs", "theirs too")
    machine("two")
    sent("ours")
    page = run("report", "--verify", "--path", URL, "-o", "-").output
    assert "PASSED: 3 sealed rows and 0 journal lines" in page
    assert "The audit has 3 rows, of which 0 are not sealed yet." in page


def test_k4_a_call_that_two_audits_have_is_found(bucket: Bucket, machine: Any) -> None:
    """Readers show both rows; whoever can write to the bucket could give a call a second story."""
    machine("one")
    theirs = sent("a", "b")
    machine("two")
    sent("b", "c")
    machine("reader")
    assert ids() == ["a", "b", "b", "c"]
    result = run("audit", "verify", "--path", URL)
    assert result.exit_code == 1
    assert "the call `b` is sealed twice" in result.output
    taken_away(bucket, theirs)
    shutil.rmtree(locate(URL) / "mirror" / theirs)
    assert run("audit", "verify", "--path", URL).exit_code == 0
