"""Make the records of changes of policy, redacted, for the log that the audit keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from aegis_otel.audit.journal.policy_changes import PolicyChange
from aegis_otel.governance.error_text import safe_text
from aegis_otel.governance.recording import timestamp
from aegis_otel.model import Mode
from aegis_otel.policy import Policy
from aegis_otel.redaction.redactor import redact_name
from aegis_otel.runtime.system import RealSystem


def change_record(
    change: Literal["started", "reloaded", "refused", "stopped", "ungoverned"],
    policy: Policy,
    *,
    session_id: str,
    mode: Mode,
    system: RealSystem,
    sources: Sequence[str] | None = None,
    problem: str | None = None,
) -> PolicyChange:
    """Return the record of a change.

    Args:
        change: What happened.
        policy: The policy in force after it.
        session_id: The session of the Runtime.
        mode: The mode of the Runtime.
        system: The clock and the facts of the process.
        sources: The files that were refused. Default: those of the policy.
        problem: Why something was refused, or cannot be governed.
    """
    return PolicyChange(
        change=change,
        timestamp=timestamp(system.now_ns()),
        session_id=session_id,
        mode=mode.value,
        policy_digest=policy.digest,
        sources=", ".join(map(redact_name, policy.sources if sources is None else sources)),
        rules=policy.rule_count,
        problem=None if problem is None else safe_text(problem),
        service=system.service,
        host=system.host,
        pid=system.pid(),
    )


def kept_text(policy: Policy) -> bytes | None:
    """Return the text of a policy that the audit keeps; None where it has none."""
    text = policy.to_yaml()
    return None if text is None else text.encode()
