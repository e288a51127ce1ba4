"""Sealing: complete journal files become Parquet, and the lines of calls that go on are carried over.

The steps, in this order:

1. Take the lock of `seals.jsonl`; whoever does not get it leaves.
2. Cut off a torn last line of it. Remove drafts, and files of a seal that was never finished.
3. Remove journal files that a seal covers and segments that a seal replaced, more than a minute ago.
4. Find out which writers are gone, then read.
5. Write the segments and the carried file under draft names, fsync, rename, fsync the directories.
6. Append the seal with one write, fsync.

The line of step 6 is the commit: a crash before it leaves everything as it was, a crash after it leaves
nothing to do. What becomes complete meanwhile is for the next time. Merging is no step of its own: a segment
is written from the new rows of a day and, where `_plan` says so, from the rows of the segments that it
replaces.

A call is sealed when all its lines are in complete files and it has ended, or when it is `open` and its last
writer is gone: then as `unknown`. All other lines of complete files are carried over: they stay lines of the
journal, under the writer that may still end the call. A file whose chain is broken is not sealed, nor is a
later one of its writer: it stays readable, and is reported.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.answers.answer_check import unsealable_files
from aegis_otel.audit.journal.files import first_seals, process_of
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.cleanup import clear
from aegis_otel.audit.lake.complete_files import CompleteFiles, find_complete_files
from aegis_otel.audit.lake.engine import duckdb
from aegis_otel.audit.lake.scan import SCHEMA, scan_lake
from aegis_otel.audit.lake.segments import SegmentBuilder, opened
from aegis_otel.audit.location import JOURNAL, LAKE, exists, failure, prepare
from aegis_otel.audit.seals.seal_log import (
    VERSION,
    Amended,
    Carried,
    Covered,
    Seal,
    SealLog,
    Segment,
    carried_name,
    locked,
    segment_name,
)
from aegis_otel.audit.seals.signing import load_signer
from aegis_otel.config import SEAL_KEY
from aegis_otel.errors import AuditError


class Drafts:
    """Makes the files of the next seal beside their places; none has its name before `publish`."""

    def __init__(self, directory: Path, log: SealLog) -> None:
        self._directory = directory
        self._book = log
        self._seal = len(log.seals) + 1
        self._segments = log.segments
        self.amended: list[Amended] = []
        """What was changed in rows of segments that were replaced."""
        self._files: list[tuple[str, str]] = []
        """The names below the directory that each has at first, and in the end."""

    def segment(self, builder: SegmentBuilder, day: str, replaced: Sequence[Segment]) -> Segment:
        """Write the rows of a day, new ones and those of the segments that it replaces."""
        self._segments += 1
        name = segment_name(day, self._segments, self._book.tag)
        files.make_folder(self._directory, f"{LAKE}/{name.partition('/')[0]}")
        schema = f"{LAKE}/{SCHEMA}"
        if not builder.has_schema(self._directory / LAKE) and not any(
            path == schema for _, path in self._files
        ):
            draft, descriptor = self._create(schema)
            os.close(descriptor)
            builder.write_schema(self._directory / draft)
        draft, descriptor = self._create(f"{LAKE}/{name}")
        os.close(descriptor)
        metadata = {
            "aegis_version": str(VERSION),
            "aegis_audit": self._book.audit,
            "aegis_seal": str(self._seal),
            "aegis_segment": str(self._segments),
            "aegis_previous": self._book.head,
        }
        paths = {self._directory / LAKE / each.file: bool(each.digest) for each in replaced}
        made = builder.write(self._directory / draft, day, self._segments, paths, metadata)
        self.amended += made.amended
        with files.open_stream(self._directory, draft) as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            size = os.fstat(content.fileno()).st_size
        return Segment(
            self._segments, name, made.rows, size, digest, made.first, made.last, made.new, made.digest
        )

    def carried(self, lines: list[bytes]) -> Carried | None:
        """Write the lines that are carried over; None without any."""
        if not lines:
            return None
        name = carried_name(self._seal, self._book.tag)
        content = b"".join(line + b"\n" for line in lines)
        _, descriptor = self._create(f"{JOURNAL}/{name}")
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
        return Carried(name, len(lines), hashlib.sha256(content).hexdigest())

    def publish(self) -> None:
        """Give all files their names, for good."""
        for draft, path in self._files:
            files.sync(self._directory, draft)
            files.rename_file(self._directory, draft, path.rpartition("/")[2])
        for folder in {path.rpartition("/")[0] for _, path in self._files}:
            files.sync(self._directory, folder)

    @contextmanager
    def taken_back(self) -> Iterator[None]:
        """Remove what was written if the block fails, as on a full disk: no seal names it."""
        try:
            yield
        except BaseException:
            for draft, path in self._files:
                files.remove_file(self._directory, draft)
                files.remove_file(self._directory, path)
            raise

    def _create(self, path: str) -> tuple[str, int]:
        folder, _, last = path.rpartition("/")
        draft = f"{folder}/.{last}.draft"
        self._files.append((draft, path))
        return draft, files.create_file(self._directory, draft)


SMALL = 250_000
"""Rows from which on a segment is left as it is."""
MANY = 8
"""The number of smaller segments of today from which on they are merged; for a day that is over, two."""
WAITED = timedelta(days=1)
"""So long after the last seal it is said that nobody with the key has sealed."""
PLANTED = (
    "run `aegis audit seal` with the key; where nobody signs this audit, that seal was planted: "
    "restore `seals.jsonl` from a copy"
)
"""How to go on where the last seal is signed, and there is no key."""


class Report(NamedTuple):
    """What a sealing did."""

    seals: list[Seal]
    problems: list[str]
    """What was left out, and why, a sentence for each."""
    busy: bool = False
    """Somebody else was sealing, and nothing was done."""
    lacks_key: bool = False
    """The seals so far are signed, and no key is set here: nothing was done, and the journal waits."""


class _Line(msgspec.Struct):
    decision_id: str = ""


def seal(
    directory: Path, *, wait: bool = False, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Seal what is complete in an audit; safe to be killed, and beside writers, readers and other sealers.

    Args:
        directory: The audit's.
        wait: Until nobody else is sealing.
        progress: Told after every seal how many journal files are done, and of how many.

    Raises:
        AuditError: the audit cannot be read or written, or the chain of its seals is broken.
        ConfigError: there is to be a signature, and its key cannot be used.
    """
    if not exists(directory) or not (directory / JOURNAL).is_dir():
        return Report([], [])
    try:
        prepare(directory)
        audit = audit_id(load_key(directory))
        with locked(directory, audit, wait=wait, sign=load_signer()) as log:
            return Report([], [], busy=True) if log is None else _seal(directory, log, progress)
    except OSError as error:
        raise failure("seal the audit at", directory, error, "nothing is lost by it") from error
    except duckdb.Error as error:
        raise AuditError(f"cannot seal the audit at `{directory}`: {error}") from error


