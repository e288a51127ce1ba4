"""The witness: a file of the events of sealings, kept where who owns the audit cannot write.

It is what the file exporter of an OpenTelemetry Collector writes: a line of OTLP/JSON for each batch, with
records of any kind. Its lines are read one at a time, and what is not ours is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from aegis_otel import semconv
from aegis_otel.audit.location import SEALS, failure
from aegis_otel.audit.proof import Proof
from aegis_otel.audit.verify_seals import Ledger

_LONGEST = 64 << 20
"""Bytes of a line; a longer one is passed over, and said."""


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
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_LONGEST):
                number += 1
                proof.tell(len(line))
                if not line.endswith(b"\n") and len(line) == _LONGEST:
                    unreadable += 1
                    while line and not line.endswith(b"\n"):
                        line = file.readline(_LONGEST)
                    continue
                events = _events(line)
                if events is None:
                    unreadable += 1
                for event in events or ():
                    _add(witness, proof.audit, event, (str(path), number))
    except OSError as error:
        raise failure("read the witness", path, error, "give a file of the collector's") from error
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


def _add(witness: Witness, audit: str, event: dict[str, Any], place: tuple[str, int]) -> None:
    attributes = _attributes(event)
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


def _events(line: bytes) -> Iterator[dict[str, Any]] | None:
    """The log records in a line that are events of sealings; None where it is not JSON."""
    if (
        semconv.EVENT_AUDIT_SEALED.encode() not in line
        and line.lstrip().startswith(b"{")
        and line.endswith(b"\n")
    ):
        return iter(())
    try:
        batch = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return (
        record
        for resource in _list(batch, "resourceLogs")
        for scope in _list(resource, "scopeLogs")
        for record in _list(scope, "logRecords")
        if isinstance(record, dict) and record.get("eventName") == semconv.EVENT_AUDIT_SEALED
    )


def _attributes(record: dict[str, Any]) -> dict[str, str | int]:
    """Attributes that are texts or integers; OTLP/JSON writes 64-bit integers as texts."""
    found: dict[str, str | int] = {}
    for pair in _list(record, "attributes"):
        value = pair.get("value") if isinstance(pair, dict) else None
        if not isinstance(value, dict) or not isinstance(key := pair.get("key"), str):
            continue
        if isinstance(text := value.get("stringValue"), str):
            found[key] = text
        elif isinstance(number := value.get("intValue"), int | str) and str(number).isdecimal():
            found[key] = int(str(number)[:20])
    return found


def _list(holder: Any, key: str) -> list[Any]:
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, list) else []
