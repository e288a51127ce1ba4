"""Lines of the journal that may be acted on: of files that no seal covers, whose chain and writer hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.journal.files import chain_before, file_name, journal_files, numbered
from aegis_otel.audit.keys import audit_id, read_key
from aegis_otel.audit.location import JOURNAL, SEALS, audit_errors
from aegis_otel.audit.record import AuditRecord, decode
from aegis_otel.audit.seals import hash_chain
from aegis_otel.audit.seals.hash_chain import whole_lines, whole_part
from aegis_otel.audit.seals.seal_log import CARRIED_FILE, Seal, decode_seal, read_seal_lines
from aegis_otel.errors import AuditError

_CARRIED = re.compile(rb'\{"writer":"[^"\\]*",')
_NEWER = re.compile(rb'"schema_version":(?!1[,}])')
_PROVEN = 2
"""The version of the seals since which answers are proven."""
_MOST_REMEMBERED = 64
_followed: dict[Path, tuple[int, bytes, str]] = {}
"""How many bytes of a file were followed, with their digest and the chain value after them."""


class _Shown(msgspec.Struct):
    """What readers show of an answer, whatever it is."""

    decision_id: str
    human_decision: object = None


class Lines:
    """The journal of an audit, to be searched.

    The seals are read first: a file that is sealed meanwhile is still there, and its pending calls are
    carried over.

    Raises:
        AuditError: the seals cannot be read.
    """

    def __init__(self, directory: Path, held: Mapping[str, bytes] | None = None) -> None:
        """
        Args:
            held: The content of some journal files, by name, in place of what is on disk. A caller that has
                read a file, and will act on that content, must have the same content judged.
        """
        self._directory = directory
        self._held = held or {}
        self._seals = _Seals(directory)
        self.foreign: set[str] = set()
        """Files with lines that do not hold and that readers show all the same, as `every` found them."""
        self._audit = ""
        # Without a key no chain holds.
        with audit_errors("read the audit at", directory), suppress(FileNotFoundError):
            self._audit = audit_id(read_key(directory))

    def with_text(self, values: list[str]) -> Iterator[AuditRecord]:
        """Yield the records that have one of the values in their text.

        Files are searched as bytes, 1 ms a MB, and only lines with a value are parsed. The chain of a file
        with such a line is followed, 5 ms a MB, as far as it was not followed before.

        Raises:
            AuditError: the journal cannot be read.
        """
        needles = [msgspec.json.encode(value) for value in values]
        for name in self._names():
            data = self._read(name) or b""
            found = {start: end for needle in needles for start, end in _places(data, needle)}
            if not found or self._seals.end_of(name) is not None:
                continue
            holds = self._holding(name, data)
            for start, end in sorted(found.items()):
                if end >= holds:
                    break
                with suppress(ValueError):  # it is not a record
                    yield _record(name, data[start:end])

    def every(self) -> Iterator[tuple[str, AuditRecord]]:
        """Yield all records, each with the name of its file.

        Raises:
            AuditError: the journal cannot be read.
        """
        for name in self._names():
            data = whole_part(self._read(name) or b"")
            if not data or self._seals.end_of(name) is not None:
                continue
            holds = self._holding(name, data)
            if holds < len(data):
                self.foreign.add(name)
            for line in whole_lines(data[:holds]):
                try:
                    record = _record(name, line)
                except ValueError:
                    self.foreign.add(name)
                else:
                    yield name, record

    def answers_anywhere(self) -> Iterator[tuple[str, str]]:
        """Yield each decision with a human's answer and that answer, also from files that do not hold.

        Readers show these answers too. Nothing may be done because of them.

        Raises:
            AuditError: the journal cannot be read.
        """
        for name in self._names():
            data = whole_part(self._read(name) or b"")
            if self._seals.end_of(name) is not None:
                continue
            for start, end in dict(_places(data, b'"human_decision"')).items():
                with suppress(msgspec.MsgspecError, RecursionError):  # it is not a record
                    shown = msgspec.json.decode(data[start:end], type=_Shown)
                    if shown.human_decision not in (None, "expired"):
                        yield shown.decision_id, str(shown.human_decision)

    def older(self, name: str) -> bool:
        """Return whether a file is from before answers were proven.

        The version in its lines is no evidence: whoever plants a line writes that too. Once this version has
        sealed, only carried files are older; in an audit without seals, a file is older if no file has a line
        of this version.
        """
        if CARRIED_FILE.fullmatch(name):
            return True
        if self._seals.newest >= _PROVEN:
            return False
        names = [name] if self._seals.newest else self._names()
        return not any(_NEWER.search(self._read(each) or b"") for each in names)

    def _names(self) -> list[str]:
        return sorted({*(path.name for path in journal_files(self._directory / JOURNAL)), *self._held})

    def _read(self, name: str) -> bytes | None:
        if name in self._held:
            return self._held[name]
        with (
            audit_errors("read the audit at", self._directory / JOURNAL / name),
            suppress(FileNotFoundError),  # it was sealed and removed
        ):
            return files.read_file(self._directory, f"{JOURNAL}/{name}")
        return None

    def _holding(self, name: str, data: bytes) -> int:
        """Return how many bytes of a file hold, from its beginning."""
        if CARRIED_FILE.fullmatch(name):
            return len(data) if self._seals.carried(name) == sha256(data).hexdigest() else 0
        file = numbered(name)
        chain = self._before(*file) if file is not None and self._audit else None
        return 0 if chain is None else _follow(self._directory / name, data, chain)

    def _before(self, writer: str, number: int) -> str | None:
        """Return the chain value that a writer's file follows; None if it cannot be known."""

        def sealed(each: int) -> str | None:
            return self._seals.end_of(file_name(writer, each))

        def whole(each: int) -> bytes | None:
            data = self._read(file_name(writer, each))
            return None if data is None else whole_part(data)

        def end(each: int) -> str | None:
            return hash_chain.stated((whole(each) or b"")[:-1].rpartition(b"\n")[2])

        while number > 1 and sealed(number - 1) is None and whole(number - 1) == b"":
            number -= 1  # a file without a line ends as it begins
        return chain_before(number, hash_chain.journal_origin(self._audit, writer), sealed, end)


