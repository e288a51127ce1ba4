"""The audit record: one flat, versioned type for the journal line and the audit row.

A call has a line `decided` (before anything runs), a line `resolved` for each answer of a human and each time
that it is resumed, and a line `completed`. A later line repeats only what changed; the row is the fold of the
lines of one `decision_id`, the last value of each column winning and `timestamp` being the first line's.

What one call may write is bounded, since a model sends arguments as long as it likes, also for a call that is
blocked: what is longer is cut, and the cut says how much is missing. The digest is of the whole, and
they are redacted before they are cut, so that no half of a secret is left.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from aegis_otel.model import Outcome

CUT = "[CUT"
"""The beginning of what stands in place of the rest; with a `]`, the member that says it of all arguments."""
PARAMS_BYTES = 64 << 10
"""The most bytes that the arguments of one call may have, as JSON."""
TEXT_CHARS = 4_000
"""The most characters of an error, a reason, or what an approver wrote."""
NAME_CHARS = 1_000
"""The most characters of an id, or of the name of a tool, an agent or a conversation."""
LINE_BYTES = 256 << 10
"""The most bytes of a whole line of the journal."""

_WHOLE = f"{CUT}]"
_RUNGS = ((16_384, 1_000), (4_096, 1_000), (1_024, 500), (256, 200), (64, 50), (16, 10))
"""Characters that a text keeps, and members that a container keeps: tried in turn until all has room."""
_ordered_encoder = msgspec.json.Encoder(order="deterministic")


def cut_text(text: str, longest: int = TEXT_CHARS) -> str:
    """Return the beginning of a longer text, with how much is missing."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}{CUT} {len(text) - longest:,} of {len(text):,} characters]"


def cut_name(name: str, whole: str | None = None) -> str:
    """Cut a name as `cut_text` does; two names that differ still differ when they are cut.

    Args:
        name: Redacted.
        whole: What `name` is the beginning of, where it is one.
    """
    text = name if whole is None else whole
    if len(text) <= NAME_CHARS:
        return name
    digest = hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]
    kept = name[:NAME_CHARS]
    return f"{kept}{CUT} {len(text) - len(kept):,} of {len(text):,} characters, sha256 {digest}]"


def cut_params(params: Any, encoded: bytes) -> bytes:
    """Return the JSON of arguments, cut where it is longer than `PARAMS_BYTES`. What is left is valid JSON.

    Long texts are cut first, and all to the same length, so that a short value beside them stays.

    Args:
        params: Redacted, as plain JSON values.
        encoded: Their JSON.
    """
    if len(encoded) <= PARAMS_BYTES:
        return encoded
    for longest, most in _RUNGS:
        cut = _Cutter(longest, most).cut(params)
        if isinstance(cut, dict):
            shorter = _ordered_encoder.encode(cut | {_WHOLE: f"{len(encoded):,} bytes in all"})
            if len(shorter) <= PARAMS_BYTES:
                return shorter
    return _ordered_encoder.encode({_WHOLE: f"all of {len(encoded):,} bytes"})


class _TooLarge(Exception):
    """There is no room left."""


class _Cutter:
    def __init__(self, longest: int, most: int) -> None:
        self._longest, self._most = longest, most
        self._room = PARAMS_BYTES

    def cut(self, value: Any) -> Any:
        """Return `value`, cut; None where it has no room."""
        try:
            return self._value(value)
        except (_TooLarge, RecursionError):
            return None

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            members = list(value.items())
            cut = {self._text(name): self._value(each) for name, each in members[: self._most]}
            if len(members) > len(cut):  # two long names may have become one
                cut[_WHOLE] = f"{len(members) - len(cut):,} more members"
            return cut
        if isinstance(value, list):
            items = [self._value(each) for each in value[: self._most]]
            if len(value) > len(items):
                items.append(f"{CUT} {len(value) - len(items):,} more items]")
            return items
        self._take(len(str(value)))
        return value

    def _text(self, text: str) -> str:
        cut = cut_text(text, self._longest)
        self._take(len(cut))
        return cut

    def _take(self, characters: int) -> None:
        self._room -= characters + 3  # quotes and a comma
        if self._room < 0:
            raise _TooLarge


SCHEMA_VERSION = 3
"""The version of the row. `Column.since` says which version added a column."""


