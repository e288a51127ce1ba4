"""Find the audit that a command works on, and fetch, open and verify it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.audit.location import (
    JOURNAL,
    KEY,
    LAKE,
    MIRROR,
    SEALS,
    address,
    exists,
    failure,
    locate,
    prepare,
)
from aegis_otel.config import AUDIT_DIR, AUDIT_ID
from aegis_otel.errors import AuditError
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    import duckdb

    from aegis_otel.audit.findings import Proof


@dataclass
class AuditSource:
    """An audit as the command line or the environment names it."""

    directory: Path
    url: str | None
    """Its address on object storage. Nothing in the directory can name one."""
    problems: list[str] = field(default_factory=list)
    """What is not at the address as it was sealed, or as it was fetched before, a sentence each."""
    unreached: str = ""
    """Why the address could not be reached; empty where it was."""

    @property
    def is_shared(self) -> bool:
        """Whether what other machines have sealed belongs to it."""
        return self.url is not None

    def fetch(self) -> None:
        """Fetch what other machines have sealed at the same address, and print what cannot be fetched."""
        if self.url is None:
            return
        from aegis_otel.audit.maintenance.download import fetch

        try:
            self.problems = fetch(self.directory, self.url)
        except AuditError as error:
            self.unreached = str(error)
            report_problems([f"{error}; of other machines, what was fetched before is shown"])
        report_problems(self.problems)

    def open(self) -> duckdb.DuckDBPyConnection:
        """Open the audit for SQL, with what `fetch` has fetched, and print what cannot be read.

        Raises:
            AuditError: the audit cannot be read, or was written by a newer version.
        """
        from aegis_otel.audit.query.connection import left_out, open_view

        audit = open_view(self.directory, mirrors=self.is_shared)
        report_problems(left_out(audit, self.directory))
        return audit

    def verify(self, **scope: Any) -> Proof:
        """Verify the audit, and what `fetch` has fetched.

        A file that was fetched earlier can be intact and still differ from what is at the address now: that
        is a finding, too.

        Args:
            scope: As for `audit.verify.verify.verify`.
        """
        from aegis_otel.audit.verify.verify import verify

        proof = verify(self.directory, mirrors=self.is_shared, **scope)
        proof.report(MIRROR, self.problems)
        if self.unreached:
            proof.unproven.append(f"that others have sealed this and nothing else: {self.unreached}")
        return proof


def find_audit(path: str | None) -> AuditSource:
    """Return the audit that `path`, or else the environment, names. Where there is none, end the command.

    Raises:
        AuditError: something else is there, or only a part of an audit.
    """
    source = AuditSource(locate(path), address(path))
    directory = source.directory
    if source.url is not None:
        prepare(directory, source.url)
    try:
        has_journal = (directory / JOURNAL).exists()
    except OSError as error:
        raise failure("read the audit at", directory, error, "run this as the user that writes it") from error
    if not has_journal and any(os.path.lexists(directory / each) for each in (KEY, LAKE, SEALS)):
        raise AuditError(
            f"`{directory}` is a part of an audit only: it has no `{JOURNAL}`; restore it, or check what is "
            "sealed by `aegis audit verify` with --witness or --public-key"
        )
    is_there = exists(directory)
    if not is_there or not os.listdir(directory):
        why = "the directory is empty" if is_there else "there is no such directory"
        click.echo(
            f"no audit at `{escape(str(directory))}` ({why}): it is made with the first record; "
            f"name another with --path or {AUDIT_DIR.env}",
            err=True,
        )
        raise click.exceptions.Exit(1)
    return source


def open_audit(path: str | None) -> duckdb.DuckDBPyConnection:
    """Open the audit that `path` names for SQL, with what other machines have sealed by now.

    Raises:
        AuditError: as for `find_audit` and `AuditSource.open`.
    """
    source = find_audit(path)
    source.fetch()
    return source.open()


def expected_audit(given: str | None, path: str | None) -> str:
    """Return the id that the audit must have; empty where any id will do.

    The id of the environment is for the audit of the environment, and not for another `path`.

    Raises:
        ConfigError: it is not an id.
    """
    return AUDIT_ID.value(given) if given is not None or path is None else ""


def report_problems(sentences: Iterable[str]) -> None:
    """Print sentences on standard error."""
    for sentence in sentences:
        click.echo(escape(sentence), err=True)
