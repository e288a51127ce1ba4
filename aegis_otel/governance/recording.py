"""Make the first line of a call: what was decided, about what, by whom and where; all of it redacted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter

from msgspec.structs import replace

from aegis_otel.audit.record import (
    CUT,
    NAME_CHARS,
    PARAMS_BYTES,
    SCHEMA_VERSION,
    TEXT_CHARS,
    AuditRecord,
    Reading,
    cut_name,
    cut_params,
    cut_text,
)
from aegis_otel.governance.approvals.terms import encode_terms
from aegis_otel.governance.call import NOWHERE, Origin, System
from aegis_otel.governance.error_text import READ
from aegis_otel.model import Action, Approval, Mode, PolicyDecision, RiskLevel, Subject, Verdict
from aegis_otel.redaction import redactor
from aegis_otel.redaction.redactor import redact, redact_name, redact_text
from aegis_otel.redaction.serialize import encode_plain, serialize
from aegis_otel.redaction.settings import digest as redaction_digest


def utc(ns: int) -> datetime:
    """Return the moment in UTC, to the microsecond."""
    return datetime.fromtimestamp(ns // 1000 / 1e6, UTC)


def timestamp(ns: int) -> str:
    """Return the moment as RFC 3339 in UTC with microseconds: `2026-01-31T23:59:59.000001+00:00`."""
    return f"{_second(ns // 1_000_000_000)}.{ns // 1000 % 1_000_000:06d}+00:00"


def unix_ns(text: str) -> int:
    """Return the moment of such a text, in Unix nanoseconds."""
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    # All lines of one second share it: formatting a date costs more than writing the line.
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_SHARED_CHARS = 256
"""The most characters of a name whose redaction is kept for the next call: what is kept stays small."""
_MOST_SUBJECTS = 4096
"""Subjects whose digests are kept."""
_NOBODY_KNOWN = Subject()
_Names = tuple[str | None, ...]
_SHARED_COLUMNS = tuple(
    name
    for name in Origin.__struct_fields__
    if name in AuditRecord.__struct_fields__ and name != "tool_call_id"  # each call has its own
)
"""The fields of an `Origin` that calls of one tool in one run share; each is in the column of its name."""
_shared_fields = attrgetter(*_SHARED_COLUMNS)
_RISK_NAMES = {level: level.name for level in RiskLevel}
"""An enum's own `.name` costs ten times a look-up."""


def record_call(
    decision: PolicyDecision,
    system: System,
    session_id: str,
    started_ns: int,
    origin: Origin = NOWHERE,
    *,
    mode: Mode = Mode.ENFORCE,
    decision_id: str | None = None,
) -> tuple[AuditRecord, bytes, bytes]:
    """Return the record of a decision with its arguments, and what `record_arguments` returns."""
    record = record_decision(
        decision, system, session_id, started_ns, origin, mode=mode, decision_id=decision_id
    )
    return record, *record_arguments(record, decision.action.params)


def record_decision(
    decision: PolicyDecision,
    system: System,
    session_id: str,
    started_ns: int,
    origin: Origin = NOWHERE,
    *,
    mode: Mode = Mode.ENFORCE,
    decision_id: str | None = None,
) -> AuditRecord:
    """Return the record of a decision, still without its arguments: `record_arguments` adds these.

    It has the id `decision_id`; a new one where that is None.
    """
    action = decision.action
    names = (session_id, action.type, action.target, action.agent, *_shared_fields(origin))
    # Calls of one tool in one run share these names, and a copy costs a tenth of what redacting them does.
    are_short = True
    for name in names:  # `all` and a generator cost more than the names do
        if name is not None and (type(name) is not str or len(name) > _SHARED_CHARS):
            are_short = False
            break
    make = _shared_record if are_short else _named_record
    record = replace(
        make(redactor.generation, redaction_digest(), _mode(mode, decision.verdict), names),
        decision_id=decision_id or system.new_id(),
        timestamp=timestamp(started_ns),
        service=system.service,
        host=system.host,
        pid=system.pid(),
    )
    record_verdict(record, decision.verdict)
    if action.subject is not None:
        columns = _subject_columns(redactor.generation, action.subject)
        record.user_id, record.tenant_id, record.user_roles = columns
    if origin.tool_call_id is not None:
        record.tool_call_id = recorded_name(origin.tool_call_id)
    if action.forms or action.doubt is not None or action.is_unvalidated:
        _record_forms(record, action)
    return record


