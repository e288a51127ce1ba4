"""The audit record: one flat, versioned type for the journal line and the audit row.

A call has a line `decided` (before anything runs), a line `resolved` for each answer of a human and each time
that it is resumed, and a line `completed`. A later line repeats only what changed; the row is the fold of the
lines of one `decision_id`, the last value of each column winning and `timestamp` being the first line's.

A model sends arguments as long as it likes, also for a call that is blocked. So what one call may write is
bounded: longer values are cut, and the cut says how much is missing. The digest covers the whole arguments,
and they are redacted before they are cut, so that no half of a secret is left.
"""

import hashlib
import json
import re
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from aegis_otel.model import Outcome, Subject

CUT = "[CUT"
"""The beginning of the note in place of what is cut; with a `]`, the name of the member with a note."""
PARAMS_BYTES = 64 << 10
"""The most bytes that the arguments of one call may have, as JSON."""
TEXT_CHARS = 4_000
"""The most characters of an error, a reason, or an approver's comment."""
NAME_CHARS = 1_000
"""The most characters of an id, or of the name of a tool, an agent or a conversation."""
LINE_BYTES = 256 << 10
"""The most bytes of a whole line of the journal."""

MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?\+00:00", re.ASCII)
"""Matches a time that Python and DuckDB read alike, and whose text sorts by time."""

_WHOLE = f"{CUT}]"
_RUNGS = ((16_384, 1_000), (4_096, 1_000), (1_024, 500), (256, 200), (64, 50), (16, 10))
"""The characters of a text and the members of a container that are kept: tried in turn until all fits."""
_ordered_encoder = msgspec.json.Encoder(order="deterministic")


def cut_text(text: str, longest: int = TEXT_CHARS) -> str:
    """Return the beginning of a longer text, with a note of how much is missing."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}{CUT} {len(text) - longest:,} of {len(text):,} characters]"


def cut_name(name: str, whole: str | None = None) -> str:
    """Cut a name as `cut_text` does, and add a digest, so that names that differ still differ when cut.

    Args:
        name: The name, redacted.
        whole: The whole name, if `name` is only its beginning.
    """
    text = name if whole is None else whole
    if len(text) <= NAME_CHARS:
        return name
    digest = hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]
    kept = name[:NAME_CHARS]
    return f"{kept}{CUT} {len(text) - len(kept):,} of {len(text):,} characters, sha256 {digest}]"


def cut_params(params: Any, encoded: bytes) -> bytes:
    """Return the JSON of arguments, cut to `PARAMS_BYTES`; the result is valid JSON.

    Long texts are cut first, and all to the same length, so that a short value beside them stays.

    Args:
        params: The arguments, redacted, as plain JSON values.
        encoded: Their JSON.
    """
    if len(encoded) <= PARAMS_BYTES:
        return encoded
    for longest, most in _RUNGS:
        try:
            cut = _Cutter(longest, most).cut(params)
        except (OverflowError, RecursionError):
            continue
        if isinstance(cut, dict):
            shorter = _ordered_encoder.encode(cut | {_WHOLE: f"{len(encoded):,} bytes in all"})
            if len(shorter) <= PARAMS_BYTES:
                return shorter
    return _ordered_encoder.encode({_WHOLE: f"all of {len(encoded):,} bytes"})


class _Cutter:
    """Cuts plain JSON values; raises OverflowError once they have more than `PARAMS_BYTES` characters."""

    def __init__(self, longest: int, most: int) -> None:
        self._longest, self._most = longest, most
        self._room = PARAMS_BYTES

    def cut(self, value: Any) -> Any:
        if isinstance(value, dict):
            members = list(value.items())
            cut = {self._fit(name): self.cut(each) for name, each in members[: self._most]}
            if len(members) > len(cut):  # two long names may have become one
                cut[_WHOLE] = f"{len(members) - len(cut):,} more members"
            return cut
        if isinstance(value, list):
            items = [self.cut(each) for each in value[: self._most]]
            if len(value) > len(items):
                items.append(f"{CUT} {len(value) - len(items):,} more items]")
            return items
        return self._fit(value)

    def _fit(self, value: Any) -> Any:
        kept = cut_text(value, self._longest) if isinstance(value, str) else value
        self._room -= len(str(kept)) + 3  # quotes and a comma
        if self._room < 0:
            raise OverflowError
        return kept


SCHEMA_VERSION = 6
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
    """Readers show it for an open row whose process is gone; it is written where the end was not seen."""


GRANT_REASON = "granted with decision {grant} until {until}"
"""How the `approval_reason` begins of a call that a grant let run, so that nobody was asked about it."""
GRANT_PATTERN = r"^granted with decision (\S+) until ([^;]+)"
"""The regular expression that finds the two in it, in Python and in DuckDB."""
NOT_BEGUN = "Cancelled before it started"
"""`result_error` of a cancelled call whose body never ran."""
NOT_STARTED = "Not started: "
"""How `result_error` begins of a failed call whose body never ran: its arguments were refused, as a rule."""


class Reading(StrEnum):
    """`arguments_reading` of a row: what the row does not show of the arguments that were judged."""

    UNREAD = "unread"
    """They cannot be read, so no condition on them could be answered."""
    SEVERAL = "several"
    """The tool's validation makes others of them, which were judged as well."""
    UNVALIDATED = "unvalidated"
    """The tool's validation was not asked, since no rule read them."""


