"""What of an audit is sealed, and which of its files are not to be opened. Does not need DuckDB."""

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
from aegis_otel.audit.location import JOURNAL, LAKE, MIRROR, failure
from aegis_otel.audit.seals.hash_chain import seals_origin
from aegis_otel.audit.seals.seal_log import (
    AUDIT_ID,
    SEGMENT_FILE,
    VERSION,
    Seal,
    Segment,
    live_segments,
    read_seals,
)
from aegis_otel.errors import AuditError

SETTLED = timedelta(seconds=1)
"""A seal of so long ago counts for every query that begins now: see `audit.query.connection`."""
PATTERN = "date=[0-9]*/[0-9]*-*.parquet"
"""What segments match below `lake/`, and drafts do not."""
SCHEMA = "_schema.parquet"
"""The file that stands first in every list of segments, because DuckDB opens the first one for the columns.

Were that a segment, a damaged or an older one would hide all others. It buys no time: over a million rows in
30 and in 365 segments, queries took the same processor time with it and without. Its rows are nulls of
segment 0, which does not exist, and nobody reads them."""


class Lake(NamedTuple):
    """The sealed part of an audit, as it was found."""

    segments: list[Segment]
    """Those that can be read, in the order of their numbers."""
    closed: list[str]
    """Files below `lake/` and `journal/` that no query of later reads: damaged, foreign, or obsolete, and
    thus perhaps about to be removed."""
    problems: list[str]
    """What is missing, damaged or foreign, a sentence for each."""
    older: bool
    """Whether a segment was sealed by an older version, and so may lack columns."""
    began_older: bool
    """Whether an older version has ever sealed here, so that rows may lack values."""


def scan_lake(directory: Path) -> Lake:
    """See what is sealed and whether it is there, by names and sizes; nothing is read but the seals.

    Raises:
        AuditError: the seals or the directory cannot be read, or are of a newer version.
    """
    seals = read_seals(directory)  # before the files: so what is sealed meanwhile is not taken for missing
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
        problems += _missing_carried(directory, seals)
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
    """Return the sealed parts of other audits that were fetched, each a folder with the id of its audit.

    Readers and verification take them from here. One with the id of this very audit is none: its rows are
    here already, and would be shown twice.

    Raises:
        AuditError: they cannot be listed, or something else stands in the place of a folder.
    """
    try:
        names = sorted(os.listdir(directory / MIRROR))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failure("read the audit at", directory / MIRROR, error) from error
    own = None
    with suppress(AuditError, OSError):  # whoever uses the key says what is wrong with it
        own = audit_id(read_key(directory))
    mirrors = [directory / MIRROR / name for name in names if AUDIT_ID.fullmatch(name) and name != own]
    for path in (directory / MIRROR, *mirrors):
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise AuditError(f"`{path}` is not a directory of the audit: move it away")
    return mirrors


def _is_next(directory: Path, file: str, tag: str) -> bool:
    """Return whether a file is of a seal that is being made, or was made since, by the tag in its name."""
    seals = read_seals(directory)  # again: what was there before is named by them, or follows the last
    if any(each.file == file for seal in seals for each in seal.segments):
        return True
    if seals:
        head = seals[-1].chain
    else:
        try:
            head = seals_origin(audit_id(read_key(directory)))
        except (AuditError, OSError):
            return True  # nothing tells what the first seal follows
    return head.startswith(tag) or not os.path.lexists(directory / LAKE / file)


def _missing_carried(directory: Path, seals: list[Seal]) -> list[str]:
    covered = {file.file for seal in seals for file in seal.journals}
    carried = [seal.carried for seal in seals if seal.carried is not None]
    return [
        f"the journal file `{each.file}` with {each.lines} lines of calls that had not ended is missing"
        for each in carried
        if each.file not in covered and not os.path.lexists(directory / JOURNAL / each.file)
    ]


def _sizes(lake: Path) -> dict[str, int]:
    """Return the bytes of each file that matches `PATTERN`; -1 for no regular file, or one below a link."""
    sizes = {}
    folders: dict[Path, bool] = {}
    try:
        if lake.is_symlink():
            raise NotAFile(lake, "a symbolic link")
        for path in lake.glob(PATTERN):
            if not is_text(str(path.relative_to(lake))):  # no segment, and verification names it
                continue
            try:
                state = path.lstat()
                inside = folders.setdefault(path.parent, not path.parent.is_symlink())
            except FileNotFoundError:  # just replaced
                continue
            size = state.st_size if stat.S_ISREG(state.st_mode) and inside else -1
            sizes[str(path.relative_to(lake)).replace(os.sep, "/")] = size
    except OSError as error:
        raise failure("read the audit at", lake, error) from error
    return sizes
