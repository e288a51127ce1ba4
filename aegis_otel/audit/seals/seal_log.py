"""`seals.jsonl`: one chained line for each seal, append only. A seal takes effect with its line.

`Seal` lists the members of a line, in their order. `audit.query.connection` says what a seal means to a
reader. Whoever seals holds the lock of the file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from aegis_otel.audit import files
from aegis_otel.audit.location import SEALS, audit_errors
from aegis_otel.audit.record import MOMENT
from aegis_otel.audit.seals.hash_chain import follow, link, seals_origin, whole_lines, whole_part
from aegis_otel.audit.seals.signing import Signer
from aegis_otel.errors import AuditError

VERSION = 6
"""The version of this format and of the table. A reader refuses a newer one rather than misread it.

It is that of `record.SCHEMA_VERSION`: by it readers know which columns a segment may lack."""

TAG = 8
"""The number of digits of the previous chain value that the names of a seal's files have. They distinguish a
file of an unfinished seal from a file of a seal that `seals.jsonl` has lost."""

# The names that a seal may have. Files are opened, sent and removed by them, so nothing else is accepted.
SEGMENT_FILE = re.compile(r"date=[0-9]{4}-[0-9]{2}-[0-9]{2}/([0-9]{8,18})-([0-9a-f]{8})\.parquet", re.ASCII)
CARRIED_FILE = re.compile(r"carried-([0-9]{8,18})-([0-9a-f]{8})\.jsonl", re.ASCII)
JOURNAL_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}-[0-9]{6,18}\.jsonl", re.ASCII)
_LARGEST = (1 << 63) - 1
"""DuckDB's largest number: it does not read a line with a larger one."""
_TIME = re.compile("[0-9A-Za-z:.+-]{1,40}")
_SKEW = timedelta(days=1)
"""The most that the clocks of machines which share an audit may differ."""
AUDIT_ID = re.compile("[0-9a-f]{32}", re.ASCII)
_DIGEST = re.compile("[0-9a-f]{64}", re.ASCII)
_SIGNATURE = re.compile("[0-9a-f]{128}", re.ASCII)


class Segment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file of sealed rows, of one day."""

    segment: int
    """Its number; no two segments of an audit have the same."""
    file: str
    """Below `lake/`."""
    rows: int
    bytes: int
    sha256: str
    first: str | None
    """Timestamps of its oldest and newest row, ISO 8601 in UTC; None where no row has one."""
    last: str | None
    new: int = 0
    """The rows that no other segment had before; the others are those of segments that it replaces."""
    digest: str = ""
    """The digest of the new rows (see `audit.lake.segments`); empty if an earlier version sealed them."""

    @property
    def day(self) -> str:
        """`YYYY-MM-DD`."""
        return self.file[5:15]


class Covered(msgspec.Struct, frozen=True):
    """A journal file whose calls are sealed, or carried over."""

    file: str
    """In `journal/`."""
    lines: int
    chain: str
    """The chain value of its last line. Empty for a carried file, which has no writer: the seal that made the
    file has its SHA-256."""


class Carried(msgspec.Struct, frozen=True):
    """The journal file with the lines of calls that had not ended."""

    file: str
    lines: int
    sha256: str


class Amended(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row that was sealed with an unknown outcome, and got its outcome from later lines."""

    decision_id: str
    writer: str
    """The writer of these lines. A file of its process was sealed with the row, or earlier."""
    row: str
    """The digest of the row as it is now."""
    result_error: str | None = None
    """What the row said before; its status was `unknown`."""
    error_type: str | None = None
    duration_s: float | None = None


class Removed(msgspec.Struct, frozen=True):
    """What retention removed, in a signed seal that replaces segments by nothing."""

    segments: tuple[int, ...]
    """The same numbers as `Seal.replaces`."""
    rows: int
    first: str | None
    """Timestamps of the oldest and the newest row that was removed."""
    last: str | None
    why: str


class SealedChanges(msgspec.Struct, frozen=True):
    """How far the log of changes of policy was, with all lines before it."""

    lines: int
    chain: str
    """The chain value of the last of these lines."""


