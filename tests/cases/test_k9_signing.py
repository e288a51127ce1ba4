"""Signing that is added to an audit which exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.verify.verify import verify
from aegis_otel.cli import main as aegis
from tests.audit.seals.test_signing import make_key, rewrite, sealed
from tests.support.records import decided, statuses


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(aegis, ["audit", *map(str, arguments)])


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """Sealed twice, and not signed."""
    for name in ("0", "1"):
        sealed(tmp_path / "audit", name)
    return tmp_path / "audit"


def test_k9_sealing_signs_for_what_is_sealed_already(
    audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to seal, and the signature of an empty seal is of all that is."""
    private, public = make_key(tmp_path / "key.pem")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(private))
    result = run("seal", "--db", audit)
    assert (result.exit_code, result.stdout) == (0, "seal 3: signs for the seals before it\n")
    assert run("seal", "--db", audit).stdout == "nothing to seal\n"
    checked = run("verify", audit, "--public-key", public)
    assert checked.exit_code == 0, checked.output
    assert "the seals before 3 are not signed; the signature of 3 is of them too" in checked.output
    assert statuses(audit) == {"0": "success", "1": "success"}
    rewrite(audit, signed=True)
    assert run("verify", audit, "--public-key", public).exit_code == 1


def test_k9_what_was_changed_before_signing_began_is_said_to_be_unproven(
    audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signature vouches for the seals as they were then, which is not how they were made."""
    private, public = make_key(tmp_path / "key.pem")
    rewrite(audit, signed=False)
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(private))
    assert run("seal", "--db", audit).exit_code == 0
    unproven = verify(audit, public_keys=[public]).unproven
    assert "that the seals before 3 were not changed before seal 3 was signed: give --witness" in unproven


def test_k9_before_the_first_signature_it_is_said_what_to_do(audit: Path, tmp_path: Path) -> None:
    """It fails, since signatures that were taken away look the same; and it says both."""
    _, public = make_key(tmp_path / "key.pem")
    result = run("verify", audit, "--public-key", public)
    assert result.exit_code == 1
    assert "no seal is signed with the key given" in result.output
    assert "`aegis audit seal` with the private key as `AEGIS_SEAL_KEY` signs for all seals" in result.output


def test_k9_with_signatures_of_another_key_nothing_is_promised(
    audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is no audit whose signing has not begun."""
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(make_key(tmp_path / "other.pem")[0]))
    run("seal", "--db", audit)
    _, public = make_key(tmp_path / "key.pem")
    result = run("verify", audit, "--public-key", public)
    assert result.exit_code == 1
    assert "its signature is not of the key given" in result.output
    assert "signs for all seals" not in result.output


def test_k9_who_has_no_key_does_not_seal_what_is_signed(
    audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent without the key leaves it to the timer that has it: an unsigned seal would look forged."""
    private, public = make_key(tmp_path / "key.pem")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(private))
    assert run("seal", "--db", audit).exit_code == 0
    monkeypatch.delenv("AEGIS_SEAL_KEY")
    Journal(audit).append(decided(decision_id="2", result_status="blocked"))
    assert seal(audit).seals == []
    result = run("seal", "--db", audit)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "`AEGIS_SEAL_KEY` is not set here: nothing was sealed" in result.stderr
    assert verify(audit, public_keys=[public]).findings == []
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(private))
    assert len(seal(audit).seals) == 1
    assert verify(audit, public_keys=[public]).findings == []
