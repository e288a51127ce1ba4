"""The first line of every call: what was decided about what, redacted, by whom and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from aegis_otel.audit.record import SCHEMA_VERSION, AuditRecord
from aegis_otel.encoding import encode_plain, to_plain
from aegis_otel.model import PolicyDecision, RiskLevel
from aegis_otel.redaction import redact, redact_text
from aegis_otel.runtime.call import NOWHERE, Origin, System
from aegis_otel.runtime.timestamps import timestamp

_LONGEST_KEPT = 200

RISK_NAMES = {level: level.name for level in RiskLevel}
"""An enum's own `.name` costs ten times a look-up."""


def decided(
    decision: PolicyDecision,
    system: System,
    session_id: str,
    started_ns: int,
    origin: Origin = NOWHERE,
) -> AuditRecord:
    """The record of a decision, still without its arguments."""
    action, verdict = decision.action, decision.verdict
    return AuditRecord(
        stage="decided",
        decision_id=system.new_id(),
        timestamp=timestamp(started_ns),
        session_id=session_id,
        action_type=_text(action.type),
        action_target=_text(action.target),
        risk_level=RISK_NAMES[verdict.risk_level],
        approval=verdict.approval.value,
        matched_rule=verdict.matched_rule,
        reason=verdict.reason or None,
        policy_digest=verdict.policy_digest or None,
        mode="enforce",
        agent_name=_optional(action.agent),
        tool_name=_optional(origin.tool_name),
        tool_call_id=_optional(origin.tool_call_id),
        conversation_id=_optional(origin.conversation_id),
        service=system.service,
        host=system.host,
        pid=system.pid(),
        schema_version=SCHEMA_VERSION,
    )


def _optional(value: str | None) -> str | None:
    return None if value is None else _text(value)


def _text(value: object) -> str:
    """A name as it may leave. Names repeat, so most of them are redacted once."""
    if type(value) is not str:
        return f"<{type(value).__name__}>"
    return _redacted(value) if len(value) <= _LONGEST_KEPT else redact_text(value)


_redacted = lru_cache(maxsize=2048)(redact_text)


def add_arguments(record: AuditRecord, params: Mapping[str, Any], digest: Callable[[bytes], str]) -> bytes:
    """Put the redacted arguments and the digest of the real ones on `record`.

    Returns:
        The encoded real arguments, which go nowhere: they are compared before the body runs.
    """
    plain = to_plain(params)
    encoded = encode_plain(plain)
    record.action_params = encode_plain(redact(plain)).decode()
    record.args_digest = digest(encoded)
    return encoded


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