def _mode(mode: Mode, verdict: Verdict) -> Mode:
    """Return whether what the verdict says is enforced, in a program of that mode."""
    return mode if verdict.mode is Mode.ENFORCE else Mode.MONITOR


_MOST_NAMES = 20
"""The most other names of a tool that a row has."""


def _record_forms(record: AuditRecord, action: Action) -> None:
    """Put on the record by what other names, and with what other arguments, the action is judged."""
    own = (action.type, action.target)
    names = dict.fromkeys((form.type, form.target) for form in action.forms)
    others = [name for name in names if name != own]
    if others:
        kept = [[recorded_name(type_), recorded_name(target)] for type_, target in others[:_MOST_NAMES]]
        if len(others) > len(kept):
            kept.append([f"{CUT} {len(others) - len(kept):,} more items]", ""])
        record.other_names = json.dumps(kept, ensure_ascii=False)
    if action.is_unvalidated:
        record.arguments_reading = Reading.UNVALIDATED.value
    elif any(form.params is not action.params for form in action.forms):
        record.arguments_reading = Reading.SEVERAL.value
    elif action.doubt is not None:
        record.arguments_reading = Reading.UNREAD.value


def record_arguments(record: AuditRecord, params: object) -> tuple[bytes, bytes]:
    """Put the redacted arguments on the record, cut to their budget; the digest is left to the caller.

    Returns:
        The encoded real arguments, which go nowhere: they are digested, and compared before the body runs.
        And the redacted arguments as JSON, whole: a human is asked about these.
    """
    plain, encoded = serialize(params)
    redacted = redact(plain, encoded)
    shown = encoded if redacted is plain else encode_plain(redacted)
    kept = shown if len(shown) <= PARAMS_BYTES else cut_params(redacted, shown)
    record.action_params = kept.decode()
    return encoded, shown


VERDICT_COLUMNS = (
    *("approval", "risk_level", "matched_rule", "reason", "policy_digest", "enforced_approval"),
    *("candidate_approval", "candidate_rule", "approval_terms"),
)
"""The columns that say what the policy decided, and what its candidate would have."""


def record_verdict(record: AuditRecord, verdict: Verdict) -> None:
    """Put what the policy says on the record."""
    record.approval = verdict.approval._value_  # `.value` costs ten times as much
    record.risk_level = _RISK_NAMES[verdict.risk_level]
    record.matched_rule = verdict.matched_rule
    record.reason = _recorded_reason(redactor.generation, verdict.reason)
    record.policy_digest = verdict.policy_digest or None
    if verdict.mode is Mode.MONITOR:
        record.enforced_approval = verdict.enforced_approval._value_
    if verdict.approvers is not None or verdict.expires_s is not None or record.approval_terms:
        # A line that leaves a member out does not change it, so what was said before is taken back by a text.
        record.approval_terms = recorded_terms(verdict) or (record.approval_terms and "")


def recorded_terms(verdict: Verdict) -> str | None:
    """Return on what terms a human can answer, where one is asked."""
    if verdict.enforced_approval is not Approval.APPROVE:
        return None
    return encode_terms(verdict.approvers, verdict.expires_s)


@lru_cache(maxsize=256)
def _recorded_reason(generation: int, reason: str) -> str | None:  # noqa: ARG001
    return cut_text(redact_name(reason)) or None


