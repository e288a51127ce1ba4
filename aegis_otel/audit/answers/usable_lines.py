"""Lines of the journal that may be acted on: of files that no seal covers, whose chain and writer hold."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.journal.files import chain_before, file_name, is_text, numbered
from aegis_otel.audit.keys import audit_id, read_key
from aegis_otel.audit.location import JOURNAL, SEALS, failure
from aegis_otel.audit.record import AuditRecord, decode
from aegis_otel.audit.seals.hash_chain import (
    check,
    journal_origin,
    stated,
    whole_lines,
    whole_part,
    without_chain,
)
from aegis_otel.audit.seals.seal_log import CARRIED_FILE, Seal, decode_seal, read_seal_lines
from aegis_otel.errors import AuditError

_CARRIED = re.compile(rb'\{"writer":"[^"\\]*",')
_NEWER = re.compile(rb'"schema_version":(?!1[,}])')
_PROVEN = 2
"""The version of the seals since which answers are proven."""
_MOST_REMEMBERED = 64
_followed: dict[Path, tuple[int, bytes, str]] = {}
"""Bytes of each file that were followed, with their digest and the chain value after them."""


class _Shown(msgspec.Struct):
    """What readers show of an answer, whatever it is."""

    decision_id: str
    human_decision: object = None


class Lines:
    """The journal of an audit as it is, to be searched. The seals are taken first: what one covers that comes
    meanwhile is still there, and what waits is carried on when its file is sealed.

    Raises:
        AuditError: the seals cannot be read.
    """

    def __init__(self, directory: Path, held: Mapping[str, bytes] | None = None) -> None:
        """
        Args:
            held: What files of the journal are taken to hold, by their names: who has read a file, and is to
                act on what was read, must not have another content of it judged.
        """
        self._directory = directory
        self._held = held or {}
        self._seals = _Seals(directory)
        self.foreign: set[str] = set()
        """Files with lines that do not hold and that readers show all the same, as `every` came upon them."""
        try:
            self._audit = audit_id(read_key(directory))
        except FileNotFoundError:
            self._audit = ""  # then no chain holds
        except OSError as error:
            raise failure("read the audit at", directory, error) from error

    def with_text(self, values: list[str]) -> Iterator[AuditRecord]:
        """Yield the records with one of the values in their text; see `named`."""
        for _, record in self.named(values):
            yield record

    def named(self, values: list[str]) -> Iterator[tuple[str, AuditRecord]]:
        """Yield the records with one of the values in their text, each with the name of its file.

        Files are searched as bytes, 1 ms a MB, and only lines that are found are parsed; a file in which
        some are found is followed line by line, 5 ms a MB, where it was not before.

        Raises:
            AuditError: the journal cannot be read.
        """
        needles = [msgspec.json.encode(value) for value in values]
        for name in self._names():
            data = self._read(name) or b""
            found = {start: end for needle in needles for start, end in _places(data, needle)}
            if not found or self._seals.cover(name):
                continue
            holds = self._holding(name, data)
            for start, end in sorted(found.items()):
                if end >= holds:
                    break
                try:
                    yield name, _record(data[start:end], carried=CARRIED_FILE.fullmatch(name) is not None)
                except ValueError:
                    continue  # no record

    def every(self) -> Iterator[tuple[str, AuditRecord]]:
        """Yield all records, each with the name of its file.

        Raises:
            AuditError: the journal cannot be read.
        """
        for name in self._names():
            data = whole_part(self._read(name) or b"")
            if not data or self._seals.cover(name):
                continue
            holds = self._holding(name, data)
            if holds < len(data):
                self.foreign.add(name)
            for line in whole_lines(data[:holds]):
                try:
                    yield name, _record(line, carried=CARRIED_FILE.fullmatch(name) is not None)
                except ValueError:
                    self.foreign.add(name)  # no record

    def answers_anywhere(self) -> Iterator[tuple[str, str]]:
        """Yield each decision with a human's answer and that answer, also of files that do not hold.

        Readers show those too. Nothing may be acted on because of them.

        Raises:
            AuditError: the journal cannot be read.
        """
        needle = b'"human_decision"'
        for name in self._names():
            data = whole_part(self._read(name) or b"")
            if self._seals.cover(name):
                continue
            for start, end in dict(_places(data, needle)).items():
                try:
                    shown = msgspec.json.decode(data[start:end], type=_Shown)
                except (msgspec.MsgspecError, RecursionError):
                    continue  # no record
                if shown.human_decision not in (None, "expired"):
                    yield shown.decision_id, str(shown.human_decision)

    def older(self, name: str) -> bool:
        """Return whether a file is from before answers were proven.

        What its lines say of their version is not enough: whoever plants a line writes that too. No file but
        a carried one is older once this version has sealed, and in an audit without seals none is beside
        lines of this version.
        """
        if CARRIED_FILE.fullmatch(name):
            return True
        if self._seals.newest >= _PROVEN:
            return False
        names = [name] if self._seals.newest else self._names()
        return not any(_NEWER.search(self._read(each) or b"") for each in names)

    def _names(self) -> list[str]:
        return sorted({*_names(self._directory / JOURNAL), *self._held})

    def _read(self, name: str) -> bytes | None:
        return self._held[name] if name in self._held else _read(self._directory, name)

    def _holding(self, name: str, data: bytes) -> int:
        """Return how many bytes of a file hold, from its beginning."""
        if CARRIED_FILE.fullmatch(name):
            return len(data) if self._seals.carried(name) == sha256(data).hexdigest() else 0
        file = numbered(name)
        if file is None or not self._audit:
            return 0
        chain = self._before(*file)
        return 0 if chain is None else _follow(self._directory / name, data, chain)

    def _before(self, writer: str, number: int) -> str | None:
        """Return the chain value that a writer's file follows; None where that cannot be known."""

        def sealed(each: int) -> str | None:
            return self._seals.end_of(file_name(writer, each))

        def whole(each: int) -> bytes | None:
            data = self._read(file_name(writer, each))
            return None if data is None else whole_part(data)

        def end(each: int) -> str | None:
            return stated((whole(each) or b"")[:-1].rpartition(b"\n")[2])

        while number > 1 and sealed(number - 1) is None and whole(number - 1) == b"":
            number -= 1  # a file without a line ends with what it follows
        return chain_before(number, journal_origin(self._audit, writer), sealed, end)


