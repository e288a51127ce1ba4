"""Sealing: what becomes of journals, in files that are read back without our own reader."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from aegis_otel.audit.journal import seal_trigger
from aegis_otel.audit.journal import writer as journal_module
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake import sealing
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.record import COLUMNS
from aegis_otel.audit.seals.seal_log import VERSION, read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.cli import main as aegis
from aegis_otel.errors import AuditError
from aegis_otel.runtime.audit import AuditLogger
from tests.support.records import completed, decided, files, python, statuses, wait_until_seen

LINK = re.compile(rb'^(.*),"chain":"([0-9a-f]{64})"\}$', re.DOTALL)


def call(journal: Journal, name: str, status: str | None = "success", **first: Any) -> None:
    """A call of now, of two lines; of one where there is no status."""
    journal.append(decided(**{"decision_id": name, "timestamp": datetime.now(UTC).isoformat()} | first))
    if status is not None:
        journal.append(completed(decision_id=name, result_status=status))


def sealed(audit: Path) -> dict[str, str]:
    """What the segments that count say, read with nothing but DuckDB and the lines of `seals.jsonl`."""
    seals = [json.loads(line) for line in (audit / "seals.jsonl").read_text().splitlines()]
    replaced = {number for each in seals for number in each["replaces"]}
    names = [
        str(audit / "lake" / segment["file"])
        for each in seals
        for segment in each["segments"]
        if segment["segment"] not in replaced
    ]
    rows = duckdb.execute("SELECT decision_id, result_status FROM read_parquet(?)", [names]).fetchall()
    assert len(rows) == len(dict(rows)), "a call is sealed once"
    return dict(rows)


def live(audit: Path) -> dict[str, str]:
    """What stays in the journal, by file, once covered files are gone."""
    covered = {file.file for each in read_seals(audit) for file in each.journals}
    return {file.name: file.read_text() for file in files(audit) if file.name not in covered}


def chain_values(start: str, content: bytes) -> list[str]:
    """The chain values of lines as audit/seals/hash_chain.py defines them, each checked."""
    values = [start]
    for line in content.splitlines():
        found = LINK.match(line)
        assert found, line
        assert hashlib.sha256(values[-1].encode() + found[1] + b"}").hexdigest() == found[2].decode()
        values.append(found[2].decode())
    return values


class TestWhatIsSealed:
    def test_calls_that_have_ended_move_and_the_others_are_carried_over(self, audit: Path) -> None:
        """Rows fold, a question waits on as a journal line, and a body whose process is gone is `unknown`."""
        journal = Journal(audit)
        call(journal, "done")
        call(journal, "failed", "failed")
        call(journal, "blocked", None, result_status="blocked")
        call(journal, "died", None)
        call(journal, "asking", None, result_status="pending", tool_call_id="call_7")
        journal.close()
        report = seal(audit)
        assert report.problems == []
        assert sealed(audit) == {
            "done": "success",
            "failed": "failed",
            "blocked": "blocked",
            "died": "unknown",
        }
        ((name, text),) = live(audit).items()
        assert name == report.seals[0].carried.file  # type: ignore[union-attr]
        line = json.loads(text)
        assert line["writer"] == files(audit)[-1].name.rpartition("-")[0]
        assert {key: line[key] for key in ("decision_id", "tool_call_id", "action_params", "stage")} == {
            "decision_id": "asking",
            "tool_call_id": "call_7",
            "action_params": '{"document_id":"42"}',
            "stage": "decided",
        }
        assert statuses(audit) == sealed(audit) | {"asking": "pending"}

    def test_a_row_has_every_column_of_the_audit(self, audit: Path) -> None:
        journal = Journal(audit)
        call(journal, "done", timestamp="2026-11-22T14:30:00+00:00")
        journal.close()
        (segment,) = seal(audit).seals[0].segments
        file = str(audit / "lake" / segment.file)
        found = duckdb.execute(
            "DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = false)", [file]
        ).fetchall()
        types = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}
        assert [(name, types.get(kind, kind)) for name, kind, *_ in found] == [
            *((column.name, column.sql_type) for column in COLUMNS),
            ("segment", "BIGINT"),
        ]
        row = duckdb.execute(
            "SELECT epoch_ms(timestamp), action_params, result_status, duration_s FROM read_parquet(?)",
            [file],
        ).fetchone()
        assert row == (1_795_357_800_000, '{"document_id":"42"}', "success", 1.0)

    def test_the_file_of_a_living_writer_is_left_alone(self, audit: Path) -> None:
        journal = Journal(audit)
        call(journal, "done")
        assert seal(audit).seals == []
        assert statuses(audit) == {"done": "success"}
        journal.close()
        assert len(seal(audit).seals) == 1

    def test_an_open_call_of_a_living_writer_stays_open(
        self, audit: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its first line is carried over under the writer's name, and its last line still finds it."""
        monkeypatch.setattr(journal_module, "ROTATE_BYTES", 700)
        journal = Journal(audit)
        call(journal, "running", None)
        for n in range(4):
            call(journal, str(n))
        for _ in range(3):  # what was carried over is carried over again
            assert seal(audit).problems == []
            assert statuses(audit)["running"] == "open"
            call(journal, f"{_} more")
            call(journal, f"{_} still more")
        journal.append(completed(decision_id="running"))
        assert statuses(audit)["running"] == "success"
        journal.close()
        seal(audit)
        assert sealed(audit)["running"] == "success"
        assert live(audit) == {}

    def test_a_question_may_be_answered_in_another_process(self, audit: Path) -> None:
        """Its lines are then under two writers, and it is sealed when the last has ended it."""
        first = Journal(audit)
        call(first, "asked", None, result_status="pending")
        first.close()
        seal(audit)
        second = Journal(audit)
        yes = completed(stage="resolved", decision_id="asked", result_status="open", duration_s=None)
        yes.human_decision = "approved"
        yes.proof = AuditLogger(audit).prove(decided(decision_id="asked"), yes)
        second.append(yes)
        seal(audit)
        assert statuses(audit) == {"asked": "open"}
        second.append(completed(decision_id="asked"))
        second.close()
        seal(audit)
        assert (sealed(audit), live(audit)) == ({"asked": "success"}, {})

    def test_what_comes_too_late_does_not_double_the_row(self, audit: Path) -> None:
        """A journal that was closed too early completes a call that was sealed as unknown."""
        journal = Journal(audit)
        call(journal, "late", None, timestamp="2026-11-22T14:30:00+00:00")
        call(journal, "done", timestamp="2026-11-22T14:30:00+00:00")
        journal.close()
        seal(audit)
        assert sealed(audit) == {"late": "unknown", "done": "success"}
        journal.append(completed(decision_id="late"))
        journal.append(completed(decision_id="done", result_status="failed"))
        wait_until_seen(audit)
        assert statuses(audit) == {"late": "unknown", "done": "success"}
        journal.close()
        (again,) = seal(audit).seals
        assert again.replaces == (1,)
        assert sealed(audit) == {"late": "success", "done": "success"}
        row = duckdb.execute(
            "SELECT action_type, epoch_ms(timestamp), duration_s FROM read_parquet(?) "
            "WHERE decision_id = 'late'",
            [str(audit / "lake" / again.segments[0].file)],
        ).fetchone()
        assert row == ("delete_document", 1_795_357_800_000, 1.0)

    def test_a_call_without_its_first_line_is_a_row_of_its_own(self, audit: Path) -> None:
        journal = Journal(audit)
        journal.append(completed(decision_id="orphan"))
        journal.close()
        assert statuses(audit) == {"orphan": "success"}
        seal(audit)
        assert sealed(audit) == {"orphan": "success"}

    def test_each_day_has_its_own_segment(self, audit: Path) -> None:
        """By the time in UTC at which it was decided; sorted, so that a range is found by its statistics."""
        journal = Journal(audit)
        for name, time in {
            "b": "2026-11-23T01:00:00+00:00",
            "a": "2026-11-22T23:59:59.999999+00:00",
            "c": "2026-11-23T00:30:00+02:00",
            "n": "no time at all",
        }.items():
            call(journal, name, None, timestamp=time, result_status="blocked")
        journal.close()
        days: dict[str, list[str]] = {}
        for segment in seal(audit).seals[0].segments:
            path = audit / "lake" / segment.file
            found = duckdb.execute("SELECT decision_id FROM read_parquet(?)", [str(path)]).fetchall()
            days[segment.day] = [name for (name,) in found]
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        expected: dict[str, list[str]] = {"2026-11-22": ["c", "a"], "2026-11-23": ["b"]}
        expected[today] = [*expected.get(today, []), "n"]
        assert days == expected


