"""Check `seals.jsonl`: its chain, its signatures, and what its seals state about one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from aegis_otel.audit.findings import Proof
from aegis_otel.audit.journal.files import first_seals, process_of
from aegis_otel.audit.location import SEALS
from aegis_otel.audit.seals.hash_chain import seals_origin
from aegis_otel.audit.seals.seal_log import (
    TAG,
    Amended,
    Carried,
    Covered,
    Seal,
    Segment,
    carried_name,
    decode_seal,
    is_ahead,
    segment_name,
)
from aegis_otel.audit.seals.signing import is_signed
from aegis_otel.config import SEAL_KEY
from aegis_otel.errors import AuditError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_NAMED_SEALS = 5
"""The most seals whose numbers a sentence lists."""


class Sealed(NamedTuple):
    """A segment, and whether the line that names it is intact."""

    segment: Segment
    seal: Seal
    intact: bool


@dataclass
class Ledger:
    """What all seals together state."""

    seals: list[Seal] = field(default_factory=list)
    segments: dict[int, Sealed] = field(default_factory=dict)
    replaced: set[int] = field(default_factory=set)
    covered: dict[str, Covered] = field(default_factory=dict)
    carried: dict[str, tuple[Carried, bool]] = field(default_factory=dict)
    """The carried files by name, each with whether the line that names it is intact."""
    origins: dict[int, frozenset[int]] = field(default_factory=dict)
    """For each segment, the numbers that its rows can have: its own, and those of what it replaced."""
    amended: dict[str, Amended] = field(default_factory=dict)
    """The rows that were sealed as unknown and got an outcome afterwards, by decision id."""
    digested: bool = False
    """Whether a seal has digests of rows; every later seal must then have them."""
    older: dict[int, int] = field(default_factory=dict)
    """By seal, the number of rows that it took over from segments without a digest of rows."""
    head: str = ""
    """The chain value after the last line."""

    @property
    def tag(self) -> str:
        """The part of the chain value that names of the next seal's files contain."""
        return self.head[:TAG]

    def replaced_by(self, seal: Seal) -> list[Segment]:
        """Return the segments that a seal replaces and that earlier seals name."""
        return [self.segments[number].segment for number in seal.replaces if number in self.segments]

    def add(self, seal: Seal, intact: bool) -> None:
        """Add what a seal states."""
        gone = self.replaced_by(seal)
        for each in seal.segments:
            same = [old for old in gone if old.day == each.day]
            taken = {number for old in same if old.digest for number in self.origins[old.segment]}
            if not each.digest or each.new:
                taken.add(each.segment)
            self.origins[each.segment] = frozenset(taken)
            self.digested = self.digested or bool(each.digest)
            if rows := sum(old.rows for old in same if not old.digest):
                self.older[seal.seal] = self.older.get(seal.seal, 0) + rows
        self.seals.append(seal)
        self.amended |= {each.decision_id: each for each in seal.amended}
        self.replaced.update(seal.replaces)
        self.covered |= {file.file: file for file in seal.journals}
        self.segments |= {each.segment: Sealed(each, seal, intact) for each in seal.segments}
        if seal.carried is not None:
            self.carried[seal.carried.file] = (seal.carried, intact)


