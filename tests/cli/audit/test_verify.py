"""`aegis audit verify` and `prune` as commands: what they print, and how they end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.keys import audit_id
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.cli import main
from tests.audit.seals.test_signing import make_key
from tests.audit.verify.test_witness import Collector
from tests.cli.audit.test_audit import in_a_terminal
from tests.support.records import completed, decided


def read_covered(audit: Path) -> set[str]:
    return {file.file for seal in read_seals(audit) for file in seal.journals}


def aegis(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["audit", *arguments], catch_exceptions=False)


@pytest.fixture
def audit() -> Path:
    """One sealed call, and one that is not; where the commands look by themselves."""
    audit = Path("aegis_audit").absolute()
    for n in range(2):
        journal = Journal(audit)
        journal.append(decided(decision_id=f"{n}"))
        journal.append(completed(decision_id=f"{n}"))
        journal.close()
        if n == 0:
            seal(audit)
    return audit


class TestVerify:
    def test_an_audit_that_is_as_it_was_written(self, audit: Path) -> None:
        result = aegis("verify")
        assert result.exit_code == 0
        assert result.stderr == ""
        lines = result.output.splitlines()
        (made,) = read_seals(audit)
        assert lines[0] == "Not proven:"
        assert lines[-6:] == [
            f"Audit       {made.audit}",
            "Seals       1",
            f"Last seal   {made.chain}",
            "Intact      1 sealed row in 1 file",
            "Not sealed  2 lines in 1 journal file",
            "PASSED: no tampering found, but see what is not proven",
        ]

    def test_an_audit_without_seals(self, audit: Path) -> None:
        """It says that there are none, and what makes them."""
        (audit / "seals.jsonl").unlink()
        shutil.rmtree(audit / "lake")
        for file in (audit / "journal").glob("carried*"):
            file.unlink()
        result = aegis("verify")
        assert result.exit_code == 0
        assert result.output.splitlines()[-4:] == [
            f"Audit       {audit_id((audit / 'key').read_bytes())}",
            "Seals       none yet: `aegis audit seal` makes the first",
            "Not sealed  4 lines in 2 journal files",
            "PASSED: no tampering found, but see what is not proven",
        ]

    def test_all_is_proven(self, audit: Path) -> None:
        aegis("seal")
        Collector(Path("witness.jsonl")).saw(*read_seals(audit))
        result = aegis("verify", "--witness", "witness.jsonl")
        assert result.output.splitlines()[0].startswith("Audit  ")
        assert result.output.splitlines()[-2:] == [
            "Not sealed  0 lines in 0 journal files",
            "PASSED: no tampering found",
        ]

    def test_a_line_that_a_crash_cut_off_is_noted(self, audit: Path) -> None:
        """And is no tampering."""
        (file,) = (
            each for each in (audit / "journal").glob("*.jsonl") if each.name not in read_covered(audit)
        )
        with file.open("ab") as journal:
            journal.write(b'{"stage":"dec')
        result = aegis("verify")
        assert result.exit_code == 0
        assert result.output.splitlines()[:2] == [
            "Noted:",
            f"  journal/{file.name}: its last 13 bytes are no whole line: a write that a crash cut off, or "
            "that is under way; nothing counts as recorded before its line is whole",
        ]

    def test_which_audit_it_is_may_be_unknown(self, audit: Path) -> None:
        for name in ("key", "seals.jsonl"):
            (audit / name).unlink()
        assert "\nAudit       unknown: neither a key nor a seal says it\n" in aegis("verify").output

    @pytest.mark.parametrize(
        "where", [["aegis_audit"], ["--path", "aegis_audit"], ["--path", "aegis_audit.db"]]
    )
    def test_the_directory_may_be_named(self, audit: Path, where: list[str]) -> None:
        assert aegis("verify", *where).output == aegis("verify").output

    def test_what_is_wrong_comes_first_with_its_place(self, audit: Path) -> None:
        """A line each, with nothing in it that a terminal would obey."""
        for name in ("\x1b[31m-000001.jsonl", "evil-000001.jsonl"):
            (audit / "journal" / name).write_text("{}\n")
        result = aegis("verify")
        assert result.exit_code == 1
        lines = result.output.splitlines()
        assert lines[:3] == [
            "Found:",
            "  journal/\\x1b[31m-000001.jsonl: does not belong to the audit: it is not named as a journal "
            "file is",
            "  journal/evil-000001.jsonl: line 1 (byte 0): does not follow the beginning of its writer: "
            "it was changed, moved or brought here, or what stood between them was removed",
        ]
        assert lines[-1] == "FAILED: 2 findings"

    def test_json_for_programs(self, audit: Path) -> None:
        (made,) = read_seals(audit)
        found = json.loads(aegis("verify", "--format", "json").output)
        assert found.pop("not_proven")
        assert found == {
            "audit": made.audit,
            "findings": [],
            "notes": [],
            "seals": 1,
            "chain": made.chain,
            "segments": 1,
            "rows": 1,
            "journals": 1,
            "lines": 2,
        }
        (audit / "lake" / made.segments[0].file).unlink()
        result = aegis("verify", "--format", "json")
        (finding,) = json.loads(result.output)["findings"]
        assert (result.exit_code, finding["file"]) == (1, f"lake/{made.segments[0].file}")
        assert finding.keys() == {"file", "what", "line", "byte"}

    def test_there_is_no_audit(self) -> None:
        result = aegis("verify", "nowhere")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("no audit at `")
        assert not Path("nowhere").exists()

    def test_a_newer_version(self, audit: Path) -> None:
        from aegis_otel.audit.seals.seal_log import VERSION
        from tests.audit.verify.test_verify import remake

        remake(audit, lambda seals: seals[0].update(version=VERSION + 1))
        result = aegis("verify")
        assert result.exit_code == 1
        assert result.stderr == (
            f"Error: `{audit}/seals.jsonl` was written by a newer version of aegis-otel: upgrade this one\n"
        )

    @pytest.mark.parametrize(
        "arguments",
        [
            ["aegis_audit", "--path", "aegis_audit"],
            ["--witness", "none.jsonl"],
            ["--public-key", "none.pem"],
            ["--format", "table"],
        ],
    )
    def test_wrong_usage(self, audit: Path, arguments: list[str]) -> None:
        assert aegis("verify", *arguments).exit_code == 2

    def test_a_key_that_is_none_is_wrong_usage(self, audit: Path) -> None:
        Path("key.pem").write_text("?")
        result = aegis("verify", "--public-key", "key.pem")
        assert (result.exit_code, result.stderr[:34]) == (2, "Error: `key.pem` is no public key:")

    def test_a_bar_on_a_terminal(self, audit: Path) -> None:
        shown = in_a_terminal("audit", "verify")
        assert "Verifying" in shown
        assert "PASSED" in shown


class TestPrune:
    @pytest.fixture(autouse=True)
    def key(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AEGIS_SEAL_KEY", str(make_key(tmp_path / "seal-key.pem")[0]))

    def test_it_says_what_was_removed_and_whom_it_told(self, audit: Path) -> None:
        result = aegis("prune", "--max-size", "0MB")
        (segment,) = read_seals(audit)[0].segments
        assert (result.exit_code, result.stdout) == (
            0,
            f"seal 2: removed 1 rows of {segment.first} to {segment.last} (0 bytes are kept)\n",
        )
        assert result.stderr == "no OTLP endpoint is set: the seals were sent to no witness\n"
        assert aegis("prune", "--max-size", "0MB").output == "nothing to remove\n"

    def test_it_can_be_tried(self, audit: Path) -> None:
        result = aegis("prune", "--max-size", "0MB", "--dry-run")
        (segment,) = read_seals(audit)[0].segments
        assert result.output == f"would remove 1 rows of {segment.first} to {segment.last}: {segment.file}\n"
        assert len(read_seals(audit)) == 1

    @pytest.mark.parametrize(
        ("keep", "days"), [("9999d", 9999), ("2w", 14), ("12h", 0.5)]
    )  # fmt: skip
    def test_ages(self, keep: str, days: float) -> None:
        from aegis_otel.cli.audit.maintain import prune

        (option,) = [each for each in prune.params if each.name == "keep"]
        assert option.type.convert(keep, option, None) == days

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["--keep", "90"],
            ["--keep", "-1d"],
            ["--keep", "all"],
            ["--max-size", "10"],
            ["--max-size", "1.5GB"],
        ],
    )
    def test_wrong_usage(self, audit: Path, arguments: list[str]) -> None:
        assert aegis("prune", *arguments).exit_code == 2
        assert len(read_seals(audit)) == 1

    def test_without_a_key_it_is_wrong_usage(self, audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AEGIS_SEAL_KEY")
        result = aegis("prune", "--keep", "90d")
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: what is removed must be signed for: set `AEGIS_SEAL_KEY`")
