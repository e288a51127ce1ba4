"""The first line of every call: what was decided about what, redacted, by whom and where.

Unix nanoseconds as the audit writes them and as policies read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from aegis_otel.audit.record import NAME_CHARS, SCHEMA_VERSION, AuditRecord, cut_name, cut_params, cut_text
from aegis_otel.governance.call import NOWHERE, Origin, System
from aegis_otel.governance.error_text import READ
from aegis_otel.model import Mode, PolicyDecision, RiskLevel
from aegis_otel.redaction.redactor import redact, redact_name, redact_text
from aegis_otel.redaction.serialize import encode_plain, to_plain
from aegis_otel.redaction.settings import digest as redaction_digest


def utc(ns: int) -> datetime:
    """The moment, to the microsecond."""
    return datetime.fromtimestamp(ns // 1000 / 1e6, UTC)


def timestamp(ns: int) -> str:
    """RFC 3339 in UTC with microseconds: `2026-01-31T23:59:59.000001+00:00`."""
    return f"{_second(ns // 1_000_000_000)}.{ns // 1000 % 1_000_000:06d}+00:00"


def unix_ns(text: str) -> int:
    """The moment of such a text, in Unix nanoseconds."""
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    """All lines of one second share it: formatting a date costs more than writing the line."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


RISK_NAMES = {level: level.name for level in RiskLevel}
"""An enum's own `.name` costs ten times a look-up."""


def decided(
    decision: PolicyDecision,
    system: System,
    session_id: str,
    started_ns: int,
    origin: Origin = NOWHERE,
    *,
    mode: Mode = Mode.ENFORCE,
) -> AuditRecord:
    """The record of a decision, still without its arguments."""
    action, verdict = decision.action, decision.verdict
    agent, tool, original, call_id, conversation, run_id = [
        None if name is None else recorded_name(name)
        for name in (
            action.agent,
            origin.tool_name,
            origin.tool_original_name,
            origin.tool_call_id,
            origin.conversation_id,
            origin.run_id,
        )
    ]
    return AuditRecord(
        stage="decided",
        decision_id=system.new_id(),
        timestamp=timestamp(started_ns),
        session_id=redact_name(session_id),
        action_type=recorded_name(action.type),
        action_target=recorded_name(action.target),
        risk_level=RISK_NAMES[verdict.risk_level],
        approval=verdict.approval._value_,  # `.value` costs ten times as much, as below
        matched_rule=verdict.matched_rule,
        reason=cut_text(redact_name(verdict.reason)) or None,
        policy_digest=verdict.policy_digest or None,
        mode=mode._value_,
        agent_name=agent,
        tool_name=tool,
        tool_original_name=original,
        tool_call_id=call_id,
        conversation_id=conversation,
        service=system.service,
        host=system.host,
        pid=system.pid(),
        redaction_digest=redaction_digest(),
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
    )


def recorded_name(value: object) -> str:
    """A name or an id as rows have it: redacted, and cut where it is long."""
    if isinstance(value, str) and len(value) > READ:  # of a server or a model: not all of it is redacted
        return cut_name(redact_text(value[:READ]), value)
    name = redact_name(value)
    return name if len(name) <= NAME_CHARS else cut_name(name)


def add_arguments(
    record: AuditRecord, params: Mapping[str, Any], digest: Callable[[bytes], str | None]
) -> tuple[bytes, bytes]:
    """Put the redacted arguments, cut to their budget, and the digest of the real ones on `record`.

    Returns:
        The encoded real arguments, which go nowhere: they are compared before the body runs. And the
        redacted arguments as JSON, whole: a human is asked about these.
    """
    plain = to_plain(params)
    encoded = encode_plain(plain)
    redacted = redact(plain, encoded)
    shown = encoded if redacted is plain else encode_plain(redacted)
    record.action_params = cut_params(redacted, shown).decode()
    record.args_digest = digest(encoded)
    return encoded, shown


def rough_size(value: object, enough: int = 100_000) -> int:
    """About how many characters `value` has as text, counted no further than `enough`."""
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
