"""Seals signed with a key that lies elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from aegis_otel.audit.journal import seal_trigger
from aegis_otel.audit.journal import writer as journal_module
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.seals.hash_chain import link, seals_origin, without_chain
from aegis_otel.audit.seals.seal_log import locked, read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.errors import ConfigError
from tests.support.records import decided, statuses, write_call

_PRIVATE = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def make_key(path: Path) -> tuple[Path, Path]:
    """A private key that only its owner can read, and its public key."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(*_PRIVATE))
    path.chmod(0o600)
    public = path.with_suffix(".pub")
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return path, public


@pytest.fixture
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The key that seals are signed with from now on."""
    private, public = make_key(tmp_path / "seal-key.pem")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(private))
    return public


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "audit"


def sealed(audit: Path, name: str) -> None:
    write_call(audit, name)
    assert len(seal(audit).seals) == 1


def wrong(audit: Path, *keys: Path) -> list[str]:
    return [each.what for each in verify(audit, public_keys=keys).findings]


def rewrite(audit: Path, *, signed: bool) -> None:
    """What the owner of the directory can do: forget the first call, and chain all anew."""
    path = audit / "seals.jsonl"
    lines = [json.loads(without_chain(line)) for line in path.read_bytes().splitlines()]
    lines[0]["segments"][0]["rows"] = 0
    head, content = seals_origin(lines[0]["audit"]), b""
    for line in lines:
        if not signed:
            line.pop("signature", None)
        head, whole = link(head, json.dumps(line, separators=(",", ":")).encode())
        content += whole
    path.write_bytes(content)


def test_every_seal_is_signed_and_the_signature_holds(audit: Path, public: Path) -> None:
    """Over the chain value that the line has without it, by the definition in audit/seals/signing.py."""
    for n in range(2):
        sealed(audit, str(n))
    key = serialization.load_pem_public_key(public.read_bytes())
    for line, made in zip((audit / "seals.jsonl").read_bytes().splitlines(), read_seals(audit), strict=True):
        text = json.loads(line)
        assert list(text)[-2:] == ["signature", "chain"]
        signature, chain = text.pop("signature"), text.pop("chain")
        assert chain == made.chain
        value, _ = link(made.previous, json.dumps(text, separators=(",", ":")).encode())
        key.verify(bytes.fromhex(signature), f"aegis seal {text['audit']} {value}".encode())  # type: ignore[union-attr, call-arg]
    assert wrong(audit, public) == []
    assert statuses(audit) == {"0": "success", "1": "success"}


def test_without_the_public_key_it_is_said_that_nothing_was_checked(audit: Path, public: Path) -> None:
    sealed(audit, "0")
    assert [each for each in verify(audit).unproven if "signature" in each] == [
        "that the signatures of 1 seals are genuine: give --public-key; where nobody signs this audit, "
        "these seals were planted"
    ]
    assert not [each for each in verify(audit, public_keys=[public]).unproven if "rewrote" in each]


@pytest.mark.parametrize("signed", [True, False])
def test_a_rewritten_directory(audit: Path, public: Path, signed: bool) -> None:
    """Its chain holds, and signatures cannot be made again: the old ones do not fit, or there are none."""
    for n in range(2):
        sealed(audit, str(n))
    rewrite(audit, signed=signed)
    found = wrong(audit, public)
    if signed:
        assert found.count("its signature is not of the key given") == 2
    assert "no seal is signed with the key given" in found


def test_a_seal_that_somebody_without_the_key_adds(
    audit: Path, public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(audit, "0")
    monkeypatch.delenv("AEGIS_SEAL_KEY")
    with locked(audit, audit_id(load_key(audit)), wait=True) as book:
        assert book is not None
        empty = replace(book.seals[0], seal=2, segments=(), journals=(), signature="", chain="", previous="")
        book.append(replace(empty, sealed_at=book.time()))
    (finding,) = verify(audit, public_keys=[public]).findings
    assert (finding.line, finding.what) == (2, "is not signed, and seals before it are")


def test_a_signature_is_also_of_the_seals_before_it(
    audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So signing may begin late, and what was sealed before cannot be changed any more."""
    sealed(audit, "0")
    private, public = make_key(tmp_path / "late.pem")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(private))
    sealed(audit, "1")
    proof = verify(audit, public_keys=[public])
    assert (proof.findings, len(proof.notes)) == ([], 1)
    assert "the signature of 2 is of them too" in proof.notes[0]
    rewrite(audit, signed=True)
    assert "its signature is not of the key given" in wrong(audit, public)