def check_seals(proof: Proof, keys: Sequence[Ed25519PublicKey], *, witnessed: bool = False) -> Ledger:
    """Check every line of `seals.jsonl` and add the findings to the proof.

    Args:
        proof: The proof to add to.
        keys: The keys that seals may be signed with; empty where signatures are not checked.
        witnessed: The seals are compared with a witness as well.

    Raises:
        AuditError: the file cannot be read, or is of a newer version.
    """
    ledger = Ledger(head=seals_origin(proof.audit))
    signed: list[bool] = []
    for line in proof.chained(SEALS, ledger.head, "the beginning of this audit"):
        ledger.head = proof.chain = line.chain
        proof.seals += 1
        try:
            seal = decode_seal(proof.directory / SEALS, line.content)
        except (AuditError, ValueError) as error:
            if line.intact and isinstance(error, AuditError):
                raise
            if line.intact:
                proof.found(SEALS, f"is no seal ({error})", line.number, line.byte)
            continue
        seal = msgspec.structs.replace(seal, chain=line.chain, previous=line.previous)
        if line.intact:
            faults = list(_contradictions(seal, line.number, proof.audit, ledger))
            is_valid = (
                is_signed(line.previous, line.content, seal.audit, seal.signature, keys)
                if keys
                else bool(seal.signature)
            )
            if seal.signature and not is_valid:
                faults.append("its signature is not of the key given")
            elif keys and not is_valid and any(signed):
                faults.append("is not signed, and seals before it are")
            signed.append(is_valid)
            proof.report(SEALS, faults, line.number, line.byte)
        ledger.add(seal, line.intact)
    _report_signatures(proof, ledger, keys, signed, witnessed)
    _report_unproven_rows(proof, ledger, keys)
    for seal in ledger.seals:
        if (gap := seal.removed) is not None:
            proof.notes.append(
                f"{SEALS}: seal {seal.seal} removed {len(gap.segments)} segments with {gap.rows} rows, of "
                f"{gap.first} to {gap.last}: {gap.why}"
            )
    return ledger


def _report_signatures(
    proof: Proof, ledger: Ledger, keys: Sequence[Ed25519PublicKey], signed: list[bool], witnessed: bool
) -> None:
    count = sum(signed)
    if keys and not count:
        proof.found(SEALS, "no seal is signed with the key given")
        if not any(seal.signature for seal in ledger.seals):
            proof.notes.append(
                f"{SEALS}: if nothing was signed before, `aegis audit seal` with the private key as "
                f"`{SEAL_KEY.env}` signs for all seals there are; if something was, they were replaced"
            )
    elif keys and not signed[0]:
        first = signed.index(True) + 1
        proof.notes.append(
            f"{SEALS}: the seals before {first} are not signed; the signature of {first} is of them too"
        )
        if not witnessed:
            proof.unproven.append(
                f"that the seals before {first} were not changed before seal {first} was signed: "
                "give --witness"
            )
    elif count and not keys:
        proof.unproven.append(
            f"that the signatures of {count} seals are genuine: give --public-key; where nobody signs this "
            "audit, these seals were planted"
        )


def _report_unproven_rows(proof: Proof, ledger: Ledger, keys: Sequence[Ed25519PublicKey]) -> None:
    if ledger.older and not keys:
        proof.unproven.append(
            f"that {sum(ledger.older.values())} rows which were sealed without a digest of rows, by an "
            f"earlier version, were merged as they were ({_numbers(ledger.older)}): give --public-key"
        )
    removals = [seal.seal for seal in ledger.seals if seal.removed is not None]
    if removals and not keys:
        proof.unproven.append(f"that who removed rows had the key ({_numbers(removals)}): give --public-key")
    if ledger.amended:
        amending = [seal.seal for seal in ledger.seals if seal.amended]
        proof.unproven.append(
            f"that what became of {len(ledger.amended)} calls, which were sealed as `unknown` and given an "
            f"outcome afterwards ({_numbers(amending)}), was written by the process that ran them, and not "
            "by somebody else who can write to the directory"
        )


def _numbers(seals: Iterable[int]) -> str:
    """Return the first few numbers of some seals, for a reader to look them up."""
    numbers = sorted(seals)
    more = f" and {len(numbers) - _NAMED_SEALS} more" if len(numbers) > _NAMED_SEALS else ""
    return f"seal{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:_NAMED_SEALS]))}{more}"


def extent(segments: Iterable[Segment]) -> tuple[int, str | None, str | None]:
    """Return the number of rows in segments, and the times of their first and their last row."""
    segments = list(segments)
    times = [time for each in segments for time in (each.first, each.last) if time is not None]
    return sum(each.rows for each in segments), min(times, default=None), max(times, default=None)


