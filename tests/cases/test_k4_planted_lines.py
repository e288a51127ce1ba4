"""K4: lines that are chained as they should be and say what no process wrote are found, and not sealed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import AuditError
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.record import SCHEMA_VERSION, AuditRecord, RecordStatus, encode
from aegis_otel.audit.seals.hash_chain import journal_origin, link, stated
from aegis_otel.audit.verify.verify import verify
from tests.support.records import completed, decided

WRITER = "evil-1-deadbeef"


def plant(
    audit: Path,
    *records: AuditRecord,
    name: str = f"{WRITER}-000001.jsonl",
    after: str = "",
    torn: bool = False,
) -> Path:
    """Write a journal file as a process without the approval key can.

    Args:
        audit: Its directory.
        records: What the lines say.
        name: The file's.
        after: The chain value that it follows, where that is not the beginning of its writer.
    """
    chain = after or journal_origin(audit_id(load_key(audit)), name.rpartition("-")[0])
    content = []
    for record in records:
        chain, line = link(chain, encode(record))
        content.append(line)
    path = audit / "journal" / name
    path.write_bytes(b"".join(content))
    return path


def yes(decision_id: str = "planted", **changed: Any) -> AuditRecord:
    """A human's yes that nobody proves."""
    return AuditRecord(
        **{
            "stage": "resolved",
            "decision_id": decision_id,
            "timestamp": "2026-11-22T14:30:00.500000+00:00",
            "human_decision": "approved",
            "approver": "dana",
            "result_status": "open",
        }
        | changed
    )


def first(decision_id: str = "planted", **changed: Any) -> AuditRecord:
    return decided(**{"decision_id": decision_id, "schema_version": SCHEMA_VERSION} | changed)


def call(decision_id: str = "planted", *between: AuditRecord, **changed: Any) -> tuple[AuditRecord, ...]:
    return (first(decision_id, **changed), *between, completed(decision_id=decision_id))


def end_of(path: Path) -> str:
    """The chain value of the last whole line of a file."""
    value = stated(path.read_bytes().rpartition(b"\n")[0].rpartition(b"\n")[2])
    assert value is not None
    return value


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """An audit in use, of which nothing is sealed."""
    path = tmp_path / "audit"
    write(path, *call("ours"))
    return path


def write(audit: Path, *records: AuditRecord) -> None:
    """Lines of a process that has ended."""
    with closing(Journal(audit)) as journal:
        for record in records:
            journal.append(record)


def found(audit: Path) -> list[str]:
    return [str(each) for each in verify(audit).findings]


def assert_found_and_not_sealed(audit: Path, path: Path) -> None:
    """Verification finds it, sealing leaves it where it is and says so, and it is still found then."""
    assert found(audit)
    report = seal(audit)
    seals = audit / "seals.jsonl"
    assert path.name not in seals.read_text()
    assert any(path.name in each for each in report.problems), report.problems
    assert found(audit)


# --- words that only look like an answer ---


@pytest.mark.parametrize("answer", ["approved ", "approved\u200b", "Approved", "yes", "", "approved\n"])
@pytest.mark.parametrize("stage", ["decided", "resolved", "completed"])
def test_k4_a_word_like_an_answer_is_no_record(audit: Path, answer: str, stage: str) -> None:
    lines = {"decided": first(human_decision=answer), "resolved": yes(human_decision=answer)}
    line = lines.get(stage) or completed(decision_id="planted", human_decision=answer)
    assert_found_and_not_sealed(audit, plant(audit, *([first()] if stage != "decided" else []), line))


@pytest.mark.parametrize(
    "changed",
    [
        {"result_status": "success "},
        {"decision_id": ""},
    ],
)
def test_k4_a_value_that_no_process_writes_is_no_record(audit: Path, changed: dict[str, str]) -> None:
    assert_found_and_not_sealed(audit, plant(audit, decided(**{"decision_id": "planted"} | changed)))


# --- outcomes ---


@pytest.mark.parametrize(
    "changed",
    [
        {"outcome": "approved"},
        {"outcome": "blocked"},
        {"outcome": "denied", "result_status": "open"},
        {"outcome": "approved", "stage": "completed", "result_status": "success"},
        {"outcome": "approved", "result_status": "cancelled"},
    ],
)
def test_k4_a_planted_outcome_is_found(audit: Path, changed: dict[str, Any]) -> None:
    """A call that was let through without a question cannot be made one that a human approved, or stopped."""
    line: dict[str, Any] = {"stage": "resolved", "timestamp": "2026-11-22T14:30:00.500000+00:00"}
    planted = AuditRecord(**line | {"decision_id": "planted"} | changed)
    between = [] if planted.stage == "completed" else [planted]
    end = planted if planted.stage == "completed" else completed(decision_id="planted")
    assert_found_and_not_sealed(audit, plant(audit, first(outcome="allowed"), *between, end))


