"""Retention: the oldest segments are removed, and a signed seal says which, so that no hole is left.

The seal replaces them by nothing. Its line is the commit; the files go as those of merged segments do: with
the next sealing or pruning, a minute later at the earliest, when no query reads them any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from aegis_otel.audit.answers.expiry import end_questions
from aegis_otel.audit.findings import Proof
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.cleanup import clear
from aegis_otel.audit.location import exists, failure, prepare
from aegis_otel.audit.seals.seal_log import Removed, Seal, SealLog, Segment, live_segments, locked
from aegis_otel.audit.seals.signing import Signer, load_signer
from aegis_otel.audit.verify.seals import check_seals
from aegis_otel.config import SEAL_KEY
from aegis_otel.errors import AuditError, ConfigError


def oldest(
    segments: Sequence[Segment], *, keep: timedelta | None = None, max_bytes: int | None = None
) -> list[Segment]:
    """Return the segments that retention removes, the oldest first.

    Args:
        segments: Those that count.
        keep: A segment goes when all its rows are older.
        max_bytes: So much is kept; of what is more, the oldest goes.
    """
    before = "" if keep is None else f"{datetime.now(UTC) - keep:%Y-%m-%dT%H:%M:%S.%f}+00:00"
    most = float("inf") if max_bytes is None else max_bytes
    total = sum(each.bytes for each in segments)
    chosen = []
    for each in sorted(segments, key=lambda each: (_end(each), each.segment)):
        if _end(each) >= before and total <= most:
            break
        chosen.append(each)
        total -= each.bytes
    return chosen


class Pruned(NamedTuple):
    """What a pruning did."""

    seal: Seal | None
    """The seal that says what was removed; None where there was nothing to remove."""
    expired: int
    """Questions that nobody had answered, and that ended."""


def prune(directory: Path, *, keep: timedelta | None = None, max_bytes: int | None = None) -> Pruned:
    """Remove the oldest segments of an audit, in a seal of its own.

    Calls that have waited for a human for longer than `keep` end as expired, so that they can be sealed.

    Safe to be killed, and beside writers, readers and sealers; waits until nobody seals.

    Args:
        directory: The audit's.
        keep: As for `oldest`.
        max_bytes: As for `oldest`.

    Raises:
        ConfigError: there is no key to sign with, or it cannot be used. Nothing was removed.
        AuditError: the audit cannot be read or written, or the chain of its seals is broken.
    """
    sign = load_signer()
    if sign is None:
        raise ConfigError(
            f"what is removed must be signed for: set `{SEAL_KEY.env}` to an Ed25519 private key "
            "(docs/audit-proof.md)"
        )
    if not exists(directory):
        return Pruned(None, 0)
    try:
        expired = 0 if keep is None else end_questions(directory, keep)
        return Pruned(_prune(directory, sign, keep, max_bytes), expired)
    except OSError as error:
        raise failure("prune the audit at", directory, error, "nothing was removed") from error


def _prune(directory: Path, sign: Signer, keep: timedelta | None, max_bytes: int | None) -> Seal | None:
    prepare(directory)
    with locked(directory, audit_id(load_key(directory)), wait=True, sign=sign) as log:
        assert log is not None, "it was waited for"
        proof = Proof(directory, audit=log.audit)
        check_seals(proof, [])
        if proof.findings:  # what a planted seal says is old may be of today
            raise AuditError(
                f"the seals of `{directory}` contradict each other, and nothing was removed: "
                f"{proof.findings[0]} (see `aegis audit verify`)"
            )
        clear(directory, log)
        chosen = oldest(live_segments(log.seals), keep=keep, max_bytes=max_bytes)
        return log.append(_removal(log, chosen, keep, max_bytes)) if chosen else None


def _removal(log: SealLog, chosen: list[Segment], keep: timedelta | None, max_bytes: int | None) -> Seal:
    numbers = tuple(sorted(each.segment for each in chosen))
    times = [time for each in chosen for time in (each.first, each.last) if time is not None]
    reasons = [] if keep is None else [f"{keep / timedelta(days=1):g} days are kept"]
    reasons += [] if max_bytes is None else [f"{max_bytes} bytes are kept"]
    return msgspec.structs.replace(
        log.next(),
        replaces=numbers,
        removed=Removed(
            segments=numbers,
            rows=sum(each.rows for each in chosen),
            first=min(times, default=None),
            last=max(times, default=None),
            why=", ".join(reasons),
        ),
    )


def _end(segment: Segment) -> str:
    """When its last row is of; of rows without a time, the end of their day."""
    return segment.last or f"{segment.day}T23:59:59.999999+00:00"
