"""The audit as a program holds it: write records, read rows, export them; and copy it to Python's logging."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import TYPE_CHECKING, Unpack

from msgspec.structs import replace

from aegis_otel.audit.answers.answer_proof import Proofs, load_approval_key
from aegis_otel.audit.answers.pending_calls import every_waiting, taking_over, waiting, waiting_row
from aegis_otel.audit.journal.policy_changes import PATIENCE_S, PolicyChange, record_change
from aegis_otel.audit.journal.writer import Journal
from aegis_otel.audit.keys import check_identity
from aegis_otel.audit.location import JOURNAL, failure, unsendable
from aegis_otel.audit.query.export import write_jsonl
from aegis_otel.audit.query.filters import STATUSES, Condition, Filters, compile_filters
from aegis_otel.audit.query.rows import Row, count_rows, read_rows
from aegis_otel.audit.record import AuditRecord, RecordStatus, Waiting, encode, same_call
from aegis_otel.audit.seals.seal_log import Seal
from aegis_otel.config import AUDIT_ID, DURABILITY
from aegis_otel.errors import AegisError, AuditError, ChangeNotWritten, ConfigError
from aegis_otel.governance import refusal
from aegis_otel.governance.error_text import safe_text
from aegis_otel.governance.recording import record_call, timestamp, unix_ns
from aegis_otel.model import Approval, Mode, Outcome, PolicyDecision, Result, RiskLevel
from aegis_otel.runtime.system import RealSystem

if TYPE_CHECKING:
    import duckdb


_log = logging.getLogger("aegis_otel")

_PATIENCE_S = 0.02
"""Seconds to wait for the lock of the log of changes where a call, and with it an event loop, may wait."""
_PAUSES_S = 0.05, 5.0
"""Seconds until the lock is tried again: after the first failure, and at the most. Each doubles the pause."""

_writing_changes = threading.Lock()
"""Held while changes of policy are written, by whichever AuditLogger: they are few, and share a file."""


def _after_fork_in_child() -> None:
    global _writing_changes  # noqa: PLW0603 - a thread that is not in the child may have held it
    _writing_changes = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)

_REFUSALS = {None: None, "approved": None, "denied": refusal.DENIED, "expired": refusal.EXPIRED}
"""What a human can have decided, and how a call ends by it where nothing ran."""


class AuditLogger:
    """One audit directory, to write to and to read from. Safe to share by threads and Runtimes.

    The constructor touches no disk: the directory is made for the first record, and where there is none,
    reading finds no rows. Reading loads DuckDB, takes tens of milliseconds and holds up no writer.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        db_path: str | os.PathLike[str] | None = None,
        durability: str | None = None,
    ) -> None:
        """
        Args:
            path: The directory; a suffix `.db` or `.duckdb` is dropped. Default: `AEGIS_AUDIT_DIR`, else
                `aegis_audit`.
            db_path: Another name of `path`.
            durability: What a verdict survives before its tool runs: `process`, its death, or `power`, that
                of the machine; default `AEGIS_DURABILITY`, else `process`.

        Raises:
            ConfigError: when no directory can have that name, both names are given, or there is no such
                durability.
        """
        if path is not None and db_path is not None:
            raise ConfigError("`path` and `db_path` are two names of one setting: give one of them")
        self._journal = Journal(db_path if path is None else path, durability=durability)
        self.durability: str = DURABILITY.value(durability)
        """What a verdict survives before its tool runs: `process` or `power`."""
        self._proofs = Proofs(self._journal.path)
        self._system = RealSystem()
        self._subscribers: list[Callable[[AuditRecord], object]] = []
        self._changes: list[tuple[PolicyChange, bytes | None]] = []
        self._keeps_changes = False
        self._locked_out: AuditError | None = None
        """Why the lock of the log of changes could not be taken the last time."""
        self._try_at = self._pause_s = 0.0

    # Properties and methods of the class, so that a subclass can have its own.

    @property
    def path(self) -> Path:
        """The audit directory, absolute."""
        return self._journal.path

    @property
    def address(self) -> str | None:
        """Where on object storage the sealed part goes too, as an argument or the environment says."""
        return self._journal.address

    @property
    def unsendable(self) -> str | None:
        """Why nothing can be sent to `address` from this process; None where it can, or is not to be."""
        return unsendable(self.address)

    def check(self) -> None:
        """Make the directory and its key, and check that a journal could be written.

        Raises:
            AuditError: it could not, or another audit than `AEGIS_AUDIT_ID` is there; the message names the
                path and the cause.
        """
        journal = self.path / JOURNAL
        try:
            check_identity(self.path, AUDIT_ID.value())
            self.digest(b"")
            with TemporaryFile(dir=journal):
                pass
            self._write_changes(PATIENCE_S)
        except OSError as error:
            raise failure("write the audit at", journal, error) from error

    def append(self, record: AuditRecord) -> None:
        """Write one line of a call; see `audit.journal.writer.Journal.append`.

        The changes of policy before it are written first. Where they cannot be, the line is written anyway: a
        program that goes on without them keeps its calls.

        Raises:
            ChangeNotWritten: the line was written, and a change before it was not.
            AuditError: the line was not written.
        """
        behind: AuditError | None = None
        if self._changes:
            try:
                self._write_changes()
            except AuditError as error:
                behind = error
        self._journal.append(record)
        for callback in tuple(self._subscribers):
            try:
                callback(copy(record))
            except Exception:
                _log.warning("a subscriber to the audit failed", exc_info=True)
        if behind is not None:
            raise ChangeNotWritten(str(behind)) from behind

    def record_change(self, change: PolicyChange, text: bytes | None = None) -> None:
        """Write a change of policy: at once, or with the first record where nothing was written yet.

        Args:
            change: The change; see `audit.journal.policy_changes`.
            text: The text of its policy, where it has a new one.

        Raises:
            AuditError: it cannot be written now. The next record tries again, and fails as well if it cannot.
        """
        self._changes.append((change, text))
        if self._keeps_changes:
            self._write_changes()

    def _write_changes(self, patience: float = _PATIENCE_S) -> None:
        """Write the changes that wait; while another process keeps the lock, try it only now and then.

        Args:
            patience: Seconds to wait for the lock; with more than a call may wait, it is tried in any case.
        """
        self._keeps_changes = True
        with _writing_changes:
            while self._changes:  # an entry stays until it is written: a call in another thread waits for it
                if self._locked_out is not None and patience <= _PATIENCE_S and monotonic() < self._try_at:
                    raise AuditError(str(self._locked_out))
                change, text = self._changes[0]
                try:
                    record_change(self.path, self.address, change, text, patience)
                except AuditError as error:
                    if isinstance(error.__cause__, TimeoutError):
                        first, most = _PAUSES_S
                        self._locked_out = error
                        self._pause_s = min(max(first, 2 * self._pause_s), most)
                        self._try_at = monotonic() + self._pause_s
                    raise
                self._locked_out, self._pause_s = None, 0.0
                del self._changes[0]

    def mark(self) -> int | None:
        """Return the state of the journal; see `audit.journal.writer.Journal.mark`."""
        return self._journal.mark()

    def sync(self, mark: int | None) -> Awaitable[None]:
        """Wait until lines are as durable as asked for; see `audit.journal.writer.Journal.sync`."""
        return self._journal.sync(mark)

    def digest(self, payload: bytes) -> str:
        """Return the keyed digest of encoded arguments; see `audit.journal.writer.Journal.digest`."""
        return self._journal.digest(payload)

    def prove(self, row: AuditRecord, line: AuditRecord) -> str:
        """Return the proof that this process took an answer; see `audit.answers.answer_proof.Proofs`."""
        return self._proofs.of(row, line)

    def keyed(self, kind: str, *parts: str | None) -> str:
        """Return a keyed digest that only a process with the approval key can make.

        Raises:
            AegisError: the key cannot be read or made, or is unusable.
        """
        return self._proofs.keyed(kind, *parts)

    def subscribe(self, callback: Callable[[AuditRecord], object]) -> None:
        """Call `callback` with every record that is written from now on, once it is on disk.

        It is called by whoever writes, so it should be quick. Its record is a copy, and what it raises is
        logged: it can change nothing.
        """
        self._subscribers.append(callback)

    def unsubscribe(self, callback: Callable[[AuditRecord], object]) -> None:
        """Call `callback` no more; nothing happens where it was not subscribed."""
        with suppress(ValueError):
            self._subscribers.remove(callback)

    def on_seal(self, callback: Callable[[Seal], None], failed: Callable[[], None] | None = None) -> None:
        """Call `callback`, and no other, with the seals that are made for this process, in another thread.

        Args:
            callback: Called with each seal.
            failed: Called in that thread when a sealing failed.
        """
        self._journal.on_seal, self._journal.on_seal_failed = callback, failed

    def check_approval_key(self) -> None:
        """Check that answers can be proven: without a setting, a key is made where there is none.

        Raises:
            AegisError: the key cannot be read or made, or is unusable.
        """
        load_approval_key(self.path)

    def waiting(self, call_id: str) -> list[Waiting]:
        """Return the calls of that id that wait for a human; see `audit.answers.pending_calls.waiting`."""
        return waiting(self.path, call_id, self._proofs)

    def waiting_row(self, decision_id: str) -> Waiting | None:
        """Return the row of a decision that waits; see `audit.answers.pending_calls.waiting_row`."""
        return waiting_row(self.path, decision_id, self._proofs)

    def every_waiting(self) -> list[Waiting]:
        """Return all calls that wait for a human; see `audit.answers.pending_calls.every_waiting`."""
        return every_waiting(self.path, self._proofs)

    def knows(self, decision_id: str) -> bool:
        """Return whether there is a row with this id, sealed or not; raises AuditError."""
        with self._reading() as audit:
            return count_rows(audit, Condition("decision_id = ?", [decision_id])) > 0

    def take_over(
        self,
        record: AuditRecord,
        *,
        inside: bool = False,
        only: Callable[[Waiting], bool] | None = None,
    ) -> Waiting | None:
        """Claim the waiting call that matches `record`: one that a human approved, or that has begun.

        It is open from then on, so that nobody claims it a second time.

        Args:
            record: The record of the call that comes back.
            inside: Whether it continues a body that has begun.
            only: Returns which calls may be claimed; None: all of them.

        Raises:
            AuditError: when the journal cannot be read or written.
        """
        with taking_over(self.path):
            for found in self.waiting(record.tool_call_id or ""):
                may = found.started if inside else found.answer == "approved" and not found.started
                if may and same_call(found.row, record) and (only is None or only(found)):
                    return self.take(found, record)
        return None

    def take(self, found: Waiting, record: AuditRecord) -> Waiting:
        """Claim a waiting call for the call of `record`, where nobody else can: under `answering`.

        Raises:
            AuditError: the journal cannot be written.
        """
        if self._changes:
            self._write_changes()  # or the call is claimed by a line, and fails
        taken = timestamp(max(unix_ns(record.timestamp), unix_ns(found.last) + 1_000))
        self.append(
            AuditRecord(
                stage="resolved",
                decision_id=found.row.decision_id,
                timestamp=taken,
                human_decision=found.row.human_decision,
                result_status=RecordStatus.OPEN.value,
            )
        )
        return replace(found, last=taken)

    @contextmanager
    def answering(self, asked: Waiting) -> Iterator[Waiting]:
        """Return a context with the waiting call as it is now, in which only the caller can answer it.

        Raises:
            AuditError: it waits no more, or the journal cannot be read.
        """
        row = asked.row
        with taking_over(self.path):
            found = self.waiting_row(row.decision_id)
            if found is not None and not found.started:
                yield found
                return
        raise AuditError(
            f"call `{row.tool_call_id or row.decision_id}` is already answered, and was run or refused: "
            "this one does not count"
        )

    def log(
        self,
        session_id: str,
        decision: PolicyDecision,
        *,
        result: Result | None = None,
        human_decision: str | None = None,
    ) -> str:
        """Record a decision that was made outside a Runtime, redacted like every other.

        Args:
            session_id: Groups rows.
            decision: What `Policy.evaluate` gave.
            result: The result, where something was done.
            human_decision: `approved`, `denied` or `expired`, where a human was asked.

        Returns:
            The decision id of the row.

        Raises:
            ConfigError: for another `human_decision`, or the result of a dry run.
            AuditError: when it cannot be written, or, with the row written, a change of policy before it.
        """
        if human_decision not in _REFUSALS:
            expected = ", ".join(map(str, _REFUSALS))
            raise ConfigError(f"`human_decision` is `{human_decision}`: expected one of {expected}")
        if result is not None and result.status.value not in STATUSES:
            raise ConfigError(f"a result `{result.status.value}` is of a dry run, which is not audited")
        record, arguments, _ = record_call(decision, self._system, session_id, self._system.now_ns())
        record.args_digest = self.digest(arguments)
        record.human_decision = human_decision
        if result is not None:
            record.stage, record.result_status = "completed", result.status.value
            record.result_error = None if result.error is None else safe_text(str(result.error))
            if result.started_at and result.completed_at:
                record.duration_s = (result.completed_at - result.started_at).total_seconds()
        else:
            blocked = decision.enforced_approval is Approval.BLOCK
            why = refusal.blocked(decision.matched_rule) if blocked else _REFUSALS[human_decision]
            if why is not None:
                record.result_status, record.result_error = why.status.value, why.error
        record.outcome = _outcome_of(record)
        if human_decision in ("approved", "denied"):
            with suppress(AegisError):  # nothing runs by it, and a reader says that it is not proven
                record.proof = self.prove(record, record)
        self.append(record)
        return record.decision_id

    def get_log(
        self, session_id: str | None = None, *, limit: int | None = None, **filters: Unpack[Filters]
    ) -> list[Row]:
        """Return the rows that match, newest first.

        Args:
            session_id: Only rows of this session.
            limit: At most so many, the newest.
            filters: See `audit.query.filters.Filters`; all must hold.

        Raises:
            ConfigError: for a filter value that can match nothing.
            AuditError: when the audit cannot be read.
        """
        condition = compile_filters(session_id, filters)
        with self._reading() as audit:
            return list(read_rows(audit, condition, limit=limit))

    def count(self, session_id: str | None = None, **filters: Unpack[Filters]) -> int:
        """Return how many rows match; arguments and errors as for `get_log`."""
        condition = compile_filters(session_id, filters)
        with self._reading() as audit:
            return count_rows(audit, condition)

    def export_jsonl(
        self,
        path: str | os.PathLike[str],
        session_id: str | None = None,
        *,
        limit: int | None = None,
        **filters: Unpack[Filters],
    ) -> int:
        """Write the rows that match to a file of JSON lines, oldest first, and return how many.

        The file can be read by this user only, and appears, or replaces an older one, only when it is
        complete. Other arguments as for `get_log`.

        Raises:
            ConfigError: for a filter value that can match nothing.
            AuditError: when the audit cannot be read, or the file not be written.
        """
        condition = compile_filters(session_id, filters)
        with self._reading() as audit:
            return write_jsonl(path, read_rows(audit, condition, limit=limit, oldest_first=True))

    def close(self) -> None:
        """Close the journal. Reading goes on to work, and a later record begins a new file."""
        self._journal.close()

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        from aegis_otel.audit.query.connection import open_view  # noqa: PLC0415 - DuckDB is loaded by the first who reads

        audit = open_view(self.path)
        try:
            yield audit
        finally:
            audit.close()


