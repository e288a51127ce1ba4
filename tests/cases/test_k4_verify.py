"""What readers show is what verification covers, and which audit it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from aegis_otel import AuditError, ConfigError
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.query.connection import open_view, problems
from aegis_otel.audit.record import SCHEMA_VERSION, AuditRecord, encode
from aegis_otel.audit.seals.hash_chain import journal_origin, link
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.cli import main as aegis
from aegis_otel.runtime.audit import AuditLogger
from tests.audit.seals.test_signing import make_key
from tests.audit.verify.test_witness import Collector
from tests.support.records import completed, decided, encode_line, select, wait_until_seen


def sealed(audit: Path, *names: str) -> Path:
    journal = Journal(audit)
    for name in names:
        journal.append(decided(decision_id=name))
        journal.append(completed(decision_id=name))
    journal.close()
    assert seal(audit).problems == []
    return audit


def forged_parquet(audit: Path, path: Path) -> None:
    """A file like a segment, with a row that nobody wrote."""
    (segment,) = (audit / "lake").glob("date=*/*.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * REPLACE ('forged' AS decision_id) FROM read_parquet('{segment}', "
            f"hive_partitioning = false)) TO '{path}' (FORMAT parquet)"
        )


LINE = encode_line(decided(decision_id="forged", result_status="success"))


def chained(audit: Path, name: str, writer: str) -> None:
    """A journal file with a chain of its own, which everybody who reads the seals can compute."""
    start = journal_origin(audit_id(load_key(audit)), writer)
    record = decided(decision_id="forged", result_status="success")
    (audit / "journal" / name).write_bytes(link(start, encode(record))[1])


def segment_of(audit: Path) -> Path:
    (found,) = (audit / "lake").glob("date=*/*.parquet")
    return found


def tag(audit: Path) -> str:
    return read_seals(audit)[-1].chain[:8]


def extra_column(audit: Path) -> None:
    path = segment_of(audit)
    with duckdb.connect() as connection:
        rows = f"read_parquet('{path}', hive_partitioning = false)"
        connection.execute(
            f"CREATE TABLE t AS SELECT * REPLACE ('forged' AS decision_id), 'forged' AS extra FROM {rows}"
        )
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet)")


def schema_with_rows(audit: Path) -> None:
    shutil.copy(segment_of(audit), audit / "lake" / "_schema.parquet")


FORGED: dict[str, Callable[[Path], object]] = {
    "a Parquet file in lake/": lambda a: forged_parquet(a, a / "lake" / "forged.parquet"),
    "a Parquet file in a day": lambda a: forged_parquet(
        a, segment_of(a).parent / "99999999-00000000.parquet"
    ),
    "a Parquet file of the next seal": lambda a: forged_parquet(
        a, segment_of(a).parent / f"00000002-{tag(a)}.parquet"
    ),
    "a Parquet file of a day of its own": lambda a: forged_parquet(
        a, a / "lake" / "date=2020-01-01" / "00000009-aaaaaaaa.parquet"
    ),
    "a Parquet file of another partition": lambda a: forged_parquet(
        a, a / "lake" / "risk_level=LOW" / "date=2020-01-01" / "00000009-aaaaaaaa.parquet"
    ),
    "a Parquet file in a day of letters": lambda a: forged_parquet(
        a, a / "lake" / "date=9x" / "00000009-aaaaaaaa.parquet"
    ),
    "a Parquet file beside lake/": lambda a: forged_parquet(a, a / "lake.parquet"),
    "a Parquet file in journal/": lambda a: forged_parquet(a, a / "journal" / "x-000001.parquet"),
    "a segment with a column more": extra_column,
    "a schema with rows": schema_with_rows,
    "a link to a day": lambda a: (a / "lake" / "date=2020-01-01").symlink_to(segment_of(a).parent),
    "lines without a chain": lambda a: (a / "journal" / "x-000001.jsonl").write_bytes(LINE),
    "a name without a number": lambda a: (a / "journal" / "x.jsonl").write_bytes(LINE),
    "a name that is only an ending": lambda a: (a / "journal" / ".jsonl").write_bytes(LINE),
    "a hidden name": lambda a: (a / "journal" / ".x-000001.jsonl").write_bytes(LINE),
    "a name with a space": lambda a: (a / "journal" / "restored copy-000001.jsonl").write_bytes(LINE),
    "a carried file of no seal": lambda a: (a / "journal" / "carried-00000009-aaaaaaaa.jsonl").write_bytes(
        LINE
    ),
    "a carried file of the next seal": lambda a: (
        a / "journal" / f"carried-00000002-{tag(a)}.jsonl"
    ).write_bytes(LINE),
    "a folder in journal/": lambda a: (
        (a / "journal" / "more").mkdir(),
        (a / "journal" / "more" / "x-000001.jsonl").write_bytes(LINE),
    ),
    "a second lake": lambda a: shutil.copytree(a / "lake", a / "lake2"),
    "another case": lambda a: (a / "journal" / "x-000001.JSONL").write_bytes(LINE),
    "a compressed file": lambda a: (a / "journal" / "x-000001.jsonl.gz").write_bytes(b""),
}


@pytest.mark.parametrize("what", FORGED)
def test_k4_verify_covers_what_readers_read_holds(tmp_path: Path, what: str) -> None:
    """Whatever is put there is shown by no reader, or is a finding; it is never shown and passed over."""
    audit = sealed(tmp_path / "audit", "ours")
    wait_until_seen(audit)
    FORGED[what](audit)
    findings = [each.what for each in verify(audit).findings]
    try:
        shown = str(select(audit, "SELECT * FROM audit"))
    except AuditError:
        return  # nothing is shown, and the file is named
    assert "forged" not in shown or findings
    assert findings or "ours" in shown


def test_k4_verify_says_that_whoever_can_write_can_add_lines(tmp_path: Path) -> None:
    """A chain of its own holds: so what is not sealed yet is said to be unproven, and by whom it may be."""
    audit = sealed(tmp_path / "audit", "ours")
    chained(audit, "web-1-aaaaaaaa-000001.jsonl", "web-1-aaaaaaaa")
    assert ("forged", "success") in select(audit)
    (unproven,) = [each for each in verify(audit).unproven if "not sealed yet" in each]
    assert "that an agent wrote them: anybody who can write to the directory could have" in unproven


def test_k4_verify_notes_what_lies_beside_the_audit(tmp_path: Path) -> None:
    audit = sealed(tmp_path / "audit", "ours")
    (audit / "notes.md").touch()
    (audit / "mirror").mkdir()
    (audit / "remote").write_text("s3://bucket/x\n")
    notes = verify(audit).notes
    assert any(each.startswith("notes.md: does not belong to the audit") for each in notes)
    assert any(each.startswith("mirror: is not read") for each in notes)
    assert any(each.startswith("remote: sends nothing anywhere") for each in notes)


# --- mirrors, where they are read ---


def with_mirror(tmp_path: Path) -> tuple[Path, Path]:
    """An audit, and what was fetched of another one."""
    audit, other = sealed(tmp_path / "audit", "ours"), sealed(tmp_path / "other", "theirs")
    mirror = audit / "mirror" / audit_id(load_key(other))
    mirror.mkdir(parents=True)
    shutil.copy(other / "seals.jsonl", mirror)
    shutil.copytree(other / "lake", mirror / "lake")
    return audit, mirror


def rows_with_mirrors(audit: Path) -> str:
    with open_view(audit, mirrors=True) as connection:
        return str(connection.execute("SELECT decision_id FROM audit ORDER BY 1").fetchall())


def test_k4_verify_covers_mirrors_that_are_read(tmp_path: Path) -> None:
    """For who names the audit by its address they are read and verified, by one list."""
    audit, _ = with_mirror(tmp_path)
    assert rows_with_mirrors(audit) == "[('ours',), ('theirs',)]"
    proof = verify(audit, mirrors=True)
    assert (proof.findings, proof.rows, proof.segments) == ([], 2, 2)
    assert verify(audit).rows == 1


def other_id(mirror: Path) -> None:
    mirror.rename(mirror.with_name("0" * 32))


def changed(mirror: Path) -> None:
    (path,) = (mirror / "lake").glob("date=*/*.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edited_seal(mirror: Path) -> None:
    path = mirror / "seals.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"rows":1', b'"rows":2'))


def more(mirror: Path) -> None:
    (path,) = (mirror / "lake").glob("date=*/*.parquet")
    shutil.copy(path, path.with_name("00000009-aaaaaaaa.parquet"))


@pytest.mark.parametrize("change", [other_id, changed, edited_seal, more])
def test_k4_verify_finds_what_was_changed_in_a_mirror(tmp_path: Path, change: Callable[[Path], None]) -> None:
    audit, mirror = with_mirror(tmp_path)
    change(mirror)
    findings = verify(audit, mirrors=True).findings
    assert findings
    assert all(each.file.startswith("mirror/") for each in findings)


def test_k4_mirror_of_something_else_is_not_read(tmp_path: Path) -> None:
    """Only folders with the id of an audit are taken; a link is refused."""
    audit, mirror = with_mirror(tmp_path)
    mirror.rename(mirror.with_name("forged"))
    assert rows_with_mirrors(audit) == "[('ours',)]"
    assert problems(open_view(audit, mirrors=True)) == []
    (audit / "mirror" / ("0" * 32)).symlink_to(mirror.with_name("forged"))
    with pytest.raises(AuditError, match="is not a directory of the audit"):
        open_view(audit, mirrors=True)


# --- another audit in its place ---


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(aegis, list(map(str, arguments)))


@pytest.fixture
def swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str, Path, Path]:
    """Another audit in the place of one, both signed with one key and seen by one collector."""
    private, public = make_key(tmp_path / "key.pem")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(private))
    audit, other = sealed(tmp_path / "audit", "ours"), sealed(tmp_path / "other", "forged")
    Collector(tmp_path / "witness.jsonl").saw(*read_seals(audit), *read_seals(other))
    ours = audit_id(load_key(audit))
    shutil.rmtree(audit)
    other.rename(audit)
    return audit, ours, tmp_path / "witness.jsonl", public


def test_k4_verify_notices_another_audit_in_its_place(
    swapped: tuple[Path, str, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its id, which no key and no collector can stand in for; without it, that is said to be unproven."""
    audit, ours, witness, public = swapped
    options = ("audit", "verify", audit, "--witness", witness, "--public-key", public)
    passed = run(*options)
    assert passed.exit_code == 0
    assert "that no other audit was put in the place of the one that you mean" in passed.output
    assert "the witness knows 1 more" in " ".join(passed.output.split())
    failed = run(*options, "--audit", ours)
    assert failed.exit_code == 1
    assert f"`{ours}` was expected: another one is in its place" in failed.output
    there = audit_id(load_key(audit))
    right = run(*options, "--audit", there)
    assert (right.exit_code, "see what is not proven" in right.output) == (0, False)
    monkeypatch.setenv("AEGIS_AUDIT_ID", ours)
    monkeypatch.setenv("AEGIS_AUDIT_DIR", str(audit))
    assert run("audit", "verify", "--public-key", public).exit_code == 1
    assert (
        run("audit", "verify", audit, "--public-key", public).exit_code == 0
    )  # which the variable is not of


