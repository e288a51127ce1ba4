"""What is sealed in an audit, and which of its files must not be opened. Does not need DuckDB."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from aegis_otel.audit.files import NotAFile
from aegis_otel.audit.journal.files import is_text, journal_files
from aegis_otel.audit.keys import audit_id, read_key
from aegis_otel.audit.location import JOURNAL, LAKE, MIRROR, audit_errors
from aegis_otel.audit.seals.hash_chain import seals_origin
from aegis_otel.audit.seals.seal_log import (
    AUDIT_ID,
    SEGMENT_FILE,
    VERSION,
    Segment,
    live_segments,
    read_seals,
)
from aegis_otel.errors import AuditError

SETTLED = timedelta(seconds=1)
"""The age of a seal from which on it counts for every new query: see `audit.query.connection`."""
PATTERN = "date=[0-9]*/[0-9]*-*.parquet"
"""Matches segments below `lake/`, and no drafts."""
SCHEMA = "_schema.parquet"
"""The first file in every list of segments, because DuckDB takes the columns from the first one.

A damaged or older segment in its place would hide all others. It saves no time: over a million rows in 30 and
in 365 segments, queries took the same processor time with it and without. Its rows are nulls of segment 0,
which does not exist, and nobody reads them."""


class Lake(NamedTuple):
    """The sealed part of an audit, as it was found."""

    segments: list[Segment]
    """The segments that can be read, by number."""
    closed: list[str]
    """The files below `lake/` and `journal/` that no later query reads: they are damaged or foreign, or
    obsolete and perhaps about to be removed."""
    problems: list[str]
    """What is missing, damaged or foreign, a sentence each."""
    older: bool
    """Whether an older version sealed one of the segments, which may lack columns."""
    began_older: bool
    """Whether an older version ever sealed here, so that rows may lack values."""


def scan_lake(directory: Path) -> Lake:
    """Find what is sealed and whether it is there, by names and sizes; only the seals are read.

    Raises:
        AuditError: the seals or the directory cannot be read, or are of a newer version.
    """
    seals = read_seals(directory)  # before the files, or those of a seal made meanwhile would seem missing
    found = _sizes(directory / LAKE)
    live = live_segments(seals)
    named = {segment.file: segment for seal in seals for segment in seal.segments}
    last = max((segment.segment for segment in named.values()), default=0)
    closed, problems = [], []
    for segment in live:
        if segment.file not in found:
            problems.append(f"the sealed file `{segment.file}` with {segment.rows} rows is missing")
        elif found[segment.file] != segment.bytes:
            problems.append(f"the sealed file `{segment.file}` with {segment.rows} rows is damaged")
            closed.append(f"{LAKE}/{segment.file}")
    for file in sorted(found.keys() - named.keys()):
        match = SEGMENT_FILE.fullmatch(file)
        if match is None or int(match[1]) <= last or not _is_next(directory, file, match[2]):
            problems.append(f"`{LAKE}/{file}` belongs to no seal and is not read")
            closed.append(f"{LAKE}/{file}")
    if (directory / JOURNAL).is_dir():  # a mirror has none
        done = {file.file for seal in seals for file in seal.journals}
        carried = [seal.carried for seal in seals if seal.carried and seal.carried.file not in done]
        problems += [
            f"the journal file `{each.file}` with {each.lines} lines of calls that had not ended is missing"
            for each in carried
            if not os.path.lexists(directory / JOURNAL / each.file)
        ]
    readable = [segment for segment in live if found.get(segment.file) == segment.bytes]
    before = datetime.now(UTC) - SETTLED
    settled = [seal for seal in seals if datetime.fromisoformat(seal.sealed_at) < before]
    obsolete = {number for seal in settled for number in seal.replaces}
    closed += [f"{LAKE}/{name}" for name, each in named.items() if name in found and each.segment in obsolete]
    covered = {file.file for seal in settled for file in seal.journals}
    closed += [
        f"{JOURNAL}/{path.name}" for path in journal_files(directory / JOURNAL) if path.name in covered
    ]
    outdated = {each.segment for seal in seals if seal.version < VERSION for each in seal.segments}
    older = any(each.segment in outdated for each in readable)
    return Lake(readable, closed, problems, older, any(seal.version < VERSION for seal in seals))


def find_mirrors(directory: Path) -> list[Path]:
    """Return the folders with the sealed parts of other audits that were fetched.

    A folder is named by the id of its audit. One with the id of this audit is left out: its rows are here
    already, and would be shown twice.

    Raises:
        AuditError: the folders cannot be listed, or something else has the name of one.
    """
    with audit_errors("read the audit at", directory / MIRROR):
        if not os.path.lexists(directory / MIRROR):
            return []
        names = sorted(os.listdir(directory / MIRROR))
    own = None
    with suppress(OSError):  # whoever uses the key reports what is wrong with it
        own = audit_id(read_key(directory))
    mirrors = [directory / MIRROR / name for name in names if AUDIT_ID.fullmatch(name) and name != own]
    for path in (directory / MIRROR, *mirrors):
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise AuditError(f"`{path}` is not a directory of the audit: move it away")
    return mirrors


def _is_next(directory: Path, file: str, tag: str) -> bool:
    """Return whether a file is of a seal that is being made, or was just made, by the tag in its name."""
    seals = read_seals(directory)
    if any(each.file == file for seal in seals for each in seal.segments):
        return True
    if seals:
        head = seals[-1].chain
    else:
        try:
            head = seals_origin(audit_id(read_key(directory)))
        except OSError:
            return True  # nobody knows what the first seal follows
    return head.startswith(tag) or not os.path.lexists(directory / LAKE / file)


def _sizes(lake: Path) -> dict[str, int]:
    """Return the bytes of each file that matches `PATTERN`; -1 if it is not regular, or below a link."""
    sizes = {}
    folders: dict[Path, bool] = {}
    with audit_errors("read the audit at", lake):
        if lake.is_symlink():
            raise NotAFile(lake, "a symbolic link")
        for path in lake.glob(PATTERN):
            if not is_text(str(path.relative_to(lake))):  # not a segment; verification reports it
                continue
            try:
                state = path.lstat()
                inside = folders.setdefault(path.parent, not path.parent.is_symlink())
            except FileNotFoundError:  # just replaced
                continue
            size = state.st_size if stat.S_ISREG(state.st_mode) and inside else -1
            sizes[f"{path.parent.name}/{path.name}"] = size
    return sizes