class Column(NamedTuple):
    """A column of the audit; it annotates the member of `AuditRecord` that the column shows."""

    meaning: str
    sql_type: str = "VARCHAR"
    since: int = 1
    """The `SCHEMA_VERSION` that added it: rows written before have null there."""
    name: str = ""
    """The name of the member; set in `COLUMNS`."""


# `decode` accepts only these values: people would read `approved ` as a yes, and no check takes it for one.
_Answer = Annotated[str, msgspec.Meta(pattern=r"^(approved|denied|expired)\Z")]
_Outcome = Annotated[str, msgspec.Meta(pattern=rf"^({'|'.join(each.value for each in Outcome)})\Z")]
_Status = Annotated[str, msgspec.Meta(pattern=rf"^({'|'.join(each.value for each in RecordStatus)})\Z")]

_OUTCOME_COLUMN = Column(
    "the final decision: allowed, approved, blocked, denied, expired or error; null until it is final",
    since=3,
)


class AuditRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of the journal; folded, one row of the audit. Everything in it is redacted."""

    stage: Literal["decided", "resolved", "completed"]
    decision_id: Annotated[str, Column("the id of the call (UUIDv7, so it sorts by time)")]
    timestamp: Annotated[str, Column("the time of the decision (UTC)", "TIMESTAMPTZ")]
    session_id: Annotated[str | None, Column("the session of the `Runtime`")] = None
    action_type: Annotated[str | None, Column("the action, as rules match it with `match.type`")] = None
    action_target: Annotated[
        str | None, Column("the target of the action, as rules match it with `match.target`")
    ] = None
    action_params: Annotated[str | None, Column("the arguments, redacted", "JSON")] = None
    args_digest: Annotated[
        str | None, Column("keyed digest of the arguments before redaction (`hmac-sha256:` and hex)")
    ] = None
    risk_level: Annotated[str | None, Column("LOW, MEDIUM, HIGH or CRITICAL")] = None
    approval: Annotated[str | None, Column("what the rule asks for: auto, approve or block")] = None
    matched_rule: Annotated[
        str | None,
        Column(
            "the rule that decided; `<default>` when none matched, `<error>` when no policy could be asked"
        ),
    ] = None
    reason: Annotated[str | None, Column("the reason for the decision, in one sentence")] = None
    policy_digest: Annotated[str | None, Column("the digest of the policy that decided")] = None
    mode: Annotated[str | None, Column("enforce or monitor")] = None
    human_decision: Annotated[
        _Answer | None, Column("approved, denied or expired; null when no human was involved")
    ] = None
    approver: Annotated[
        str | None, Column("who answered, if the channel knows it; all whose yes counted, or whose no")
    ] = None
    approval_reason: Annotated[str | None, Column("the reason that the approver gave")] = None
    approval_wait_s: Annotated[float | None, Column("seconds from the question to the answer", "DOUBLE")] = (
        None
    )
    result_status: Annotated[
        _Status | None,
        Column("success, failed, blocked, denied, skipped, cancelled, pending, open or unknown"),
    ] = None
    result_error: Annotated[
        str | None,
        Column(
            "why the call did not succeed, or how it ended after it was cancelled; redacted. It begins with "
            "`Not started: ` where the call failed and the tool's body never ran"
        ),
    ] = None
    duration_s: Annotated[float | None, Column("duration of the tool's body in seconds", "DOUBLE")] = None
    agent_name: Annotated[str | None, Column("the agent that made the call")] = None
    tool_name: Annotated[str | None, Column("the tool as the model calls it")] = None
    tool_call_id: Annotated[str | None, Column("the model's id of the call")] = None
    conversation_id: Annotated[str | None, Column("the conversation or group of the run")] = None
    trace_id: Annotated[str | None, Column("OpenTelemetry trace id (32 hex)")] = None
    span_id: Annotated[str | None, Column("OpenTelemetry span id of `govern_tool` (16 hex)")] = None
    service: Annotated[str | None, Column("`service.name` of the process")] = None
    host: Annotated[str | None, Column("host name of the process")] = None
    pid: Annotated[int | None, Column("process id", "BIGINT")] = None
    schema_version: Annotated[
        int | None, Column("the version of this table when the row was written", "BIGINT")
    ] = None
    tool_original_name: Annotated[
        str | None, Column("the tool's own name, if the model calls it by another one", since=2)
    ] = None
    run_id: Annotated[str | None, Column("the SDK's run that the call belongs to", since=2)] = None
    error_type: Annotated[
        str | None, Column("the kind of error of a failed call, such as an exception's class", since=2)
    ] = None
    redaction_digest: Annotated[
        str | None, Column("the digest of the redaction rules and settings in force", since=2)
    ] = None
    outcome: Annotated[_Outcome | None, _OUTCOME_COLUMN] = None
    user_id: Annotated[str | None, Column("the user that the agent acted for", since=4)] = None
    tenant_id: Annotated[str | None, Column("the tenant that the agent acted for", since=4)] = None
    user_roles: Annotated[
        str | None, Column("the user's roles, as a JSON list; null where they are not known", since=4)
    ] = None
    candidate_approval: Annotated[
        str | None,
        Column(
            "what the candidate policy would enforce: auto, approve or block; null where there is none",
            since=4,
        ),
    ] = None
    candidate_rule: Annotated[
        str | None, Column("the rule of the candidate policy that would decide", since=4)
    ] = None
    other_names: Annotated[
        str | None,
        Column("the other types and targets that the call was judged by, as a JSON list of pairs", since=4),
    ] = None
    arguments_reading: Annotated[
        str | None,
        Column(
            "what is not certain about the arguments: `unread` (they cannot be read), `several` (the tool's "
            "validation makes others of them), `unvalidated` (it was not asked, since no rule read them)",
            since=4,
        ),
    ] = None
    enforced_approval: Annotated[
        str | None,
        Column(
            "what is enforced where the rule is only monitored: auto; null where it is `approval`", since=4
        ),
    ] = None
    user_hash: Annotated[
        str | None,
        Column("keyed digest of the user's id before redaction (`hmac-sha256:` and hex)", since=5),
    ] = None
    approval_terms: Annotated[
        str | None,
        Column(
            "who may answer, how many of them, and for how many seconds, as the rule says it (JSON); null or "
            "empty where it does not",
            since=6,
        ),
    ] = None
    shown_digest: str | None = None
    """The digest of a paused call's arguments as a human is shown them, if defaults were filled in."""
    subject_digest: str | None = None
    """Keyed digest of whom the agent acts for: in the columns two subjects may be alike, masked or cut."""
    proof: str | None = None
    """The proof that a process with the approval key took the answer on this line."""


