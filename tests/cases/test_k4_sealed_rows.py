"""Rows that are sealed stay as they were sealed, whatever the directory's writers plant.

Who plants has the key of the audit, which lies in the directory: chains and seals can be made with it.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from click.testing import CliRunner

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake import sealing
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.lake.segments import SegmentBuilder
from aegis_otel.audit.maintenance.retention import _removal, prune
from aegis_otel.audit.record import SCHEMA_VERSION, AuditRecord, encode
from aegis_otel.audit.seals import seal_log as seals_module
from aegis_otel.audit.seals.hash_chain import journal_origin, link
from aegis_otel.audit.seals.seal_log import TAG, Seal, Segment, locked, read_seals, segment_name
from aegis_otel.audit.verify.verify import verify
from aegis_otel.cli import main as aegis
from tests.audit.seals.test_signing import make_key
from tests.audit.verify.test_witness import Collector
from tests.support.records import completed, decided, select, wait_until_seen

DAY = "2026-11-22"
LATER = f"{DAY}T14:30:02.000000+00:00"
UNMADE: dict[str, Any] = {"chain": "", "previous": ""}
"""What a seal has only once it was made."""


def sealed(audit: Path, *names: str, ended: bool = True) -> Journal:
    """Calls of one day, in a seal of their own."""
    journal = Journal(audit)
    for name in names:
        journal.append(decided(decision_id=name, schema_version=SCHEMA_VERSION))
        if ended:
            journal.append(completed(decision_id=name))
    journal.close()
    assert seal(audit).problems == []
    return journal


def plant(audit: Path, writer: str, *records: AuditRecord, after: str = "", number: int = 1) -> Path:
    """A file of a writer, whose chain holds."""
    chain, content = after or journal_origin(audit_id(load_key(audit)), writer), b""
    for record in records:
        chain, line = link(chain, encode(record))
        content += line
    path = audit / "journal" / f"{writer}-{number:06d}.jsonl"
    path.write_bytes(content)
    return path


def rows(audit: Path) -> list[dict[str, Any]]:
    """Every row, whole, once queries see what was sealed last."""
    wait_until_seen(audit)
    names = [name for name, *_ in select(audit, "DESCRIBE audit")]
    return [dict(zip(names, row, strict=True)) for row in select(audit, "FROM audit ORDER BY decision_id")]


# --- lines that come after a call was sealed as unknown ---

LIE: dict[str, Any] = {
    "action_type": "read_public_page",
    "action_target": "web",
    "action_params": '{"page":"1"}',
    "risk_level": "LOW",
    "approval": "auto",
    "matched_rule": "harmless",
    "agent_name": "somebody else",
    "session_id": "forged",
    "result_status": "success",
}


def test_k4_a_sealed_call_of_unknown_outcome_is_not_rewritten_by_somebody_else(tmp_path: Path) -> None:
    """A line by a process that never ran it stays where it is, and is said; every column stays too."""
    audit = tmp_path / "audit"
    sealed(audit, "died", ended=False)
    before = rows(audit)
    path = plant(audit, "evil-1-deadbeef", completed(decision_id="died", **LIE))
    report = seal(audit)
    (problem,) = report.problems
    assert f"`{path.name}` says how the sealed call `died` ended" in problem
    assert [row for row in rows(audit) if row["session_id"] != "forged"] == before
    assert path.exists()
    assert seal(audit).problems == report.problems
    assert any("begins the call `died` anew" in each.what for each in verify(audit).findings)
    path.unlink()
    plant(audit, "evil-1-deadbeef", completed(decision_id="died"))
    assert seal(audit).problems == report.problems
    assert rows(audit) == before
    assert verify(audit).findings == []


def test_k4_what_somebody_else_says_of_a_sealed_call_is_not_believed_later(tmp_path: Path) -> None:
    """Nor once it was carried over, with lines of calls that had not ended."""
    audit = tmp_path / "audit"
    sealed(audit, "died", ended=False)
    before = rows(audit)
    other = Journal(audit)
    other.append(AuditRecord(stage="resolved", decision_id="died", timestamp=LATER))
    plant(audit, "evil-1-deadbeef", completed(decision_id="died"))
    (made,) = seal(audit).seals
    assert made.carried is not None
    (path,) = (audit / "journal").glob(f"*-{os.getpid()}-{other._writer[-8:]}-000001.jsonl")
    path.unlink()
    other.close()
    report = seal(audit)
    (problem,) = report.problems
    assert f"`{made.carried.file}` says how the sealed call `died` ended" in problem
    assert report.seals == []
    assert rows(audit) == before


def test_k4_late_lines_change_how_a_sealed_call_ended_and_nothing_else(tmp_path: Path) -> None:
    """Who can write to the directory can go on with a writer's chain: what that is worth is said."""
    audit = tmp_path / "audit"
    sealed(audit, "died", ended=False)
    (before,) = rows(audit)
    (covered,) = read_seals(audit)[0].journals
    writer = covered.file.rpartition("-")[0]
    lie = completed(decision_id="died", error_type="Odd", result_error="why", **LIE)
    plant(audit, writer, lie, after=covered.chain, number=2)
    (made,) = seal(audit).seals
    (after,) = rows(audit)
    outcome = {"result_status": "success", "result_error": "why", "error_type": "Odd", "duration_s": 1.0}
    assert after == before | outcome
    assert [(each.decision_id, each.writer) for each in made.amended] == [("died", writer)]
    proof = verify(audit)
    assert proof.findings == []
    (unproven,) = [each for each in proof.unproven if "given an outcome afterwards" in each]
    assert "1 calls, which were sealed as `unknown`" in unproven
    plant(audit, writer, completed(decision_id="died", result_status="failed"), after=_end(audit), number=3)
    seal(audit)
    assert rows(audit) == [after]
    assert verify(audit).findings == []