def _named_record(generation: int, redaction: str, mode: Mode, names: _Names) -> AuditRecord:  # noqa: ARG001
    """Return a record that has only what calls of one tool in one run have in common."""
    session_id, action_type, target, agent, *fields = names
    record = AuditRecord(
        stage="decided",
        decision_id="",
        timestamp="",
        session_id=redact_name(session_id),
        action_type=recorded_name(action_type),
        action_target=recorded_name(target),
        mode=mode.value,
        agent_name=None if agent is None else recorded_name(agent),
        redaction_digest=redaction,
        schema_version=SCHEMA_VERSION,
    )
    for column, value in zip(_SHARED_COLUMNS, fields, strict=True):
        if value is not None:
            setattr(record, column, recorded_name(value))
    return record


_shared_record = lru_cache(maxsize=1024)(_named_record)


@lru_cache(maxsize=4096)
def _subject_columns(generation: int, subject: Subject) -> tuple[str | None, str | None, str | None]:  # noqa: ARG001
    user, tenant = (None if each is None else recorded_name(each) for each in (subject.user, subject.tenant))
    return user, tenant, None if subject.roles is None else _recorded_roles(subject.roles)


def _recorded_roles(roles: tuple[str, ...]) -> str:
    """Return the redacted roles as a JSON list, cut like other texts, with a note of how many are missing."""
    kept: list[str] = []
    room = TEXT_CHARS
    for role in roles:
        name = recorded_name(role)
        room -= len(name) + 4  # quotes, a comma, a blank
        if room < 0:
            kept.append(f"{CUT} {len(roles) - len(kept):,} more items]")
            break
        kept.append(name)
    return json.dumps(kept, ensure_ascii=False)


def subject_payload(subject: Subject) -> bytes:
    """Return what the digest of a subject is of: never what that of arguments or of `user.hash` is of."""
    return json.dumps(["subject", subject.user, subject.tenant, subject.roles]).encode()


def user_payload(user_id: str) -> bytes:
    """Return what `user.hash` is a digest of: never what the digest of some arguments is of, an object."""
    return json.dumps(["user", user_id]).encode()


class SubjectDigests:
    """The keyed digests of subjects, kept: to make them costs more than the rest of what a subject does.

    Args:
        digest: Makes a digest; None without the audit's key.
    """

    def __init__(self, digest: Callable[[bytes], str | None]) -> None:
        self._digest = digest
        self._known: dict[Subject, tuple[str | None, str | None]] = {}

    def of(self, subject: Subject) -> tuple[str | None, str | None]:
        """Return the digests of a subject and of its user alone, as the program says them: not redacted.

        In the columns, which are redacted, two subjects may be alike. None without the audit's key, and where
        nothing is known of the subject.
        """
        if subject == _NOBODY_KNOWN:
            return None, None
        known = self._known.get(subject)
        if known is None:
            user = None if subject.user is None else self._digest(user_payload(subject.user))
            known = self._digest(subject_payload(subject)), user
            if known[0] is not None:
                if len(self._known) >= _MOST_SUBJECTS:
                    self._known.clear()
                self._known[subject] = known
        return known


def recorded_name(value: object) -> str:
    """Return a name or an id as rows have it: redacted, and cut where it is long.

    A target may be a connection string, and the name of an agent may come from a request.
    """
    if type(value) is str and len(value) > READ:  # of a server or a model: not all of it is redacted
        return cut_name(redact_text(value[:READ]), value)
    name = redact_name(value)
    return name if len(name) <= NAME_CHARS else cut_name(name)


def rough_size(value: object, enough: int = 100_000) -> int:
    """Return about how many characters `value` has as text, counted no further than `enough`."""
    size, waiting = 0, [value]
    while waiting and size < enough:
        each = waiting.pop()
        if isinstance(each, str | bytes):
            size += len(each)
        elif isinstance(each, Mapping):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set | frozenset):
            waiting += each
        size += 4
    return size
