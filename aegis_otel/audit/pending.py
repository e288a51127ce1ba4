"""Calls that wait for a human, found in the journal by the id under which the SDK knows them.

A run that is paused for an approval is resumed in any process, perhaps after days; what they share is the
audit directory. Pending calls stay in the journal, so its lines are all that is read, without DuckDB.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from aegis_otel.audit.location import JOURNAL, alone, failure
from aegis_otel.audit.record import AuditRecord, RecordStatus, Waiting
from aegis_otel.audit.seals import read_seals

_STEPS = {"decided": 0, "resolved": 1, "completed": 2}
_decoder = msgspec.json.Decoder(AuditRecord)


def waiting(directory: Path, call_id: str) -> list[Waiting]:
    """The calls of that id that wait, oldest first. Reads the whole journal: some 1 ms per 4 MB.

    Args:
        directory: The audit directory.
        call_id: As the audit has it, which is redacted.

    Raises:
        AuditError: the journal cannot be read.
    """
    known: dict[str, list[AuditRecord]] = {
        line.decision_id: [] for line in _lines(directory, [_pair("tool_call_id", call_id)])
    }
    if not known:
        return []
    for line in _lines(directory, [_pair("decision_id", each) for each in known]):
        if line.decision_id in known:
            known[line.decision_id].append(line)
    folded = sorted(map(_fold, known.values()), key=lambda each: each.row.timestamp)
    return [each for each in folded if each.row.result_status == RecordStatus.PENDING.value]


def taking_over(directory: Path) -> AbstractContextManager[None]:
    """Held by one process, and one thread in it, at a time: of two that resume one call, one finds it taken.

    Raises:
        AuditError: there is no journal, or it cannot be locked.
    """
    return alone(directory / JOURNAL)


def _pair(name: str, value: str) -> bytes:
    return f'"{name}":'.encode() + msgspec.json.encode(value)


def _lines(directory: Path, needles: list[bytes]) -> Iterator[AuditRecord]:
    """The records in whose text one of `needles` stands."""
    covered = {each.file for seal in read_seals(directory) for each in seal.journals}
    for data in _files(directory / JOURNAL, covered):
        found = [needle for needle in needles if needle in data]
        if not found:
            continue
        for line in data.splitlines():
            if any(needle in line for needle in found):
                try:
                    yield _decoder.decode(line)
                except msgspec.MsgspecError:
                    continue  # torn by a crash, or being written


def _files(journal: Path, covered: set[str]) -> Iterator[bytes]:
    """What the files hold that are not sealed; what waits is carried on when a file is."""
    try:
        names = {entry.name for entry in os.scandir(journal) if entry.name.endswith(".jsonl")}
    except FileNotFoundError:
        return
    except OSError as error:
        raise failure("read the audit at", journal, error) from error
    for name in names - covered:
        try:
            yield _read(journal / name)
        except OSError as error:
            raise failure("read the audit at", journal / name, error) from error


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return file.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""


def _fold(lines: Iterable[AuditRecord]) -> Waiting:
    ordered = sorted(lines, key=lambda line: (_STEPS[line.stage], line.timestamp))
    row = msgspec.structs.replace(ordered[0])
    for line in ordered[1:]:
        for name in AuditRecord.__struct_fields__:
            value = getattr(line, name)
            if value is not None and name != "timestamp":
                setattr(row, name, value)
    return Waiting(row, ordered[-1].human_decision, max(line.timestamp for line in ordered))
