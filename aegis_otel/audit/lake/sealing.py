"""Sealing: complete journal files become Parquet, and the lines of calls that go on are carried over.

The steps, in this order:

1. Take the lock of `seals.jsonl`, or leave.
2. Cut off its torn last line. Remove drafts, and the files of an unfinished seal.
3. Remove journal files that a seal covers and segments that a seal replaced, more than a minute ago.
4. Find out which writers have ended, then read.
5. Write the segments and the carried file under draft names, fsync, rename, fsync the directories.
6. Append the seal with one write, fsync.

The line of step 6 is the commit: a crash before it leaves everything as it was, a crash after it leaves
nothing to do. Files that become complete meanwhile are left for the next sealing. Segments are merged in the
same steps: a segment is written from the new rows of a day and from the rows of the segments that `_plan` has
it replace.

A call is sealed when all its lines are in complete files and it has ended, or as `unknown` when it is `open`
and its last writer has ended. All other lines of complete files are carried over: they stay lines of the
journal, under the writer that may still end the call. A file whose chain is broken is not sealed, and neither
is a later file of its writer: it stays readable, and is reported.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.answers.call_check import unsealable_files
from aegis_otel.audit.journal.files import first_seals, process_of
from aegis_otel.audit.journal.policy_changes import CHANGES, read_change_lines, sealed_part, stated_texts
from aegis_otel.audit.keys import audit_id, load_key
from aegis_otel.audit.lake.cleanup import clear
from aegis_otel.audit.lake.complete_files import CompleteFiles, find_complete_files
from aegis_otel.audit.lake.engine import duckdb
from aegis_otel.audit.lake.scan import SCHEMA, scan_lake
from aegis_otel.audit.lake.segments import SegmentBuilder, opened
from aegis_otel.audit.location import JOURNAL, LAKE, POLICIES, audit_errors, exists, prepare
from aegis_otel.audit.seals import seal_log
from aegis_otel.audit.seals.hash_chain import changes_origin, follow, whole_part
from aegis_otel.audit.seals.seal_log import (
    CARRIED_FILE,
    Amended,
    Carried,
    Covered,
    Seal,
    SealedChanges,
    SealLog,
    Segment,
    sealed_changes,
)
from aegis_otel.audit.seals.signing import load_signer
from aegis_otel.config import SEAL_KEY
from aegis_otel.errors import AuditError


class Drafts:
    """Writes the files of the next seal under draft names; `publish` gives them their names."""

    def __init__(self, directory: Path, log: SealLog) -> None:
        self._directory = directory
        self._log = log
        self._segments = log.segments
        self.amended: list[Amended] = []
        """The changes in rows of segments that are replaced."""
        self._files: list[tuple[str, str]] = []
        """The draft name and the final name of each file, below the directory."""

    def segment(self, builder: SegmentBuilder, day: str, replaced: Sequence[Segment]) -> Segment:
        """Write the new rows of a day and the rows of the segments that the new one replaces."""
        self._segments += 1
        name = seal_log.segment_name(day, self._segments, self._log.tag)
        files.make_folder(self._directory, f"{LAKE}/{name.partition('/')[0]}")
        schema = f"{LAKE}/{SCHEMA}"
        if all(path != schema for _, path in self._files) and not builder.has_schema(self._directory / LAKE):
            builder.write_schema(self._directory / self._create(schema))
        draft = self._create(f"{LAKE}/{name}")
        metadata = {
            "aegis_version": str(seal_log.VERSION),
            "aegis_audit": self._log.audit,
            "aegis_seal": str(len(self._log.seals) + 1),
            "aegis_segment": str(self._segments),
            "aegis_previous": self._log.head,
        }
        paths = {self._directory / LAKE / each.file: bool(each.digest) for each in replaced}
        segment = Segment(self._segments, name, rows=0, bytes=0, sha256="", first=None, last=None)
        made, amended = builder.write(self._directory / draft, segment, paths, metadata)
        self.amended += amended
        with files.open_stream(self._directory, draft) as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            size = os.fstat(content.fileno()).st_size
        return msgspec.structs.replace(made, bytes=size, sha256=digest)

    def carried(self, lines: list[bytes]) -> Carried | None:
        """Write the lines that are carried over, if there are any."""
        if not lines:
            return None
        name = seal_log.carried_name(len(self._log.seals) + 1, self._log.tag)
        content = b"".join(line + b"\n" for line in lines)
        self._create(f"{JOURNAL}/{name}", content)
        return Carried(name, len(lines), hashlib.sha256(content).hexdigest())

    def publish(self) -> None:
        """Give all files their final names, on the disk itself."""
        for draft, path in self._files:
            files.sync(self._directory, draft)
            files.rename_file(self._directory, draft, path.rpartition("/")[2])
        for folder in {path.rpartition("/")[0] for _, path in self._files}:
            files.sync(self._directory, folder)

    @contextmanager
    def taken_back(self) -> Iterator[None]:
        """Remove the files if the block fails, as on a full disk: no seal names them."""
        try:
            yield
        except BaseException:
            for draft, path in self._files:
                files.remove_file(self._directory, draft)
                files.remove_file(self._directory, path)
            raise

    def _create(self, path: str, content: bytes = b"") -> str:
        """Make the draft of a file, and return its name below the directory."""
        folder, _, last = path.rpartition("/")
        draft = f"{folder}/.{last}.draft"
        self._files.append((draft, path))
        with os.fdopen(files.create_file(self._directory, draft), "wb") as out:
            out.write(content)
        return draft


SMALL = 250_000
"""A segment with this number of rows is not merged any more."""
MANY = 8
"""The number of small segments of today at which they are merged; those of an earlier day merge at two."""
WAITED = timedelta(days=1)
"""The time after a signed seal at which a sealing without the key reports that nothing was sealed since."""
PLANTED = (
    "run `aegis audit seal` with the key; where nobody signs this audit, that seal was planted: "
    "restore `seals.jsonl` from a copy"
)
"""What to do if the last seal is signed and there is no key."""


_CHANGED = f"the sealed file `{LAKE}/{{0.file}}` with {{0.rows}} rows was changed: it is left"


class Report(NamedTuple):
    """What a sealing did."""

    seals: list[Seal]
    problems: list[str]
    """What was not sealed and why, a sentence each."""
    busy: bool = False
    """Whether somebody else was sealing, so that nothing was done."""
    lacks_key: bool = False
    """Whether the seals so far are signed and no key is set here, so that nothing was done."""


class _Line(msgspec.Struct):
    decision_id: str = ""


def seal(
    directory: Path, *, wait: bool = False, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Seal the complete files of an audit.

    It may run beside writers, readers and other sealers, and may be killed at any moment.

    Args:
        wait: Whether to wait until nobody else is sealing.
        progress: Called after every seal with the number of journal files done, and of all of them.

    Raises:
        AuditError: the audit cannot be read or written, or the chain of its seals is broken.
        ConfigError: the key for signatures cannot be used.
    """
    if not exists(directory) or not (directory / JOURNAL).is_dir():
        return Report([], [])
    with audit_errors("seal the audit at", directory, "nothing is lost by it"):
        prepare(directory)
        audit = audit_id(load_key(directory))
        try:
            with seal_log.locked(directory, audit, wait=wait, sign=load_signer()) as log:
                return Report([], [], busy=True) if log is None else _seal(directory, log, progress)
        except duckdb.Error as error:
            raise AuditError(f"cannot seal the audit at `{directory}`: {error}") from error


