"""Send the sealed part of an audit to object storage, after each sealing.

Below the prefix each audit has a folder with its id, laid out as its directory is: `seals.jsonl`, `lake/` and
`policies/`.
A file is sent before the seals that name it, so that every reader sees whole seals only. What was sent is
known from a listing and nowhere else, so a crash leaves nothing to repair. Key and journal are not sent.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aegis_otel.audit import files
from aegis_otel.audit.findings import Proof
from aegis_otel.audit.journal.policy_changes import (
    CHANGES,
    TEXT_BYTES,
    read_change_lines,
    sealed_part,
    stated_texts,
)
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.cleanup import GRACE
from aegis_otel.audit.location import LAKE, POLICIES, REMOTE, SEALS, alone, prepare
from aegis_otel.audit.maintenance.object_store import list_sizes, reaching, read_object
from aegis_otel.audit.seals.seal_log import Seal, Segment, live_segments, read_seal_lines, sealed_changes
from aegis_otel.audit.verify.removal import removable
from aegis_otel.audit.verify.seals import check_seals
from aegis_otel.config import SEAL_KEY
from aegis_otel.errors import AuditError

if TYPE_CHECKING:
    from obstore.store import ObjectStore


def push(directory: Path, url: str | None) -> list[str]:
    """Send what is sealed and not there yet, and remove what was replaced.

    Args:
        directory: The audit's.
        url: The address that an argument or the environment names; None for a local audit, which is not sent.

    Returns:
        What could not be sent or removed and why, a sentence for each.

    Raises:
        AuditError: the place cannot be reached, or holds seals that this audit does not have.
    """
    if url is None or not os.path.lexists(directory / SEALS):
        return []
    prepare(directory, url)
    with alone(directory, REMOTE), reaching(url) as store:
        audit = audit_id(load_key(directory))
        content = read_seal_lines(directory)
        proof = Proof(directory, audit=audit)
        ledger = check_seals(
            proof, []
        )  # afterwards: it has all that `content` names, and what is sealed since
        if proof.findings:  # such as a seal that somebody planted to have files removed
            raise AuditError(
                f"the seals of `{directory}` contradict each other, and nothing is sent: "
                f"{proof.findings[0]} (see `aegis audit verify`)"
            )
        if not content.startswith(read_object(store, f"{audit}/{SEALS}", len(content)) or b""):
            raise AuditError(
                f"`{url}/{audit}/{SEALS}` has seals that `{directory}` does not have, which is an older "
                "state, or a copy that another machine uses: nothing is sent"
            )
        there = list_sizes(store, f"{audit}/{LAKE}/")
        unsent = [each for each in live_segments(ledger.seals) if there.get(each.file) != each.bytes]
        sent = [_send(store, directory, f"{audit}/{LAKE}/{each.file}", each) for each in unsent]
        problems = [problem for problem in sent if problem]
        problems += _send_policies(store, directory, audit, ledger.seals)
        store.put(f"{audit}/{SEALS}", content)
        obsolete = {number: file for number, file in _obsolete(ledger.seals).items() if file in there}
        allowed = removable(directory, ledger, obsolete.keys())
        for number in sorted(allowed):
            store.delete(f"{audit}/{LAKE}/{obsolete[number]}")
        if kept := sorted(obsolete.keys() - allowed):
            problems.append(
                f"`{url}/{audit}/{LAKE}/{obsolete[kept[0]]}` and {len(kept) - 1} more files were replaced, "
                "and stay there: their rows are not found, as they were sealed, in what replaced them, or "
                f"were removed by a seal that the key of `{SEAL_KEY.env}` here has not signed"
            )
        return problems


def _obsolete(seals: list[Seal]) -> dict[int, str]:
    """Return the segments that were replaced or pruned so long ago that no reader uses older seals."""
    names = {segment.segment: segment.file for seal in seals for segment in seal.segments}
    before = datetime.now(UTC) - GRACE
    past = [seal for seal in seals if datetime.fromisoformat(seal.sealed_at) < before]
    return {number: names[number] for seal in past for number in seal.replaces}


def _send_policies(store: ObjectStore, directory: Path, audit: str, seals: list[Seal]) -> list[str]:
    """Send what is sealed of the log of changes of policy, and the texts that it names."""
    sealed = sealed_changes(seals)
    if sealed is None:
        return []
    try:
        content = sealed_part(read_change_lines(directory), audit, sealed)
    except AuditError as error:
        return [f"{error}: it is not sent"]
    if content is None:
        return [f"`{directory / CHANGES}` is not as it was sealed and is not sent"]
    there = {f"{POLICIES}/{name}": size for name, size in list_sizes(store, f"{audit}/{POLICIES}/").items()}
    problems = []
    for name, sha256 in stated_texts(content).items():
        if name in there:
            continue
        try:
            text = files.read_file(directory, name, TEXT_BYTES)
        except (FileNotFoundError, AuditError):  # or it is no file, or larger than any text
            text = b""
        if hashlib.sha256(text).hexdigest() == sha256:
            store.put(f"{audit}/{name}", text)
        else:
            problems.append(f"the policy's text `{directory / name}` is missing or changed and is not sent")
    if there.get(CHANGES) != len(content):
        store.put(f"{audit}/{CHANGES}", content)
    return problems


def _send(store: ObjectStore, directory: Path, name: str, segment: Segment) -> str | None:
    """Send one file and check that it arrived; return why not, where that is the file's fault."""
    path = directory / LAKE / segment.file
    try:
        content = files.read_file(directory, f"{LAKE}/{segment.file}")
    except FileNotFoundError:
        return f"the sealed file `{path}` is missing and cannot be sent"
    if hashlib.sha256(content).hexdigest() != segment.sha256:
        return f"the sealed file `{path}` is damaged and is not sent"
    store.put(name, content)
    if store.head(name)["size"] != segment.bytes:
        return f"the sealed file `{path}` did not arrive whole"
    return None
