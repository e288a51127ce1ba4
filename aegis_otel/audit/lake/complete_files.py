"""Which journal files are complete, so that they can be sealed, and whether their chains hold."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from aegis_otel.audit import files
from aegis_otel.audit.journal.files import WRITER, chain_before, find_writers, numbered
from aegis_otel.audit.record import decode
from aegis_otel.audit.seals.hash_chain import check, journal_origin, whole_lines, without_chain
from aegis_otel.audit.seals.seal_log import CARRIED_FILE, SealLog

_BATCH_BYTES = 64 << 20
"""The most bytes that one seal covers; the rest comes with the next seal."""


class File(NamedTuple):
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
        """The file as it was checked. Another content may have been put into it since."""
        return b"".join(line + b"\n" for line in self.lines)


@dataclass
class CompleteFiles:
    """What can be sealed together."""

    files: list[File] = field(default_factory=list)
    elsewhere: list[Path] = field(default_factory=list)
    """All other journal files that no seal covers."""
    later: int = 0
    """The number of those that are complete too, and come with a later seal."""
    alive: list[str] = field(default_factory=list)
    """The writers that may still write."""
    problems: list[str] = field(default_factory=list)

    def without_unreadable(self, readable: dict[str, int]) -> CompleteFiles:
        """Return this without files that have lines which are no records, and what follows such a file.

        Args:
            readable: How many lines of each file are records, by its name.
        """
        wrong = [file for file in self.files if readable.get(file.path.name, 0) != len(file.lines)]
        return self._without(
            {
                file.path.name: f"`{file.path}` has lines that are no records: it is not sealed"
                for file in wrong
            }
        )

    def without_files(self, said: dict[str, str]) -> CompleteFiles:
        """Return this without files that have lines nobody can have written, and what follows them.

        Args:
            said: What to say of each, by its name.
        """
        return self._without({name: f"`{name}` {what}: it is not sealed" for name, what in said.items()})

    def without_foreign(self, foreign: dict[str, str]) -> CompleteFiles:
        """Return this without files of a process that speaks of another's calls, and what follows them.

        Args:
            foreign: As for `without_files`; a carried file is not left out, for it is of many processes.
        """
        carried = {name for name in foreign if CARRIED_FILE.fullmatch(name)}
        self.problems.extend(f"`{name}` {foreign[name]}: this is not sealed" for name in sorted(carried))
        return self.without_files({name: foreign[name] for name in foreign.keys() - carried})

    def _without(self, said: dict[str, str]) -> CompleteFiles:
        wrong = [file for file in self.files if file.path.name in said]
        if not wrong:
            return self
        writers = {file.writer for file in wrong}
        kept = [file for file in self.files if file.writer not in writers]
        left = [file.path for file in self.files if file.writer in writers]
        self.problems.extend(said[file.path.name] for file in wrong)
        return replace(self, files=kept, elsewhere=self.elsewhere + left)


def find_complete_files(journal: Path, log: SealLog) -> CompleteFiles:
    """Return the complete files of a journal that no seal covers, as many as are sealed at a time.

    Raises:
        AuditError: the journal cannot be read.
        OSError: a file of it cannot be read.
    """
    writers_now = find_writers(journal)
    covered = {file.file for seal in log.seals for file in seal.journals}
    writers: dict[str, dict[int, Path]] = {}
    found = CompleteFiles(elsewhere=[path for path in writers_now.growing if path.name not in covered])
    for path in writers_now.complete:
        if path.name in covered:
            continue
        if CARRIED_FILE.fullmatch(path.name):
            _add_carried(path, log, found)
        elif (file := numbered(path.name)) is None:
            found.elsewhere.append(path)
            found.problems.append(f"`{path}` is not named as a journal file is: it is not sealed")
        else:
            writers.setdefault(file[0], {})[file[1]] = path
    growing = (re.fullmatch(WRITER, path.name, re.DOTALL) for path in writers_now.growing)
    found.alive.extend({match[1] for match in growing if match})
    ends: dict[str, dict[int, str]] = {}
    for seal in log.seals:
        for each in seal.journals:
            if (named := numbered(each.file)) is not None:
                ends.setdefault(named[0], {})[named[1]] = each.chain
    size = 0
    for writer, numbers in writers.items():
        origin, sealed = journal_origin(log.audit, writer), ends.get(writer, {})
        room = _BATCH_BYTES - size
        size += _add_writer(found, writer, numbers, origin=origin, sealed=sealed, room=room)
    return found


def _add_writer(
    found: CompleteFiles,
    writer: str,
    numbers: dict[int, Path],
    *,
    origin: str,
    sealed: dict[int, str],
    room: int,
) -> int:
    """Add the files of a writer that hold, as long as there is room; return the bytes of what was added."""
    holds, size = True, 0
    reached: dict[int, str] = {}
    for number, path in sorted(numbers.items()):
        if not holds or size >= room:
            found.elsewhere.append(path)
            found.later += holds
            continue
        chain = None
        if number > max(sealed, default=0):
            chain = chain_before(number, origin, sealed.get, reached.get)
        if chain is None:
            found.problems.append(
                f"line 1 of `{path}` does not follow the files of its writer: one before it is missing, or "
                "one behind it is sealed; neither this file nor a later one of its writer is sealed"
            )
        content = files.read_file(path.parent, path.name)
        lines = list(whole_lines(content))
        end = None if chain is None else _follow(path, lines, chain, found.problems)
        if end is None:
            holds = False
            found.elsewhere.append(path)
        else:
            reached[number] = end
            size += len(content)
            found.files.append(File(path, writer, lines, end))
    return size


def _follow(path: Path, lines: list[bytes], chain: str, problems: list[str]) -> str | None:
    """Return the chain value after the lines of a file; None, with a problem, where one of them is wrong."""
    for number, line in enumerate(lines, 1):
        value = check(chain, line)
        if value is None:
            problems.append(
                f"line {number} of `{path}` does not follow the line before it: "
                "neither this file nor a later one of its writer is sealed"
            )
            return None
        chain = value
        try:
            decode(without_chain(line))
        except ValueError as error:
            problems.append(f"line {number} of `{path}` is no record ({error}): its file is not sealed")
            return None
    return chain


def _add_carried(path: Path, log: SealLog, found: CompleteFiles) -> None:
    content = files.read_file(path.parent, path.name)
    digest = hashlib.sha256(content).hexdigest()
    for seal in log.seals:
        if seal.carried is not None and seal.carried.file == path.name:
            if seal.carried.sha256 == digest:
                found.files.append(File(path, "", list(whole_lines(content)), ""))
                return
            found.problems.append(f"`{path}` is not as seal {seal.seal} made it: it is not sealed")
            break
    else:
        found.problems.append(f"`{path}` belongs to no seal: it is not sealed")
    found.elsewhere.append(path)
