"""Verification: a small sealed audit, changed in every way that leaves something to see."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aegis_otel.audit.findings import Proof
from aegis_otel.audit.journal import writer as journal_module
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake import sealing
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.record import SCHEMA_VERSION
from aegis_otel.audit.seals.hash_chain import link, seals_origin, without_chain
from aegis_otel.audit.seals.seal_log import VERSION, read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.errors import AuditError
from tests.support.records import completed, decided, python

DAY = "2025-01-01T14:30:00.000000+00:00"


def call(journal: Journal, name: str, **first: Any) -> None:
    journal.append(decided(**{"decision_id": name, "timestamp": DAY} | first))
    journal.append(completed(decision_id=name))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seals that carry a question over, files not needed any more, and a writer's files of before."""
    audit = tmp_path_factory.mktemp("made") / "audit"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "ROTATE_BYTES", 700)
        for n in range(2):
            first = Journal(audit)
            call(first, f"{n}")
            first.append(decided(decision_id=f"asks {n}", timestamp=DAY, result_status="pending"))
            first.close()
            seal(audit)
        second = Journal(audit)
        for n in range(5):
            call(second, f"live {n}")
        second.close()
    assert len(read_seals(audit)) == 2
    return audit


@pytest.fixture
def audit(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "audit"))


def places(proof: Proof) -> set[tuple[str, int | None]]:
    return {(each.file, each.line) for each in proof.findings}


def found_in(audit: Path) -> set[str]:
    return {each.file for each in verify(audit).findings}


def one(audit: Path, pattern: str) -> Path:
    (found,) = audit.glob(pattern)
    return found


def live_files(audit: Path) -> list[Path]:
    covered = {file.file for each in read_seals(audit) for file in each.journals}
    names = sorted(path for path in (audit / "journal").iterdir() if path.name not in covered)
    return [path for path in names if not path.name.startswith("carried")]


def test_an_untouched_audit_passes_and_says_what_that_does_not_prove(audit: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in audit.rglob("*")}
    proof = verify(audit)
    assert (proof.findings, proof.notes) == ([], [])
    assert (proof.seals, proof.segments, proof.rows, proof.lines) == (2, 1, 2, 10)
    assert proof.journals == len(live_files(audit)) > 2
    assert proof.chain == read_seals(audit)[-1].chain
    assert [re.findall(r"--[a-z-]+|`.+`", each) for each in proof.unproven] == [
        ["`aegis audit seal`"],
        ["--witness"],
        ["--witness", "--public-key"],
    ]
    assert {path: path.stat().st_mtime_ns for path in audit.rglob("*")} == before


FLIPPED = {
    "seals.jsonl": 1,
    "key": 1,
    "journal/carried-*2-*.jsonl": 1,
    "journal/*-000002.jsonl": 1,
    "lake/date=*/*2-*.parquet": 2,
    "lake/date=*/*1-*.parquet": 7,
}


@pytest.mark.parametrize(("pattern", "step"), FLIPPED.items())
def test_any_flipped_byte_is_found_where_it_is(audit: Path, pattern: str, step: int) -> None:
    """Every one of seals, key, carried and live lines, newlines too; half of those of sealed files."""
    path = next(iter(sorted(audit.glob(pattern))))
    name, content = str(path.relative_to(audit)), path.read_bytes()
    lines = name.endswith(".jsonl") and "carried" not in name
    for place in {*range(0, len(content), step), *range(100), *range(len(content) - 100, len(content))}:
        if not 0 <= place < len(content):
            continue
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        found = verify(audit).findings
        expected = content.count(b"\n", 0, place) + 1 if lines else None
        assert (name, expected) in {(each.file, each.line) for each in found}, place
        if lines:
            start = content.rfind(b"\n", 0, place) + 1
            assert start in {each.byte for each in found}
    path.write_bytes(content)
    assert verify(audit).findings == []