def _seal(directory: Path, log: SealLog, progress: Callable[[int, int], None] | None) -> Report:
    if log.lacks_key:
        return Report([], _lacks_key(log), lacks_key=True)
    problems = clear(directory, log) + log.problems()
    made: list[Seal] = []
    changed: dict[int, str] = {}
    done = 0
    while True:
        found = find_complete_files(directory / JOURNAL, log)
        held = {file.path.name: file.content for file in found.files}
        found = found.without_files(unsealable_files(directory, held))
        new = _next_seal(directory, log, found, changed)
        if new is not None:
            made.append(new)
            done += len(new.journals)
            if progress is not None:
                progress(done, done + found.later)
        # What has become complete meanwhile is for the next time, or a busy agent would keep us for ever.
        if new is None or not found.later:
            if log.begins_signing:  # its signature is of all seals until then
                made.append(log.append(log.next()))
            return Report(
                made, problems + found.problems + list(changed.values()) + scan_lake(directory).problems
            )


def _lacks_key(log: SealLog) -> list[str]:
    """Return what to say where whoever has the key has not sealed for long; nothing until then."""
    last = log.seals[-1]
    if datetime.now(UTC) - datetime.fromisoformat(last.sealed_at) < WAITED:
        return log.problems()
    return [
        *log.problems(),
        f"nothing was sealed since seal {last.seal} of {last.sealed_at}, for it is signed, and "
        f"`{SEAL_KEY.env}` is not set here: {PLANTED}",
    ]