class TestFormat:
    def test_b42_every_line_is_chained_when_it_is_written(
        self, audit: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """B42: across the files of a writer, from a start that names the audit and the writer."""
        monkeypatch.setattr(journal_module, "ROTATE_BYTES", 700)
        journal = Journal(audit)
        for n in range(5):
            call(journal, str(n), reason="é\ud800" * 3)
        assert len(files(audit)) > 2
        writer = files(audit)[0].name.rpartition("-")[0]
        name = audit_id(load_key(audit))
        assert re.fullmatch("[0-9a-f]{32}", name)
        chain = hashlib.sha256(f"aegis journal {name} {writer}".encode()).hexdigest()
        seen = [chain]
        for file in files(audit):
            seen += chain_values(seen[-1], file.read_bytes())[1:]
        assert len(set(seen)) == 11
        journal.close()
        covered = seal(audit).seals[0].journals
        assert [(file.file, file.chain in seen) for file in covered] == [
            (file.name, True) for file in files(audit)
        ]

    def test_b42_a_failed_write_leaves_no_gap_in_the_chain(self, audit: Path) -> None:
        code = """
import resource, sys
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.errors import AuditError
from tests.support.records import decided
journal = Journal(sys.argv[1])
journal.append(decided(decision_id="small"))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
for _ in range(3):
    try:
        journal.append(decided(decision_id="large", reason="x" * 5_000))
    except AuditError as error:
        print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append(decided(decision_id="last"))
"""
        assert python(code, audit).communicate() == ("refused\n" * 3, "")
        assert seal(audit).problems == []
        assert sealed(audit) == {"small": "unknown", "last": "unknown"}

    def test_seals_are_chained_and_say_what_they_did(self, audit: Path) -> None:
        """Numbers, sums, the files covered and the chain, as audit/seals/seal_log.py has them."""
        for n in range(3):
            journal = Journal(audit)
            call(journal, str(n))
            call(journal, f"{n} asks", None, result_status="pending")
            journal.close()
            seal(audit)
        content = (audit / "seals.jsonl").read_bytes()
        name = audit_id(load_key(audit))
        values = chain_values(hashlib.sha256(f"aegis seals {name}".encode()).hexdigest(), content)
        for number, line in enumerate(map(json.loads, content.splitlines()), 1):
            assert (line["seal"], line["version"], line["audit"]) == (number, VERSION, name)
            (segment,) = line["segments"]
            path = audit / "lake" / segment["file"]
            assert re.fullmatch(
                rf"date={segment['first'][:10]}/{segment['segment']:08d}-{values[number - 1][:8]}\.parquet",
                segment["file"],
            )
            assert segment["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            assert segment["bytes"] == path.stat().st_size
            carried = (audit / "journal" / line["carried"]["file"]).read_bytes()
            assert line["carried"]["sha256"] == hashlib.sha256(carried).hexdigest()
            assert line["carried"]["lines"] == number
            found = duckdb.execute(
                "SELECT decode(key), decode(value) FROM parquet_kv_metadata(?)", [str(path)]
            ).fetchall()
            assert {
                "aegis_version": str(VERSION),
                "aegis_audit": name,
                "aegis_seal": str(number),
                "aegis_segment": str(segment["segment"]),
                "aegis_previous": values[number - 1],
            }.items() <= dict(found).items()

    def test_no_file_is_open_to_others_whatever_the_umask(self, audit: Path) -> None:
        before = os.umask(0)
        try:
            journal = Journal(audit)
            call(journal, "done")
            call(journal, "asks", None, result_status="pending")
            journal.close()
            seal(audit)
        finally:
            os.umask(before)
        assert len(list(audit.rglob("*"))) >= 8
        assert not [path for path in (audit, *audit.rglob("*")) if path.stat().st_mode & 0o077]
        assert stat.S_IMODE((audit / "seals.jsonl").stat().st_mode) == 0o600


class TestMerging:
    def test_small_segments_of_a_day_become_one(self, audit: Path) -> None:
        """Of today from the eighth on; a recorded seal replaces them, and loses and doubles nothing."""
        for n in range(9):
            journal = Journal(audit)
            call(journal, str(n))
            journal.close()
            seal(audit)
        seals = read_seals(audit)
        assert [len(each.replaces) for each in seals] == [0] * 7 + [7, 0]
        assert seals[7].segments[0].rows == 8
        assert sealed(audit) == {str(n): "success" for n in range(9)}
        wait_until_seen(audit)
        assert statuses(audit) == sealed(audit)

    def test_a_day_that_is_over_becomes_one_file(self, audit: Path) -> None:
        for n in range(3):
            journal = Journal(audit)
            call(journal, str(n), timestamp="2025-01-01T00:00:00+00:00")
            journal.close()
            seal(audit)
        assert [each.replaces for each in read_seals(audit)] == [(), (1,), (2,)]
        assert sealed(audit) == {"0": "success", "1": "success", "2": "success"}

    def test_a_large_segment_is_left_as_it_is(self, audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sealing, "SMALL", 2)
        for n in range(3):
            journal = Journal(audit)
            call(journal, f"{n}a", timestamp="2025-01-01T00:00:00+00:00")
            call(journal, f"{n}b", timestamp="2025-01-01T00:00:00+00:00")
            journal.close()
            seal(audit)
        assert [each.replaces for each in read_seals(audit)] == [()] * 3

    def test_what_is_not_needed_any_more_goes_after_a_minute(
        self, audit: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Covered journals and replaced segments stay for queries that began before."""
        from aegis_otel.audit.lake import cleanup

        for n in range(2):
            journal = Journal(audit)
            call(journal, str(n), timestamp="2025-01-01T00:00:00+00:00")
            journal.close()
            seal(audit)
        assert seal(audit).seals == []
        assert len(list(audit.glob("lake/date=*/*.parquet"))) == len(files(audit)) == 2
        wait_until_seen(audit)
        monkeypatch.setattr(cleanup, "GRACE", timedelta(0))
        assert seal(audit).seals == []
        assert len(list(audit.glob("lake/date=*/*.parquet"))) == 1
        assert files(audit) == []
        assert statuses(audit) == {"0": "success", "1": "success"}


class TestTampering:
    @pytest.fixture
    def broken(self, audit: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The second of three files of a writer that is gone; another writer beside it."""
        monkeypatch.setattr(journal_module, "ROTATE_BYTES", 700)
        journal = Journal(audit)
        for n in range(5):
            call(journal, str(n))
        journal.close()
        assert len(files(audit)) >= 3
        return files(audit)[1]

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda lines: [lines[0].replace(b"success", b"blocked"), *lines[1:]], id="edited"),
            pytest.param(lambda lines: lines[1:], id="first line removed"),
            pytest.param(lambda lines: [lines[1], lines[0], *lines[2:]], id="reordered"),
            pytest.param(lambda lines: [lines[0], *lines], id="doubled"),
            pytest.param(lambda lines: [b"{}\n", *lines], id="a line put in"),
            pytest.param(lambda lines: [lines[0].replace(b"}", b" }"), *lines[1:]], id="a blank put in"),
        ],
    )
    def test_b42_a_file_whose_chain_is_broken_is_not_sealed(
        self, audit: Path, broken: Path, change: Any
    ) -> None:
        """B42: it stays as evidence, can be read, and nothing after it is sealed as if all were well."""
        lines = broken.read_bytes().splitlines(keepends=True)
        changed = change(lines)
        assert changed != lines
        broken.write_bytes(b"".join(changed))
        before = statuses(audit)
        report = seal(audit)
        assert [problem for problem in report.problems if f"of `{broken}` does not follow" in problem]
        covered = {file.file for each in report.seals for file in each.journals}
        assert covered == {files(audit)[0].name} - {broken.name} or covered == {
            name for name in covered if name < broken.name
        }
        wait_until_seen(audit)
        assert statuses(audit) == before

    def test_b42_a_missing_file_is_noticed_at_the_next(self, audit: Path, broken: Path) -> None:
        after = files(audit)[2]
        broken.unlink()
        assert any(f"line 1 of `{after}` does not follow" in problem for problem in seal(audit).problems)

    def test_a_writer_of_another_audit_is_foreign(self, audit: Path, tmp_path: Path) -> None:
        other = Journal(tmp_path / "other")
        call(other, "foreign")
        other.close()
        journal = Journal(audit)
        call(journal, "own")
        journal.close()
        (file,) = files(tmp_path / "other")
        file.rename(audit / "journal" / file.name)
        report = seal(audit)
        assert (sealed(audit), len(report.problems)) == ({"own": "success"}, 1)

    def test_a_torn_last_line_is_no_tampering(self, audit: Path) -> None:
        """What a crash left of a line is not a record; what was whole is sealed."""
        journal = Journal(audit)
        call(journal, "done")
        call(journal, "torn", None)
        journal.close()
        (file,) = files(audit)
        file.write_bytes(file.read_bytes()[:-20])
        assert seal(audit).problems == []
        assert sealed(audit) == {"done": "success"}

    def test_a_carried_file_that_was_changed_is_not_sealed(self, audit: Path) -> None:
        journal = Journal(audit)
        call(journal, "asks", None, result_status="pending")
        journal.close()
        carried = audit / "journal" / seal(audit).seals[0].carried.file  # type: ignore[union-attr]
        carried.write_bytes(carried.read_bytes().replace(b"CRITICAL", b"LOW"))
        assert "is not as seal 1 made it" in seal(audit).problems[0]
        assert statuses(audit) == {"asks": "pending"}

    def test_broken_seals_stop_the_sealer_and_nobody_else(self, audit: Path) -> None:
        for n in range(3):
            journal = Journal(audit)
            call(journal, str(n))
            journal.close()
            if n < 2:
                seal(audit)
        path = audit / "seals.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(lines[0].replace(b'"rows":1', b'"rows":2') + lines[1])
        with pytest.raises(AuditError, match=r"line 1 of `.*seals.jsonl` does not follow"):
            seal(audit)
        assert statuses(audit) == {str(n): "success" for n in range(3)}

    def test_a_shortened_list_of_seals_costs_no_data(self, audit: Path) -> None:
        """Files of seals that it no longer has are left and named, not taken for a crash's leftovers."""
        for n in range(2):
            journal = Journal(audit)
            call(journal, str(n), timestamp=f"2025-01-0{n + 1}T00:00:00+00:00")
            call(journal, f"{n} asks", None, result_status="pending")
            journal.close()
            seal(audit)
        path = audit / "seals.jsonl"
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
        last = sorted(audit.glob("lake/date=*/*.parquet"))[-1]
        path.write_bytes(b"")
        problems = seal(audit).problems
        assert last.exists()
        assert any(f"`{last}` is of a seal that `seals.jsonl` does not have" in each for each in problems)

    @pytest.mark.parametrize("lost", ["the last line", "all lines", "the file"])
    def test_lost_seals_cost_no_data(self, audit: Path, lost: str) -> None:
        """What the lost seal named looks like a crash's leftovers; it is said, and nothing is touched."""
        for n in range(2 if lost == "the last line" else 1):
            journal = Journal(audit)
            call(journal, f"ended {n}")
            call(journal, f"asks {n}", None, result_status="pending")
            journal.close()
            (made,) = seal(audit).seals
            for covered in made.journals:  # as a minute later
                (audit / "journal" / covered.file).unlink()
        path = audit / "seals.jsonl"
        whole = path.read_bytes()
        if lost == "the file":
            path.unlink()
        else:
            path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
        before = {each: each.read_bytes() for each in audit.rglob("*") if each.is_file() and each != path}
        journal = Journal(audit)
        call(journal, "later")
        journal.close()
        with pytest.raises(AuditError, match=r"`seals\.jsonl` was shortened or taken away; restore it"):
            seal(audit)
        assert any("what is in it is not elsewhere" in each.what for each in verify(audit).findings)
        assert {each: each.read_bytes() for each in before} == before
        path.write_bytes(whole)
        assert seal(audit).problems == []
        wait_until_seen(audit)
        assert statuses(audit)["ended 0"] == statuses(audit)["later"] == "success"

    def test_another_key_is_named(self, audit: Path) -> None:
        journal = Journal(audit)
        call(journal, "done")
        journal.close()
        seal(audit)
        (audit / "key").unlink()
        with pytest.raises(AuditError, match="restore the file `key`"):
            seal(audit)


