"""Which journal files are complete, so that they can be sealed, and whether their chains hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from aegis_otel.audit import files
from aegis_otel.audit.journal.files import chain_before, find_writers, numbered
from aegis_otel.audit.record import decode
from aegis_otel.audit.seals.hash_chain import follow, journal_origin, whole_lines, without_chain
from aegis_otel.audit.seals.seal_log import CARRIED_FILE, Seal, SealLog

_BATCH_BYTES = 64 << 20
"""The most bytes that one seal covers; the other files come with the next seal."""


class CompleteFile(NamedTuple):
    """A complete journal file, checked."""

    path: Path
    writer: str
    """Empty for a carried file."""
    lines: list[bytes]
    """Without newlines."""
    chain: str
    """The chain value of the last line; empty for a carried file."""

    @property
    def content(self) -> bytes:
        """The file as it was checked; somebody may have changed it since."""
        return b"".join(line + b"\n" for line in self.lines)


@dataclass
class CompleteFiles:
    """The files that can be sealed together."""

    files: list[CompleteFile] = field(default_factory=list)
    elsewhere: list[Path] = field(default_factory=list)
    """All other journal files that no seal covers."""
    later: int = 0
    """The number of those that are complete too, and are left for a later seal."""
    alive: list[str] = field(default_factory=list)
    """The writers that may still write."""
    problems: list[str] = field(default_factory=list)

    def without(self, wrong: Mapping[str, str]) -> CompleteFiles:
        """Return this without some files and all other files of their writers; self if none of them is here.

        Args:
            wrong: What is wrong with each file, by its name.
        """
        out = [file for file in self.files if file.path.name in wrong]
        if not out:
            return self
        self.problems.extend(f"`{file.path.name}` {wrong[file.path.name]}: it is not sealed" for file in out)
        writers = {file.writer for file in out}
        kept = [file for file in self.files if file.writer not in writers]
        left = [file.path for file in self.files if file.writer in writers]
        return replace(self, files=kept, elsewhere=self.elsewhere + left)


def find_complete_files(journal: Path, log: SealLog) -> CompleteFiles:
    """Return the complete files of a journal that no seal covers, as many as are sealed at a time.

    Raises:
        AuditError: the journal cannot be read.
        OSError: a file of it cannot be read.
    """
    now = find_writers(journal)
    covered = {file.file: file.chain for seal in log.seals for file in seal.journals}
    growing = [path for path in now.growing if path.name not in covered]
    found = CompleteFiles(elsewhere=growing, alive=now.alive)
    writers: dict[str, dict[int, Path]] = {}
    for path in now.complete:
        if path.name in covered:
            continue
        if CARRIED_FILE.fullmatch(path.name):
            _add(found, path, _check_carried(path, log.seals))
        elif (file := numbered(path.name)) is None:
            _add(found, path, f"`{path}` is not named as a journal file is: it is not sealed")
        else:
            writers.setdefault(file[0], {})[file[1]] = path
    ends: dict[str, dict[int, str]] = {}
    for name, end in covered.items():
        if (named := numbered(name)) is not None:
            ends.setdefault(named[0], {})[named[1]] = end
    room = _BATCH_BYTES
    for writer, numbers in writers.items():
        origin, sealed = journal_origin(log.audit, writer), ends.get(writer, {})
        reached: dict[int, str] = {}
        holds = True
        for number, path in sorted(numbers.items()):
            if not holds or room <= 0:
                found.elsewhere.append(path)
                found.later += holds
                continue
            chain = None
            if number > max(sealed, default=0):
                chain = chain_before(number, origin, sealed.get, reached.get)
            checked = _check(path, writer, chain)
            holds = _add(found, path, checked)
            if isinstance(checked, CompleteFile):
                reached[number] = checked.chain
                room -= len(checked.content)
    return found


def _add(found: CompleteFiles, path: Path, checked: CompleteFile | str) -> bool:
    """Add a file, or what is wrong with it; return whether it can be sealed."""
    if isinstance(checked, CompleteFile):
        found.files.append(checked)
        return True
    found.problems.append(checked)
    found.elsewhere.append(path)
    return False


def _check(path: Path, writer: str, chain: str | None) -> CompleteFile | str:
    """Return a writer's file whose first line follows `chain`, or what is wrong with it."""
    if chain is None:
        return (
            f"line 1 of `{path}` does not follow the files of its writer: one before it is missing, or "
            "one behind it is sealed; neither this file nor a later one of its writer is sealed"
        )
    lines = []
    content = files.read_file(path.parent, path.name)
    for number, (line, value) in enumerate(follow(content, chain), 1):
        if value is None:
            return (
                f"line {number} of `{path}` does not follow the line before it: "
                "neither this file nor a later one of its writer is sealed"
            )
        try:
            decode(without_chain(line))
        except ValueError as error:
            return f"line {number} of `{path}` is no record ({error}): its file is not sealed"
        lines.append(line)
        chain = value
    return CompleteFile(path, writer, lines, chain)


def _check_carried(path: Path, seals: Sequence[Seal]) -> CompleteFile | str:
    """Return a carried file that is as its seal made it, or what is wrong with it."""
    content = files.read_file(path.parent, path.name)
    for seal in seals:
        if seal.carried is not None and seal.carried.file == path.name:
            if seal.carried.sha256 == hashlib.sha256(content).hexdigest():
                return CompleteFile(path, "", list(whole_lines(content)), "")
            return f"`{path}` is not as seal {seal.seal} made it: it is not sealed"
    return f"`{path}` belongs to no seal: it is not sealed"
