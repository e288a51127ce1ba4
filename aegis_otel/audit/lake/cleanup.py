"""Removes what sealings leave behind: the files of an unfinished seal, and obsolete files."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aegis_otel.audit import files
from aegis_otel.audit.journal.files import journal_files
from aegis_otel.audit.lake.segments import held_elsewhere
from aegis_otel.audit.location import JOURNAL, LAKE
from aegis_otel.audit.seals.seal_log import CARRIED_FILE, SEGMENT_FILE, SealLog, live_segments
from aegis_otel.errors import AuditError

GRACE = timedelta(seconds=60)
"""How long a file is kept after the seal that made it obsolete: an earlier query may still read it."""

_DRAFT = re.compile(r"\.(carried-|_schema\.|[0-9]+-).*\.draft")


def clear(directory: Path, log: SealLog) -> list[str]:
    """Remove unfinished and obsolete files; return what should not be there and was kept, a sentence each.

    Raises:
        AuditError: files that no seal names have calls that are not elsewhere, so that seals were lost.
    """
    problems = _remove_unfinished(directory, log)
    return problems + _remove_obsolete(directory, log)


def _remove_unfinished(directory: Path, log: SealLog) -> list[str]:
    """Remove the files of the next seal that a crash left, and report files of other seals.

    A seal whose line was lost had the same tag as the next one. So a file is only removed if its calls are
    elsewhere too.
    """
    problems: list[str] = []
    unfinished: list[str] = []
    folders = _listed(directory, LAKE)
    lake = [*folders, *(name for folder in folders for name in _listed(directory, folder))]
    for part, pattern, known, names in (
        (LAKE, SEGMENT_FILE, log.segments, lake),
        (JOURNAL, CARRIED_FILE, len(log.seals), _listed(directory, JOURNAL)),
    ):
        for name in names:
            match = pattern.fullmatch(name.removeprefix(f"{part}/"))
            if _DRAFT.fullmatch(name.rpartition("/")[2]):
                files.remove_file(directory, name)
            elif match and int(match[1]) > known:
                if match[2] == log.tag:
                    unfinished.append(name)
                else:
                    problems.append(f"`{directory / name}` is of a seal that `seals.jsonl` does not have")
    if not unfinished:
        return problems
    paths = [directory / name for name in unfinished]
    others = [path for path in journal_files(directory / JOURNAL) if path not in paths]
    live = [
        directory / LAKE / each.file for each in live_segments(log.seals) if f"{LAKE}/{each.file}" in lake
    ]
    safe = held_elsewhere(paths, others, live)
    for path in paths:
        if path not in safe:  # the next seal would have a file of that name
            raise AuditError(
                f"no seal names `{path}`, and what is in it is not elsewhere: `seals.jsonl` was shortened or "
                "taken away; restore it, nothing is sealed until then"
            )
    for name in unfinished:
        files.remove_file(directory, name)
    return problems


def _listed(directory: Path, folder: str) -> list[str]:
    """Return the names in a folder, with the folder's; empty if it is not a folder."""
    try:
        os.close(files.open_folder(directory, folder))
        return [f"{folder}/{name}" for name in os.listdir(directory / folder)]
    except OSError:
        return []


def _remove_obsolete(directory: Path, log: SealLog) -> list[str]:
    """Remove replaced segments and sealed journal files, but for files that have changed since."""
    problems = []
    names = {segment.segment: segment.file for seal in log.seals for segment in seal.segments}
    before = datetime.now(UTC) - GRACE
    for seal in log.seals:
        if datetime.fromisoformat(seal.sealed_at) > before:
            break
        for number in seal.replaces:
            files.remove_file(directory, f"{LAKE}/{names[number]}")
        for file in seal.journals:
            name = f"{JOURNAL}/{file.file}"
            try:
                lines = files.read_file(directory, name).count(b"\n")
            except FileNotFoundError:
                continue
            if lines == file.lines:
                files.remove_file(directory, name)
            else:
                problems.append(
                    f"`{directory / name}` has {lines} lines, and {file.lines} when it was sealed: it is kept"
                )
    return problems