def _seal(directory: Path, log: SealLog, progress: Callable[[int, int], None] | None) -> Report:
    if log.lacks_key:
        last, problems = log.seals[-1], log.problems()
        if datetime.now(UTC) - datetime.fromisoformat(last.sealed_at) >= WAITED:
            problems.append(
                f"nothing was sealed since seal {last.seal} of {last.sealed_at}, for it is signed, and "
                f"`{SEAL_KEY.env}` is not set here: {PLANTED}"
            )
        return Report([], problems, lacks_key=True)
    problems = clear(directory, log) + log.problems()
    made: list[Seal] = []
    changed: dict[int, str] = {}
    done = 0
    while True:
        found = find_complete_files(directory / JOURNAL, log)
        held = {file.path.name: file.content for file in found.files}
        found = found.without(unsealable_files(directory, held))
        new = _next_seal(directory, log, found, changed)
        if new is not None:
            made.append(new)
            done += len(new.journals)
            if progress is not None:
                progress(done, done + found.later)
        # Files that became complete meanwhile are left for the next sealing: a busy agent makes ever more.
        if new is None or not found.later:
            if log.begins_signing:  # the signature covers all earlier seals
                made.append(log.append(log.next()))
            return Report(
                made, problems + found.problems + list(changed.values()) + scan_lake(directory).problems
            )