class RecordStatus(StrEnum):
    """`result_status` of a row."""

    PENDING = "pending"
    """A human is being asked; the body has not run."""
    OPEN = "open"
    """Allowed; the body is running, or about to."""
    SUCCESS = "success"
    FAILED = "failed"
    BLOCKED = "blocked"
    DENIED = "denied"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """Read where the row is open and its process is gone; written where the end was not seen."""


# What `decode` holds a line to: people would read `approved ` as a yes, and no check takes it for one.
_Answer = Annotated[str, msgspec.Meta(pattern=r"^(approved|denied|expired)\Z")]
_Outcome = Annotated[str, msgspec.Meta(pattern=rf"^({'|'.join(each.value for each in Outcome)})\Z")]
_Status = Annotated[str, msgspec.Meta(pattern=rf"^({'|'.join(each.value for each in RecordStatus)})\Z")]


class AuditRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of the journal; folded, one row of the audit. Everything in it is redacted."""

    stage: Literal["decided", "resolved", "completed"]
    decision_id: str
    timestamp: str
    session_id: str | None = None
    action_type: str | None = None
    action_target: str | None = None
    action_params: str | None = None
    args_digest: str | None = None
    risk_level: str | None = None
    approval: str | None = None
    matched_rule: str | None = None
    reason: str | None = None
    policy_digest: str | None = None
    mode: str | None = None
    human_decision: _Answer | None = None
    approver: str | None = None
    approval_reason: str | None = None
    approval_wait_s: float | None = None
    result_status: _Status | None = None
    result_error: str | None = None
    duration_s: float | None = None
    agent_name: str | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    conversation_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    service: str | None = None
    host: str | None = None
    pid: int | None = None
    schema_version: int | None = None
    tool_original_name: str | None = None
    run_id: str | None = None
    error_type: str | None = None
    redaction_digest: str | None = None
    outcome: _Outcome | None = None
    shown_digest: str | None = None
    """No column: of a paused call's arguments as a human is shown them, where defaults were filled in."""
    proof: str | None = None
    """No column: that the answer on this line was taken by a process with the approval key."""


class Waiting(msgspec.Struct, frozen=True):
    """A call that waits for a human, and that no process need be holding."""

    row: AuditRecord
    """Its lines so far, folded; `result_status` is `pending`."""
    answer: str | None
    """`approved`, where the last question was answered, and the answer is proven; a yes to an earlier
    question does not count."""
    last: str
    """The timestamp of its last line: what is written next has to be later."""

    @property
    def started(self) -> bool:
        """Whether its body has begun: the human is asked about a call inside of it."""
        return self.row.duration_s is not None


def same_call(one: AuditRecord, other: AuditRecord) -> bool:
    """Return whether two records are of one call: run, id, action, arguments and agent are the same."""
    return one.args_digest is not None and all(getattr(one, name) == getattr(other, name) for name in _CALL)


_CALL = (
    *("run_id", "tool_call_id", "tool_name", "action_type", "action_target", "args_digest", "agent_name"),
)
"""The columns of what a human says yes to, and of what a run continues."""
DESCRIBES = (*_CALL, "action_params", "shown_digest", "conversation_id", "tool_original_name")
"""The members that say which call it is: the first line has them, and no later one has others."""


class Column(NamedTuple):
    name: str
    sql_type: str
    meaning: str
    since: int = 1
    """The `SCHEMA_VERSION` that added it: rows written before have null there."""


