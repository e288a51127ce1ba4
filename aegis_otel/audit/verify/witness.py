"""The witness: a file of the events of sealings, kept where who owns the audit cannot write.

It is what the file exporter of an OpenTelemetry Collector writes (see `audit.verify.witness`).

Events in the files of an OpenTelemetry Collector: what its file exporter writes as OTLP/JSON.

A line holds a batch, with records of any kind. Lines are read one at a time, and what is not asked for is
passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from aegis_otel import semconv
from aegis_otel.audit import files
from aegis_otel.audit.findings import Proof
from aegis_otel.audit.location import SEALS, failure
from aegis_otel.audit.verify.seals import Ledger

Attributes = dict[str, str | int]
"""Those that are texts or integers, by name."""

_LONGEST = 64 << 20
"""Bytes of a line; a longer one is passed over, and said."""


def read_events(
    path: Path, name: str, on_progress: Callable[[int], object] = lambda _: None
) -> Iterator[tuple[int, Attributes | None]]:
    """Yield the events of a name in a file, each with the number of its line, from 1.

    Args:
        path: The file.
        name: The event's.
        on_progress: Called with the number of bytes that were read.

    Yields:
        The attributes of an event; None for a line that is no OTLP/JSON, or is cut off.

    Raises:
        AuditError: the file cannot be read.
    """
    try:
        with files.open_given(path) as file:
            for number, line in enumerate(_lines(file, on_progress), 1):
                events = None if line is None else _events(line, name)
                if events is None:
                    yield number, None
                for event in events or ():
                    yield number, _attributes(event)
    except OSError as error:
        raise failure("read", path, error, "give a file of the collector's") from error


def _lines(file: BinaryIO, on_progress: Callable[[int], object]) -> Iterator[bytes | None]:
    while line := file.readline(_LONGEST):
        on_progress(len(line))
        if len(line) < _LONGEST or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_LONGEST)
            on_progress(len(line))
        yield None


def _events(line: bytes, name: str) -> Iterator[dict[str, Any]] | None:
    if name.encode() not in line and line.lstrip().startswith(b"{") and line.endswith(b"\n"):
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
        if isinstance(record, dict) and record.get("eventName") == name
    )


def _attributes(record: dict[str, Any]) -> Attributes:
    """Return the texts and integers of a record; OTLP/JSON writes 64-bit integers as texts."""
    found: Attributes = {}
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
    for line, event in read_events(path, semconv.EVENT_AUDIT_SEALED, proof.on_progress):
        if event is None:
            unreadable += 1
        else:
            _add(witness, proof.audit, event, (str(path), line))
    if unreadable:
        proof.notes.append(f"{path}: {unreadable} lines are no OTLP/JSON, or cut off, and were passed over")


def compare(proof: Proof, ledger: Ledger, witness: Witness) -> None:
    """Check that every seal that was witnessed is there, unchanged, and add what is wrong to the proof."""
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
