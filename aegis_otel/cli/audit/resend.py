"""`aegis audit resend`: decisions that a backend lost, sent to it again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from aegis_otel import semconv
from aegis_otel.audit.query.rows import Row
from aegis_otel.audit.record import COLUMNS, AuditRecord
from aegis_otel.cli.audit.options import filter_options, find_audit, matching, open_audit, path_option
from aegis_otel.cli.exporter_messages import exporters_quiet
from aegis_otel.cli.rendering import progress_bar
from aegis_otel.errors import AuditError
from aegis_otel.redaction.redactor import redact_text
from aegis_otel.redaction.terminal import escape


@click.command(short_help="Send decision events again.")
@path_option
@filter_options
@click.option(
    "--endpoint",
    metavar="URL",
    help="Where to, over OTLP, such as http://localhost:4318.  [default: OTEL_EXPORTER_OTLP_ENDPOINT]",
)
@click.option(
    "--missing-from",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Only what is not in this file of an OpenTelemetry Collector (OTLP/JSON); may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Only say how many it would be.")
@click.pass_context
def resend(
    ctx: click.Context,
    /,
    *,
    path: str | None,
    endpoint: str | None,
    files: tuple[Path, ...],
    dry_run: bool,
    **filters: str | None,
) -> None:
    """Send the decision events of entries again, oldest first; all filters given must hold.

    Each has its original id and time, and `aegis.decision.resent`. Without --missing-from what a backend has
    already arrives a second time, to be told by its `aegis.decision.id`. Where the endpoint stops taking
    them, the exit code is 1, and what had arrived is said.
    """
    condition = matching(**filters)

    from aegis_otel.audit.query.rows import count_rows, read_rows
    from aegis_otel.telemetry.export_setup import log_exporter
    from aegis_otel.telemetry.outbox import Outbox
    from aegis_otel.telemetry.resend import Sent, outcome_of
    from aegis_otel.telemetry.resend import resend as send

    exporter = None if dry_run else log_exporter(endpoint)
    audit = open_audit(find_audit(ctx, path))
    total = count_rows(audit, condition)
    known = _ids(files)
    there = 0

    def missing() -> Iterator[AuditRecord]:
        nonlocal there
        for row in read_rows(audit, condition, oldest_first=True):
            if row["decision_id"] in known:
                there += 1
            else:
                yield _record(row)

    done = Sent(0, 0)
    if exporter is None:
        outcomes = [outcome_of(record) for record in missing()]
        done = Sent(len(outcomes) - outcomes.count(None), outcomes.count(None))
    else:
        with exporters_quiet() as said, progress_bar("Sending", color=ctx.color is not False) as progress:
            try:
                for done in send(missing(), Outbox(exporter)):
                    progress(done.arrived + done.undecided + there, total)
            except AuditError as error:
                if not said.why:
                    raise
                raise AuditError(f"{error}; the exporter says: {redact_text(said.why)}") from error
    parts = [f"{'would send' if dry_run else 'sent'} {done.arrived} of {total} decisions"]
    parts += [f"{there} are there already"] * bool(there) + [f"{done.undecided} have none yet"] * bool(
        done.undecided
    )
    click.echo("; ".join(parts))


def _ids(files: tuple[Path, ...]) -> set[str | int]:
    """The decisions that the files tell of."""
    from aegis_otel.audit.verify.witness import read_events

    known: set[str | int] = set()
    unreadable = 0
    for file in files:
        for _, event in read_events(file, semconv.EVENT_DECISION):
            if event is None:
                unreadable += 1
            elif decision := event.get(semconv.DECISION_ID):
                known.add(decision)
    if unreadable:
        click.echo(escape(f"{unreadable} lines are no OTLP/JSON, or cut off, and were passed over"), err=True)
    return known


def _record(row: Row) -> AuditRecord:
    """The columns that signals are made of; the arguments are none of them."""
    return AuditRecord(stage="decided", **{c.name: row[c.name] for c in COLUMNS if c.name != "action_params"})