def changed_lines(lines: list[bytes]) -> Iterator[tuple[str, list[bytes], int]]:
    """Ways to change a file's lines: the new lines, and from which of them on it can be seen."""
    for n in range(len(lines) - 1):
        yield f"without {n + 1}", lines[:n] + lines[n + 1 :], n + 1
        swapped = [*lines]
        swapped[n], swapped[n + 1] = swapped[n + 1], swapped[n]
        yield f"swapped {n + 1}", swapped, n + 1
    for n in range(len(lines)):
        yield f"doubled {n + 1}", lines[: n + 1] + lines[n:], n + 2
        yield f"foreign after {n + 1}", [*lines[: n + 1], b'{"seal":1}', *lines[n + 1 :]], n + 2
        yield f"emptied {n + 1}", [*lines[:n], b"", *lines[n + 1 :]], n + 1


@pytest.mark.parametrize("which", ["seals", "journal", "sealed journal"])
def test_lines_removed_moved_doubled_or_brought_from_elsewhere(
    tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the chain of seals, of a living journal, and of one that is sealed and not yet removed."""
    audit = tmp_path / "audit"
    for n in range(3 if which == "seals" else 1):
        journal = Journal(audit)
        for each in range(3):
            call(journal, f"{n} {each}")
        journal.close()
        if which != "journal":
            seal(audit)
    path = audit / "seals.jsonl" if which == "seals" else one(audit, "journal/*")
    name = str(path.relative_to(audit))
    lines = path.read_bytes().splitlines()
    for how, changed, line in changed_lines(lines):
        path.write_bytes(b"\n".join(changed) + b"\n")
        assert (name, line) in places(verify(audit)), how
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert verify(audit).findings == []


def test_what_is_cut_off_at_the_end_alone_is_not_proven(audit: Path) -> None:
    """It is said of the journal, and of the seals, that it would take more to know."""
    last = live_files(audit)[-1]
    last.write_bytes(b"".join(last.read_bytes().splitlines(keepends=True)[:-1]))
    proof = verify(audit)
    assert proof.findings == []
    assert "no line was cut off at the end" in proof.unproven[0]
    seals = audit / "seals.jsonl"
    seals.write_bytes(seals.read_bytes().splitlines(keepends=True)[0])
    proof = verify(audit)
    assert proof.findings == []
    assert "no seal was taken from the end" in proof.unproven[1]
    assert len([note for note in proof.notes if "of a sealing that did not end" in note]) == 2


def test_every_removed_file_is_found(audit: Path, tmp_path: Path) -> None:
    """But for those that are not needed any more, and the last of a writer that is not sealed."""
    seals = read_seals(audit)
    needless = {f"journal/{file.file}" for each in seals for file in each.journals}
    needless |= {f"lake/{each.file}" for each in seals[0].segments} | {"lake/_schema.parquet"}
    last = str(live_files(audit)[-1].relative_to(audit))
    removed = 0
    for path in sorted(path for path in audit.rglob("*") if path.is_file()):
        name = str(path.relative_to(audit))
        path.rename(tmp_path / "aside")
        found = verify(audit).findings
        (tmp_path / "aside").rename(path)
        if name in needless or name == last:
            assert found == [], name
        elif name == "seals.jsonl":
            assert {f"lake/{seals[1].segments[0].file}", f"journal/{seals[1].carried.file}"} <= {  # type: ignore[union-attr]
                each.file for each in found
            }
        elif path in live_files(audit):
            assert [each.line for each in found] == [1]
            number = int(name[-12:-6])
            assert found[0].file.endswith(f"-{number + 1:06d}.jsonl")
            assert f"there is no file {number} of its writer" in found[0].what
        else:
            assert [(each.file, "missing" in each.what) for each in found] == [(name, True)]
        removed += 1
    assert removed > 8


def test_the_only_seal_and_its_file_removed(tmp_path: Path) -> None:
    """What it sealed does not pass for the work of a sealer that was killed."""
    audit = tmp_path / "audit"
    journal = Journal(audit)
    call(journal, "x")
    journal.close()
    seal(audit)
    (audit / "seals.jsonl").unlink()
    assert [str(each) for each in verify(audit).findings] == [
        "seals.jsonl: is missing, and `lake/` has files"
    ]


def test_every_swapped_pair_of_files_is_found(audit: Path) -> None:
    paths = [path for path in sorted(audit.glob("*/**/*.*")) if path.is_file() and path.name[0] != "_"]
    for n, one_of in enumerate(paths):
        for other in paths[n + 1 :]:
            before = one_of.read_bytes(), other.read_bytes()
            one_of.write_bytes(before[1])
            other.write_bytes(before[0])
            names = {str(path.relative_to(audit)) for path in (one_of, other)}
            assert names <= found_in(audit), names
            one_of.write_bytes(before[0])
            other.write_bytes(before[1])
    assert verify(audit).findings == []


def test_a_writer_goes_on_after_a_sealed_file_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chain is then taken up from the seal."""
    monkeypatch.setattr(journal_module, "ROTATE_BYTES", 700)
    audit = tmp_path / "audit"
    journal = Journal(audit)
    for n in range(3):
        call(journal, str(n))
    covered = seal(audit).seals[0].journals
    for file in covered:
        (audit / "journal" / file.file).unlink()
    call(journal, "more")
    proof = verify(audit)
    journal.close()
    assert (len(covered) > 0, proof.findings, proof.journals > 0) == (True, [], True)


def test_the_end_of_a_sealed_journal_is_in_its_seal(audit: Path) -> None:
    """As long as the file is there: neither less nor more than was sealed."""
    path = audit / "journal" / read_seals(audit)[0].journals[0].file
    content = path.read_bytes()
    (chain,) = re.findall(rb'"chain":"(.{64})"}\n$', content)
    shorter = b"".join(content.splitlines(keepends=True)[:-1])
    longer = content + link(chain.decode(), b'{"stage":"decided","decision_id":"x","timestamp":""}')[1]
    for changed in (shorter, longer):
        path.write_bytes(changed)
        (finding,) = verify(audit).findings
        assert finding.file == str(path.relative_to(audit))
        assert f"its seal covers {len(content.splitlines())} that end otherwise" in finding.what


def test_a_line_that_is_chained_and_no_record(audit: Path) -> None:
    path = live_files(audit)[-1]
    (chain,) = re.findall(r'"chain":"(.{64})"}\n$', path.read_text())
    with path.open("ab") as file:
        file.write(link(chain, b'{"stage":"decided"}')[1])
    (finding,) = verify(audit).findings
    assert (finding.file, finding.what[:12]) == (str(path.relative_to(audit)), "is no record")


def remake(audit: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change seals as one who can write to the directory can: with a chain that holds again."""
    path = audit / "seals.jsonl"
    lines = [json.loads(without_chain(line)) for line in path.read_bytes().splitlines()]
    change(lines)
    head, content = seals_origin(lines[0]["audit"]), b""
    for line in lines:
        head, whole = link(head, json.dumps(line, separators=(",", ":")).encode())
        content += whole
    path.write_bytes(content)


class TestForeignFiles:
    def test_what_a_reader_would_take_for_a_part_of_the_audit(self, audit: Path) -> None:
        """A finding each; what nobody reads is a note."""
        segment = one(audit, "lake/date=*/*2-*.parquet")
        journal = live_files(audit)[0]
        added = {
            "lake/date=2025-01-01/00000001-00000000.parquet": segment.read_bytes(),
            "lake/date=2025-01-01/00000009-00000000.parquet": segment.read_bytes(),
            "lake/other.parquet": b"",
            "journal/other.jsonl": b"",
            "journal/other-000001.jsonl": journal.read_bytes(),
            "journal/carried-00000003-00000000.jsonl": b"",
            f"journal/{journal.name.replace('-000001', '-1')}": journal.read_bytes(),
        }
        for name, content in added.items():
            (audit / name).write_bytes(content)
        assert added.keys() <= found_in(audit)

    def test_a_sealed_file_brought_back_as_an_earlier_one(self, tmp_path: Path) -> None:
        """Its chain holds, and its calls would count twice."""
        audit = tmp_path / "audit"
        journal = Journal(audit)
        call(journal, "x")
        journal.close()
        seal(audit)
        path = one(audit, "journal/*")
        path.rename(path.with_name(path.name.replace("-000001", "-000000")))
        proof = verify(audit)
        assert [each.what for each in proof.findings] == [
            "does not belong to the audit: it is not named as a journal file is"
        ]

    @pytest.mark.parametrize(
        "name", ["journal/x-000001.jsonl", "lake/date=2025-01-01/x.parquet", "seals.jsonl"]
    )
    @pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
    def test_what_is_no_file_is_neither_followed_nor_waited_for(
        self, audit: Path, name: str, kind: str
    ) -> None:
        path = audit / name
        aside = audit.parent / "aside"
        if path.exists():
            path.rename(aside)
        if kind == "link":
            path.symlink_to(aside if aside.exists() else "/dev/zero")
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
        proof = verify(audit)
        if not (kind == "directory" and name.startswith("lake")):
            assert name in {each.file for each in proof.findings}

    def test_a_linked_directory(self, audit: Path, tmp_path: Path) -> None:
        (audit / "lake").rename(tmp_path / "lake")
        (audit / "lake").symlink_to(tmp_path / "lake")
        assert {"lake"} < found_in(audit)

    def test_what_is_left_behind_or_none_of_ours_is_noted(self, audit: Path) -> None:
        tag = read_seals(audit)[-1].chain[:8]
        names = [
            "journal/.writer-000001.jsonl.new",
            "journal/notes.txt",
            f"journal/carried-00000003-{tag}.jsonl",
            "lake/date=2025-01-01/.00000003-0000.parquet.draft",
            "lake/README",
            f"lake/date=2025-01-01/00000003-{tag}.parquet",
        ]
        for name in names:
            (audit / name).write_bytes(b"x")
        (audit / names[-1]).write_bytes(one(audit, "lake/date=*/*2-*.parquet").read_bytes())
        proof = verify(audit)
        assert proof.findings == []
        assert sorted(note.partition(": ")[0] for note in proof.notes) == sorted(names)

    def test_what_only_looks_like_a_killed_sealing_s_is_found(self, audit: Path) -> None:
        """A file of the next seal's name with calls that nothing else tells of, or that cannot be read."""
        name = f"lake/date=2025-01-01/00000003-{read_seals(audit)[-1].chain[:8]}.parquet"
        (audit / name).write_bytes(b"x")
        assert found_in(audit) == {name}
        with duckdb.connect() as connection:
            sealed = one(audit, "lake/date=*/*2-*.parquet")
            connection.execute(
                f"COPY (SELECT * REPLACE ('other' AS decision_id) FROM '{sealed}') TO '{audit / name}'"
            )
        assert found_in(audit) == {name}

    def test_rows_in_the_file_that_is_only_there_for_its_columns(self, audit: Path) -> None:
        """Every reader reads it, and no seal names it."""
        schema = audit / "lake" / "_schema.parquet"
        schema.write_bytes(one(audit, "lake/date=*/*2-*.parquet").read_bytes())
        assert found_in(audit) == {"lake/_schema.parquet"}
        schema.write_bytes(b"PAR1")
        assert found_in(audit) == {"lake/_schema.parquet"}


class TestTornLines:
    @pytest.mark.parametrize("name", ["seals.jsonl", "journal"])
    def test_the_last_line_of_a_writer_that_was_killed_is_noted(self, audit: Path, name: str) -> None:
        path = live_files(audit)[-1] if name == "journal" else audit / name
        with path.open("ab") as file:
            file.write(b'{"stage":"deci')
        proof = verify(audit)
        assert proof.findings == []
        assert [note.startswith(str(path.relative_to(audit))) for note in proof.notes] == [True]

    def test_a_whole_line_whose_newline_became_something_else_is_found(self, audit: Path) -> None:
        for path in (live_files(audit)[-1], audit / "seals.jsonl"):
            content = path.read_bytes()
            path.write_bytes(content[:-1] + b" ")
            assert (str(path.relative_to(audit)), content.count(b"\n")) in places(verify(audit))
            path.write_bytes(content)

    def test_many_wrong_lines_are_counted(self, tmp_path: Path) -> None:
        audit = tmp_path / "audit"
        Journal(audit).append(decided())
        (audit / "journal" / "other-000001.jsonl").write_bytes(b"{}\n" * 5_000)
        proof = verify(audit)
        assert len(proof.findings) == 11
        assert proof.findings[-1].what == "4990 more lines do not follow the line before them"


class TestKey:
    def test_another_key(self, audit: Path) -> None:
        (audit / "key").write_bytes(b"x" * 32)
        assert [(each.file, "begun with" in each.what) for each in verify(audit).findings] == [("key", True)]

    def test_a_damaged_key(self, audit: Path) -> None:
        (audit / "key").write_bytes(b"x" * 31)
        assert found_in(audit) == {"key"}

    def test_the_directory_of_another_audit_under_this_key(self, audit: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        journal = Journal(other)
        call(journal, "x")
        journal.close()
        seal(other)
        shutil.copy(other / "seals.jsonl", audit)
        assert "key" in found_in(audit)


def as_segment_one(seals: list[dict[str, Any]]) -> None:
    (segment,) = seals[1]["segments"]
    segment.update(segment=1, file=segment["file"].replace("/00000002-", "/00000001-"))


class TestSealsThatContradict:
    """The chain holds, because who made them could write to the directory, and still they cannot be."""

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (lambda seals: seals[1].update(seal=3), "has number 3, and 2 is due"),
            (lambda seals: seals[1].update(audit="0" * 32), "is of another audit"),
            (lambda seals: seals[1].update(sealed_at="2020-01-01T00:00:00+00:00"), "before the seal"),
            (lambda seals: seals[1].update(sealed_at="yesterday"), "before the seal"),
            (lambda seals: seals[1].update(replaces=[1, 7]), "replaces segment 7, which no"),
            (lambda seals: seals[1]["segments"].clear(), "replaces 1 rows of 2025-01-01 by 0"),
            (lambda seals: seals[1]["journals"].extend(seals[0]["journals"]), "a seal before it does"),
            (lambda seals: seals[1]["segments"][0].update(first="2024-12-31T"), "has rows of 2024"),
            (lambda seals: seals[1]["segments"][0].update(rows=3), "has 2 rows"),
            (as_segment_one, "adds segment 1 in"),
            (lambda seals: seals[1].update(carried=None), "belongs to no seal"),
            (lambda seals: seals[1].update(journals="?"), "is no seal"),
            (
                lambda seals: seals[1].update(
                    segments=[],
                    removed={"segments": [1], "rows": 1, "first": DAY, "last": DAY, "why": "space"},
                ),
                "is not signed",
            ),
        ],
    )  # fmt: skip
    def test_they_are_found(self, audit: Path, change: Callable[[Any], None], what: str) -> None:
        remake(audit, change)
        assert [each for each in verify(audit).findings if what in each.what]

    def test_a_file_that_no_sealing_made(self, audit: Path) -> None:
        """Its digest is in the seal, and the chain holds: what it does not say of itself tells."""
        segment = one(audit, "lake/date=*/*2-*.parquet")
        rows = duckdb.read_parquet(str(segment), hive_partitioning=False)
        rows.write_parquet(str(segment.with_suffix(".new")), compression="zstd")
        content = segment.with_suffix(".new").rename(segment).read_bytes()
        stated = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        remake(audit, lambda seals: seals[1]["segments"][0].update(stated))
        assert [each.what.split("`")[1::2][:2] for each in verify(audit).findings] == [
            [f"aegis_{name}", "None"] for name in ("version", "audit", "seal", "segment", "previous")
        ]

    def test_a_newer_version_is_refused(self, audit: Path) -> None:
        remake(audit, lambda seals: seals[1].update(version=VERSION + 1))
        with pytest.raises(AuditError, match="newer version"):
            verify(audit)


STATED: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
OUTCOME = "says an outcome that contradicts its result or its answer"


class TestRows:
    @pytest.mark.parametrize(
        ("row", "what"),
        [
            ({"approval": "block", "result_status": "success"}, "was blocked by policy, and its tool ran"),
            (
                {"human_decision": "denied", "result_status": "failed"},
                "was refused by a human, and its tool ran",
            ),
            ({"human_decision": "expired", "result_status": "success"}, "was refused by a human"),
            (STATED | {"outcome": "blocked", "result_status": "success"}, OUTCOME),
            (STATED | {"outcome": "error", "result_status": "failed"}, OUTCOME),
            (STATED | {"outcome": "allowed", "result_status": "denied"}, OUTCOME),
            (STATED | {"outcome": "approved", "result_status": "success"}, OUTCOME),
        ],
    )
    def test_rows_that_cannot_be(
        self, tmp_path: Path, row: dict[str, Any], what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In monitor mode they can: nothing is stopped there. An older version sealed all of them."""
        for mode, count in (("enforce", 1), ("monitor", 0)):
            journal = Journal(tmp_path / mode)
            journal.append(decided(decision_id="x", mode=mode, **row))
            journal.close()
            assert len(verify(tmp_path / mode).findings) == count
            assert len(seal(tmp_path / mode).seals) == 1 - count
            with monkeypatch.context() as older:
                older.setattr(sealing, "unsealable_files", lambda directory, held: {})
                seal(tmp_path / mode)
            assert [f"`x` {what}" in each.what for each in verify(tmp_path / mode).findings] == [True] * count

    def test_every_row_that_the_sealer_makes_can_be(self, tmp_path: Path) -> None:
        audit = tmp_path / "audit"
        journal = Journal(audit)
        for n, status in enumerate((None, "success", "failed", "blocked", "denied", "skipped", "cancelled")):
            journal.append(
                decided(decision_id=f"{n}", result_status=status, approval="block" if n > 2 else None)
            )
        journal.append(decided(decision_id="died", timestamp="no time"))
        journal.close()
        seal(audit)
        assert verify(audit).findings == []


def test_nothing_is_sealed_meanwhile(audit: Path) -> None:
    """So that no file goes while it is looked at; the sealer leaves at once and comes again."""
    busy = []
    proof = verify(audit, progress=lambda done, total: busy.append(seal(audit).busy))
    assert set(busy) == {True}
    assert proof.findings == []
    assert seal(audit).seals


def test_the_first_seal_of_all_may_come_meanwhile(tmp_path: Path) -> None:
    """There is no lock to take yet, and what was seen of the journal may be gone: it is to be run again."""
    audit = tmp_path / "audit"
    journal = Journal(audit)
    call(journal, "x")
    journal.close()
    with pytest.raises(AuditError, match="it was sealed meanwhile; try again"):
        verify(audit, progress=lambda done, total: seal(audit) and None)
    assert verify(audit).findings == []


BUSY = """
import sys, time
from pathlib import Path
from aegis_otel.audit.journal import seal_trigger, writer as module
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake.sealing import seal
from tests.support.records import completed, decided, python
module.ROTATE_BYTES, seal_trigger.SEAL_BYTES = 2_000, 1 << 60
audit = Path(sys.argv[1])
journal = Journal(audit)
print("begun", flush=True)
for n in range(1_000_000):
    journal.append(decided(decision_id=f"{sys.argv[2]} {n}"))
    journal.append(completed(decision_id=f"{sys.argv[2]} {n}"))
    time.sleep(0.001)  # a pace that leaves room for others
    if n % 50 == 0 and sys.argv[2] == "sealing":
        seal(audit, wait=True)
"""


def test_an_audit_in_use_passes(audit: Path) -> None:
    """While two processes write, one of which also seals and clears away."""
    before = len(read_seals(audit))
    running = [python(BUSY, audit, what) for what in ("writing", "sealing")]
    try:
        assert [process.stdout.readline() for process in running] == ["begun\n"] * 2  # type: ignore[union-attr]
        seen = []
        while not seen or seen[-1] < before + 2:
            proof = verify(audit)
            assert proof.findings == []
            seen.append(proof.seals)
    finally:
        for process in running:
            process.kill()
            process.communicate()
    proof = verify(audit)
    assert proof.findings == []
    assert len(proof.notes) <= 3, "what the killed ones left behind"


def test_progress_ends_at_the_whole(audit: Path) -> None:
    told: list[tuple[int, int]] = []
    verify(audit, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] <= told[-1][1]
    assert told[-1][0] > 0.9 * (told[-1][1] - 32 - (audit / "lake" / "_schema.parquet").stat().st_size)


def test_an_empty_directory_is_no_audit(tmp_path: Path) -> None:
    assert verify(tmp_path).findings[0].what == "the directory is empty: there is no audit in it"


class TestB42:
    """B42: the peer's log passes its own check after rows were updated and deleted by hand."""

    def rewrite(self, audit: Path, sql: str) -> str:
        """The rows of the sealed file as a SELECT makes them, in a file with the same name."""
        segment = one(audit, "lake/date=*/*2-*.parquet")
        copy = segment.with_suffix(".new")
        duckdb.execute(f"COPY ({sql.format(segment)}) TO '{copy}' (FORMAT parquet, COMPRESSION zstd)")
        copy.rename(segment)
        return str(segment.relative_to(audit))

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT * REPLACE ('blocked' AS result_status) FROM '{}'",
            "SELECT * FROM '{}' WHERE decision_id <> '0'",
            "SELECT * FROM '{}' LIMIT 0",
            "SELECT * FROM '{}' ORDER BY decision_id DESC",
        ],
        ids=["updated", "deleted", "truncated", "reordered"],
    )
    def test_b42_rows_changed_by_hand(self, audit: Path, sql: str) -> None:
        name = self.rewrite(audit, sql)
        assert name in found_in(audit)

    def test_b42_with_the_digest_in_the_seal_put_right(self, audit: Path) -> None:
        """The chain then breaks where the seal was edited."""
        name = self.rewrite(audit, "SELECT * REPLACE ('blocked' AS result_status) FROM '{}'")
        old = read_seals(audit)[1].segments[0].sha256
        new = hashlib.sha256((audit / name).read_bytes()).hexdigest()
        seals = audit / "seals.jsonl"
        seals.write_text(seals.read_text().replace(old, new))
        assert ("seals.jsonl", 2) in places(verify(audit))

    def test_b42_lines_of_the_journal_changed_by_hand(self, audit: Path) -> None:
        path = live_files(audit)[0]
        content = path.read_bytes()
        path.write_bytes(content.replace(b'"success"', b'"blocked"', 1))
        assert (str(path.relative_to(audit)), 2) in places(verify(audit))

    def test_b42_a_sealed_file_cut_in_half(self, audit: Path) -> None:
        segment = one(audit, "lake/date=*/*2-*.parquet")
        segment.write_bytes(segment.read_bytes()[: segment.stat().st_size // 2])
        (finding,) = verify(audit).findings
        assert finding.file == str(segment.relative_to(audit))
        assert "with 2 rows of 2025-01-01T14:30:00.000000+00:00" in finding.what


@pytest.mark.parametrize("outcome", ["blocked", "approved", "denied"])
def test_a_call_whose_first_line_could_not_be_written_is_no_contradiction(
    outcome: str, tmp_path: Path
) -> None:
    """The line does not say in which mode it ran, so nobody can tell; and it is sealed with its file."""
    audit = tmp_path / "audit"
    journal = Journal(audit)
    journal.append(completed(decision_id="lost", outcome=outcome))
    call(journal, "whole")
    journal.close()
    assert verify(audit).findings == []
    assert len(seal(audit).seals) == 1
    assert verify(audit).findings == []