def test_a_changed_key(audit: Path, public: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both public keys are then given; with one of them, the other's seals are findings."""
    sealed(audit, "0")
    private, second = make_key(tmp_path / "second.pem")
    monkeypatch.setenv("AEGIS_SEAL_KEY", str(private))
    sealed(audit, "1")
    assert wrong(audit, public, second) == []
    assert wrong(audit, public) == ["its signature is not of the key given"]


def test_a_signature_of_another_audit(audit: Path, public: Path, tmp_path: Path) -> None:
    """Signatures are of one audit, and of one place in it."""
    sealed(audit, "0")
    sealed(tmp_path / "other", "0")
    lines = [(each / "seals.jsonl").read_text() for each in (audit, tmp_path / "other")]
    mine, theirs = (json.loads(each)["signature"] for each in lines)
    (audit / "seals.jsonl").write_text(lines[0].replace(mine, theirs))
    rewrite(audit, signed=True)
    assert "its signature is not of the key given" in wrong(audit, public)


def test_the_sealing_process_signs_too(audit: Path, public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "ROTATE_BYTES", 500)
    monkeypatch.setattr(seal_trigger, "SEAL_BYTES", 500)
    done = threading.Event()
    journal = Journal(audit)
    journal.on_seal = lambda _: done.set()
    for n in range(5):
        journal.append(decided(decision_id=str(n), result_status="blocked"))
    assert done.wait(60)
    journal.close()
    assert wrong(audit, public) == []


class TestUnusableKeys:
    """Then nothing is sealed: an unsigned seal among signed ones would look like a forged one."""

    def refused(self, audit: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("AEGIS_SEAL_KEY", str(key))
        Journal(audit).append(decided(result_status="blocked"))
        with pytest.raises((ConfigError, OSError)) as caught:
            seal(audit)
        assert not (audit / "seals.jsonl").exists() or (audit / "seals.jsonl").read_bytes() == b""
        assert str(key) in str(caught.value)
        return str(caught.value)

    def test_open_to_others(self, audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        private, _ = make_key(tmp_path / "open.pem")
        private.chmod(0o640)
        assert "run `chmod 600`" in self.refused(audit, private, monkeypatch)

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
    def test_of_somebody_else(self, audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        private, _ = make_key(tmp_path / "foreign.pem")
        os.chown(private, 12345, -1)
        assert "belongs to user 12345" in self.refused(audit, private, monkeypatch)

    def test_no_key_at_all(self, audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "no such file" in self.refused(audit, tmp_path / "none.pem", monkeypatch)
        (tmp_path / "text.pem").touch(mode=0o600)
        assert "no private key" in self.refused(audit, tmp_path / "text.pem", monkeypatch)
        (tmp_path / "folder").mkdir(mode=0o700)
        assert self.refused(audit, tmp_path / "folder", monkeypatch)

    def test_of_another_kind_or_with_a_passphrase(
        self, audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "other.pem"
        path.touch(mode=0o600)
        path.write_bytes(generate_private_key(SECP256R1()).private_bytes(*_PRIVATE))
        assert "of another kind than Ed25519" in self.refused(audit, path, monkeypatch)
        encrypted = serialization.BestAvailableEncryption(b"secret")
        path.write_bytes(Ed25519PrivateKey.generate().private_bytes(*_PRIVATE[:2], encrypted))
        assert "no private key to sign seals with" in self.refused(audit, path, monkeypatch)

    def test_a_public_key_that_is_none(self, audit: Path, public: Path, tmp_path: Path) -> None:
        sealed(audit, "0")
        private, _ = make_key(tmp_path / "private.pem")
        for content in (b"", b"\xff" * 100, private.read_bytes()):
            (tmp_path / "wrong.pub").write_bytes(content)
            with pytest.raises(ConfigError, match=r"wrong\.pub` is no public key"):
                verify(audit, public_keys=[tmp_path / "wrong.pub"])

    def test_without_the_package(self, audit: Path, public: Path) -> None:
        """It is an extra: what is missing is named."""
        code = """
import sys
from pathlib import Path
sys.modules["cryptography"] = None
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.errors import ConfigError
try:
    seal(Path(sys.argv[1]))
except ConfigError as error:
    print(error)
"""
        Journal(audit).append(decided(result_status="blocked"))
        ran = subprocess.run(
            [sys.executable, "-c", code, str(audit)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (ran.stdout, ran.stderr) == (
            "signatures need the package `cryptography`: `pip install '.[sign]'` in a clone\n",
            "",
        )


def test_what_no_signature_shows(audit: Path, public: Path, tmp_path: Path) -> None:
    """An older copy that is put back: it is said that it takes a witness."""
    sealed(audit, "0")
    shutil.copytree(audit, tmp_path / "copy")
    sealed(audit, "1")
    proof = verify(tmp_path / "copy", public_keys=[public])
    assert proof.findings == []
    assert "no older copy put back: give --witness" in proof.unproven[-1]
