"""Signed answers: what counts as one, which keys may sign, and where keys may lie."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from aegis_otel.errors import AnswerRefused, AuditError, ConfigError
from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus, SignedAnswer
from aegis_otel.governance.approvals.inbox_codec import (
    ANSWER_DOMAIN,
    encode_answer,
    encode_question,
    question_digest,
)
from aegis_otel.runtime.approval import answer_signature
from aegis_otel.runtime.approval.answer_signature import (
    AnswerKeys,
    AnswerSigner,
    load_answer_keys,
    load_answer_signer,
)
from tests.support.inbox import an_answer, shared_question
from tests.support.records import python

replace = msgspec.structs.replace
QUESTION = shared_question("one")
STATE = QuestionState(
    *(QUESTION, question_digest(encode_question(QUESTION)), QuestionStatus.WAITING, (), 1, 5),
)
ANSWER = an_answer(STATE)


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An audit; the user's own keys are beside it, and the working directory is another one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "audit").mkdir()
    return tmp_path / "audit"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "state" / "aegis-otel"


def make_pair(folder: Path, name: str = "key", kind: str = "ed25519") -> tuple[Path, Path]:
    """Make a pair as docs/approvals.md says, by OpenSSL."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", kind, "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    private.chmod(0o600)
    return private, public


def test_a_key_for_another_purpose(audit: Path, tmp_path: Path) -> None:
    """It is the same wherever the private key is, and another one for another purpose or key."""
    signer = load_answer_signer(audit)
    key = signer.derived_key("page")
    assert len(key) == 32
    assert load_answer_signer(audit).derived_key("page") == key
    assert signer.derived_key("pages") != key
    private, _ = make_pair(tmp_path)
    assert load_answer_signer(audit, str(private)).derived_key("page") != key


def test_a_pair_of_the_users_own(audit: Path, own: Path) -> None:
    """It is made by whoever needs it first, once, and the private key is the user's alone."""
    keys = load_answer_keys(audit)
    signed = load_answer_signer(audit).sign(ANSWER)
    assert keys(signed) == ANSWER
    assert load_answer_keys(audit)(signed) == ANSWER
    assert sorted(path.name for path in own.iterdir()) == ["answer-key.pem", "answer-key.pub.pem"]
    assert stat.S_IMODE((own / "answer-key.pem").stat().st_mode) == 0o600
    (own / "answer-key.pub.pem").unlink()
    assert load_answer_keys(audit)(signed) == ANSWER