def _record(name: str, line: bytes) -> AuditRecord:
    """Return the record of a line whose chain holds; raises ValueError as `decode` does."""
    body = hash_chain.without_chain(line)
    if (match := _CARRIED.match(body)) and CARRIED_FILE.fullmatch(name):
        body = b"{" + body[match.end() :]
    return decode(body)


def _follow(path: Path, data: bytes, origin: str) -> int:
    """Return how many bytes of a file hold. Bytes that were followed before are only digested again."""
    place, chain = 0, origin
    length, digest, reached = _followed.get(path, (0, b"", ""))
    if 0 < length <= len(data) and sha256(origin.encode() + data[:length]).digest() == digest:
        place, chain = length, reached
    for line, value in hash_chain.follow(data, chain, place):
        if value is None:
            break
        place, chain = place + len(line) + 1, value
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
    """What `seals.jsonl` said when it was read. It grows for ever, so it is searched and not parsed."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / SEALS
        self._content = read_seal_lines(directory)
        last = self._content.rstrip(b"\n").rpartition(b"\n")[2]
        self.newest = self._decoded(last).version if last else 0  # refuses a newer version
        """The version of the last seal; 0 without any."""

    def end_of(self, name: str) -> str | None:
        """Return the chain value at the end of a file, if a seal covers it; empty for a carried file."""
        for seal in self._naming(name):
            for file in seal.journals:
                if file.file == name:
                    return file.chain or ""
        return None

    def carried(self, name: str) -> str | None:
        """Return the digest of a carried file in the seal that made it."""
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
