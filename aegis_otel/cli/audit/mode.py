"""How the commands show that a call was only watched. Loads no terminal library, for those that need none."""

from __future__ import annotations

from aegis_otel.audit.query.rows import Row
from aegis_otel.model import Mode

MONITOR = "(monitor)"
NOT_ENFORCED = "decided and recorded, not enforced"


def watched(row: Row) -> bool:
    """Whether the call was in monitor mode: it ran whatever the decision was."""
    return bool(row["mode"] == Mode.MONITOR.value)
