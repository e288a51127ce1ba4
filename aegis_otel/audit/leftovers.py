"""What sealings leave behind: files of a seal that was never finished, and files no longer needed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aegis_otel.audit.location import JOURNAL, LAKE
from aegis_otel.audit.seals import CARRIED_FILE, SEGMENT_FILE, Book, live_segments
from aegis_otel.audit.segments import held_elsewhere
from aegis_otel.audit.writers import journal_files
from aegis_otel.errors import AuditError

GRACE = timedelta(seconds=60)
"""So long a file is kept after the seal that made it needless: a query of before may still read it."""

_DRAFT = re.compile(r"\.(carried-|_schema\.|[0-9]+-).*\.draft")


def clear(directory: Path, book: Book) -> list[str]:
    """Remove both; returns what should not be there and is left alone, a sentence for each.

    Raises:
        AuditError: they are no leftovers, but what is left of seals that were lost.
    """
    problems = _remove_unfinished(directory, book)
    return problems + _remove_needless(directory, book)


def _remove_unfinished(directory: Path, book: Book) -> list[str]:
    """By the tag in their names, files of the next seal are a crash's; of another, a seal is missing.

    That tag is also that of a seal whose line was lost: so nothing is removed that is not elsewhere too.
    """
    problems: list[str] = []
    unfinished: list[Path] = []
    seals = len(book.seals)
    journals = {path.name: path for path in (directory / JOURNAL).iterdir()}
    lake = {f"{path.parent.name}/{path.name}": path for path in (directory / LAKE).rglob("*")}
    for pattern, known, paths in ((SEGMENT_FILE, book.segments, lake), (CARRIED_FILE, seals, journals)):
        for name, path in paths.items():
            match = pattern.fullmatch(name)
            if _DRAFT.fullmatch(path.name):
                path.unlink()
            elif match and int(match[1]) > known:
                if match[2] == book.tag:
                    unfinished.append(path)
                else:
                    problems.append(f"`{path}` is of a seal that `seals.jsonl` does not have")
    if not unfinished:
        return problems
    others = [path for path in journal_files(directory / JOURNAL) if path not in unfinished]
    live = [lake[each.file] for each in live_segments(book.seals) if each.file in lake]
    safe = held_elsewhere(unfinished, others, live)
    for path in unfinished:
        if path not in safe:  # the next seal would have a file of that name
            raise AuditError(
                f"no seal names `{path}`, and what is in it is not elsewhere: `seals.jsonl` was shortened or "
                "taken away; restore it, nothing is sealed until then"
            )
    for path in safe:
        path.unlink()
    return problems


def _remove_needless(directory: Path, book: Book) -> list[str]:
    problems = []
    names = {segment.segment: segment.file for seal in book.seals for segment in seal.segments}
    before = datetime.now(UTC) - GRACE
    for seal in book.seals:
        if datetime.fromisoformat(seal.sealed_at) > before:
            break
        for number in seal.replaces:
            (directory / LAKE / names[number]).unlink(missing_ok=True)
        for file in seal.journals:
            path = directory / JOURNAL / file.file
            try:
                lines = path.read_bytes().count(b"\n")
            except FileNotFoundError:
                continue
            if lines == file.lines:
                path.unlink()
            else:
                problems.append(
                    f"`{path}` has {lines} lines, and {file.lines} when it was sealed: it is kept"
                )
    return problems
