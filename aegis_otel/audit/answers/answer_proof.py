"""Proofs of answers: a keyed digest of who said what to which question.

Whoever can write to the audit directory can add a chained line that says "approved". So an answer also has an
HMAC, made by the process that took it, with a key outside of the directory. docs/approvals.md has what that
proves, under "What an answer proves".

An HMAC needs no package, and on one machine it proves the same as a signature: that a process which can read
a file of the user took the answer. Proofs are made and checked only here, so that signatures of the process
that took the answer could replace them.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.keys import audit_id, keyed_digest, load_key
from aegis_otel.audit.location import audit_errors, prepare, user_folder
from aegis_otel.audit.record import SUBJECT, AuditRecord
from aegis_otel.config import APPROVAL_KEY
from aegis_otel.errors import ConfigError

_SHORTEST, _LONGEST = 32, 4096
"""Bytes of a key."""
_FILE = "approval-key"
_KIND = "hmac-sha256:"
_CHOOSE = f"name another file with `{APPROVAL_KEY.env}`"
_QUESTION = (
    *("decision_id", "action_type", "action_target", "args_digest", "shown_digest", "risk_level", "approval"),
    *("matched_rule", "policy_digest", "agent_name", "tool_name", "tool_call_id", "run_id"),
    "conversation_id",
)
"""Members of the row that say what a human was asked."""
_ANSWER = ("timestamp", "human_decision", "approver", "approval_reason", "result_status")
"""Members of the line that say what the human answered, and the status of the call after it."""


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
            ConfigError: the key is unusable, or lies within the audit directory.
        """
        subject = [getattr(row, name) for name in SUBJECT]
        question = [getattr(row, name) for name in _QUESTION]
        if any(each is not None for each in subject):  # else it is as before there were subjects
            question += subject
        if row.approval_terms:
            question += ["approval_terms", row.approval_terms]
        answer = (getattr(line, name) for name in _ANSWER)
        return _KIND + self.keyed("answer", *question, *answer)

    def holds(self, row: AuditRecord, line: AuditRecord) -> bool:
        """Return whether the line has the proof of its answer; raises what `of` raises."""
        proof = line.proof
        return proof is not None and proof.isascii() and hmac.compare_digest(proof, self.of(row, line))

    def keyed(self, kind: str, *parts: str | None) -> str:
        """Return a digest of `parts` that needs the approval key, as hex digits; raises what `of` raises."""
        if self._key is None:
            prepare(self._directory)
            self._audit = audit_id(load_key(self._directory))
            self._key = load_approval_key(self._directory)
        # The journal has the texts in this form: see `audit.record.encode`.
        legible = [part and part.encode(errors="backslashreplace").decode() for part in parts]
        return keyed_digest(self._key, msgspec.json.encode([f"aegis {kind}", self._audit, *legible])).hex()


def load_approval_key(audit: Path, *, make: bool = True) -> bytes:
    """Return the key that answers are proven with.

    Args:
        audit: The audit directory, which must not contain the key.
        make: Whether to make the user's own key if there is none and the settings name no other file.

    Raises:
        AuditError: the key cannot be read or made.
        ConfigError: the key is unusable, others can read it, or it lies within the audit directory.
    """
    named = APPROVAL_KEY.value()
    path = (
        Path(os.path.abspath(os.path.expanduser(named)))
        if named
        else user_folder("the approval key", _CHOOSE) / _FILE
    )
    if path.resolve().is_relative_to(audit.resolve()):
        raise ConfigError(f"the approval key `{path}` lies within the audit that it is to prove: {_CHOOSE}")
    with audit_errors("use the approval key", path, _CHOOSE):
        if make and not named and not os.path.lexists(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with files.replaced(path.parent, path.name, once=True) as draft:  # the first process makes it
                draft.file.write(os.urandom(_SHORTEST))
        try:
            key = files.read_secret(path, "the approval key", _LONGEST + 1)
        except FileNotFoundError:
            if not named:
                raise
            raise ConfigError(
                f"there is no approval key `{path}`: make one with `openssl rand -out {path} 32` "
                "and `chmod 600` it"
            ) from None
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise ConfigError(f"the approval key `{path}` does not have {_SHORTEST} to {_LONGEST} bytes")
    return key
