"""The findings of a verification, and its bounded reads, which follow no link and wait for no pipe."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from aegis_otel.audit import files
from aegis_otel.audit.journal.files import is_text, shown_name
from aegis_otel.audit.location import audit_errors
from aegis_otel.audit.seals.hash_chain import check, stated

_CHUNK = 1 << 20
_MOST = 10
"""The most lines of a file that get a finding each; further lines are counted."""


class Finding(NamedTuple):
    """Something that is not as it was written."""

    file: str
    """The name in the audit directory, or the path that was given."""
    what: str
    line: int | None = None
    """From 1."""
    byte: int | None = None
    """The place of the line's first byte, from 0."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}: line {self.line}"
        return (
            f"{place} (byte {self.byte}): {self.what}" if self.byte is not None else f"{place}: {self.what}"
        )


class Line(NamedTuple):
    """A line of a chained file."""

    number: int
    byte: int
    content: bytes
    """Without its newline."""
    previous: str
    """The chain value that it follows."""
    chain: str
    """The chain value after it."""
    intact: bool
    """Whether it follows the line before it."""


@dataclass
class Proof:
    """What a verification has checked and found."""

    directory: Path
    on_progress: Callable[[int], None] = lambda _: None
    """Called after each read with the number of bytes."""
    audit: str = ""
    """The id of the audit; empty if it is unknown."""
    seals: int = 0
    chain: str = ""
    """The chain value of the last seal."""
    segments: int = 0
    rows: int = 0
    """The rows in sealed segments."""
    journals: int = 0
    """The journal files that no seal covers."""
    lines: int = 0
    """The number of lines in those files."""
    policies: int = 0
    """The policies whose text is kept."""
    unfinished: list[str] = field(default_factory=list)
    """Files that no seal names and that a killed sealing may have left."""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Remarks on what is not tampering."""
    unproven: list[str] = field(default_factory=list)
    """What may be wrong in spite of the checks, and how to find out."""

    def found(self, file: str, what: str, line: int | None = None, byte: int | None = None) -> None:
        self.findings.append(Finding(file, what, line, byte))

    def report(
        self, file: str, faults: Iterable[str], line: int | None = None, byte: int | None = None
    ) -> None:
        """Add a finding for each fault of a file or of its line."""
        self.findings += [Finding(file, what, line, byte) for what in faults]

    def note_other(self, name: str, *, is_draft: bool) -> None:
        """Note a file that is no part of an audit; a name that is not UTF-8 is a finding."""
        if not is_text(name):
            self.found(shown_name(name), "does not belong to the audit: its name is not UTF-8")
            return
        what = "left behind when a process was killed" if is_draft else "does not belong to the audit"
        self.notes.append(f"{name}: {what}; it is not read")

    def open(self, name: str) -> BinaryIO | None:
        """Open a file of the audit; return None if it is missing and, with a finding, if it is not regular.

        Raises:
            AuditError: it cannot be read.
        """
        with audit_errors("read the audit at", self.directory / name):
            try:
                file = files.open_stream(self.directory, name)
            except FileNotFoundError:
                return None
            except files.NotAFile as error:
                self.found(name, f"is {error.kind}, and not a regular file of the audit")
                return None
        if name.endswith(".jsonl") and os.fstat(file.fileno()).st_size > files.LARGEST:
            file.close()
            self.found(name, f"is larger than any file of its kind ({files.LARGEST} bytes): it is not read")
            return None
        return file

    def digest(self, name: str) -> tuple[int, str] | None:
        """Return the size and the SHA-256 of a file; None as for `open`."""
        file = self.open(name)
        if file is None:
            return None
        size, digest = 0, hashlib.sha256()
        with file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                self.on_progress(len(chunk))
        return size, digest.hexdigest()

    def chained(self, name: str, start: str, before: str) -> Iterator[Line]:
        """Yield the lines of a chained file; report each line that does not follow the one before it.

        Args:
            start: The chain value that the first line follows.
            before: What should come before the first line, for the finding.
        """
        file = self.open(name)
        if file is None:
            return
        follows, last, byte, wrong = {start}, start, 0, 0
        with file:
            for number, line in enumerate(file, 1):
                self.on_progress(len(line))
                content = line.removesuffix(b"\n")
                fitting = [(value, chain) for value in follows if (chain := check(value, content))]
                if line == content:
                    self._tail(name, number, byte, line, follows)
                    break
                if fitting:
                    previous, last = fitting[0]
                    follows = {last}
                    yield Line(number, byte, content, previous, last, intact=True)
                else:
                    wrong += 1
                    if wrong <= _MOST:
                        ahead = f"line {number - 1}" if number > 1 else before
                        self.found(
                            name,
                            f"does not follow {ahead}: it was changed, moved or brought here, or what stood "
                            "between them was removed",
                            number,
                            byte,
                        )
                    previous, last = last, stated(content) or last
                    follows = follows | {last} if len(follows) == 1 else {last}
                    yield Line(number, byte, content, previous, last, intact=False)
                byte += len(line)
        if wrong > _MOST:
            self.found(name, f"{wrong - _MOST} more lines do not follow the line before them")

    def _tail(self, name: str, number: int, byte: int, tail: bytes, follows: set[str]) -> None:
        if any(check(value, tail[:-1]) for value in follows):
            self.found(name, "the newline at its end was changed", number, byte)
        else:
            self.notes.append(
                f"{name}: its last {len(tail)} bytes are no whole line: a write that a crash cut off, or "
                "that is under way; nothing counts as recorded before its line is whole"
            )
