"""`aegis audit seal`, `prune`, `verify` and `resend`: maintain and check an audit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_otel import semconv
from aegis_otel.audit.location import SEALS, address, locate
from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.audit.options import (
    audit_id_option,
    condition_of,
    filter_options,
    path_option,
)
from aegis_otel.cli.audit.source import AuditSource, expected_audit, find_audit, open_audit, report_problems
from aegis_otel.cli.rendering import plural, progress_bar
from aegis_otel.config import AUDIT_DIR, SEAL_KEY
from aegis_otel.errors import AuditError, ConfigError
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.audit.findings import Proof
    from aegis_otel.audit.record import AuditRecord
    from aegis_otel.audit.seals.seal_log import Seal

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Seal finished calls, so that a later change shows.")
@path_option
@click.pass_context
def seal(ctx: click.Context, /, *, path: str | None) -> None:
    """Seal finished calls: write them to compressed files, in which a later change shows.

    Agents seal by themselves from time to time. Calls that are running or wait for a human stay in the
    journal. An audit on object storage is sent there. If something cannot be sealed or sent, the command
    names it and the exit code is 1.
    """
    source = find_audit(path)
    directory = source.directory

    from aegis_otel.audit.lake.sealing import PLANTED
    from aegis_otel.audit.lake.sealing import seal as seal_audit
    from aegis_otel.audit.location import stated_address
    from aegis_otel.audit.maintenance.upload import push

    with progress_bar("Sealing") as progress:
        report = seal_audit(directory, wait=True, progress=progress)
    for each in report.seals:
        for segment in each.segments:
            click.echo(f"seal {each.seal}: {segment.rows} rows in {segment.file}")
        if not each.journals and not each.segments:
            click.echo(f"seal {each.seal}: signs for the seals before it")
            continue
        carried = f", {each.carried.lines} lines carried over" if each.carried else ""
        click.echo(f"seal {each.seal}: {len(each.journals)} journal files{carried}")
    if report.seals:
        _send_to_witness(report.seals)
    elif report.lacks_key:
        raise ConfigError(
            f"the seals of this audit are signed, and `{SEAL_KEY.env}` is not set here: nothing was sealed; "
            f"{PLANTED}"
        )
    else:
        click.echo("nothing to seal")
    problems = report.problems + push(directory, source.url)
    if source.url is None and (stated := stated_address(directory)):
        report_problems([f"not sent: name the audit as `{stated}`, with --path or {AUDIT_DIR.env}"])
    report_problems(problems)
    ctx.exit(1 if problems else 0)


def _send_to_witness(seals: Sequence[Seal]) -> None:
    """Send the events of the seals over OTLP, or print that nobody got them."""
    from aegis_otel.telemetry.resend import send_seals

    if not send_seals(seals):
        click.echo("no OTLP endpoint is set: the seals were sent to no witness", err=True)


class _Amount(click.ParamType[float]):
    """Convert a number and a unit to a multiple of the base unit."""

    def __init__(self, name: str, units: dict[str, float], example: str) -> None:
        self.name, self._units, self._example = name, units, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(rf"([0-9]{{1,6}})({'|'.join(self._units)})", value)
        if match is None:
            self.fail(f"`{value}` is no {self.name}: write it as `{self._example}`", param, ctx)
        return int(match[1]) * self._units[match[2]]


_AGE = _Amount("age", {"h": 1 / 24, "d": 1, "w": 7}, "90d")
_SIZE = _Amount("size", {"MB": 1e6, "GB": 1e9, "TB": 1e12}, "10GB")


@click.command(short_help="Remove the oldest sealed calls.")
@path_option
@click.option("--keep", type=_AGE, metavar="AGE", help="Keep calls younger than this: 12h, 90d, 52w.")
@click.option("--max-size", type=_SIZE, metavar="SIZE", help="Keep at most this much: 500MB, 10GB, 2TB.")
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
def prune(path: str | None, keep: float | None, max_size: float | None, dry_run: bool) -> None:
    """Remove the oldest sealed calls, by whole files: those older than --keep, and those beyond --max-size.

    A signed seal records what was removed, so AEGIS_SEAL_KEY must name a key. The files themselves are
    removed by a later sealing or pruning, at least a minute after. Questions that nobody answered for
    longer than --keep end as expired.
    """
    if keep is None and max_size is None:
        raise click.UsageError("say what to keep, with --keep or --max-size")
    directory = find_audit(path).directory

    from aegis_otel.audit.maintenance.retention import oldest
    from aegis_otel.audit.maintenance.retention import prune as prune_audit
    from aegis_otel.audit.seals.seal_log import live_segments, read_seals

    limits: dict[str, Any] = {
        "keep": None if keep is None else timedelta(days=keep),
        "max_bytes": None if max_size is None else int(max_size),
    }
    if dry_run:
        found = oldest(live_segments(read_seals(directory)), **limits)
        for each in found:
            click.echo(f"would remove {each.rows} rows of {each.first} to {each.last}: {escape(each.file)}")
        if not found:
            click.echo("nothing to remove")
        return
    seal, expired = prune_audit(directory, **limits)
    if expired:
        what = f"{plural(expired, 'question')} that nobody answered"
        click.echo(f"ended {what}: expired, and sealed next")
    if seal is None or seal.removed is None:
        click.echo("nothing to remove")
        return
    gone = seal.removed
    click.echo(f"seal {seal.seal}: removed {gone.rows} rows of {gone.first} to {gone.last} ({gone.why})")
    _send_to_witness([seal])


@click.command(short_help="Check that nothing was tampered with.")
@path_option
@click.option(
    "--witness",
    type=_FILE,
    multiple=True,
    metavar="FILE",
    help="Events of sealings that an OpenTelemetry Collector wrote to a file (OTLP/JSON). Repeatable.",
)
@click.option(
    "--public-key",
    "public_keys",
    type=_FILE,
    multiple=True,
    metavar="FILE",
    help="The public key (PEM) of the key that signs seals. Repeat it if that key was changed.",
)
@audit_id_option
@text_or_json_option
@click.argument("directory", metavar="[DIR]", required=False)
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    *,
    path: str | None,
    witness: tuple[Path, ...],
    public_keys: tuple[Path, ...],
    audit_id: str | None,
    form: str,
    directory: str | None,
) -> None:
    """Check that nothing in the audit was edited, removed, moved or brought from elsewhere.

    Prints what is wrong and where, and what could not be proven. It changes nothing, and agents can go on
    meanwhile. The exit code is 1 if something was found, else 0.
    """
    if path is not None and directory is not None:
        raise click.UsageError("give one directory, as DIR or with --path")
    named = path if directory is None else directory
    source = AuditSource(locate(named), address(named))
    # A copy of what is sealed has no journal, and can be verified all the same.
    if not ((witness or public_keys) and (source.directory / SEALS).is_file()):
        source = find_audit(named)
    source.fetch()
    with progress_bar("Verifying") as progress:
        proof = source.verify(
            witness=witness,
            public_keys=public_keys,
            audit=expected_audit(audit_id, named),
            progress=progress,
        )
    click.echo(json.dumps(_proof_report(proof), indent=2) if form == "json" else "\n".join(_lines(proof)))
    ctx.exit(1 if proof.findings else 0)


def _proof_report(proof: Proof) -> dict[str, object]:
    counts = ("seals", "chain", "segments", "rows", "journals", "lines")
    return {
        "audit": proof.audit,
        "findings": [each._asdict() for each in proof.findings],
        "notes": proof.notes,
        "not_proven": proof.unproven,
        **{name: getattr(proof, name) for name in counts},
    }


def _lines(proof: Proof) -> Iterator[str]:
    """Yield what was found, what was checked, in names that docs/audit-proof.md explains, and the verdict."""
    for title, sentences in (
        ("Found:", list(map(str, proof.findings))),
        ("Noted:", proof.notes),
        ("Not proven:", proof.unproven),
    ):
        if sentences:
            yield from (title, *(f"  {escape(each)}" for each in sentences), "")
    yield f"Audit       {proof.audit or 'unknown: neither a key nor a seal says it'}"
    if proof.seals:
        yield f"Seals       {proof.seals}"
        yield f"Last seal   {proof.chain}"
    else:
        yield "Seals       none yet: `aegis audit seal` makes the first"
    if proof.seals or proof.segments:  # also those of others
        yield f"Intact      {plural(proof.rows, 'sealed row')} in {plural(proof.segments, 'file')}"
    yield f"Not sealed  {plural(proof.lines, 'line')} in {plural(proof.journals, 'journal file')}"
    if proof.findings:
        yield f"FAILED: {plural(len(proof.findings), 'finding')}"
    else:
        yield f"PASSED: no tampering found{', but see what is not proven' if proof.unproven else ''}"


@click.command(short_help="Send decision events to a backend again.")
@path_option
@filter_options
@click.option(
    "--endpoint",
    metavar="URL",
    help="Where to send, over OTLP, such as http://localhost:4318.  [default: OTEL_EXPORTER_OTLP_ENDPOINT]",
)
@click.option(
    "--missing-from",
    "files",
    type=_FILE,
    multiple=True,
    metavar="FILE",
    help="Send only what is not in this file of an OpenTelemetry Collector (OTLP/JSON). Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Only print how many would be sent.")
def resend(
    path: str | None, endpoint: str | None, files: tuple[Path, ...], dry_run: bool, **filters: str | None
) -> None:
    """Send the decision events of calls again, oldest first. All filters given must match.

    An event has its original id and time, and is marked by `aegis.decision.resent`. Without --missing-from,
    a backend may get events that it has already, with the same `aegis.decision.id`. If the endpoint stops
    taking events, the exit code is 1, and the error says how many had arrived.
    """
    condition = condition_of(filters)

    from aegis_otel.audit.query.rows import count_rows, read_rows
    from aegis_otel.audit.record import COLUMNS, AuditRecord
    from aegis_otel.cli.exporter_messages import exporters_quiet
    from aegis_otel.redaction.redactor import redact_text
    from aegis_otel.telemetry.export_setup import log_exporter
    from aegis_otel.telemetry.outbox import Outbox
    from aegis_otel.telemetry.resend import Sent, outcome_of
    from aegis_otel.telemetry.resend import resend as send

    # Signals are made of these columns, and never of the arguments.
    sent_columns = [column.name for column in COLUMNS if column.name != "action_params"]
    exporter = None if dry_run else log_exporter(endpoint)
    audit = open_audit(path)
    total = count_rows(audit, condition)
    known = _known_decisions(files)
    there = 0

    def missing() -> Iterator[AuditRecord]:
        nonlocal there
        for row in read_rows(audit, condition, oldest_first=True):
            if row["decision_id"] in known:
                there += 1
            else:
                yield AuditRecord(stage="decided", **{name: row[name] for name in sent_columns})

    done = Sent(0, 0)
    if exporter is None:
        outcomes = [outcome_of(each) for each in missing()]
        done = Sent(len(outcomes) - outcomes.count(None), outcomes.count(None))
    else:
        with exporters_quiet() as messages, progress_bar("Sending") as progress:
            try:
                for done in send(missing(), Outbox(exporter)):
                    progress(done.arrived + done.undecided + there, total)
            except AuditError as error:
                if not messages.why:
                    raise
                raise AuditError(f"{error}; the exporter says: {redact_text(messages.why)}") from error
    parts = [f"{'would send' if dry_run else 'sent'} {done.arrived} of {total} decisions"]
    parts += [f"{there} are there already"] if there else []
    parts += [f"{done.undecided} have none yet"] if done.undecided else []
    click.echo("; ".join(parts))


def _known_decisions(files: tuple[Path, ...]) -> set[str | int]:
    """Return the decisions that are in the files."""
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
        report_problems([f"{unreadable} lines are no OTLP/JSON, or cut off, and were passed over"])
    return known