def _end(audit: Path) -> str:
    """The chain value of the last line that is sealed."""
    return read_seals(audit)[-1].journals[-1].chain


def test_k4_an_amended_row_is_protected_as_any_other(tmp_path: Path) -> None:
    """Also in what it says since then; and merging it on is no finding."""
    audit = tmp_path / "audit"
    journal = sealed(audit, "died", ended=False)
    journal.append(completed(decision_id="died", duration_s=2.0))
    journal.close()
    assert seal(audit).problems == []
    sealed(audit, "more")
    wait_until_seen(audit)
    (row,) = select(audit, "SELECT result_status, duration_s FROM audit WHERE decision_id = 'died'")
    assert row == ("success", 2.0)
    assert verify(audit).findings == []
    merge(audit, "* REPLACE (if(decision_id = 'died', 'failed', result_status) AS result_status)")
    assert any("not as the seal that amended it says" in each.what for each in verify(audit).findings)


# --- a seal that merges ---


def merge(audit: Path, columns: str = "*", where: str = "true", **members: Any) -> Segment:
    """Append a seal that replaces every segment by one, whose rows are what SQL makes of theirs."""
    with locked(audit, audit_id(load_key(audit)), wait=True) as book:
        assert book is not None
        live = seals_module.live_segments(book.seals)
        number = book.segments + 1
        name = segment_name(DAY, number, book.head[:TAG])
        path = audit / "lake" / name
        files = [str(audit / "lake" / each.file) for each in live]
        metadata = {
            "aegis_version": seals_module.VERSION,
            "aegis_audit": book.audit,
            "aegis_seal": len(book.seals) + 1,
            "aegis_segment": number,
            "aegis_previous": book.head,
        }
        pairs = ", ".join(f"{key}: '{value}'" for key, value in metadata.items())
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            source = f"read_parquet({files}, hive_partitioning = false)"
            connection.execute(
                f"COPY (SELECT {columns} FROM {source} WHERE {where} ORDER BY timestamp, decision_id) "
                f"TO '{path}' (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{pairs}}})"
            )
            count, first, last = connection.execute(
                "SELECT count(*), strftime(min(timestamp::TIMESTAMPTZ), '%Y-%m-%dT%H:%M:%S.%f+00:00'), "
                f"strftime(max(timestamp::TIMESTAMPTZ), '%Y-%m-%dT%H:%M:%S.%f+00:00') FROM '{path}'"
            ).fetchone()  # type: ignore[misc]
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        stated: dict[str, Any] = {"digest": hashlib.sha256(b"").hexdigest()} if live[0].digest else {}
        segment = Segment(number, name, count, len(content), digest, first, last)
        segment = msgspec.structs.replace(segment, **stated | members)
        book.append(
            Seal(
                seal=len(book.seals) + 1,
                version=seals_module.VERSION,
                audit=book.audit,
                sealed_at=book.time(),
                segments=(segment,),
                replaces=tuple(each.segment for each in live),
                journals=(),
                carried=None,
            )
        )
        return segment


