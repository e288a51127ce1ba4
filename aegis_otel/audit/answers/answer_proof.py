"""Proofs of answers: a keyed digest of who said what to which question.

Whoever can write to the audit directory can write a line that says "approved", and chain it. So an answer
also carries an HMAC, made by the process that took it, with a key that lies outside of the directory. What
that proves is in docs/approvals.md, "What an answer proves".

An HMAC and no signature, because it needs no package and proves the same on one machine: that a process which
can read a file of the user took the answer. Proofs are made and checked here alone, so that signatures of who
took the answer can take their place.
"""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.keys import audit_id, keyed_digest, load_key
from aegis_otel.audit.location import failure, prepare
from aegis_otel.audit.record import AuditRecord
from aegis_otel.config import APPROVAL_KEY
from aegis_otel.errors import AuditError, ConfigError

_SHORTEST, _LONGEST = 32, 4096
"""Bytes of a key."""
_KIND = "hmac-sha256:"
_CHOOSE = f"name another file with `{APPROVAL_KEY.env}`"
_QUESTION = (
    *("decision_id", "action_type", "action_target", "args_digest", "shown_digest", "risk_level", "approval"),
    *("matched_rule", "policy_digest", "agent_name", "tool_name", "tool_call_id", "run_id"),
    "conversation_id",
)
"""Members of the row that say what a human was asked."""
_ANSWER = ("timestamp", "human_decision", "approver", "approval_reason", "result_status")
"""Members of the line that say what they answered, and what came of it."""


class Proofs:
    """Makes and checks the proofs of one audit. The key is read when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key: bytes | None = None
        self._audit = ""

    def of(self, row: AuditRecord, line: AuditRecord) -> str:
        """Return the proof of an answer.

        Args:
            row: The call as it was asked about.
            line: The line with the answer.

        Raises:
            AuditError: the key cannot be read or made.
            ConfigError: it is unusable, or lies within the audit directory.
        """
        question = [_text(getattr(row, name)) for name in _QUESTION]
        answer = [_text(getattr(line, name)) for name in _ANSWER]
        return _KIND + self._digest("answer", [*question, *answer])

    def holds(self, row: AuditRecord, line: AuditRecord) -> bool:
        """Return whether the line has the proof of its answer; raises as `of`."""
        proof = line.proof
        return proof is not None and proof.isascii() and hmac.compare_digest(proof, self.of(row, line))

    def keyed(self, kind: str, *parts: str | None) -> str:
        """Return a keyed digest of `parts`, which nobody without the key can make; raises as `of`."""
        return self._digest(kind, [_text(part) for part in parts])

    def _digest(self, kind: str, parts: list[str | None]) -> str:
        key = self._key
        if key is None:
            prepare(self._directory)
            self._audit = audit_id(load_key(self._directory))
            key = self._key = load_approval_key(self._directory)
        message = msgspec.json.encode([f"aegis {kind}", self._audit, *parts])
        return keyed_digest(key, message).hex()


def load_approval_key(audit: Path, *, make: bool = True) -> bytes:
    """Return the key that answers are proven with.

    Args:
        audit: The audit directory, within which it must not lie.
        make: Whether to make the user's own key, where no file is named and there is none.

    Raises:
        AuditError: it cannot be read or made.
        ConfigError: it is no such key, others can read it, or it lies within the audit directory.
    """
    named = APPROVAL_KEY.value()
    path = Path(os.path.abspath(os.path.expanduser(named))) if named else _users_own()
    if path.resolve().is_relative_to(audit.resolve()):
        raise ConfigError(f"the approval key `{path}` lies within the audit that it is to prove: {_CHOOSE}")
    try:
        try:
            return _read(path)
        except FileNotFoundError:
            if named:
                raise ConfigError(
                    f"there is no approval key `{path}`: make one with `openssl rand -out {path} 32` "
                    "and `chmod 600` it"
                ) from None
            if not make:
                raise
            _make(path)
            return _read(path)
    except OSError as error:
        raise failure("use the approval key", path, error, _CHOOSE) from error


def _users_own() -> Path:
    """Return the place by the XDG Base Directory Specification, which ignores a relative `XDG_STATE_HOME`."""
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise AuditError(f"there is no home directory for the approval key: {_CHOOSE}") from error
    return base / "aegis-otel" / "approval-key"


def _read(path: Path) -> bytes:
    with files.open_key(path) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise ConfigError(f"the approval key `{path}` is not a file: {_CHOOSE}")
        if state.st_uid not in (os.geteuid(), 0):
            raise ConfigError(f"the approval key `{path}` belongs to user {state.st_uid}: make it your own")
        if state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"the approval key `{path}` is open to other users: run `chmod 600` on it")
        key = file.read(_LONGEST + 1)
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise ConfigError(f"the approval key `{path}` does not have {_SHORTEST} to {_LONGEST} bytes")
    return key


def _make(path: Path) -> None:
    """Make the key, once: of many processes, one is first, and its key is the key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with files.replaced(path.parent, path.name, once=True) as draft:
        draft.file.write(os.urandom(_SHORTEST))


def _text(value: str | None) -> str | None:
    """Return the text as the journal has it: see `audit.record.encode`."""
    return None if value is None else value.encode(errors="backslashreplace").decode()
