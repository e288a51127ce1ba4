"""`aegis audit seal`: move what is complete from the journal to Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from aegis_otel.cli.audit_options import address_given, find_audit, path_option
from aegis_otel.cli.bar import progress_bar
from aegis_otel.config import AUDIT_DIR, SEAL_KEY
from aegis_otel.errors import ConfigError
from aegis_otel.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.audit.seals import Seal


@click.command(short_help="Seal the calls that have ended.")
@path_option
@click.pass_context
def seal(ctx: click.Context, /, *, path: str | None) -> None:
    """Seal the calls that have ended, which agents else do by themselves.

    Calls that are running or wait for a human stay in the journal. What cannot be sealed stays too, is named,
    and makes the exit code 1. What is on object storage too is sent there.
    """
    directory = find_audit(ctx, path)

    from aegis_otel.audit.location import stated_address
    from aegis_otel.audit.remote import push
    from aegis_otel.audit.sealing import PLANTED
    from aegis_otel.audit.sealing import seal as seal_audit

    with progress_bar("Sealing", color=ctx.color is not False) as progress:
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
        tell_witness(report.seals)
    elif report.lacks_key:
        raise ConfigError(
            f"the seals of this audit are signed, and `{SEAL_KEY.env}` is not set here: nothing was sealed; "
            f"{PLANTED}"
        )
    else:
        click.echo("nothing to seal")
    address = address_given()
    problems = report.problems + push(directory, address)
    if address is None and (stated := stated_address(directory)):
        click.echo(
            f"not sent: name the audit as `{escape(stated)}`, with --path or {AUDIT_DIR.env}", err=True
        )
    for problem in problems:
        click.echo(escape(problem), err=True)
    ctx.exit(1 if problems else 0)


def tell_witness(seals: Sequence[Seal]) -> None:
    """Send the events of the seals over OTLP, or say that nobody was told."""
    from aegis_otel.telemetry.witness import send_seals

    if not send_seals(seals):
        click.echo("no OTLP endpoint is set: the seals were sent to no witness", err=True)