REWRITTEN: dict[str, dict[str, Any]] = {
    "a column": {"columns": "* REPLACE ('web' AS action_target)"},
    "an outcome": {"columns": "* REPLACE ('failed' AS result_status)"},
    "a null": {"columns": "* REPLACE ('dana' AS approver)"},
    "a value taken away": {"columns": "* REPLACE (NULL::VARCHAR AS matched_rule)"},
    "a duration": {"columns": "* REPLACE (2.0::DOUBLE AS duration_s)"},
    "a time": {"columns": "* REPLACE (timestamp + INTERVAL 1 SECOND AS timestamp)"},
    "two columns swapped": {
        "columns": "* REPLACE (action_target AS action_type, action_type AS action_target)"
    },
    "a row in place of another": {
        "columns": "* REPLACE (CASE decision_id WHEN 'one' THEN 'forged' ELSE decision_id END AS decision_id)"
    },
    "a row twice, one gone": {"columns": "* REPLACE ('one' AS decision_id)"},
    "the number": {"columns": "* REPLACE (3::BIGINT AS segment)"},
    "another number": {"columns": "* REPLACE (CASE segment WHEN 1 THEN 2 ELSE 1 END::BIGINT AS segment)"},
    "new rows": {"columns": "* REPLACE (3::BIGINT AS segment)", "new": 2},
    "no digest": {"columns": "* REPLACE (3::BIGINT AS segment)", "digest": ""},
    "an outcome, without a digest": {
        "columns": "* REPLACE (3::BIGINT AS segment, 'failed' AS result_status)",
        "digest": "",
    },
    "a row of no seal": {
        "columns": "* REPLACE (unnest([decision_id, decision_id || '!']) AS decision_id, "
        "unnest([segment, 99])::BIGINT AS segment)"
    },
    "a row less": {"where": "decision_id <> 'one'"},
}


@pytest.mark.parametrize("what", REWRITTEN)
def test_k4_a_merge_that_rewrites_rows_is_found(tmp_path: Path, what: str) -> None:
    """Though its chain and its file hold, also where nobody but the directory witnesses."""
    audit = tmp_path / "audit"
    sealed(audit, "one")
    sealed(audit, "two")  # of a day of this clock or another: merged by whoever comes first
    shutil.copytree(audit, tmp_path / "copy")
    merge(audit, **REWRITTEN[what])
    assert verify(audit).findings
    merge(tmp_path / "copy")
    assert verify(tmp_path / "copy").findings == []


def test_k4_rows_of_before_a_witnessed_seal_cannot_be_changed_after_it(tmp_path: Path) -> None:
    """An honest sealing on top of the forged one, seen by the witness as well, does not heal it."""
    audit = tmp_path / "audit"
    sealed(audit, "one")
    collector = Collector(tmp_path / "witness.jsonl")
    collector.saw(*read_seals(audit))
    merge(audit, "* REPLACE ('LOW' AS risk_level)")
    sealed(audit, "two")
    collector.saw(read_seals(audit)[-1])
    result = run("audit", "verify", audit, "--witness", tmp_path / "witness.jsonl")
    assert result.exit_code == 1
    assert "rows were changed after seal 1" in " ".join(result.output.split())


@pytest.mark.parametrize("digest", [True, False])
def test_k4_rows_that_no_file_of_the_journal_can_have_are_found(tmp_path: Path, digest: bool) -> None:
    """A seal that covers no lines adds no rows, however right their digest is."""
    audit = tmp_path / "audit"
    sealed(audit, "one")
    forged = tmp_path / "forged"
    sealed(forged, "forged")
    segment = read_seals(forged)[0].segments[0]
    with locked(audit, audit_id(load_key(audit)), wait=True) as book:
        assert book is not None
        name = segment_name(DAY, 2, book.tag)
        shutil.copy(forged / "lake" / segment.file, audit / "lake" / name)
        added = msgspec.structs.replace(segment, segment=2, file=name)
        if not digest:
            added = msgspec.structs.replace(added, digest="", new=0)
        book.append(
            msgspec.structs.replace(
                book.seals[0], seal=2, sealed_at=book.time(), segments=(added,), journals=(), **UNMADE
            )
        )
    what = "adds 1 rows, and the files" if digest else "has no digest of its rows, and a seal before it has"
    assert any(what in each.what for each in verify(audit).findings)