def _record(line: bytes, *, carried: bool) -> AuditRecord:
    """Return the record of a line whose chain holds; raises ValueError as `decode` does."""
    body = without_chain(line)
    if carried and (match := _CARRIED.match(body)):
        body = b"{" + body[match.end() :]
    return decode(body)


def _follow(path: Path, data: bytes, chain: str) -> int:
    """Follow the chain through a file; how many bytes hold. What was followed before is only digested."""
    place, origin = 0, chain
    length, digest, reached = _followed.get(path, (0, b"", ""))
    if 0 < length <= len(data) and sha256(origin.encode() + data[:length]).digest() == digest:
        place, chain = length, reached
    while (end := data.find(b"\n", place)) >= 0:
        value = check(chain, data[place:end])
        if value is None:
            break
        place, chain = end + 1, value
    if place:
        _followed.pop(path, None)
        while len(_followed) >= _MOST_REMEMBERED:
            _followed.pop(next(iter(_followed)), None)
        _followed[path] = (place, sha256(origin.encode() + data[:place]).digest(), chain)
    return place


def _places(data: bytes, needle: bytes) -> Iterator[tuple[int, int]]:
    """Yield the begin and the end of each line with `needle` in it."""
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
        self.newest = self._decoded(last).version if last else 0  # refuses a newer version
        """The version of the last seal; 0 without any."""

    def cover(self, name: str) -> bool:
        """Return whether a seal covers a file, which are its `journals`; it also names one that it makes."""
        return self.end_of(name) is not None

    def end_of(self, name: str) -> str | None:
        """Return the chain value at the end of a file that is covered; empty for a carried one."""
        for seal in self._naming(name):
            for file in seal.journals:
                if file.file == name:
                    return file.chain or ""
        return None

    def carried(self, name: str) -> str | None:
        """Return the digest that the seal which made a carried file has of it."""
        for seal in self._naming(name):
            if seal.carried is not None and seal.carried.file == name:
                return seal.carried.sha256
        return None

    def _naming(self, name: str) -> Iterator[Seal]:
        needle = b'"file":' + msgspec.json.encode(name)
        for start, end in _places(self._content, needle):
            yield self._decoded(self._content[start:end])

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
            return [entry.name for entry in entries if entry.name.endswith(".jsonl") and is_text(entry.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failure("read the audit at", journal, error) from error


def _read(directory: Path, name: str) -> bytes | None:
    try:
        return files.read_file(directory, f"{JOURNAL}/{name}")
    except FileNotFoundError:  # sealed, and removed
        return None
    except OSError as error:
        raise failure("read the audit at", directory / JOURNAL / name, error) from error