@pytest.mark.parametrize("where", ["work", "elsewhere"])
def test_a_public_key_that_tools_may_write_is_warned_of(
    where: str, audit: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / where
    folder.mkdir(exist_ok=True)
    _, public = make_pair(folder)
    load_answer_keys(audit, str(public))
    assert ("below the working directory" in caplog.text) is (where == "work")
    caplog.clear()
    load_answer_keys(audit, str(public), tools_work_here=False)
    assert caplog.text == ""


def test_many_processes_make_one_pair(audit: Path) -> None:
    code = """
import sys
from pathlib import Path
from aegis_otel.runtime.approval.answer_signature import load_answer_keys, load_answer_signer
audit = Path(sys.argv[1])
print(load_answer_signer(audit).key_id, *load_answer_keys(audit).key_ids)
"""
    children = [python(code, audit) for _ in range(6)]
    found = {child.communicate() for child in children}
    assert len(found) == 1
    out, err = found.pop()
    assert (len(set(out.split())), err) == (1, "")


def test_what_is_changed_or_signed_otherwise_is_no_answer(audit: Path, tmp_path: Path) -> None:
    """Each byte of it, another key, another domain, and no signature."""
    signer, keys = load_answer_signer(audit), load_answer_keys(audit)
    good = signer.sign(ANSWER)
    stranger = load_answer_signer(audit, str(make_pair(tmp_path)[0]))
    forged = [stranger.sign(ANSWER), replace(stranger.sign(ANSWER), key=good.key)]
    for place in range(len(good.body)):
        body = bytearray(good.body)
        body[place] ^= 1
        forged.append(replace(good, body=bytes(body)))
    for place in range(len(good.signature)):
        signature = bytearray(good.signature)
        signature[place] ^= 1
        forged.append(replace(good, signature=bytes(signature)))
    forged += [
        replace(good, signature=b""),
        replace(good, signature=good.signature + b"\0"),
        replace(good, key=""),
        SignedAnswer(encode_answer(replace(ANSWER, approved=False)), good.signature, good.key),
    ]
    for body in (
        encode_answer(ANSWER).removeprefix(ANSWER_DOMAIN),
        b"",
        ANSWER_DOMAIN,
        ANSWER_DOMAIN + b"{}",
    ):
        forged.append(SignedAnswer(body, signer._key.sign(body), good.key))
    for each in forged:
        with pytest.raises(AnswerRefused):
            keys(each)
    assert keys(good) == ANSWER


def test_keys_of_settings(audit: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents hold public keys alone, of which there may be several; the page has its private key."""
    first, second = make_pair(tmp_path, "first"), make_pair(tmp_path, "second")
    both = tmp_path / "both.pem"
    both.write_bytes(b"# of the page\n" + first[1].read_bytes() + b"\n" + second[1].read_bytes())
    monkeypatch.setenv("AEGIS_ANSWER_PUBLIC_KEY", str(both))
    keys = load_answer_keys(audit)
    assert len(keys.key_ids) == 2
    for private, _ in (first, second):
        monkeypatch.setenv("AEGIS_ANSWER_KEY", str(private))
        assert keys(load_answer_signer(audit).sign(ANSWER)) == ANSWER
    monkeypatch.delenv("AEGIS_ANSWER_PUBLIC_KEY")
    assert load_answer_keys(audit).key_ids == keys.key_ids[1:]
    assert not own.exists()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("open private", "is open to other users: run `chmod 600` on it"),
        ("private of another kind", "is a private key of another kind than Ed25519"),
        ("no private", "is no private key to sign answers with"),
        ("missing", "cannot read the key"),
        ("in the audit", "lies within the audit, where agents write"),
        ("link into the audit", "lies within the audit, where agents write"),
        ("open public", "can be written by other users: run `chmod go-w` on it"),
        ("no public", "is no public key"),
        ("one of two", "is no public key"),
        ("empty", "is no public key"),
        ("private for public", "is no public key: it is a private one; make its file with `openssl pkey"),
        ("public of another kind", "is a public key of another kind than Ed25519"),
        ("public in the audit", "lies within the audit, where agents write"),
    ],
)
def test_keys_that_cannot_be_used(audit: Path, tmp_path: Path, case: str, message: str) -> None:
    """Each says what is wrong with it, and which setting names it."""
    folder = audit if case.endswith("in the audit") else tmp_path
    private, public = make_pair(folder, kind="ed448" if "another kind" in case else "ed25519")
    if case.startswith("open"):
        private.chmod(0o640)
        public.chmod(0o664)
    elif case == "no private":
        private.write_text("hello")
    elif case == "missing":
        private.unlink()
    elif case == "link into the audit":
        private.rename(audit / "key.pem")
        private.symlink_to(audit / "key.pem")
    elif case in ("no public", "one of two", "empty"):
        body = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
        public.write_bytes({"no public": b"hello", "empty": b""}.get(case, public.read_bytes() + body))
    elif case == "private for public":
        public.write_bytes(private.read_bytes())
    load = load_answer_keys if "public" in case or case in ("one of two", "empty") else load_answer_signer
    setting = "AEGIS_ANSWER_PUBLIC_KEY" if load is load_answer_keys else "AEGIS_ANSWER_KEY"
    with pytest.raises((ConfigError, AuditError), match=f"^`{setting}`: .*{message}"):
        load(audit, str(public if load is load_answer_keys else private))


def test_a_pair_below_the_working_directory(audit: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that reads files there could approve: none is made, and one that is there is not used."""
    load_answer_signer(audit)
    monkeypatch.chdir(own.parent)
    for load in (load_answer_keys, load_answer_signer):
        with pytest.raises(ConfigError, match="below the working directory, where tools may read it"):
            load(audit)
        assert load(audit, tools_work_here=False)
    with pytest.raises(ConfigError, match="lies within the audit"):
        load_answer_keys(own.parent)


def test_no_home(audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(
        AuditError, match=r"no home directory for the key that signs answers: name the keys with"
    ):
        load_answer_keys(audit)


def test_a_folder_that_cannot_be_written(audit: Path, own: Path) -> None:
    own.parent.mkdir()
    own.write_text("a file")
    with pytest.raises(AuditError, match="cannot use the key that signs answers in"):
        load_answer_keys(audit)


def test_the_id_of_a_key_is_no_secret(audit: Path) -> None:
    """It is a digest of the public key, alike in every process."""
    signer = load_answer_signer(audit)
    assert load_answer_keys(audit).key_ids == (signer.key_id,)
    assert len(signer.key_id) == 16
    assert isinstance(load_answer_keys(audit), AnswerKeys)
    assert os.environ.get("AEGIS_ANSWER_KEY") is None


class CountingKey:
    """A public key that counts how often it is asked."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self.key, self.asked = key, 0

    def verify(self, signature: bytes, message: bytes) -> None:
        self.asked += 1
        self.key.verify(signature, message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.key, name)


def test_a_wrong_signature_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes forged answers into the inbox makes work once, however often they are read."""
    monkeypatch.setattr(answer_signature, "_MOST_REMEMBERED", 50)
    private = Ed25519PrivateKey.generate()
    signer = AnswerSigner(private)
    key = CountingKey(private.public_key())
    keys = AnswerKeys((key,))  # type: ignore[arg-type]  # it is one in all that counts
    good = signer.sign(ANSWER)
    forged = [replace(good, signature=bytes([number]) * 64) for number in range(40)]
    forged.append(replace(good, body=good.body + b" "))
    for _ in range(5):
        for each in forged:
            with pytest.raises(AnswerRefused, match="another signature"):
                keys(each)
    assert key.asked == len(forged)
    assert keys(good) == ANSWER
    assert keys(good) == ANSWER
    for number in range(200):  # others take their room, and they are as wrong as before
        with pytest.raises(AnswerRefused, match="another signature"):
            keys(replace(good, signature=number.to_bytes(64)))
    for each in forged:
        with pytest.raises(AnswerRefused, match="another signature"):
            keys(each)
    assert keys(good) == ANSWER
