"""Compare an audit with its witness: files of seal events that whoever owns the audit cannot write.

These are the files that an OpenTelemetry Collector's file exporter writes, as OTLP/JSON: a line holds a batch
of records of any kind. Lines are read one at a time, and other records are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from aegis_otel import semconv
from aegis_otel.audit import files
from aegis_otel.audit.findings import Proof
from aegis_otel.audit.location import SEALS, audit_errors
from aegis_otel.audit.verify.seals import Ledger

Attributes = dict[str, str | int]
"""The attributes of an event that are texts or integers, by name."""

_LONGEST = 64 << 20
"""The most bytes of a line; a longer one is passed over and reported."""


def read_events(
    path: Path, name: str, on_progress: Callable[[int], object] = lambda _: None
) -> Iterator[tuple[int, Attributes | None]]:
    """Yield the events of a name in a file, each with the number of its line, from 1.

    Args:
        path: The file.
        name: The event's.
        on_progress: Called with the number of bytes that were read, after each read.

    Yields:
        The attributes of an event; None for a line that is no OTLP/JSON, or is cut off.

    Raises:
        AuditError: the file cannot be read.
    """
    with audit_errors("read", path, "give a file of the collector's"), files.open_given(path) as file:
        for number, line in enumerate(_lines(file, on_progress), 1):
            events = None if line is None else _events(line, name)
            if events is None:
                yield number, None
            for event in events or ():
                yield number, _attributes(event)


def _lines(file: BinaryIO, on_progress: Callable[[int], object]) -> Iterator[bytes | None]:
    """Yield the lines of a file, and None for one that is too long; nothing of that is held in memory."""
    is_rest = False
    while part := file.readline(_LONGEST):
        on_progress(len(part))
        is_end = part.endswith(b"\n") or len(part) < _LONGEST
        if not is_rest:
            yield part if is_end else None
        is_rest = not is_end


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
class _Witness:
    """The chain values that were seen of the seals of one audit."""

    audit: str
    chains: dict[int, set[str]] = field(default_factory=dict)
    """By the number of the seal. More than one value means that the seal was made twice."""
    places: dict[int, str] = field(default_factory=dict)
    """The file and the line where a seal was first seen."""
    others: set[str] = field(default_factory=set)
    """The ids of other audits in the same files."""

    def add(self, event: Attributes, place: str) -> None:
        """Add the event of a seal; an incomplete one is passed over."""
        number, chain = event.get(semconv.AUDIT_SEAL), event.get(semconv.AUDIT_CHAIN)
        previous, audit = event.get(semconv.AUDIT_PREVIOUS_CHAIN), event.get(semconv.AUDIT_ID)
        if not (isinstance(number, int) and isinstance(chain, str) and isinstance(audit, str)) or number < 1:
            return
        if audit != self.audit:
            self.others.add(audit)
            return
        seen = {number: chain}
        if number > 1 and isinstance(previous, str):
            seen[number - 1] = previous
        for each, value in seen.items():
            self.chains.setdefault(each, set()).add(value)
            self.places.setdefault(each, place)


def compare_witness(proof: Proof, ledger: Ledger, paths: Iterable[Path]) -> set[str]:
    """Check that every seal that witnesses saw is there, unchanged, and add the findings to the proof.

    Returns:
        The ids of other audits that the witnesses know.

    Raises:
        AuditError: a file cannot be read.
    """
    witness = _Witness(proof.audit)
    for path in paths:
        unreadable = 0
        for line, event in read_events(path, semconv.EVENT_AUDIT_SEALED, proof.on_progress):
            if event is None:
                unreadable += 1
            else:
                witness.add(event, f"{path}, line {line}")
        if unreadable:
            proof.notes.append(
                f"{path}: {unreadable} lines are no OTLP/JSON, or cut off, and were passed over"
            )
    _compare(proof, {seal.seal: seal.chain for seal in ledger.seals}, witness)
    return witness.others


def _compare(proof: Proof, chains: dict[int, str], witness: _Witness) -> None:
    last = max(chains, default=0)
    if not witness.chains:
        others = f", and has {len(witness.others)} others" if witness.others else ""
        proof.found(SEALS, f"the witness does not know this audit, `{proof.audit}`{others}")
        return
    missing = [number for number in sorted(witness.chains) if number > last]
    if missing:
        proof.found(
            SEALS,
            f"ends with seal {last}, and the witness saw seals up to {missing[-1]} (of seal {missing[0]}: "
            f"{witness.places[missing[0]]}): what came after was taken away, or an older copy was put back",
        )
    held = [number for number in sorted(witness.chains) if number <= last]
    changed = [number for number in held if witness.chains[number] != {chains.get(number)}]
    if changed:  # all seals that follow the first of them differ too
        number = changed[0]
        what = f"seal {number} is not the one that the witness saw ({witness.places[number]})"
        proof.found(SEALS, what, number)
    known = max(held, default=0)
    if known < last:
        proof.unproven.append(
            f"that seals {known + 1} to {last} were not rewritten, and that none came after them: "
            f"the last that the witness saw is {known}"
        )
