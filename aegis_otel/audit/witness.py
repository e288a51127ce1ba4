"""The witness: a file of the events of sealings, kept where who owns the audit cannot write.

It is what the file exporter of an OpenTelemetry Collector writes (see `audit.otlp_file`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from aegis_otel import semconv
from aegis_otel.audit.location import SEALS
from aegis_otel.audit.otlp_file import Attributes, read_events
from aegis_otel.audit.proof import Proof
from aegis_otel.audit.verify_seals import Ledger


@dataclass
class Witness:
    """The chain values that were seen of the seals of one audit."""

    chains: dict[int, set[str]] = field(default_factory=dict)
    """By the number of the seal. More than one means that seals were made twice."""
    places: dict[int, tuple[str, int]] = field(default_factory=dict)
    """The file and line that first told of a seal."""
    others: set[str] = field(default_factory=set)
    """Other audits in the same files."""


def read_witness(path: Path, proof: Proof, witness: Witness) -> None:
    """Add what a file says of the audit of `proof`; unreadable lines are noted there.

    Raises:
        AuditError: it cannot be read.
    """
    unreadable = 0
    for line, event in read_events(path, semconv.EVENT_AUDIT_SEALED, proof.tell):
        if event is None:
            unreadable += 1
        else:
            _add(witness, proof.audit, event, (str(path), line))
    if unreadable:
        proof.notes.append(f"{path}: {unreadable} lines are no OTLP/JSON, or cut off, and were passed over")


def compare(proof: Proof, ledger: Ledger, witness: Witness) -> None:
    """Whether every seal that was witnessed is there, unchanged; what is wrong is added to the proof."""
    chains = {seal.seal: seal.chain for seal in ledger.seals}
    last = max(chains, default=0)
    if not witness.chains:
        others = f", and has {len(witness.others)} others" if witness.others else ""
        proof.found(SEALS, f"the witness does not know this audit, `{proof.audit}`{others}")
        return
    missing = [number for number in sorted(witness.chains) if number > last]
    if missing:
        file, line = witness.places[missing[0]]
        proof.found(
            SEALS,
            f"ends with seal {last}, and the witness saw seals up to {missing[-1]} (of seal {missing[0]}: "
            f"{file}, line {line}): what came after was taken away, or an older copy was put back",
        )
    for number, seen in sorted(witness.chains.items()):
        if number <= last and seen != {chains.get(number)}:
            file, line = witness.places[number]
            proof.found(
                SEALS, f"seal {number} is not the one that the witness saw ({file}, line {line})", number
            )
            break  # all that follow it differ too
    held = max((number for number in witness.chains if number <= last), default=0)
    if held < last:
        proof.unproven.append(
            f"that seals {held + 1} to {last} were not rewritten, and that none came after them: "
            f"the last that the witness saw is {held}"
        )


def _add(witness: Witness, audit: str, attributes: Attributes, place: tuple[str, int]) -> None:
    number, chain = attributes.get(semconv.AUDIT_SEAL), attributes.get(semconv.AUDIT_CHAIN)
    previous = attributes.get(semconv.AUDIT_PREVIOUS_CHAIN)
    name = attributes.get(semconv.AUDIT_ID)
    if not isinstance(number, int) or number < 1 or not isinstance(chain, str) or not isinstance(name, str):
        return
    if name != audit:
        witness.others.add(name)
        return
    seen = {number: chain}
    if number > 1 and isinstance(previous, str):
        seen[number - 1] = previous
    for each, value in seen.items():
        witness.chains.setdefault(each, set()).add(value)
        witness.places.setdefault(each, place)