_COLUMNS = [
    hint.__metadata__[0]._replace(name=name)
    for name, hint in AuditRecord.__annotations__.items()
    if isinstance(getattr(hint, "__metadata__", (None,))[0], Column)
]
# Seals count the columns in this order, which differs from that of the members.
COLUMNS: tuple[Column, ...] = tuple(
    sorted(_COLUMNS, key=lambda column: column.name not in ("decision_id", "session_id"))
)


class Waiting(msgspec.Struct, frozen=True):
    """A call that waits for a human, perhaps without a process that knows of it."""

    row: AuditRecord
    """Its lines so far, folded; `result_status` is `pending`."""
    answer: str | None
    """The answer to its last question, if it is proven; an answer to an earlier question does not count."""
    last: str
    """The timestamp of its last line: the next line has to be later."""
    asked: str = ""
    """The timestamp of the line with its last question."""

    @property
    def started(self) -> bool:
        """Whether its body has begun: the human is asked about a call inside of it."""
        return self.row.duration_s is not None


def same_call(one: AuditRecord, other: AuditRecord) -> bool:
    """Return whether two records are of one call, by the same agent for the same subject."""
    return _same_but_for_the_subject(one, other) and _have_same(SUBJECT, one, other)


def is_for_another_subject(one: AuditRecord, other: AuditRecord) -> bool:
    """Return whether two records would be of one call, if they were not for different subjects."""
    return _same_but_for_the_subject(one, other) and not _have_same(SUBJECT, one, other)