class Seal(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one sealing did."""

    seal: int
    """Its number, from 1 without a gap."""
    version: int
    audit: str
    """See `audit.keys.audit_id`."""
    sealed_at: str
    """ISO 8601 in UTC; never before that of the seal before it."""
    segments: tuple[Segment, ...]
    replaces: tuple[int, ...]
    """The numbers of the segments that these replace."""
    journals: tuple[Covered, ...]
    """By writer and number; empty in a seal that only merges."""
    carried: Carried | None
    """None where no call was open."""
    removed: Removed | None = None
    amended: tuple[Amended, ...] = ()
    changes: SealedChanges | None = None
    """None where there were no changes of policy since the seal before it."""
    signature: str = ""
    """See `audit.seals.signing`; empty without a key."""
    chain: str = ""
    """The chain value of its line, which a witness holds."""
    previous: str = ""
    """The chain value that its line follows; not in the line."""
    unknown: int = 0
    """The newly sealed calls of unknown outcome; only set where the seal is made, and not in the line.

    The sealer counts them for `aegis.audit.unknown_outcomes`, because a call is sealed once: the process that
    died cannot count them, and a reader would count them again each time."""

    @property
    def rows(self) -> int:
        """The rows of the segments that it adds."""
        return sum(each.rows for each in self.segments)


class _Version(msgspec.Struct):
    version: int


def read_seals(directory: Path) -> list[Seal]:
    """Return all seals, oldest first, without checking their chain; a torn last line is ignored.

    Raises:
        AuditError: the file cannot be read, has a line that is no seal, or is of a newer version.
    """
    return parse_seals(directory / SEALS, read_seal_lines(directory))


def parse_seals(path: Path, content: bytes) -> list[Seal]:
    """Return the seals in whole lines; raises what `read_seals` raises, and the errors name `path`."""
    seals: list[Seal] = []
    known: set[int] = set()
    for number, line in enumerate(whole_lines(content), 1):
        try:
            seal = decode_seal(path, line)
            datetime.fromisoformat(seal.sealed_at)
            if not MOMENT.fullmatch(seal.sealed_at) or not 0 < seal.seal <= _LARGEST:
                raise ValueError(f"its number `{seal.seal}` or its time `{seal.sealed_at}` cannot be")
            known.update(each.segment for each in seal.segments)
            if not known.issuperset(seal.replaces):
                raise ValueError("it replaces a segment that no seal has")
        except ValueError as error:
            raise AuditError(
                f"line {number} of `{path}` is no seal ({error}): see what `aegis audit verify` says of it"
            ) from None
        previous = seals[-1].chain if seals else seals_origin(seal.audit)
        seals.append(msgspec.structs.replace(seal, previous=previous))
    return seals


def read_seal_lines(directory: Path) -> bytes:
    """Return the whole lines of `seals.jsonl`; empty if there is no such file.

    Raises:
        AuditError: the file cannot be read.
    """
    with audit_errors("read the audit at", directory / SEALS), suppress(FileNotFoundError):
        return whole_part(files.read_file(directory, SEALS))
    return b""


def live_segments(seals: list[Seal]) -> list[Segment]:
    """Return the segments that no seal replaced, by number."""
    replaced = {number for seal in seals for number in seal.replaces}
    return [each for seal in seals for each in seal.segments if each.segment not in replaced]


def sealed_changes(seals: list[Seal]) -> SealedChanges | None:
    """Return how far the log of changes of policy is sealed; None where nothing of it is."""
    return next((seal.changes for seal in reversed(seals) if seal.changes is not None), None)


def is_ahead(time: str) -> bool:
    """Return whether a time is in the future, by more than clocks differ."""
    return datetime.fromisoformat(time) > datetime.now(UTC) + _SKEW


class SealLog:
    """The seals of an audit, for whoever holds the lock of `seals.jsonl`."""

    def __init__(self, directory: Path, descriptor: int, audit: str, sign: Signer | None) -> None:
        self._directory = directory
        self._descriptor = descriptor
        self._sign = sign
        self.audit = audit
        whole = read_seal_lines(directory)
        self.seals = parse_seals(directory / SEALS, whole)
        if self.seals and self.seals[0].audit != audit:
            raise AuditError(
                f"the key of the audit at `{directory}` is not the one that it was begun with: "
                "restore the file `key`"
            )
        self._check_place()
        if len(whole) < os.fstat(descriptor).st_size:  # a torn last line
            os.ftruncate(descriptor, len(whole))
        self.head = seals_origin(audit)
        """The chain value of the last seal."""
        for number, (_, value) in enumerate(follow(whole, self.head), 1):
            if value is None:
                raise AuditError(
                    f"line {number} of `{directory / SEALS}` does not follow the line before it: "
                    "nothing is sealed until `aegis audit verify` was looked into"
                )
            self.head = value

    @property
    def begins_signing(self) -> bool:
        """Whether there is a key, and the last seal is not signed."""
        return self._sign is not None and bool(self.seals) and not self.seals[-1].signature

    @property
    def lacks_key(self) -> bool:
        """Whether the last seal is signed and there is no key: an unsigned seal would look forged."""
        return self._sign is None and bool(self.seals) and bool(self.seals[-1].signature)

    def problems(self) -> list[str]:
        """Return a problem if the last seal is dated in the future, as every later one then is."""
        if not self.seals or not is_ahead(self.seals[-1].sealed_at):
            return []
        return [
            f"seal {self.seals[-1].seal} is dated {self.seals[-1].sealed_at}, which is still to come: what "
            "is sealed counts from then on, and stays in the journal until then; see what "
            "`aegis audit verify` says, and restore `seals.jsonl` from a copy where the seal was planted"
        ]

    @property
    def segments(self) -> int:
        """The highest number that a segment has; 0 without any."""
        return max((each.segment for seal in self.seals for each in seal.segments), default=0)

    @property
    def tag(self) -> str:
        """The tag in the names of the next seal's files."""
        return self.head[:TAG]

    def time(self) -> str:
        """Return the time of the next seal; never before that of the last one, if the clock was set back."""
        last = [datetime.fromisoformat(seal.sealed_at) for seal in self.seals[-1:]]
        return max([datetime.now(UTC), *last]).isoformat(timespec="microseconds")

    def next(self) -> Seal:
        """Return the next seal, without segments and journals: it can only sign those before it."""
        return Seal(len(self.seals) + 1, VERSION, self.audit, self.time(), (), (), (), None)

    def append(self, seal: Seal) -> Seal:
        """Write the seal's line, with which it takes effect.

        Raises:
            OSError: the line could not be written, and the seal has no effect.
            AuditError: another file is in the place of `seals.jsonl`, and the seal has no effect.
        """
        self._check_place()
        value, line = link(self.head, msgspec.json.encode(seal))
        if self._sign is not None:
            seal = msgspec.structs.replace(seal, signature=self._sign(seal.audit, value))
            value, line = link(self.head, msgspec.json.encode(seal))
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            if os.write(self._descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._descriptor)
        except BaseException:
            os.ftruncate(self._descriptor, end)
            raise
        self._check_place()
        sealed = msgspec.structs.replace(seal, chain=value, previous=self.head)
        self.seals.append(sealed)
        self.head = value
        return sealed

    def _check_place(self) -> None:
        """Check that the locked file is the one that readers find."""
        path = self._directory / SEALS
        with suppress(FileNotFoundError):
            if os.path.samestat(os.lstat(path), os.fstat(self._descriptor)):
                return
        raise AuditError(
            f"`{path}` was replaced or removed meanwhile: nothing is sealed; "
            "see what `aegis audit verify` says"
        )


@contextmanager
def locked(
    directory: Path, audit: str, *, wait: bool, sign: Signer | None = None
) -> Iterator[SealLog | None]:
    """Hold the lock of `seals.jsonl`, and yield the seals; None if somebody else holds it.

    Args:
        audit: The id of the audit.
        wait: Whether to wait for the lock.
        sign: Signs every seal that is made.

    Raises:
        AuditError: the seals cannot be read or their chain is broken.
        OSError: the file cannot be opened or written to, or was not unlocked in time.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    descriptor = files.open_file(directory, SEALS, flags, single_link=True)
    try:
        try:
            files.lock(descriptor, fcntl.LOCK_EX, None if wait else 0.0)
        except TimeoutError:
            if wait:
                raise
            yield None
            return
        yield SealLog(directory, descriptor, audit, sign)
    finally:
        os.close(descriptor)


def segment_name(day: str, number: int, tag: str) -> str:
    return f"date={day}/{number:08d}-{tag}.parquet"


def carried_name(number: int, tag: str) -> str:
    return f"carried-{number:08d}-{tag}.jsonl"


def decode_seal(path: Path, line: bytes) -> Seal:
    """Return the seal in a line, without checking its chain.

    Every reader of a seal uses this function, so that no name in the file leads elsewhere. DuckDB reads the
    same lines and has to find the same in them: only a line as this package writes it is accepted.

    Raises:
        AuditError: the seal is of a newer version.
        ValueError: the line is no seal.
    """
    try:
        if msgspec.json.decode(line, type=_Version).version > VERSION:
            raise AuditError(f"`{path}` was written by a newer version of aegis-otel: upgrade this one")
        seal = msgspec.json.decode(line, type=Seal)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if msgspec.json.encode(seal) != line or seal.previous or seal.unknown:
        raise ValueError("it is not written as a seal is")
    for name, *patterns in _names(seal):
        if not any(pattern.fullmatch(name) for pattern in patterns):
            raise ValueError(f"it says `{name}`, which is nothing that a seal can say there")
    return seal


def _names(seal: Seal) -> Iterator[tuple[str, *tuple[re.Pattern[str], ...]]]:
    """Yield each text of a seal that names a file, an audit or a time, and the patterns it may match."""
    yield seal.audit, AUDIT_ID
    yield seal.sealed_at, _TIME
    if seal.signature:
        yield seal.signature, _SIGNATURE
    for segment in seal.segments:
        yield segment.file, SEGMENT_FILE
        if segment.digest:
            yield segment.digest, _DIGEST
    for amended in seal.amended:
        yield amended.row, _DIGEST
    if seal.changes is not None:
        yield seal.changes.chain, _DIGEST
    for covered in seal.journals:
        yield covered.file, JOURNAL_FILE, CARRIED_FILE
    if seal.carried is not None:
        yield seal.carried.file, CARRIED_FILE
    for each in (*seal.segments, seal.removed):
        if each is not None:
            yield from ((time, _TIME) for time in (each.first, each.last) if time is not None)
