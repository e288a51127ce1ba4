"""Read the policies whose text an audit keeps, and check that each is the one of its digest."""

from __future__ import annotations

from pathlib import Path

from aegis_otel.audit.journal.policy_changes import TEXT_FILE, read_text, text_digests, text_name
from aegis_otel.audit.lake.scan import find_mirrors
from aegis_otel.errors import AuditError, PolicyError
from aegis_otel.policy import Policy


def find_digests(directory: Path, beginning: str) -> list[str]:
    """Return the digests of the kept policies that begin so, with or without `sha256:`.

    Raises:
        AuditError: the audit cannot be read.
    """
    wanted = f"sha256:{beginning.removeprefix('sha256:')}"
    audits = (directory, *find_mirrors(directory))
    return sorted({each for audit in audits for each in text_digests(audit) if each.startswith(wanted)})


def kept_text(directory: Path, digest: str) -> tuple[str, str | None]:
    """Return the text of a policy, and why it cannot be had or is not what was in force; None where it is."""
    fault = "it is missing"
    for audit in (directory, *find_mirrors(directory)):
        try:
            content = read_text(audit, digest)
        except AuditError as error:
            fault = str(error)
            continue
        if content is None:
            continue
        try:
            policy = Policy.from_text(content, str(audit / text_name(digest)))
        except PolicyError as error:
            fault = str(error)
            continue
        if policy.digest == digest:
            return content.decode(), None
        fault = f"it is the policy {policy.digest}: somebody changed it (see `aegis audit verify`)"
    return "", fault


def kept_policy(directory: Path, digest: str | None) -> Policy | None:
    """Return the policy with a digest; None where its text is not kept, was changed, or cannot be read."""
    if digest is None or not TEXT_FILE.fullmatch(f"{digest.removeprefix('sha256:')}.yaml"):
        return None
    text, fault = kept_text(directory, digest)
    return None if fault is not None else Policy.from_text(text, f"policy {digest[:19]}")
