"""Verification: whether an audit is as it was written, and what nobody can tell from it alone.

It changes nothing and needs to write nothing. As long as it lasts nothing is sealed; writers are not held up.
docs/audit-proof.md says what each check proves.
"""

from __future__ import annotations

import fcntl
import hmac
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from aegis_otel.audit.chain import check, seals_origin
from aegis_otel.audit.key import KEY_BYTES, audit_id
from aegis_otel.audit.location import JOURNAL, KEY, SEALS, failure
from aegis_otel.audit.proof import Proof
from aegis_otel.audit.signing import load_public_key
from aegis_otel.audit.verify_journal import check_journal
from aegis_otel.audit.verify_lake import check_lake
from aegis_otel.audit.verify_rows import check_rows, check_unfinished
from aegis_otel.audit.verify_seals import check_seals
from aegis_otel.audit.witness import Witness, compare, read_witness
from aegis_otel.errors import AuditError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class _First(msgspec.Struct):
    audit: str


def verify(
    directory: Path,
    *,
    witness: Sequence[Path] = (),
    public_keys: Sequence[Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Proof:
    """Check everything in an audit against everything else.

    Args:
        directory: The audit's; it exists.
        witness: Files that an OpenTelemetry Collector wrote of the events of sealings.
        public_keys: Ed25519, PEM: those that seals may be signed with.
        progress: Told how many bytes were read, and of how many.

    Raises:
        AuditError: it cannot be read, or was written by a newer version.
        ConfigError: a public key is none, or the package for it is missing.
    """
    keys = [load_public_key(path) for path in public_keys]
    try:
        return _verify(Proof(directory), witness, keys, progress)
    except AuditError:
        raise
    except OSError as error:
        raise failure("read the audit at", directory, error, "restore it from a copy") from error


def _verify(
    proof: Proof,
    witness: Sequence[Path],
    keys: Sequence[Ed25519PublicKey],
    progress: Callable[[int, int], None] | None,
) -> Proof:
    directory = proof.directory
    with _at_rest(directory):
        if progress is not None:
            proof.tell = _adding_up(progress, _size(directory) + sum(map(os.path.getsize, witness)))
        if not os.listdir(directory):
            proof.found(".", "the directory is empty: there is no audit in it")
        _identify(proof, known_otherwise=bool(witness or keys))
        ledger = check_seals(proof, keys)
        intact = check_lake(proof, ledger)
        if (directory / JOURNAL).exists() or not (witness or keys):
            check_journal(proof, ledger)
        else:
            proof.notes.append(f"{JOURNAL}: is not there, so this was checked as a copy of what is sealed")
        check_unfinished(proof, intact)
        if not proof.findings:  # of what was tampered with, rows say nothing
            check_rows(proof, intact)
    if witness:
        seen = Witness()
        for path in witness:
            read_witness(path, proof, seen)
        compare(proof, ledger, seen)
    else:
        proof.unproven.append(
            "that no seal was taken from the end, and that this is no older copy put back: give --witness"
        )
        if not keys:
            proof.unproven.append(
                "that nobody who can write to the directory rewrote all of it: give --witness or --public-key"
            )
    return proof


def _identify(proof: Proof, *, known_otherwise: bool) -> None:
    """Find out which audit this is: its key says it, and its first seal."""
    key_id = None
    file = proof.open(KEY)
    if file is not None:
        with file:
            key = file.read(KEY_BYTES + 1)
        if len(key) == KEY_BYTES:
            key_id = audit_id(key)
        else:
            proof.found(KEY, f"is damaged: it has not {KEY_BYTES} bytes")
    elif not known_otherwise and not proof.findings:
        proof.found(
            KEY, "is missing: nothing says that these seals are of this audit (see docs/audit-proof.md)"
        )
    stated, intact = _first_seal(proof)
    if key_id is not None and stated is not None and intact and not hmac.compare_digest(stated, key_id):
        proof.found(KEY, "is not the key that this audit was begun with: it was changed, or the seals were")
    proof.audit = (stated if intact or key_id is None else key_id) or key_id or ""


def _first_seal(proof: Proof) -> tuple[str | None, bool]:
    """Which audit the first seal says it is of, and whether its chain begins there."""
    file = proof.open(SEALS)
    if file is None:
        return None, False
    with file:
        line = file.readline().removesuffix(b"\n")
    try:
        stated = msgspec.json.decode(line, type=_First).audit
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None, False
    return stated, check(seals_origin(stated), line) is not None


@contextmanager
def _at_rest(directory: Path) -> Iterator[None]:
    """Nothing is sealed, and so nothing removed, as long as this lasts."""
    path = directory / SEALS
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        if path.exists():
            raise failure(
                "verify the audit at", directory, OSError("it was sealed meanwhile"), "try again"
            ) from None
        return
    except OSError as error:
        if not path.is_symlink():
            raise failure("read the audit at", path, error) from error
        yield  # reported when it is read
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _adding_up(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    done = 0

    def tell(read: int) -> None:
        nonlocal done
        done += read
        progress(done, total)

    return tell


def _size(directory: Path) -> int:
    """Bytes of all files, as far as they can be seen."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_size
        for folder, _, names in os.walk(directory)
        for name in names
        if os.path.lexists(os.path.join(folder, name))
    )