def _next_seal(directory: Path, log: SealLog, found: CompleteFiles, changed: dict[int, str]) -> Seal | None:
    """Make one seal; None where there is nothing to seal.

    Args:
        changed: By their numbers, what to say of segments that are not what was sealed. They are neither
            merged nor amended, or the new file would vouch for them; what is found here is added.
    """
    lake = {segment.segment: segment for segment in scan_lake(directory).segments}
    paths = {number: directory / LAKE / segment.file for number, segment in lake.items()}
    drafts = Drafts(directory, log)
    # DuckDB reads copies of the journal files and of the segments that are relied on: whoever changes a file
    # while it is read, and puts it back, changes no sealed row. Segments that are merged are read where they
    # lie: a row that is changed there does not fit its digest.
    with opened() as connection, drafts.taken_back(), TemporaryDirectory(prefix="aegis-seal-") as copies:
        journals = [files.write_copy(copies, file.path.name, file.content) for file in found.files]
        builder = SegmentBuilder(connection, journals, found.elsewhere, found.alive, paths)
        legible = found.without_unreadable(builder.readable())
        if legible is not found:
            return _next_seal(directory, log, legible, changed)
        changed |= _changed(directory, [lake[number] for number in builder.unreadable])
        for number in builder.relied_on():
            content = files.read_file(directory, f"{LAKE}/{lake[number].file}")
            if hashlib.sha256(content).hexdigest() == lake[number].sha256:
                builder.reread(number, files.write_copy(copies, paths[number].name, content))
            else:
                changed |= _as_changed(lake[number])
        foreign = _amend(builder, log)
        own = found.without_foreign(foreign)
        if own is not found:
            return _next_seal(directory, log, own, changed)
        plan = _plan(builder, lake, changed)
        while more := _changed(directory, [lake[each] for replaced in plan.values() for each in replaced]):
            changed |= more
            plan = _plan(builder, lake, changed)
        if not plan and not any(file.writer for file in found.files):
            return None
        segments = [
            drafts.segment(builder, day, [lake[number] for number in sorted(replaced)])
            for day, replaced in sorted(plan.items())
        ]
        carried = drafts.carried(_lines_to_carry(found, builder.ended(changed)))
        unknown = builder.unknown()
        drafts.publish()
    made = msgspec.structs.replace(
        log.next(),
        segments=tuple(segments),
        replaces=tuple(sorted(number for replaced in plan.values() for number in replaced)),
        journals=tuple(Covered(file.path.name, len(file.lines), file.chain) for file in found.files),
        carried=carried,
        amended=tuple(drafts.amended),
    )
    made = log.append(made)
    return msgspec.structs.replace(made, unknown=unknown)


def _amend(builder: SegmentBuilder, log: SealLog) -> dict[str, str]:
    """Have calls that were sealed as unknown given the outcome that their own writers state.

    The process of such a writer has a file that was sealed with the call, or before: who comes later did not
    run it, and cannot know what became of it. No other process has anything true to add: only the writer of
    the last line of an open call can end it, and a call that waits for an answer is never sealed.

    Returns:
        By their names, what to say of files with lines that say so and are of other writers.
    """
    known = first_seals(log.seals)
    made = {each.segment: index for index, seal in enumerate(log.seals) for each in seal.segments}
    foreign: dict[str, str] = {}
    calls = []
    for late in builder.late():
        sealed = made.get(late.origin, -1)
        others = [
            file for writer, file in late.lines if known.get(process_of(writer), len(log.seals)) > sealed
        ]
        if not others and len(late.segments) == 1:
            calls.append(late.decision_id)
        what = f"says how the sealed call `{late.decision_id}` ended, and is not of the process that ran it"
        foreign |= dict.fromkeys(others, what)
    builder.amend(calls)
    return foreign


def _changed(directory: Path, segments: Iterable[Segment]) -> dict[int, str]:
    """Return what to say of those that are not, byte by byte, what was sealed."""
    changed: dict[int, str] = {}
    for each in segments:
        with files.open_stream(directory, f"{LAKE}/{each.file}") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != each.sha256:
                changed |= _as_changed(each)
    return changed


def _as_changed(segment: Segment) -> dict[int, str]:
    """By its number, what to say of a segment that is not what was sealed."""
    what = f"the sealed file `{LAKE}/{segment.file}` with {segment.rows} rows was changed: it is left"
    return {segment.segment: what}


def _plan(builder: SegmentBuilder, lake: dict[int, Segment], changed: Container[int]) -> dict[str, set[int]]:
    """Return the numbers of the segments that a new one replaces, for each day that gets one."""
    plan: dict[str, set[int]] = {day: set() for day in builder.days()}
    amended = builder.amended()
    days: dict[str, list[Segment]] = {}
    for segment in lake.values():
        if segment.segment not in changed:
            days.setdefault(segment.day, []).append(segment)
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    for day, segments in days.items():
        small = {each.segment for each in segments if each.rows < SMALL}
        many = len(small) + (day in plan) >= (MANY if day >= today else 2)
        replaced = (small if many else set()) | (amended & {each.segment for each in segments})
        if replaced:
            plan.setdefault(day, set()).update(replaced)
    return plan


def _lines_to_carry(found: CompleteFiles, ended: set[str]) -> list[bytes]:
    """Return the lines of calls that are not sealed, as they are, each with the name of its writer."""
    return [
        b'{"writer":%b,%b' % (msgspec.json.encode(file.writer), line[1:]) if file.writer else line
        for file in found.files
        for line in file.lines
        if msgspec.json.decode(line, type=_Line).decision_id not in ended
    ]