def test_k4_a_call_is_sealed_once(tmp_path: Path) -> None:
    """A second row of a call, sealed while the first one was away, is found when both are there."""
    audit = tmp_path / "audit"
    sealed(audit, "one")
    (path,) = (audit / "lake").glob("date=*/*.parquet")
    path.rename(tmp_path / "aside")
    journal = Journal(audit)
    journal.append(decided(decision_id="one", result_status="blocked"))
    journal.close()
    seal(audit)
    (tmp_path / "aside").rename(path)
    assert any("the call `one` is sealed twice" in each.what for each in verify(audit).findings)


def test_k4_what_is_put_in_the_place_of_a_draft_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest of the rows is of what the sealer read, not of the file that lies there afterwards."""
    audit = tmp_path / "audit"
    private, public = make_key(tmp_path / "key.pem")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(private))
    write = SegmentBuilder.write

    def and_swap(self: SegmentBuilder, draft: Path, *arguments: Any) -> Any:
        made = write(self, draft, *arguments)
        with duckdb.connect() as connection:
            sql = f"SELECT decode(key), decode(value) FROM parquet_kv_metadata('{draft}')"
            metadata = dict(connection.execute(sql).fetchall())
            pairs = ", ".join(f"{key}: '{metadata[key]}'" for key in metadata if key.startswith("aegis_"))
            source = f"read_parquet('{draft}', hive_partitioning = false)"
            rows = f"SELECT * REPLACE ('LOW' AS risk_level) FROM {source}"
            connection.execute(f"CREATE TABLE changed AS {rows}")
            connection.execute(f"COPY changed TO '{draft}' (FORMAT parquet, KV_METADATA {{{pairs}}})")
        return made

    monkeypatch.setattr(SegmentBuilder, "write", and_swap)
    sealed(audit, "one")
    findings = verify(audit, public_keys=[public]).findings
    assert any("were first sealed as segment 1" in each.what for each in findings)


# --- Parquet of another shape ---

SHAPES = {
    "a column more": "*, 'x' AS extra",
    "a column less": "* EXCLUDE (approver)",
    "another type": "* REPLACE (timestamp::VARCHAR AS timestamp)",
    "another order": "session_id, * EXCLUDE (session_id)",
    "a larger number": "* REPLACE (segment::HUGEINT AS segment)",
    "numbers as text": "* REPLACE (duration_s::VARCHAR AS duration_s)",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_k4_a_segment_has_the_columns_of_a_segment(tmp_path: Path, shape: str) -> None:
    audit = tmp_path / "audit"
    sealed(audit, "one")
    merge(audit, SHAPES[shape])
    found = [each.what for each in verify(audit).findings]
    assert found == ["has not the columns of a segment"]


# --- removals ---


def test_k4_a_signature_that_is_none_is_no_seal(tmp_path: Path) -> None:
    """Neither to verification, nor to a reader, nor to a sealer without a key."""
    audit = tmp_path / "audit"
    sealed(audit, "one")
    forge_signed(audit, "signed by me")
    assert any("is no seal" in each.what for each in verify(audit).findings)


def forge_signed(audit: Path, signature: str) -> None:
    """A seal that removes all there is, with a text for a signature."""
    with locked(audit, audit_id(load_key(audit)), wait=True) as book:
        assert book is not None
        removal = _removal(book, seals_module.live_segments(book.seals), timedelta(days=1), None)
        book.append(msgspec.structs.replace(removal, signature=signature))


def test_k4_a_removal_is_not_proven_without_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That rows went with the key is said to be unproven; with another public key it is found."""
    audit = tmp_path / "audit"
    sealed(audit, "one")
    forge_signed(audit, "0" * 128)
    wait_until_seen(audit)
    proof = verify(audit)
    assert "that who removed rows had the key (seal 2): give --public-key" in proof.unproven
    assert any("where nobody signs this audit" in each for each in proof.unproven)
    _, public = make_key(tmp_path / "key.pem")
    assert verify(audit, public_keys=[public]).findings
    result = run("audit", "seal", "--path", audit)
    assert result.exit_code == 2
    assert "where nobody signs this audit, that seal was planted" in " ".join(result.output.split())
    monkeypatch.setattr(sealing, "WAITED", timedelta(0))
    (problem,) = seal(audit).problems
    assert "nothing was sealed since seal 2" in problem