class TestCommand:
    def run(self, audit: Path, *arguments: str) -> tuple[int, str, str]:
        ran = CliRunner().invoke(aegis, ["audit", "seal", "--path", str(audit), *arguments])
        return ran.exit_code, ran.stdout, ran.stderr

    def test_it_says_what_it_did(self, audit: Path) -> None:
        journal = Journal(audit)
        call(journal, "done")
        call(journal, "asks", None, result_status="pending")
        journal.close()
        code, out, err = self.run(audit)
        (segment,) = read_seals(audit)[0].segments
        assert (code, "left out" in err) == (0, False)
        assert out.splitlines() == [
            f"seal 1: 1 rows in {segment.file}",
            "seal 1: 1 journal files, 1 lines carried over",
        ]
        assert self.run(audit) == (0, "nothing to seal\n", "")

    def test_what_is_left_is_named_and_is_exit_code_1(self, audit: Path) -> None:
        (audit / "journal").mkdir(parents=True, mode=0o700)
        audit.chmod(0o700)
        (audit / "journal" / "evil\x1b[2J-000001.jsonl").write_text("{}\n")
        code, out, err = self.run(audit)
        assert (code, out) == (1, "nothing to seal\n")
        assert "\\x1b[2J-000001.jsonl` is not named as a journal file is" in err

    def test_no_audit_and_wrong_usage(self, audit: Path, tmp_path: Path) -> None:
        assert self.run(audit)[0] == 1
        assert self.run(audit, "--sideways")[0] == 2
        (tmp_path / "file").write_text("")
        code, _, err = self.run(tmp_path)
        assert (code, "is not an audit directory" in err) == (1, True)
        (tmp_path / "empty").mkdir()
        code, out, err = self.run(tmp_path / "empty")
        assert (code, out, "(the directory is empty)" in err) == (1, "", True)
        assert list((tmp_path / "empty").iterdir()) == []