def _next_seal(directory: Path, log: SealLog, found: CompleteFiles, changed: dict[int, str]) -> Seal | None:
    """Make one seal; return None if there is nothing to seal.

    Args:
        changed: What to report of segments that are not as they were sealed, by number; more are added here.
            They are neither merged nor amended, or the new segment would vouch for them.
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
        readable = builder.readable()
        damaged = {
            file.path.name: "has lines that are no records"
            for file in found.files
            if readable.get(file.path.name, 0) != len(file.lines)
        }
        if damaged:
            return _next_seal(directory, log, found.without(damaged), changed)
        changed |= _changed(directory, [lake[number] for number in builder.unreadable])
        for number in builder.relied_on():
            content = files.read_file(directory, f"{LAKE}/{lake[number].file}")
            if hashlib.sha256(content).hexdigest() == lake[number].sha256:
                builder.reread(number, files.write_copy(copies, paths[number].name, content))
            else:
                changed[number] = _CHANGED.format(lake[number])
        foreign = _amend(builder, log)
        for name in sorted(foreign):
            if CARRIED_FILE.fullmatch(name):  # it has lines of many processes, and is not left out
                found.problems.append(f"`{name}` {foreign.pop(name)}: this is not sealed")
        if (own := found.without(foreign)) is not found:
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
    changes, problem = _changes(directory, log)
    if problem and problem not in found.problems:
        found.problems.append(problem)
    made = msgspec.structs.replace(
        log.next(),
        segments=tuple(segments),
        replaces=tuple(sorted(number for replaced in plan.values() for number in replaced)),
        journals=tuple(Covered(file.path.name, len(file.lines), file.chain) for file in found.files),
        carried=carried,
        amended=tuple(drafts.amended),
        changes=changes,
    )
    return msgspec.structs.replace(log.append(made), unknown=unknown)


def _changes(directory: Path, log: SealLog) -> tuple[SealedChanges | None, str]:
    """Make the log of changes of policy durable, with its texts, and return how far it is.

    Returns:
        None where nothing is to be sealed of it; and what is wrong with it, where something is.
    """
    try:
        content = whole_part(read_change_lines(directory))
    except AuditError as error:  # calls are sealed all the same
        return None, f"{error}: nothing of it is sealed"
    sealed = sealed_changes(log.seals)
    if sealed is not None and sealed_part(content, log.audit, sealed) is None:
        return None, f"`{CHANGES}` is not as it was sealed: what was added to it is not sealed"
    lines, chain = 0, changes_origin(log.audit)
    for _, value in follow(content, chain):
        if value is None:
            return None, f"line {lines + 1} of `{CHANGES}` does not follow the line before it: not sealed"
        lines, chain = lines + 1, value
    if lines == (0 if sealed is None else sealed.lines):
        return None, ""
    for name in stated_texts(content):
        # `verify` reports a text that is missing, and what else has its name.
        with suppress(FileNotFoundError, files.NotAFile), files.open_stream(directory, name) as text:
            os.fsync(text.fileno())
    for name in (CHANGES, POLICIES):
        files.sync(directory, name)
    return SealedChanges(lines, chain), ""


def _amend(builder: SegmentBuilder, log: SealLog) -> dict[str, str]:
    """Choose the calls of unknown outcome that get the outcome which their own writers state.

    The process of such a writer has a file that was sealed with the call, or earlier: a process that came
    later did not run the call, and cannot know how it ended. Only the writer of the last line of an open call
    can end it, and a call that waits for an answer is never sealed.

    Returns:
        What is wrong with files of other processes that state an outcome, by their names.
    """
    known = first_seals(log.seals)
    made = {each.segment: index for index, seal in enumerate(log.seals) for each in seal.segments}
    foreign: dict[str, str] = {}
    calls = []
    for decision_id, origin, lines, segments in builder.late():
        sealed = made.get(origin, -1)
        others = [file for writer, file in lines if known.get(process_of(writer), len(log.seals)) > sealed]
        if not others and len(segments) == 1:
            calls.append(decision_id)
        what = f"says how the sealed call `{decision_id}` ended, and is not of the process that ran it"
        foreign |= dict.fromkeys(others, what)
    builder.amend(calls)
    return foreign


def _changed(directory: Path, segments: Iterable[Segment]) -> dict[int, str]:
    """Return what to report of the segments that are not byte for byte what was sealed, by their numbers."""
    changed: dict[int, str] = {}
    for each in segments:
        with files.open_stream(directory, f"{LAKE}/{each.file}") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != each.sha256:
                changed[each.segment] = _CHANGED.format(each)
    return changed


def _plan(builder: SegmentBuilder, lake: dict[int, Segment], changed: Container[int]) -> dict[str, set[int]]:
    """Return the numbers of the segments that a new one replaces, for each day that gets a new one."""
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
    """Return the lines of calls that are not sealed, each with the name of its writer added."""
    return [
        b'{"writer":%b,%b' % (msgspec.json.encode(file.writer), line[1:]) if file.writer else line
        for file in found.files
        for line in file.lines
        if msgspec.json.decode(line, type=_Line).decision_id not in ended
    ]