def test_k4_an_honest_removal_is_proven_with_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = tmp_path / "audit"
    private, public = make_key(tmp_path / "key.pem")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(private))
    sealed(audit, "one")
    sealed(audit, "two")
    assert prune(audit, max_bytes=0).seal is not None
    sealed(audit, "three")
    proof = verify(audit, public_keys=[public])
    assert proof.findings == []
    assert not any("removed rows" in each for each in proof.unproven)


# --- times ---


def test_k4_a_seal_of_a_time_to_come_is_found(tmp_path: Path) -> None:
    """All that are made after it take its time: the sealer says so, and rows stay to be seen."""
    audit = tmp_path / "audit"
    sealed(audit, "one")
    for days, ahead in ((0.5, False), (80 * 365, True)):
        with locked(audit, audit_id(load_key(audit)), wait=True) as book:
            assert book is not None
            time = (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="microseconds")
            number = len(book.seals) + 1
            book.append(
                msgspec.structs.replace(
                    book.seals[0], seal=number, sealed_at=time, segments=(), journals=(), **UNMADE
                )
            )
        assert bool(verify(audit).findings) == ahead
    journal = Journal(audit)
    journal.append(decided(decision_id="two", result_status="blocked"))
    journal.close()
    assert any("which is still to come" in each for each in seal(audit).problems)
    assert len([each for each in verify(audit).findings if "still to come" in each.what]) == 1
    assert ("two", "blocked") in select(audit)


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(aegis, list(map(str, arguments)))


# --- honest histories ---

TEXTS = ("é\ud800x", "\x00nul", "'q\"", "日本", "", "a" * 5_000, "\x01", "line\nbreak", "0=1:a", None)
ARGUMENTS = ('{"a":1e400}', '"scalar"', '{"a":"\\u0000"}', "not json", '{"a": 1 }', "[1,2.50]", None)
NUMBERS = (0.1, 1e-7, 1e22, -0.0, 5e-324, 1.7e308, 3.0, None)


def test_k4_an_honest_history_stays_without_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged again and again, amended, pruned and signed from some time on, with values of every kind."""
    draw = random.Random(4)
    audit = tmp_path / "audit"
    private, public = make_key(tmp_path / "key.pem")
    late: list[tuple[Journal, str]] = []
    for turn in range(10):
        journal = Journal(audit)
        for n in range(draw.randint(1, 6)):
            name = f"{turn}.{n}"
            time = (datetime.now(UTC) - timedelta(days=draw.choice((0, 1, 2, 400)))).isoformat()
            said = {"reason": draw.choice(TEXTS), "action_params": draw.choice(ARGUMENTS)}
            wait = draw.choice(NUMBERS)
            journal.append(decided(decision_id=name, timestamp=time, approval_wait_s=wait, **said))
            if draw.random() < 0.4:
                late.append((journal, name))
            else:
                end = {"result_error": draw.choice(TEXTS), "duration_s": draw.choice(NUMBERS)}
                journal.append(completed(decision_id=name, timestamp=time, **end))
        journal.close()
        if late and turn % 2:
            journal, name = late.pop(draw.randrange(len(late)))
            time = datetime.now(UTC).isoformat()
            journal.append(completed(decision_id=name, timestamp=time, duration_s=draw.choice(NUMBERS)))
            journal.close()
        if turn == 6:
            monkeypatch.setenv("AEGIS_SEAL_KEY", str(private))
        assert seal(audit).problems == []
        if turn == 8:
            assert prune(audit, keep=timedelta(days=100)).seal is not None
        assert verify(audit).findings == []
    assert seal(audit).problems == []
    assert verify(audit, public_keys=[public]).findings == []
    seals = read_seals(audit)
    assert sum(len(each.amended) for each in seals) > 2
    assert sum(len(each.replaces) for each in seals) > 10