# --- gaps in the numbers of a writer ---

MAKE = Callable[..., Path]


def second_of_nothing(audit: Path, *lines: AuditRecord) -> Path:
    return plant(audit, *lines, name=f"{WRITER}-000002.jsonl")


def after_a_gap(audit: Path, *lines: AuditRecord) -> Path:
    (ours,) = (audit / "journal").glob("*-000001.jsonl")
    return plant(audit, *lines, name=ours.name.replace("000001", "000003"), after=end_of(ours))


def after_a_gap_behind_a_seal(audit: Path, *lines: AuditRecord) -> Path:
    (ours,) = (audit / "journal").glob("*-000001.jsonl")
    end = end_of(ours)
    assert seal(audit).problems == []
    ours.unlink()
    return plant(audit, *lines, name=ours.name.replace("000001", "000003"), after=end)


def after_a_torn_file(audit: Path, *lines: AuditRecord) -> Path:
    before = plant(audit, *call("before"))
    end = end_of(before)
    with before.open("ab") as file:
        file.write(b'{"stage":"comp')
    return plant(audit, *lines, name=f"{WRITER}-000002.jsonl", after=end)


def after_empty_files(audit: Path, *lines: AuditRecord) -> Path:
    plant(audit)
    plant(audit, name=f"{WRITER}-000002.jsonl")
    return plant(audit, *lines, name=f"{WRITER}-000003.jsonl")


def after_an_empty_file_behind_a_seal(audit: Path, *lines: AuditRecord) -> Path:
    (ours,) = (audit / "journal").glob("*-000001.jsonl")
    end = end_of(ours)
    assert seal(audit).problems == []
    ours.unlink()
    plant(audit, name=ours.name.replace("000001", "000002"))
    return plant(audit, *lines, name=ours.name.replace("000001", "000003"), after=end)


def numbered_zero(audit: Path, *lines: AuditRecord) -> Path:
    return plant(audit, *lines, name=f"{WRITER}-000000.jsonl")


def before_what_is_sealed(audit: Path, *lines: AuditRecord) -> Path:
    plant(audit, *call("before"))
    assert seal(audit).problems == []
    return plant(audit, *lines, name=f"{WRITER}-000000.jsonl")


GAPS = [second_of_nothing, after_a_gap, after_a_gap_behind_a_seal, numbered_zero, before_what_is_sealed]
NO_GAPS = [after_a_torn_file, after_empty_files, after_an_empty_file_behind_a_seal]


@pytest.mark.parametrize("make", GAPS + NO_GAPS)
def test_k4_a_planted_answer_is_found_wherever_its_file_stands(audit: Path, make: MAKE) -> None:
    """Also where the numbers of its writer have a gap, or the file before it holds nothing."""
    assert_found_and_not_sealed(audit, make(audit, *call("planted", yes())))


@pytest.mark.parametrize("make", GAPS)
def test_k4_a_gap_in_the_numbers_of_a_writer_is_found(audit: Path, make: MAKE) -> None:
    """Whatever the file behind it says."""
    assert_found_and_not_sealed(audit, make(audit, *call("planted")))


@pytest.mark.parametrize("make", NO_GAPS)
def test_k4_files_that_are_empty_or_torn_are_no_gap_holds(audit: Path, make: MAKE) -> None:
    make(audit, *call("planted"))
    assert found(audit) == []
    assert seal(audit).problems == []
    assert found(audit) == []


def test_k4_a_file_that_could_not_be_made_leaves_no_gap(tmp_path: Path) -> None:
    """Its number is that of the next one, whatever kept it from being made."""
    audit = tmp_path / "audit"
    with closing(Journal(audit)) as journal:
        journal.append(decided(decision_id="one"))
        (file,) = (audit / "journal").iterdir()
        journal.close()
        obstacle = audit / "journal" / f".{file.name.replace('000001', '000002')}.new"
        obstacle.mkdir()
        for _ in range(3):
            with pytest.raises(AuditError):
                journal.append(decided(decision_id="two"))
        obstacle.rmdir()
        journal.append(decided(decision_id="three"))
    assert sorted(each.name[-12:] for each in (audit / "journal").iterdir()) == [
        "000001.jsonl",
        "000002.jsonl",
    ]
    assert found(audit) == []


@pytest.mark.parametrize("status", set(RecordStatus) - {RecordStatus.OPEN, RecordStatus.PENDING})
def test_k4_every_status_that_is_written_is_a_record_holds(audit: Path, status: RecordStatus) -> None:
    """Also that of a call whose end nobody saw."""
    write(audit, first("theirs"), completed(decision_id="theirs", result_status=status.value))
    assert found(audit) == []
