"""The log of changes of policy, and the texts beside it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aegis_otel.audit.findings import Proof
from aegis_otel.audit.journal.policy_changes import (
    CHANGES,
    TEXT_BYTES,
    PolicyChange,
    decode_change,
    read_changes,
    read_text,
    record_change,
    text_name,
)
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.seals.hash_chain import link, stated
from aegis_otel.audit.seals.seal_log import read_seals
from aegis_otel.audit.verify.verify import verify
from aegis_otel.errors import AuditError
from tests.support.records import write_call

DIGEST = f"sha256:{'a' * 64}"
TEXT = b"rules: []\n"


def change(kind: str = "started", **changed: Any) -> PolicyChange:
    fields = {"change": kind, "timestamp": "2026-11-22T14:30:00.000000+00:00", "policy_digest": DIGEST}
    return PolicyChange(**fields | changed)  # type: ignore[arg-type]


def record(audit: Path, text: bytes | None = TEXT, **changed: str) -> None:
    record_change(audit, None, change(**changed), text)


def findings(audit: Path) -> list[str]:
    return list(map(str, verify(audit).findings))


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """A sealed audit with one policy, three changes and a call."""
    audit = tmp_path / "audit"
    record(audit)
    record(audit, None, kind="refused", problem="line 1: broken")
    record(audit, None, kind="stopped")
    write_call(audit, "1")
    assert seal(audit).problems == []
    return audit


def test_changes_and_text_are_kept(audit: Path) -> None:
    kinds = [each.change for each in read_changes(audit)]
    assert kinds == ["started", "refused", "stopped"]
    assert read_text(audit, DIGEST) == TEXT
    assert next(read_changes(audit)).text_sha256 == hashlib.sha256(TEXT).hexdigest()
    modes = [stat.S_IMODE((audit / name).stat().st_mode) for name in (CHANGES, text_name(DIGEST))]
    assert modes == [0o600, 0o600]


def test_the_seal_covers_them_and_they_are_verified(audit: Path) -> None:
    sealed = read_seals(audit)[-1].changes
    assert sealed is not None
    assert sealed.lines == 3
    proof = verify(audit)
    assert (proof.findings, proof.notes, proof.policies, proof.rows) == ([], [], 1, 1)


def test_what_is_not_sealed_yet_is_said(audit: Path) -> None:
    record(audit)
    assert any("1 of its lines are not sealed yet" in each for each in verify(audit).unproven)
    write_call(audit, "2")
    assert seal(audit).problems == []
    assert not any("changes.jsonl" in each for each in verify(audit).unproven)


def test_a_seal_without_new_changes_has_none(audit: Path) -> None:
    write_call(audit, "2")
    seal(audit)
    assert read_seals(audit)[-1].changes is None
    assert findings(audit) == []


def edit(audit: Path, old: bytes, new: bytes) -> None:
    path = audit / CHANGES
    path.write_bytes(path.read_bytes().replace(old, new))


def cut(audit: Path) -> None:
    path = audit / CHANGES
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))


DAMAGE = {
    "a changed line": (lambda audit: edit(audit, b"broken", b"brokem"), "does not follow line 1"),
    "a line cut off": (cut, "has 2 lines, and seal 1 covers 3"),
    "no log": (lambda audit: (audit / CHANGES).unlink(), "is missing or empty, and seal 1 covers 3"),
    "a changed text": (
        lambda audit: (audit / text_name(DIGEST)).write_bytes(b"rules: [{approval: auto}]"),
        "was changed: it is not the text",
    ),
    "no text": (lambda audit: (audit / text_name(DIGEST)).unlink(), "is missing: it is the text"),
    "a link": (
        lambda audit: (
            (audit / text_name(DIGEST)).unlink(),
            (audit / text_name(DIGEST)).symlink_to("/etc/passwd"),
        ),
        "a symbolic link",
    ),
    "a pipe": (lambda audit: ((audit / CHANGES).unlink(), os.mkfifo(audit / CHANGES)), "a named pipe"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(audit: Path, damage: str) -> None:
    break_it, what = DAMAGE[damage]
    break_it(audit)  # type: ignore[no-untyped-call]
    assert [each for each in findings(audit) if each.startswith("policies/") and what in each] != []


def test_a_log_that_was_made_anew_is_not_what_was_sealed(audit: Path) -> None:
    (audit / CHANGES).unlink()
    for _ in range(4):
        record(audit)
    assert any("is not the line that seal 1 covers" in each for each in findings(audit))
    write_call(audit, "2")
    assert any("is not as it was sealed" in each for each in seal(audit).problems)
    assert read_seals(audit)[-1].changes is None


def test_other_files_are_noted(audit: Path) -> None:
    (audit / "policies" / "notes.txt").write_text("x")
    (audit / text_name(f"sha256:{'b' * 64}")).write_text("rules: []")
    proof: Proof = verify(audit)
    assert proof.findings == []
    assert sorted(note.partition(":")[0] for note in proof.notes) == [
        text_name(f"sha256:{'b' * 64}"),
        "policies/notes.txt",
    ]


def test_the_first_text_of_a_policy_stays(audit: Path) -> None:
    """Another comment is the same policy; another policy under that name is a finding."""
    record(audit, b"# new comment\nrules: []\n")
    assert read_text(audit, DIGEST) == TEXT
    assert findings(audit) == []


def test_a_planted_text_is_found(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    record(audit, None)
    (audit / text_name(DIGEST)).write_bytes(b"rules: [{approval: auto}]")
    record(audit)
    assert any("was changed" in each for each in findings(audit))


PLANTED: dict[str, Callable[[Path], object]] = {
    "a directory": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device, by a link": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "an empty file": Path.touch,
    "a file that nobody may read": lambda path: path.touch(0),
    "a file larger than a text can be": lambda path: (path.touch(), os.truncate(path, TEXT_BYTES + 1)),
    "a text that takes long to parse": lambda path: path.write_bytes(b"- [1, 2]\n" * (1 << 20)),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_has_the_name_of_a_text_stops_nothing(tmp_path: Path, planted: str) -> None:
    """A change is recorded with the SHA-256 of its own text, a sealing seals it, and `verify` reports."""
    audit = tmp_path / "audit"
    record(audit, None)
    PLANTED[planted](audit / text_name(DIGEST))
    before = (audit / text_name(DIGEST)).lstat()
    began = time.monotonic()
    record(audit)
    assert time.monotonic() - began < 2
    assert [each.text_sha256 for each in read_changes(audit)] == [None, hashlib.sha256(TEXT).hexdigest()]
    write_call(audit, "1")
    assert seal(audit).problems == []
    assert read_seals(audit)[-1].changes is not None
    after = (audit / text_name(DIGEST)).lstat()
    assert (after.st_mode, after.st_ino, after.st_size) == (before.st_mode, before.st_ino, before.st_size)
    if not planted.startswith("a file that nobody"):
        assert any(each.startswith(text_name(DIGEST)) for each in findings(audit))


def test_a_torn_line_is_cut_off(audit: Path) -> None:
    with open(audit / CHANGES, "ab") as log:
        log.write(b'{"change":"star')
    record(audit, None, kind="stopped")
    assert [each.change for each in read_changes(audit)] == ["started", "refused", "stopped", "stopped"]
    assert findings(audit) == []


def test_threads_write_one_chain(tmp_path: Path) -> None:
    audit = tmp_path / "audit"

    def write() -> None:
        for _ in range(20):
            record(audit)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(list(read_changes(audit))) == 80
    assert findings(audit) == []


def test_what_cannot_be_written_says_why(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    record(audit)
    (audit / CHANGES).write_bytes(b"nothing of ours\n")
    with pytest.raises(AuditError, match="does not end in a line of an audit"):
        record(audit)


@pytest.mark.parametrize("line", [b"{}", b'{"change":"x"}', b"[" * 5000, b"\xff", b'{"change": "stopped"}'])
def test_what_is_no_change_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_change(line)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timestamp": "now"},
        {"timestamp": "infinity"},
        {"timestamp": "2026-11-22"},
        {"timestamp": "2026-11-22T14:30:00.000000"},
        {"timestamp": "2026-11-22T14:30:00.000000+02:00"},
        {"rules": 1 << 63},
        {"pid": -1},
    ],
)
def test_a_change_that_no_process_writes_is_found_and_not_shown(audit: Path, wrong: dict[str, Any]) -> None:
    """Its chain holds, since whoever can write to the directory can work it out."""
    last = stated((audit / CHANGES).read_bytes().splitlines()[-1])
    assert last is not None
    _, line = link(last, msgspec.json.encode(change(**wrong)))
    with open(audit / CHANGES, "ab") as log:
        log.write(line)
    (found,) = findings(audit)
    assert found.startswith("policies/changes.jsonl: line 4")
    assert "is no change of policy" in found
    with connect(audit) as connection:
        assert connection.execute("SELECT count(*) FROM policy_changes").fetchall() == [(3,)]


def test_an_audit_without_policies_is_as_before(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    write_call(audit, "1")
    assert seal(audit).problems == []
    proof = verify(audit)
    assert (proof.findings, proof.policies, list(read_changes(audit))) == ([], 0, [])
    assert not (audit / "policies").exists()


def test_a_lock_that_is_never_let_go_is_waited_for_and_said(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    record(audit)
    with open(audit / CHANGES, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(AuditError, match=r"changes\.jsonl.*has held its lock"):
            record(audit)
    record(audit)
    assert len(list(read_changes(audit))) == 2
