"""The audit, told to Python's logging as well: for programs whose logs are shipped already."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict

from aegis_otel.audit.record import AuditRecord, RecordStatus, encode
from aegis_otel.model import RiskLevel
from aegis_otel.runtime.audit import AuditLogger

_LEVELS = {
    RiskLevel.LOW.name: logging.DEBUG,
    RiskLevel.MEDIUM.name: logging.INFO,
    RiskLevel.HIGH.name: logging.WARNING,
    RiskLevel.CRITICAL.name: logging.ERROR,
}
_UNFINISHED = (RecordStatus.OPEN.value, RecordStatus.PENDING.value)
_MOST_REMEMBERED = 10_000

_log = logging.getLogger("aegis").getChild("audit")


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
        self.subscribe(self._tell)

    def _tell(self, record: AuditRecord) -> None:
        known = self._levels.pop(record.decision_id, logging.INFO)
        level = _LEVELS.get(record.risk_level or "", known)
        if record.result_status in _UNFINISHED:
            self._levels[record.decision_id] = level
            if len(self._levels) > _MOST_REMEMBERED:
                self._levels.popitem(last=False)
        _log.log(level, "%s", encode(record).decode())