COLUMNS: tuple[Column, ...] = (
    Column("decision_id", "VARCHAR", "the id of the call (UUIDv7, so it sorts by time)"),
    Column("session_id", "VARCHAR", "the session of the `Runtime`"),
    Column("timestamp", "TIMESTAMPTZ", "the time of the decision (UTC)"),
    Column("action_type", "VARCHAR", "the action, as rules match it with `match.type`"),
    Column("action_target", "VARCHAR", "the target of the action, as rules match it with `match.target`"),
    Column("action_params", "JSON", "the arguments, redacted"),
    Column(
        "args_digest", "VARCHAR", "keyed digest of the arguments before redaction (`hmac-sha256:` and hex)"
    ),
    Column("risk_level", "VARCHAR", "LOW, MEDIUM, HIGH or CRITICAL"),
    Column("approval", "VARCHAR", "what the rule asks for: auto, approve or block"),
    Column("matched_rule", "VARCHAR", "the rule that decided; `<default>` when none matched"),
    Column("reason", "VARCHAR", "the reason for the decision, in one sentence"),
    Column("policy_digest", "VARCHAR", "the digest of the policy that decided"),
    Column("mode", "VARCHAR", "enforce or monitor"),
    Column("human_decision", "VARCHAR", "approved, denied or expired; null when no human was involved"),
    Column("approver", "VARCHAR", "who answered, if the channel knows it"),
    Column("approval_reason", "VARCHAR", "the reason that the approver gave"),
    Column("approval_wait_s", "DOUBLE", "seconds from the question to the answer"),
    Column(
        "result_status",
        "VARCHAR",
        "success, failed, blocked, denied, skipped, cancelled, pending, open or unknown",
    ),
    Column(
        "result_error",
        "VARCHAR",
        "why the call did not succeed, or how it ended after it was cancelled; redacted",
    ),
    Column("duration_s", "DOUBLE", "duration of the tool's body in seconds"),
    Column("agent_name", "VARCHAR", "the agent that made the call"),
    Column("tool_name", "VARCHAR", "the tool as the model calls it"),
    Column("tool_call_id", "VARCHAR", "the model's id of the call"),
    Column("conversation_id", "VARCHAR", "the conversation or group of the run"),
    Column("trace_id", "VARCHAR", "OpenTelemetry trace id (32 hex)"),
    Column("span_id", "VARCHAR", "OpenTelemetry span id of `govern_tool` (16 hex)"),
    Column("service", "VARCHAR", "`service.name` of the process"),
    Column("host", "VARCHAR", "host name of the process"),
    Column("pid", "BIGINT", "process id"),
    Column("schema_version", "BIGINT", "the version of this table when the row was written"),
    Column("tool_original_name", "VARCHAR", "the tool's own name, if the model calls it by another one", 2),
    Column("run_id", "VARCHAR", "the SDK's run that the call belongs to", 2),
    Column("error_type", "VARCHAR", "the kind of error of a failed call, such as an exception's class", 2),
    Column("redaction_digest", "VARCHAR", "the digest of the redaction rules and settings in force", 2),
    Column(
        "outcome",
        "VARCHAR",
        "the final decision: allowed, approved, blocked, denied, expired or error; null until it is final",
        3,
    ),
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AuditRecord)


def decode(body: bytes) -> AuditRecord:
    """Return the record that a line holds.

    Only what `encode` writes is a record: of a name that is escaped, or that comes twice, DuckDB and Python
    read different values, and a word that only looks like an answer people take for one.

    Args:
        body: The line without its chain value and its newline.

    Raises:
        ValueError: it is no record.
    """
    try:
        record = _decoder.decode(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _encoder.encode(record) != body:
        raise ValueError("it is not written as a record is")
    if not record.decision_id:
        raise ValueError("it is of no decision")
    return record


def encode(record: AuditRecord) -> bytes:
    """Return the record as JSON on one line; what would take more than `LINE_BYTES` is cut, and says so.

    Raises:
        TypeError, OverflowError: for a value that is no text or number; for text never: a lone surrogate,
            which UTF-8 does not have, is written as its escape (`\\ud800`).
    """
    try:
        line = _encoder.encode(record)
    except UnicodeEncodeError:
        texts = _texts(record)
        legible = {name: text.encode(errors="backslashreplace").decode() for name, text in texts.items()}
        record = msgspec.structs.replace(record, **legible)
        line = _encoder.encode(record)
    return line if len(line) <= LINE_BYTES else _encoder.encode(_cut(record))


def _cut(record: AuditRecord) -> AuditRecord:
    texts = {name: cut_text(text) for name, text in _texts(record).items()}
    if record.action_params is not None:
        encoded = record.action_params.encode(errors="backslashreplace")
        try:
            params = msgspec.json.decode(encoded)
        except (ValueError, RecursionError):  # what cannot be read is cut as a whole
            params = None
        texts["action_params"] = cut_params(params, encoded).decode()
    return msgspec.structs.replace(record, **texts)


def _texts(record: AuditRecord) -> dict[str, str]:
    values = msgspec.structs.asdict(record)
    return {name: value for name, value in values.items() if isinstance(value, str)}