def _contradictions(seal: Seal, number: int, audit: str, ledger: Ledger) -> Iterator[str]:
    """Yield what a seal states that cannot be true after the seals before it."""
    if seal.seal != number:
        yield f"has number {seal.seal}, and {number} is due"
    if seal.audit != audit:
        yield f"is of another audit, `{seal.audit}`"
    if ledger.seals and seal.version < ledger.seals[-1].version:
        yield f"is of version {seal.version}, and the seal before it is of a newer one"
    before = ledger.seals[-1].sealed_at if ledger.seals else None
    if not _in_order(before, seal.sealed_at):
        yield f"was made at {seal.sealed_at}, before the seal before it"
    elif is_ahead(seal.sealed_at) and not (before is not None and is_ahead(before)):
        yield (
            f"is dated {seal.sealed_at}, which is still to come, and so are all that follow: the clock was "
            "wrong, or it was planted"
        )
    last = max(ledger.segments, default=0)
    tag = seal.previous[:TAG]
    for each in seal.segments:
        if each.segment <= last or each.file != segment_name(each.day, each.segment, tag):
            yield f"adds segment {each.segment} in `{each.file}`, which cannot follow segment {last} here"
        if any(time is not None and time[:10] != each.day for time in (each.first, each.last)):
            yield f"segment {each.segment} of {each.day} has rows of {each.first} to {each.last}"
        last = max(last, each.segment)
    gone = ledger.replaced_by(seal)
    yield from _impossible_rows(seal, ledger, gone)
    yield from _impossible_amendments(seal, ledger)
    yield from _impossible_replacements(seal, ledger, gone)
    for file in seal.journals:
        if file.file in ledger.covered:
            yield f"covers `{file.file}`, which a seal before it does"
    if seal.carried is not None and seal.carried.file != carried_name(number, tag):
        yield f"carries lines over to `{seal.carried.file}`, which is no name for it"


def _impossible_rows(seal: Seal, ledger: Ledger, gone: Sequence[Segment]) -> Iterator[str]:
    """Yield why the added rows cannot come from the covered files and the replaced segments."""
    has_digest = [bool(each.digest) for each in seal.segments]
    if ledger.digested and not all(has_digest):
        yield "has no digest of its rows, and a seal before it has"
    if len({each.day for each in seal.segments}) < len(seal.segments):
        yield "adds two segments of one day"
    new = sum(each.new if each.digest else each.rows for each in seal.segments)
    older = sum(each.rows for each in gone if not each.digest)
    lines = sum(file.lines for file in seal.journals)
    if any(has_digest) and new > lines + older:
        yield f"adds {new - older} rows, and the files that it covers have {lines} lines"


def _impossible_amendments(seal: Seal, ledger: Ledger) -> Iterator[str]:
    """Yield why calls of unknown outcome cannot have got the outcome that the seal gives them."""
    if not seal.amended:
        return
    known = first_seals(ledger.seals)
    for each in seal.amended:
        if each.decision_id in ledger.amended:
            yield f"amends the call `{each.decision_id}`, which a seal before it does"
        if process_of(each.writer) not in known:
            yield f"amends the call `{each.decision_id}` by lines of `{each.writer}`, who did not run it"
    if not seal.replaces:
        yield "amends calls, and replaces no segment"


def _impossible_replacements(seal: Seal, ledger: Ledger, gone: Sequence[Segment]) -> Iterator[str]:
    """Yield why the replaced segments cannot be in the new ones, or be those that a removal states."""
    for number in seal.replaces:
        if number not in ledger.segments:
            yield f"replaces segment {number}, which no seal before it has"
        elif number in ledger.replaced:
            yield f"replaces segment {number}, which a seal before it does"
    if (stated := seal.removed) is not None:
        removes_only = (seal.segments, seal.journals, seal.carried) == ((), (), None)
        extents = (stated.rows, stated.first, stated.last)
        if not removes_only or stated.segments != seal.replaces or extents != extent(gone):
            yield "states a removal that is not of the segments it names"
        if not seal.signature:
            yield f"removes {stated.rows} rows and is not signed"
        return
    for day in sorted({each.day for each in gone}):
        rows = sum(each.rows for each in gone if each.day == day)
        kept = sum(each.rows for each in seal.segments if each.day == day)
        if kept < rows:
            yield f"replaces {rows} rows of {day} by {kept}"


def _in_order(before: str | None, time: str) -> bool:
    try:
        parsed = datetime.fromisoformat(time)
        return parsed.tzinfo is not None and (before is None or datetime.fromisoformat(before) <= parsed)
    except (TypeError, ValueError):
        return False