@pytest.mark.parametrize("given", ["123", "", "\x1b[2J"])
def test_k4_an_id_that_is_none_is_wrong_usage(given: str, tmp_path: Path) -> None:
    """The message names the option, as the user wrote it."""
    audit = sealed(tmp_path / "audit", "ours")
    for command in (("audit", "verify", audit), ("report", "--db", audit, "-o", "-")):
        result = run(*command, "--audit", given)
        assert result.exit_code == 2
        assert "Invalid value for '--audit': " in result.output
        assert "expected 32 hex digits" in result.output
        assert "\x1b" not in result.output


def test_k4_report_notices_another_audit_in_its_place(
    swapped: tuple[Path, str, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, ours, *_ = swapped
    result = run("report", "--db", audit, "--audit", ours, "-o", audit.parent / "page.html")
    assert result.exit_code == 1
    assert f"`{ours}` was expected" in result.output
    assert not (audit.parent / "page.html").exists()
    monkeypatch.setenv("AEGIS_AUDIT_ID", ours)
    monkeypatch.setenv("AEGIS_AUDIT_DIR", str(audit))
    assert run("report", "-o", "-").exit_code == 1


def test_k4_start_and_doctor_notice_another_audit_in_its_place(
    swapped: tuple[Path, str, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that names the audit does not begin to write to another one, nor to a new one."""
    audit, ours, *_ = swapped
    monkeypatch.setenv("AEGIS_AUDIT_ID", ours)
    monkeypatch.setenv("AEGIS_AUDIT_DIR", str(audit))
    with pytest.raises(AuditError, match="another one is in its place"):
        AuditLogger().check()
    checks = json.loads(run("doctor", "--format", "json").stdout)["checks"]
    (found,) = [each for each in checks if each["name"] == "audit"]
    assert found["status"].lower() == "failed"
    assert "another one is in its place" in found["detail"]
    shutil.rmtree(audit)
    with pytest.raises(AuditError, match="has no key"):
        AuditLogger().check()
    assert not audit.exists()
    monkeypatch.setenv("AEGIS_AUDIT_ID", "not an id")
    with pytest.raises(ConfigError, match="expected 32 hex digits"):
        AuditLogger().check()


# --- lines that this package does not write, and answers that nobody gave ---

YES: dict[str, Any] = {
    "stage": "resolved",
    "decision_id": "planted",
    "timestamp": "2026-11-22T14:30:00.500000+00:00",
    "human_decision": "approved",
    "approver": "dana",
    "result_status": "open",
}
DEEP = b"[" * 100_000 + b"]" * 100_000


def planted(
    audit: Path, *, version: int | None = SCHEMA_VERSION, change: Callable[[bytes], bytes] = bytes
) -> Path:
    """The lines of a call that a human said yes to, in a file of its own whose chain holds."""
    writer = "evil-1-deadbeef"
    asked = decided(decision_id="planted", approval="approve", schema_version=version)
    chain, content = journal_origin(audit_id(load_key(audit)), writer), b""
    yes = change(encode(AuditRecord(**YES)))
    for body in (encode(asked), yes, encode(completed(decision_id="planted"))):
        chain, line = link(chain, body)
        content += line
    path = audit / "journal" / f"{writer}-000001.jsonl"
    path.write_bytes(content)
    return path


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "escaped name": lambda body: body.replace(b'"human_decision"', b'"human\\u005fdecision"'),
    "escaped value": lambda body: body.replace(b'"approved"', b'"\\u0061pproved"'),
    "twice": lambda body: body[:-1] + b',"human_decision":null}',
    "twice, null first": lambda body: b'{"human_decision":null,' + body[1:],
    "unknown member": lambda body: body[:-1] + b',"x":1}',
    "space": lambda body: body.replace(b":", b": ", 1),
    "deep": lambda body: body[:-1] + b',"x":' + DEEP + b"}",
    "plain": bytes,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("begun", [False, True], ids=["no seal", "sealed"])
def test_k4_verify_finds_a_planted_answer_before_and_after_sealing(
    tmp_path: Path, change: str, begun: bool
) -> None:
    """However its line is spelled; a sealing leaves it where it is found, and says so."""
    audit = tmp_path / "audit"
    if begun:
        sealed(audit, "ours")
    else:
        Journal(audit).append(decided(decision_id="ours", schema_version=SCHEMA_VERSION))
    planted(audit, change=CHANGES[change])
    assert verify(audit).findings
    report = seal(audit)
    assert any("evil-1-deadbeef" in each for each in report.problems)
    assert verify(audit).findings


@pytest.mark.parametrize("version", [1, 0, None])
@pytest.mark.parametrize("begun", [False, True], ids=["no seal", "sealed"])
def test_k4_an_older_version_on_a_line_is_no_exemption_from_proof(
    tmp_path: Path, version: int | None, begun: bool
) -> None:
    audit = tmp_path / "audit"
    if begun:
        sealed(audit, "ours")
    else:
        Journal(audit).append(decided(decision_id="ours", schema_version=SCHEMA_VERSION))
    planted(audit, version=version)
    assert any("nobody has proven" in each.what for each in verify(audit).findings)
    seal(audit)
    assert any("nobody has proven" in each.what for each in verify(audit).findings)


@pytest.mark.parametrize("key", [False, True], ids=["no key", "key"])
def test_k4_an_answer_that_cannot_be_checked_is_not_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: bool
) -> None:
    audit = sealed(tmp_path / "audit", "ours")
    path = tmp_path / "approval-key"
    monkeypatch.setenv("AEGIS_APPROVAL_KEY", str(path))
    if key:
        path.write_bytes(b"k" * 32)
        path.chmod(0o600)
    file = planted(audit)
    assert any(file.name in each for each in seal(audit).problems)
    assert file.name not in (audit / "seals.jsonl").read_text()


def test_k4_a_deep_line_of_the_seals_is_a_finding(tmp_path: Path) -> None:
    audit = sealed(tmp_path / "audit", "ours")
    (audit / "seals.jsonl").write_bytes(b'{"audit":' + DEEP + b',"version":1}\n')
    assert verify(audit).findings
    for read in (seal, select):
        with pytest.raises(AuditError, match="is no seal"):
            read(audit)


@pytest.mark.parametrize(
    "name", [b"journal/b\xff\xfe-1-aaaaaaaa-000001.jsonl", b"lake/date=2026-11-22/00000001-\xff.parquet"]
)
def test_k4_a_name_that_is_not_utf8_is_a_finding_and_no_obstacle(tmp_path: Path, name: bytes) -> None:
    """Readers and sealings go on with the rest, and the command prints it."""
    audit = sealed(tmp_path / "audit", "ours")
    Path(os.fsdecode(os.fsencode(audit) + b"/" + name)).write_bytes(LINE)
    assert [each for each in verify(audit).findings if "\\xff" in each.file]
    result = run("audit", "verify", audit)
    assert (result.exit_code, "its name is not UTF-8" in result.output) == (1, True)
    assert select(audit) == [("ours", "success")]
    journal = Journal(audit)
    journal.append(decided(decision_id="later"))
    journal.append(completed(decision_id="later"))
    journal.close()
    assert len(seal(audit).seals) == 1
