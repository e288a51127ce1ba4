"""Check the log of changes of policy, and the text of each policy that was in force."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from aegis_otel.audit import files
from aegis_otel.audit.findings import Proof
from aegis_otel.audit.journal.files import is_text
from aegis_otel.audit.journal.policy_changes import CHANGES, TEXT_FILE, decode_change, text_name
from aegis_otel.audit.location import POLICIES, audit_errors
from aegis_otel.audit.seals.hash_chain import changes_origin
from aegis_otel.audit.verify.seals import Ledger


def check_policies(proof: Proof, ledger: Ledger) -> None:
    """Check `policies/` and add the findings to the proof.

    Raises:
        AuditError: a file cannot be read.
    """
    texts = _check_changes(proof, ledger)
    for name in sorted(_names(proof) - texts.keys() - {CHANGES}):
        if is_text(name) and TEXT_FILE.fullmatch(name.removeprefix(f"{POLICIES}/")):
            proof.notes.append(f"{name}: no change of policy names it")
        else:
            proof.note_other(name, is_draft=name.endswith(".draft"))
    for name, sha256 in sorted(texts.items()):
        digest = proof.digest(name)
        if digest is not None and digest[1] != sha256:
            proof.found(name, "was changed: it is not the text of the policy that was in force")
        elif digest is None and not os.path.lexists(proof.directory / name):
            proof.found(name, "is missing: it is the text of a policy that was in force")
    proof.policies = len(texts)


def _check_changes(proof: Proof, ledger: Ledger) -> dict[str, str]:
    """Check the log, and return the SHA-256 of each text that it names, by the name of its file."""
    sealed = {seal.changes.lines: (seal.changes.chain, seal.seal) for seal in ledger.seals if seal.changes}
    texts: dict[str, str] = {}
    count = 0
    for line in proof.chained(CHANGES, changes_origin(proof.audit), "the beginning of this audit"):
        count = line.number
        chain, seal = sealed.get(count, (line.chain, 0))
        if chain != line.chain:
            proof.found(CHANGES, f"is not the line that seal {seal} covers", line.number, line.byte)
        if line.intact:
            try:
                change = decode_change(line.content)
            except ValueError as error:
                proof.found(CHANGES, f"is no change of policy ({error})", line.number, line.byte)
                continue
            if change.policy_digest and change.text_sha256:
                texts.setdefault(text_name(change.policy_digest), change.text_sha256)
    covered = max(sealed, default=0)
    if count < covered:
        has = f"has {count} lines" if count else "is missing or empty"
        proof.found(CHANGES, f"{has}, and seal {sealed[covered][1]} covers {covered}")
    if count > covered:
        proof.unproven.append(
            f"that no line was cut off at the end of `{CHANGES}`: {count - covered} of its lines are not "
            "sealed yet (`aegis audit seal`)"
        )
    return texts


def _names(proof: Proof) -> set[str]:
    with audit_errors("read the audit at", proof.directory / POLICIES), suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.lstat(proof.directory / POLICIES).st_mode):
            proof.found(POLICIES, "is not a directory of the audit")
            return set()
        folder = files.open_folder(proof.directory, POLICIES)
        try:
            return {f"{POLICIES}/{name}" for name in os.listdir(folder)}
        finally:
            os.close(folder)
    return set()
