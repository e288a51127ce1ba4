"""Calls that wait for a human, found in the journal by the id under which the SDK knows them.

A run that is paused for an approval is resumed in any process, perhaps after days; what they share is the
audit directory. Pending calls stay in the journal, so its lines are all that is read, without DuckDB.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.location import JOURNAL, SEALS, alone, failure
from aegis_otel.audit.record import AuditRecord, RecordStatus, Waiting
from aegis_otel.audit.seals import Seal, decode_seal, read_seal_lines
from aegis_otel.errors import AuditError

_STEPS = {"decided": 0, "resolved": 1, "completed": 2}
_decoder = msgspec.json.Decoder(AuditRecord)


def waiting(directory: Path, call_id: str) -> list[Waiting]:
    """The calls of that id that wait, oldest first.

    An SDK that is told of an answer waits for nothing, so this may run on an event loop: what is not sealed,
    which is some 4 MB for each busy process, is searched as bytes, 1 ms a MB, and only lines of the call are
    parsed.

    Args:
        directory: The audit directory.
        call_id: As the audit has it, which is redacted.

    Raises:
        AuditError: the journal cannot be read.
    """
    known: dict[str, list[AuditRecord]] = {
        line.decision_id: [] for line in _lines(directory, [call_id]) if line.tool_call_id == call_id
    }
    if not known:
        return []
    for line in _lines(directory, list(known)):
        if line.decision_id in known:
            known[line.decision_id].append(line)
    folded = sorted(map(_fold, known.values()), key=lambda each: each.row.timestamp)
    return [each for each in folded if each.row.result_status == RecordStatus.PENDING.value]


def taking_over(directory: Path) -> AbstractContextManager[None]:
    """Held by one process, and one thread in it, at a time: of two that resume one call, one finds it taken.

    Raises:
        AuditError: there is no journal, or it cannot be locked.
    """
    return alone(directory, JOURNAL)


def _lines(directory: Path, values: list[str]) -> Iterator[AuditRecord]:
    """The records with one of the values in their text, of files that no seal covers.

    What waits is carried on when its file is sealed. The seals are taken first: what one covers that comes
    meanwhile is still there.
    """
    seals = _Seals(directory)
    needles = [msgspec.json.encode(value) for value in values]
    for name in _names(directory / JOURNAL):
        data = _read(directory, name)
        found = {start: end for needle in needles for start, end in _places(data, needle)}
        if not found or seals.cover(name):
            continue
        for start, end in sorted(found.items()):
            try:
                yield _decoder.decode(data[start:end])
            except msgspec.MsgspecError:
                continue  # torn by a crash, or being written


def _places(data: bytes, needle: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of each line with `needle` in it."""
    place = data.find(needle)
    while place >= 0:
        end = data.find(b"\n", place)
        end = len(data) if end < 0 else end
        yield data.rfind(b"\n", 0, place) + 1, end
        place = data.find(needle, end)


class _Seals:
    """`seals.jsonl` as it was, to be asked what it covers; it is not parsed, for it grows for ever."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / SEALS
        self._content = read_seal_lines(directory)
        last = self._content.rstrip(b"\n").rpartition(b"\n")[2]
        if last:
            self._decoded(last)  # refuses a newer version

    def cover(self, name: str) -> bool:
        """A seal also names a file that it makes; what it covers are its `journals`."""
        needle = b'"file":' + msgspec.json.encode(name)
        return any(
            file.file == name
            for start, end in _places(self._content, needle)
            for file in self._decoded(self._content[start:end]).journals
        )

    def _decoded(self, line: bytes) -> Seal:
        try:
            return decode_seal(self._path, line)
        except ValueError as error:
            raise AuditError(
                f"a line of `{self._path}` is no seal ({error}): see what `aegis audit verify` says of it"
            ) from None


def _names(journal: Path) -> list[str]:
    try:
        with os.scandir(journal) as entries:
            return [entry.name for entry in entries if entry.name.endswith(".jsonl")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failure("read the audit at", journal, error) from error


def _read(directory: Path, name: str) -> bytes:
    try:
        return files.read_file(directory, f"{JOURNAL}/{name}")
    except FileNotFoundError:  # sealed, and removed
        return b""
    except OSError as error:
        raise failure("read the audit at", directory / JOURNAL / name, error) from error


def _fold(lines: Iterable[AuditRecord]) -> Waiting:
    ordered = sorted(lines, key=lambda line: (_STEPS[line.stage], line.timestamp))
    row = msgspec.structs.replace(ordered[0])
    for line in ordered[1:]:
        for name in AuditRecord.__struct_fields__:
            value = getattr(line, name)
            if value is not None and name != "timestamp":
                setattr(row, name, value)
    return Waiting(row, ordered[-1].human_decision, max(line.timestamp for line in ordered))