def _same_but_for_the_subject(one: AuditRecord, other: AuditRecord) -> bool:
    return one.args_digest is not None and _have_same(_CALL, one, other)


def _have_same(names: tuple[str, ...], one: AuditRecord, other: AuditRecord) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in names)


_CALL = (
    *("run_id", "tool_call_id", "tool_name", "action_type", "action_target", "args_digest", "agent_name"),
)
"""The columns that say what a human approves, and what a run continues."""
SUBJECT = ("user_id", "tenant_id", "user_roles", "user_hash", "subject_digest")
"""The members that say whom the agent acts for."""
DESCRIBES = (*_CALL, *SUBJECT, "action_params", "shown_digest", "conversation_id", "tool_original_name")
"""The members that say which call it is: the first line sets them, and no later line changes them."""


def recorded_subject(user: str | None, tenant: str | None, roles: str | None) -> Subject | None:
    """Return the subject that the columns of a row name; None where they name nobody, or are unreadable."""
    if user is None and tenant is None and roles is None:
        return None
    try:
        return Subject(user, tenant, None if roles is None else json.loads(roles))
    except (ValueError, TypeError, RecursionError):
        return None


def recorded_names(text: str) -> list[tuple[str, str]] | None:
    """Return the pairs of type and target in the column `other_names`; None where it has something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not found:
        return None
    pairs = [each for each in found if isinstance(each, list) and len(each) == 2]
    if len(pairs) < len(found) or not all(isinstance(part, str) for pair in pairs for part in pair):
        return None
    return [(type_, target) for type_, target in pairs]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AuditRecord)


def decode(body: bytes) -> AuditRecord:
    """Return the record that a line holds.

    Only what `encode` writes is a record: DuckDB and Python read different values where the name of a member
    is escaped or comes twice, and people take a word that only looks like an answer for one.

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
    """Return the record as JSON on one line, cut where it would have more than `LINE_BYTES`.

    A lone surrogate, which UTF-8 does not have, is written as its escape (`\\ud800`).

    Raises:
        TypeError, OverflowError: a value is neither a text nor a number.
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
        except (ValueError, RecursionError):  # arguments that cannot be read are cut as a whole
            params = None
        texts["action_params"] = cut_params(params, encoded).decode()
    return msgspec.structs.replace(record, **texts)


def _texts(record: AuditRecord) -> dict[str, str]:
    values = msgspec.structs.asdict(record)
    return {name: value for name, value in values.items() if isinstance(value, str)}
