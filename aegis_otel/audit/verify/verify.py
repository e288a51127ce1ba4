"""Verify an audit: whether it is as it was written, and what cannot be proven from it alone.

Verification changes nothing and needs no right to write. While it lasts nothing is sealed; writers go on.
docs/audit-proof.md says what each check proves.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.answers.call_check import check_calls
from aegis_otel.audit.findings import Proof
from aegis_otel.audit.journal.files import shown_name
from aegis_otel.audit.keys import KEY_BYTES, audit_id
from aegis_otel.audit.lake.scan import find_mirrors
from aegis_otel.audit.location import (
    JOURNAL,
    KEY,
    LAKE,
    MIRROR,
    POLICIES,
    REMOTE,
    SEALS,
    audit_errors,
    failure,
)
from aegis_otel.audit.seals.ed25519_keys import load_public_key
from aegis_otel.audit.seals.hash_chain import check, seals_origin
from aegis_otel.audit.verify.journal import check_journal
from aegis_otel.audit.verify.lake import check_lake
from aegis_otel.audit.verify.policies import check_policies
from aegis_otel.audit.verify.rows import check_across, check_rows, check_unfinished
from aegis_otel.audit.verify.seals import Ledger, check_seals
from aegis_otel.audit.verify.witness import compare_witness

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_PARTS = (JOURNAL, KEY, LAKE, MIRROR, POLICIES, REMOTE, SEALS)
_DRAFT = re.compile(r"\.(aegis|key|remote)-[0-9a-f]{16}(\.draft)?")
"""What a killed process leaves of an unfinished file, in this version and in earlier ones."""


def verify(
    directory: Path,
    *,
    witness: Sequence[Path] = (),
    public_keys: Sequence[Path] = (),
    audit: str = "",
    mirrors: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Proof:
    """Check everything in an audit against everything else.

    Args:
        directory: The audit's; it exists.
        witness: Files of seal events that an OpenTelemetry Collector wrote.
        public_keys: The keys that seals may be signed with, Ed25519 in PEM.
        audit: The id that the audit is known by; another audit in its place is a finding.
        mirrors: Check what was fetched of other audits as well: see `audit.query.connection.open_view`.
        progress: Called with the number of bytes that were read, and of all.

    Raises:
        AuditError: the audit cannot be read, or was written by a newer version.
        ConfigError: a public key is not one, or the package for it is missing.
    """
    proof = Proof(directory)
    scope = _Scope(witness, [load_public_key(path) for path in public_keys], audit, mirrors)
    with audit_errors("read the audit at", directory, "restore it from a copy"):
        with _unsealed(directory):
            if progress is not None:
                size = _size(directory) + sum(map(os.path.getsize, witness))
                proof.on_progress = _adding_up(progress, size)
            ledger = _check_directory(proof, scope)
        # Not under the lock: a witness may be a pipe, and no sealing waits for it.
        _compare_with_witness(proof, ledger, scope)
    return proof


class _Scope(NamedTuple):
    """What an audit is checked against; see `verify`."""

    witness: Sequence[Path]
    keys: Sequence[Ed25519PublicKey]
    audit: str
    mirrors: bool


def _check_directory(proof: Proof, scope: _Scope) -> Ledger | None:
    """Check the audit of the directory, what was fetched of others, and both against each other.

    Returns:
        What the seals of the audit state; None where the directory has only what others have sealed.
    """
    directory = proof.directory
    if not os.listdir(directory):
        proof.found(".", "the directory is empty: there is no audit in it")
    mirrors = find_mirrors(directory) if scope.mirrors else []
    ledger: Ledger | None = None
    sealed: list[Path] = []
    if scope.mirrors and not scope.audit and _has_no_audit(directory):
        proof.notes.append(".: this machine has no audit of its own; what others have sealed is checked")
        if not mirrors:
            proof.found(".", "there is no audit in it, and none at the address")
    else:
        ledger, sealed = _check_own(proof, scope)
    _check_top(proof, scope)
    for mirror in mirrors:
        sealed += _check_mirror(proof, mirror, scope)
    if mirrors and not proof.findings:
        check_across(proof, sealed)
    return ledger


def _compare_with_witness(proof: Proof, ledger: Ledger | None, scope: _Scope) -> None:
    """Compare the seals with the witness, and note what is not proven without one."""
    others = compare_witness(proof, ledger, scope.witness) if ledger and scope.witness else set()
    if not scope.audit and (others or (scope.keys and not scope.witness)):
        known = f"the witness knows {len(others)} more" if others else "the same key may sign others"
        proof.unproven.append(
            f"that no other audit was put in the place of the one that you mean ({known}): give --audit"
        )
    if not scope.witness:
        proof.unproven.append(
            "that no seal was taken from the end, and that this is no older copy put back: give --witness"
        )
    if not scope.witness and not scope.keys:
        proof.unproven.append(
            "that nobody who can write to the directory rewrote all of it: give --witness or --public-key"
        )


def _check_own(proof: Proof, scope: _Scope) -> tuple[Ledger, list[Path]]:
    """Check the audit of the directory, and return what its seals state and the segments that are intact."""
    directory = proof.directory
    _identify(proof, scope)
    ledger = check_seals(proof, scope.keys, witnessed=bool(scope.witness))
    intact = check_lake(proof, ledger)
    check_policies(proof, ledger)
    begun: dict[str, str] = {}
    if (directory / JOURNAL).exists() or not (scope.witness or scope.keys):
        check_journal(proof, ledger)
        if not proof.findings:
            begun = check_calls(proof)
    else:
        proof.notes.append(f"{JOURNAL}: is not there, so this was checked as a copy of what is sealed")
    check_unfinished(proof, intact)
    if not proof.findings:  # after tampering, rows prove nothing
        check_rows(proof, ledger, intact, begun)
    return ledger, [directory / LAKE / each.segment.file for each in intact]


def _check_mirror(proof: Proof, mirror: Path, scope: _Scope) -> list[Path]:
    """Check what was fetched of another audit, and return the segments that are intact."""
    part = Proof(mirror, on_progress=proof.on_progress, audit=mirror.name)
    ledger = check_seals(part, scope.keys, witnessed=bool(scope.witness))
    intact = check_lake(part, ledger)
    check_policies(part, ledger)
    if not part.findings:
        check_rows(part, ledger, intact, {})
    if scope.witness:
        compare_witness(part, ledger, scope.witness)
    place = f"{MIRROR}/{mirror.name}"
    proof.findings += [each._replace(file=f"{place}/{each.file}") for each in part.findings]
    proof.notes += [f"{place}/{each}" for each in part.notes]
    proof.unproven += [f"of `{place}`: {each}" for each in part.unproven]
    proof.segments += part.segments
    proof.policies += part.policies
    proof.rows += part.rows
    return [mirror / LAKE / each.segment.file for each in intact]


def _has_no_audit(directory: Path) -> bool:
    """Return whether there is no audit, as on a machine that only reads what others have sealed."""
    if any(os.path.lexists(directory / part) for part in (KEY, LAKE, SEALS)):
        return False
    return not (os.path.lexists(directory / JOURNAL) and os.listdir(directory / JOURNAL))


def _check_top(proof: Proof, scope: _Scope) -> None:
    """Note what lies beside the parts of an audit: no reader takes rows from it."""
    for name in sorted(os.listdir(proof.directory)):
        if name not in _PARTS and not _DRAFT.fullmatch(name):
            proof.notes.append(f"{shown_name(name)}: does not belong to the audit; it is not read")
    if scope.mirrors:
        if proof.audit and os.path.lexists(proof.directory / MIRROR / proof.audit):
            proof.notes.append(f"{MIRROR}/{proof.audit}: is of this audit itself, and is not read")
        return
    if os.path.lexists(proof.directory / MIRROR):
        proof.notes.append(f"{MIRROR}: is not read, since the audit is not named by an address")
    if os.path.lexists(proof.directory / REMOTE):
        proof.notes.append(
            f"{REMOTE}: sends nothing anywhere by itself; name the audit by its address, and what others "
            "have sealed there is checked as well"
        )


def _identify(proof: Proof, scope: _Scope) -> None:
    """Find out by the key and by the first seal which audit this is."""
    key_id = None
    file = proof.open(KEY)
    if file is not None:
        with file:
            key = file.read(KEY_BYTES + 1)
        if len(key) == KEY_BYTES:
            key_id = audit_id(key)
        else:
            proof.found(KEY, f"is damaged: it has not {KEY_BYTES} bytes")
    elif not (scope.witness or scope.keys) and not proof.findings:
        proof.found(
            KEY, "is missing: nothing says that these seals are of this audit (see docs/audit-proof.md)"
        )
    stated, is_intact = _first_seal(proof)
    if key_id and stated is not None and is_intact and not hmac.compare_digest(stated, key_id):
        proof.found(KEY, "is not the key that this audit was begun with: it was changed, or the seals were")
    proof.audit = (stated if is_intact or key_id is None else key_id) or key_id or ""
    if scope.audit and proof.audit != scope.audit:
        what = f"is the audit `{proof.audit}`, and `{scope.audit}` was expected: another one is in its place"
        proof.found(".", what)


class _First(msgspec.Struct):
    audit: str


def _first_seal(proof: Proof) -> tuple[str | None, bool]:
    """Return the id of the audit that the first seal names, and whether its chain begins there."""
    file = proof.open(SEALS)
    if file is None:
        return None, False
    with file:
        line = file.readline().removesuffix(b"\n")
    try:
        stated = msgspec.json.decode(line, type=_First).audit
    except (ValueError, RecursionError):
        return None, False
    return stated, check(seals_origin(stated), line) is not None


@contextmanager
def _unsealed(directory: Path) -> Iterator[None]:
    """Keep the audit from being sealed, and files from being removed, while the block runs."""
    path = directory / SEALS
    try:
        descriptor = files.open_file(directory, SEALS)
    except FileNotFoundError:
        yield
        if path.exists():
            raise failure(
                "verify the audit at", directory, OSError("it was sealed meanwhile"), "try again"
            ) from None
        return
    except files.NotAFile:
        yield  # reported when it is read
        return
    except OSError as error:
        raise failure("read the audit at", path, error) from error
    try:
        try:
            files.lock(descriptor, fcntl.LOCK_SH)
        except TimeoutError as error:
            raise failure("verify the audit at", directory, error, "end it, and try again") from error
        yield
    finally:
        os.close(descriptor)


def _adding_up(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    done = 0

    def add(read: int) -> None:
        nonlocal done
        done += read
        progress(done, total)

    return add


def _size(directory: Path) -> int:
    """Return the bytes of all files, as far as they can be seen."""
    paths = (os.path.join(folder, name) for folder, _, names in os.walk(directory) for name in names)
    return sum(os.lstat(path).st_size for path in paths if os.path.lexists(path))
