"""The state of the proof: what is sealed, and what a verification finds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aegis_otel.audit.findings import Proof
from aegis_otel.audit.lake.scan import find_mirrors
from aegis_otel.audit.seals.seal_log import Seal, live_segments, read_seals
from aegis_otel.errors import AuditError

_FINDINGS = 10
"""The most findings on the page; `aegis audit verify` lists all."""


class ProofState(NamedTuple):
    """What can be said of an audit without reading all of it, and what a verification said of all of it."""

    seals: int
    last: Seal | None
    rows: int
    """Sealed, and not removed by retention."""
    files: int
    total: int
    """Rows of the whole audit, sealed or not."""
    problems: Sequence[str]
    """What was left out because it is missing, damaged, foreign or unreadable."""
    verified: Proof | None

    @property
    def unsealed(self) -> int:
        """Rows that are in the journal only."""
        return max(self.total - self.rows, 0)

    @property
    def sentence(self) -> str:
        """The answer of the verification in one line."""
        if self.verified is None:
            return "Not verified for this page: `aegis audit verify` does it, or this report with --verify."
        found = len(self.verified.findings)
        if found:
            return f"FAILED: {found} finding{'' if found == 1 else 's'} by `aegis audit verify`."
        return (
            f"PASSED: {self.verified.rows:,} sealed rows and {self.verified.lines:,} journal lines are as "
            f"they were written. The audit has {self.total:,} rows, of which {self.unsealed:,} "
            f"{'is' if self.unsealed == 1 else 'are'} not sealed yet."
        )

    @property
    def findings(self) -> list[str]:
        """The first of them."""
        return [] if self.verified is None else [str(each) for each in self.verified.findings[:_FINDINGS]]


def state(
    directory: Path, problems: Sequence[str], verified: Proof | None, total: int, *, mirrors: bool = False
) -> ProofState:
    """Look at the seals of an audit.

    Args:
        directory: The audit's.
        problems: As in `ProofState`, like what follows.
        mirrors: Count what was fetched of other audits as well: see `audit.query.connection.open_view`.

    Raises:
        AuditError: they cannot be read, or are of a newer version.
    """
    seals = read_seals(directory)
    segments = live_segments(seals)
    for mirror in find_mirrors(directory) if mirrors else ():
        with suppress(AuditError):  # then it is not shown, and that is among the problems
            segments += live_segments(read_seals(mirror))
    return ProofState(
        seals=len(seals),
        last=seals[-1] if seals else None,
        rows=sum(each.rows for each in segments),
        total=total,
        files=len(segments),
        problems=problems,
        verified=verified,
    )
