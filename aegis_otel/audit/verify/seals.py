"""Whether `seals.jsonl` holds: its chain, what its seals say of one another, and their signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from aegis_otel.audit.findings import Line, Proof
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


_FEW = 5
"""The numbers of seals that a sentence names."""


class Sealed(NamedTuple):
    """A segment, and whether the line that names it can be believed."""

    segment: Segment
    seal: Seal
    intact: bool


@dataclass
class Ledger:
    """What all seals together say."""

    seals: list[Seal] = field(default_factory=list)
    segments: dict[int, Sealed] = field(default_factory=dict)
    replaced: set[int] = field(default_factory=set)
    covered: dict[str, Covered] = field(default_factory=dict)
    carried: dict[str, tuple[Carried, bool]] = field(default_factory=dict)
    """And whether the line that names it can be believed."""
    origins: dict[int, frozenset[int]] = field(default_factory=dict)
    """For each segment, the numbers that its rows can be under: its own, and those of what it took over."""
    amended: dict[str, Amended] = field(default_factory=dict)
    """The rows that were sealed as unknown and got an outcome, by their calls."""
    digested: bool = False
    """Whether a seal has digests of rows: then all that follow it do."""
    older: dict[int, int] = field(default_factory=dict)
    """The rows that each seal took over from segments without a digest of rows."""
    head: str = ""
    """The chain value after the last line."""

    @property
    def tag(self) -> str:
        """What stands in the names of the files of the next seal."""
        return self.head[:TAG]

    def add(self, seal: Seal, intact: bool) -> None:
        """Take in what a seal says; of its names only those that cannot lead elsewhere."""
        self.seals.append(seal)
        for each in seal.segments:
            gone = [self.segments[number] for number in seal.replaces if number in self.segments]
            same = [sealed.segment for sealed in gone if sealed.segment.day == each.day]
            taken = {number for old in same if old.digest for number in self.origins[old.segment]}
            if not each.digest or each.new:
                taken.add(each.segment)
            self.origins[each.segment] = frozenset(taken)
            if rows := sum(old.rows for old in same if not old.digest):
                self.older[seal.seal] = self.older.get(seal.seal, 0) + rows
        self.digested = self.digested or any(each.digest for each in seal.segments)
        self.amended |= {each.decision_id: each for each in seal.amended}
        self.replaced.update(seal.replaces)
        self.covered |= {file.file: file for file in seal.journals}
        for each in seal.segments:
            self.segments[each.segment] = Sealed(each, seal, intact)
        if seal.carried is not None:
            self.carried[seal.carried.file] = (seal.carried, intact)


def check_seals(proof: Proof, keys: Sequence[Ed25519PublicKey], *, witnessed: bool = False) -> Ledger:
    """Check every line of `seals.jsonl`; what is wrong is added to the proof.

    Args:
        proof: What to add to.
        keys: Those that seals may be signed with; empty where signatures are not checked.
        witnessed: The seals are compared with a witness as well.

    Raises:
        AuditError: it cannot be read, or is of a newer version.
    """
    ledger = Ledger(head=seals_origin(proof.audit))
    signed: list[bool] = []
    for line in proof.chained(SEALS, ledger.head, "the beginning of this audit"):
        ledger.head = proof.chain = line.chain
        proof.seals += 1

        def found(what: str, line: Line = line) -> None:
            proof.found(SEALS, what, line.number, line.byte)

        try:
            seal = decode_seal(proof.directory / SEALS, line.content)
        except (AuditError, ValueError) as error:
            if isinstance(error, AuditError) and line.intact:
                raise
            if line.intact:
                found(f"is no seal ({error})")
            continue
        seal = msgspec.structs.replace(seal, chain=line.chain, previous=line.previous)
        if line.intact:
            for what in _contradictions(seal, line.number, proof.audit, ledger):
                found(what)
            signed.append(_is_signed(seal, line, keys, any(signed), found))
        ledger.add(seal, line.intact)
    _report_signatures(proof, ledger, keys, signed, witnessed)
    return ledger


def _is_signed(
    seal: Seal,
    line: Line,
    keys: Sequence[Ed25519PublicKey],
    before: bool,
    found: Callable[[str], None],
) -> bool:
    """Return whether the signature holds; without keys, whether there is one."""
    if not keys:
        return bool(seal.signature)
    if is_signed(line.previous, line.content, seal.audit, seal.signature, keys):
        return True
    if seal.signature:
        found("its signature is not of the key given")
    elif before:
        found("is not signed, and seals before it are")
    return False


def _report_signatures(
    proof: Proof,
    ledger: Ledger,
    keys: Sequence[Ed25519PublicKey],
    signed: list[bool],
    witnessed: bool,
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
    _report_rows(proof, ledger, keys)
    for seal in ledger.seals:
        if seal.removed is not None:
            gap = seal.removed
            proof.notes.append(
                f"{SEALS}: seal {seal.seal} removed {len(gap.segments)} segments with {gap.rows} rows, of "
                f"{gap.first} to {gap.last}: {gap.why}"
            )


def _report_rows(proof: Proof, ledger: Ledger, keys: Sequence[Ed25519PublicKey]) -> None:
    """Say what of the rows nothing in the seals proves."""
    if not keys:
        if ledger.older:
            proof.unproven.append(
                f"that {sum(ledger.older.values())} rows which were sealed without a digest of rows, by an "
                f"earlier version, were merged as they were ({_numbers(ledger.older)}): give --public-key"
            )
        if removals := [seal.seal for seal in ledger.seals if seal.removed is not None]:
            proof.unproven.append(
                f"that who removed rows had the key ({_numbers(removals)}): give --public-key"
            )
    if ledger.amended:
        amending = [seal.seal for seal in ledger.seals if seal.amended]
        proof.unproven.append(
            f"that what became of {len(ledger.amended)} calls, which were sealed as `unknown` and given an "
            f"outcome afterwards ({_numbers(amending)}), was written by the process that ran them, and not "
            "by somebody else who can write to the directory"
        )


def _numbers(seals: Iterable[int]) -> str:
    """Return the first few of some seals, to look them up."""
    numbers = sorted(seals)
    more = f" and {len(numbers) - _FEW} more" if len(numbers) > _FEW else ""
    return f"seal{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:_FEW]))}{more}"


def _contradictions(seal: Seal, number: int, audit: str, ledger: Ledger) -> Iterator[str]:
    """Yield what a seal says that cannot be, after those before it."""
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
    yield from _rows(seal, ledger)
    yield from _amended(seal, ledger)
    yield from _replaced(seal, ledger)
    for file in seal.journals:
        if file.file in ledger.covered:
            yield f"covers `{file.file}`, which a seal before it does"
    if seal.carried is not None and seal.carried.file != carried_name(number, tag):
        yield f"carries lines over to `{seal.carried.file}`, which is no name for it"


def _rows(seal: Seal, ledger: Ledger) -> Iterator[str]:
    """Whether the rows that a seal adds can come of the files that it covers and the segments it replaces."""
    gone = [ledger.segments[each].segment for each in seal.replaces if each in ledger.segments]
    new = sum(each.new if each.digest else each.rows for each in seal.segments)
    if any(bool(each.digest) < ledger.digested for each in seal.segments):
        yield "has no digest of its rows, and a seal before it has"
    if len({each.day for each in seal.segments}) < len(seal.segments):
        yield "adds two segments of one day"
    if any(each.digest for each in seal.segments):
        lines = sum(file.lines for file in seal.journals)
        older = sum(each.rows for each in gone if not each.digest)
        if new > lines + older:
            yield f"adds {new - older} rows, and the files that it covers have {lines} lines"


def _amended(seal: Seal, ledger: Ledger) -> Iterator[str]:
    """Whether what is said to have come of calls of unknown outcome was said by a writer there was then."""
    known = first_seals(ledger.seals) if seal.amended else {}
    for each in seal.amended:
        if each.decision_id in ledger.amended:
            yield f"amends the call `{each.decision_id}`, which a seal before it does"
        if process_of(each.writer) not in known:
            yield f"amends the call `{each.decision_id}` by lines of `{each.writer}`, who did not run it"
    if seal.amended and not seal.replaces:
        yield "amends calls, and replaces no segment"


def _replaced(seal: Seal, ledger: Ledger) -> Iterator[str]:
    """Whether what is replaced was there, and went into other segments or is stated to be removed."""
    gone = [ledger.segments[each].segment for each in seal.replaces if each in ledger.segments]
    for each in seal.replaces:
        if each not in ledger.segments:
            yield f"replaces segment {each}, which no seal before it has"
        elif each in ledger.replaced:
            yield f"replaces segment {each}, which a seal before it does"
    if seal.removed is not None:
        stated = seal.removed
        times = [time for each in gone for time in (each.first, each.last) if time is not None]
        if (
            *(stated.segments, stated.rows, stated.first, stated.last),
            *(seal.segments, seal.journals, seal.carried),
        ) != (
            *(seal.replaces, sum(each.rows for each in gone), min(times, default=None)),
            *(max(times, default=None), (), (), None),
        ):
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
