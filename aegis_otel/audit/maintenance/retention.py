"""Remove the oldest segments, with a signed seal that states which, so that the gap is explained.

The seal replaces the segments by nothing. Its line is the commit. The files are removed as those of merged
segments are: with the next sealing or pruning, at least a minute later, when no query reads them any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from aegis_otel.audit.answers.pending_calls import end_questions
from aegis_otel.audit.findings import Proof
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.cleanup import clear
from aegis_otel.audit.location import audit_errors, exists, prepare
from aegis_otel.audit.seals.seal_log import Removed, Seal, SealLog, Segment, live_segments, locked
from aegis_otel.audit.seals.signing import Signer, load_signer
from aegis_otel.audit.verify.seals import check_seals, extent
from aegis_otel.config import SEAL_KEY
from aegis_otel.errors import AuditError, ConfigError


def oldest(
    segments: Sequence[Segment], *, keep: timedelta | None = None, max_bytes: int | None = None
) -> list[Segment]:
    """Return the segments that retention removes, the oldest first.

    Args:
        segments: The segments that no seal replaced.
        keep: A segment is removed once all its rows are older.
        max_bytes: The most bytes that are kept; beyond them the oldest segments are removed.
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
    """The result of a pruning."""

    seal: Seal | None
    """The seal that states what was removed; None where there was nothing to remove."""
    expired: int
    """The number of questions that nobody had answered, and that ended as expired."""


def prune(directory: Path, *, keep: timedelta | None = None, max_bytes: int | None = None) -> Pruned:
    """Remove the oldest segments of an audit, and write a seal that states it.

    Calls that have waited for a human for longer than `keep` end as expired, so that they can be sealed. It
    is safe to kill this, and to run it beside writers, readers and sealers; it waits until nobody seals.

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
    with audit_errors("prune the audit at", directory, "nothing was removed"):
        expired = 0 if keep is None else end_questions(directory, keep)
        return Pruned(_prune(directory, sign, keep, max_bytes), expired)


def _prune(directory: Path, sign: Signer, keep: timedelta | None, max_bytes: int | None) -> Seal | None:
    prepare(directory)
    with locked(directory, audit_id(load_key(directory)), wait=True, sign=sign) as log:
        assert log is not None, "it was waited for"
        proof = Proof(directory, audit=log.audit)
        check_seals(proof, [])
        if proof.findings:  # a planted seal may give a segment of today an old time
            raise AuditError(
                f"the seals of `{directory}` contradict each other, and nothing was removed: "
                f"{proof.findings[0]} (see `aegis audit verify`)"
            )
        clear(directory, log)
        chosen = oldest(live_segments(log.seals), keep=keep, max_bytes=max_bytes)
        return log.append(_removal(log, chosen, keep, max_bytes)) if chosen else None


def _removal(log: SealLog, chosen: list[Segment], keep: timedelta | None, max_bytes: int | None) -> Seal:
    numbers = tuple(sorted(each.segment for each in chosen))
    reasons = [] if keep is None else [f"{keep / timedelta(days=1):g} days are kept"]
    reasons += [] if max_bytes is None else [f"{max_bytes} bytes are kept"]
    removed = Removed(numbers, *extent(chosen), ", ".join(reasons))
    return msgspec.structs.replace(log.next(), replaces=numbers, removed=removed)


def _end(segment: Segment) -> str:
    """Return the time of the last row; for rows without a time, the end of their day."""
    return segment.last or f"{segment.day}T23:59:59.999999+00:00"