class TestProcess:
    def test_a_journal_has_itself_sealed(self, audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """At the threshold a process of its own does it, and the journal hears of it; secrets stay here."""
        monkeypatch.setattr(journal_module, "ROTATE_BYTES", 2_000)
        monkeypatch.setattr(seal_trigger, "SEAL_BYTES", 8_000)
        heard = []
        done = threading.Event()
        journal = Journal(audit)
        journal.on_seal = lambda each: (heard.append(each), done.set())  # type: ignore[func-returns-value, assignment]
        call(journal, "0")
        n = 1
        while len(files(audit)) < 5:
            call(journal, str(n))
            n += 1
        assert done.wait(60)
        assert heard == read_seals(audit)[: len(heard)]
        assert heard[0].chain
        assert set(sealed(audit)) <= {str(each) for each in range(n)}
        assert sum(segment.rows for each in heard for segment in each.segments) > 10

    def test_it_neither_loads_duckdb_nor_holds_a_call_up(self, audit: Path) -> None:
        code = """
import sys, threading
from aegis_otel.audit.journal import seal_trigger, writer as module
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.record import AuditRecord
module.ROTATE_BYTES, seal_trigger.SEAL_BYTES = 1_000, 1_000
journal, done = Journal(sys.argv[1]), threading.Event()
journal.on_seal = lambda seal: done.set()
for n in range(20):
    journal.append(AuditRecord(stage="decided", decision_id=str(n), timestamp="", result_status="blocked"))
assert done.wait(60)
print([name for name in ("duckdb", "agents", "rich", "click") if name in sys.modules])
"""
        assert python(code, audit).communicate() == ("[]\n", "")

    def test_a_failure_is_logged_once_and_costs_no_record(
        self, audit: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(journal_module, "ROTATE_BYTES", 2_000)
        monkeypatch.setattr(seal_trigger, "SEAL_BYTES", 2_000)
        journal = Journal(audit)
        call(journal, "first")
        (audit / "seals.jsonl").write_text("{}\n")
        for n in range(40):
            call(journal, str(n), reason="x" * 1_000)
            while journal._trigger._busy.locked():
                threading.Event().wait(0.01)
            if n > 3 and caplog.records:
                break
        for record in caplog.records:
            assert "cannot seal the audit" in record.getMessage() or "is no seal" in record.getMessage()
        warnings = [r for r in caplog.records if "its journal stays" in r.getMessage()]
        assert len(warnings) == 1
        assert sum(text.count('"decided"') for text in (f.read_text() for f in files(audit))) == n + 2

    def test_the_process_inherits_no_secret_and_no_start_up_code(
        self, audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither variables nor a `sitecustomize`, such as the one of `opentelemetry-instrument`."""
        from aegis_otel.audit.journal.seal_trigger import SealTrigger

        journal = Journal(audit)
        call(journal, "done")
        journal.close()
        folder = tmp_path / "path"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        monkeypatch.syspath_prepend(str(folder))
        started: dict[str, Any] = {}
        real = subprocess.run

        def run(*arguments: Any, **options: Any) -> Any:
            started.update(options)
            return real(*arguments, **options)

        monkeypatch.setattr(subprocess, "run", run)
        (made,) = SealTrigger(audit)._seal()
        assert made.seal == 1
        assert not (tmp_path / "ran").exists()
        assert "sk-secret" not in str(started["env"])
