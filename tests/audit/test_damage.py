"""An audit whose files were damaged or changed: it is said which, and the rest is read and sealed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.query.connection import connect, problems
from aegis_otel.audit.seals.seal_log import live_segments, read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.errors import AuditError
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import completed, decided, files, statuses, wait_until_seen


def write(audit: Path, name: str, day: int) -> None:
    """Two calls of a writer that is gone afterwards, one of which waits for a human."""
    time = f"2025-01-0{day}T00:00:00+00:00"
    journal = Journal(audit)
    journal.append(decided(decision_id=name, timestamp=time))
    journal.append(completed(decision_id=name))
    journal.append(decided(decision_id=f"{name} asks", timestamp=time, result_status="pending"))
    journal.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sealed days, a question carried over, a call in the journal; what was covered is gone."""
    audit = tmp_path_factory.mktemp("made") / "audit"
    for day in (1, 2):
        write(audit, str(day), day)
        seal(audit)
    write(audit, "3", 3)
    wait_until_seen(audit)
    covered = {file.file for each in read_seals(audit) for file in each.journals}
    for file in files(audit):
        if file.name in covered:
            file.unlink()
    return audit


@pytest.fixture
def audit(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "audit"))


ALL = {"1", "2", "3", "1 asks", "2 asks", "3 asks"}


def segment(audit: Path, number: int) -> Path:
    (found,) = [each for each in live_segments(read_seals(audit)) if each.segment == number]
    return audit / "lake" / found.file


def change(path: Path, sql: str) -> None:
    """Change the rows of a segment so that it is as large as before."""
    size, draft = path.stat().st_size, path.with_name("draft")
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE row AS FROM read_parquet('{path}', hive_partitioning = false)")
        db.execute(sql)

        def copy(padding: int) -> int:
            pairs = f"KV_METADATA {{pad: '{'x' * padding}'}}"
            db.execute(f"COPY row TO '{draft}' (FORMAT parquet, COMPRESSION zstd, {pairs})")
            return draft.stat().st_size

        padding = 100
        while (much := copy(padding)) != size:
            padding += size - much
    draft.rename(path)
    assert path.stat().st_size == size


def found_in(audit: Path) -> list[str]:
    return [each.file for each in verify(audit).findings]


def said_by_reader(audit: Path) -> str:
    with connect(audit) as connection:
        return "\n".join(problems(connection))


def test_b42_a_changed_segment_is_not_merged_into_a_good_one(audit: Path) -> None:
    """B42: or its rows would be in a file that is what its seal says, and nothing would tell any more."""
    changed = segment(audit, 1)
    change(changed, "UPDATE row SET action_target = 'elsewhere'")
    name = str(changed.relative_to(audit))
    for again in range(2):
        write(audit, f"more {again}", 1)  # of a day that is over: its segments are merged
        report = seal(audit)
        assert [problem for problem in report.problems if name in problem and "was changed" in problem]
        assert report.seals
        assert 1 not in [number for each in read_seals(audit) for number in each.replaces]
        assert found_in(audit) == [name]
    assert len(live_segments(read_seals(audit))) == 4, "the others are merged as ever"


@pytest.mark.parametrize("content", [b"\0", b"PAR1"])
def test_a_segment_that_is_none_any_more_stops_neither_sealing_nor_the_reading_of_others(
    audit: Path, content: bytes
) -> None:
    """Of its size, so that a name and a size do not tell; such as a disk leaves it that has lost a block."""
    path = segment(audit, 1)
    size = path.stat().st_size
    path.write_bytes((content * size)[:size])
    name = str(path.relative_to(audit))
    report = seal(audit)
    assert [problem for problem in report.problems if name in problem]
    assert report.seals
    assert found_in(audit) == [name]
    with pytest.raises(AuditError, match="move it away, and the rest can be read"):
        AuditLogger(audit).get_log()
    path.unlink()  # as the message says
    wait_until_seen(audit)
    assert statuses(audit).keys() == ALL - {"1"}
    assert "with 1 rows is missing" in said_by_reader(audit)


def test_text_that_is_none_is_an_error_like_any_other(audit: Path) -> None:
    """A flipped bit that Parquet does not notice: DuckDB then hands out bytes that are no UTF-8."""
    content = bytearray(segment(audit, 1).read_bytes())
    raised = set()
    for place in range(4, len(content) - 4, 40):
        flipped = bytearray(content)
        flipped[place] ^= 255
        segment(audit, 1).write_bytes(flipped)
        with contextlib.suppress(AuditError):
            AuditLogger(audit).get_log()
            continue
        with pytest.raises(AuditError, match="`aegis audit verify` names it") as error:
            AuditLogger(audit).get_log()
        raised.add(type(error.value.__cause__))
        if UnicodeDecodeError in raised:
            break
    assert UnicodeDecodeError in raised


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        pytest.param(
            lambda audit: next(audit.glob("journal/carried-*")).unlink(),
            "with 2 lines of calls that had not ended is missing",
            id="carried file removed",
        ),
        pytest.param(
            lambda audit: (audit / "seals.jsonl").unlink(), "belongs to no seal", id="seals removed"
        ),
        pytest.param(
            lambda audit: (audit / "seals.jsonl").write_bytes(b""), "belongs to no seal", id="seals empty"
        ),
        pytest.param(lambda audit: shutil.rmtree(audit / "lake"), "is missing", id="lake removed"),
    ],
)
def test_who_reads_is_told_what_is_not_shown(
    audit: Path, break_it: Callable[[Path], object], said: str
) -> None:
    """And the rest is read."""
    break_it(audit)
    assert said in said_by_reader(audit)
    assert {"3", "3 asks"} <= statuses(audit).keys()
    assert found_in(audit)


@pytest.mark.parametrize("time", ["x", "", "2026-01-01T00:00:00", "9999-99-99"])
def test_a_seal_of_no_time_is_none(audit: Path, time: str) -> None:
    path = audit / "seals.jsonl"
    first = read_seals(audit)[0].sealed_at
    path.write_bytes(path.read_bytes().replace(first.encode(), time.encode()))
    for read in (lambda: connect(audit), lambda: AuditLogger(audit).get_log(), lambda: seal(audit)):
        with pytest.raises(AuditError, match=r"line 1 of `.*seals.jsonl` is no seal"):
            read()
    assert "seals.jsonl" in found_in(audit)