def _outcome_of(record: AuditRecord) -> str | None:
    """Return how a decision that was made elsewhere ended; None where a human is to answer first."""
    status, answer = record.result_status, record.human_decision
    if status == Outcome.BLOCKED or (status == Outcome.DENIED and answer in (None, Outcome.APPROVED)):
        return status
    if record.mode == Mode.MONITOR:
        return (Outcome.BLOCKED if record.approval == Approval.BLOCK else Outcome.ALLOWED).value
    if answer is not None:
        return answer
    if status == Outcome.DENIED:
        return status
    return None if status is None and record.approval == Approval.APPROVE else Outcome.ALLOWED.value


_LEVELS = {
    RiskLevel.LOW.name: logging.DEBUG,
    RiskLevel.MEDIUM.name: logging.INFO,
    RiskLevel.HIGH.name: logging.WARNING,
    RiskLevel.CRITICAL.name: logging.ERROR,
}
_UNFINISHED = (RecordStatus.OPEN.value, RecordStatus.PENDING.value)
_MOST_REMEMBERED = 10_000

_audit_log = logging.getLogger("aegis").getChild("audit")


class LoggingAuditLogger(AuditLogger):
    """An AuditLogger whose records also go to the logger `aegis.audit`, as JSON, once they are on disk.

    All lines of a call have the level of its risk: LOW is DEBUG, MEDIUM is INFO, HIGH is WARNING, CRITICAL is
    ERROR. The log is a copy for convenience; the audit is what is on disk.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        db_path: str | os.PathLike[str] | None = None,
        durability: str | None = None,
    ) -> None:
        """See `AuditLogger`."""
        super().__init__(path, db_path=db_path, durability=durability)
        self._levels: OrderedDict[str, int] = OrderedDict()  # of unfinished calls: a last line has no risk
        self.subscribe(self._log_record)

    def _log_record(self, record: AuditRecord) -> None:
        known = self._levels.pop(record.decision_id, logging.INFO)
        level = _LEVELS.get(record.risk_level or "", known)
        if record.result_status in _UNFINISHED:
            self._levels[record.decision_id] = level
            if len(self._levels) > _MOST_REMEMBERED:
                self._levels.popitem(last=False)
        _audit_log.log(level, "%s", encode(record).decode())
