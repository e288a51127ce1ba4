"""`aegis audit prune`: let go of what is too old or too much, and say so for good.

`aegis audit seal`: move what is complete from the journal to Parquet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.cli.audit.options import address_given, find_audit, path_option
from aegis_otel.cli.rendering import progress_bar
from aegis_otel.config import AUDIT_DIR, SEAL_KEY
from aegis_otel.errors import ConfigError
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.audit.seals.seal_log import Seal


@click.command(short_help="Seal the calls that have ended.")
@path_option
@click.pass_context
def seal(ctx: click.Context, /, *, path: str | None) -> None:
    """Seal the calls that have ended, which agents else do by themselves.

    Calls that are running or wait for a human stay in the journal. What cannot be sealed stays too, is named,
    and makes the exit code 1. What is on object storage too is sent there.
    """
    directory = find_audit(ctx, path)

    from aegis_otel.audit.lake.sealing import PLANTED
    from aegis_otel.audit.lake.sealing import seal as seal_audit
    from aegis_otel.audit.location import stated_address
    from aegis_otel.audit.maintenance.remote_copy import push

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
    from aegis_otel.telemetry.resend import send_seals

    if not send_seals(seals):
        click.echo("no OTLP endpoint is set: the seals were sent to no witness", err=True)


_DAYS = {"h": 1 / 24, "d": 1, "w": 7}
_BYTES = {"MB": 1e6, "GB": 1e9, "TB": 1e12}


class _Amount(click.ParamType[float]):
    """A number and a unit, as a multiple of what the units are given in."""

    def __init__(self, name: str, units: dict[str, float], example: str) -> None:
        self.name, self._units, self._example = name, units, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(rf"([0-9]{{1,6}})({'|'.join(self._units)})", value)
        if match is None:
            self.fail(f"`{value}` is no {self.name}: write it as `{self._example}`", param, ctx)
        return int(match[1]) * self._units[match[2]]


@click.command(short_help="Remove the oldest sealed rows.")
@path_option
@click.option(
    "--keep", type=_Amount("age", _DAYS, "90d"), metavar="AGE", help="Keep what is younger: 12h, 90d, 52w."
)
@click.option(
    "--max-size", type=_Amount("size", _BYTES, "10GB"), metavar="SIZE", help="Keep so much: 500MB, 10GB, 2TB."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.pass_context
def prune(
    ctx: click.Context, /, *, path: str | None, keep: float | None, max_size: float | None, dry_run: bool
) -> None:
    """Remove the oldest sealed rows, by files: those older than --keep, and the oldest beyond --max-size.

    A signed seal says for good what was removed, which needs the key of AEGIS_SEAL_KEY. The files themselves
    go with the next sealing or pruning, a minute later at the earliest. Questions that have waited for longer
    than --keep end as expired.
    """
    if keep is None and max_size is None:
        raise click.UsageError("say what to keep, with --keep or --max-size")
    directory = find_audit(ctx, path)

    from aegis_otel.audit.maintenance.retention import oldest
    from aegis_otel.audit.maintenance.retention import prune as prune_audit
    from aegis_otel.audit.seals.seal_log import live_segments, read_seals

    limits: dict[str, Any] = {
        "keep": None if keep is None else timedelta(days=keep),
        "max_bytes": None if max_size is None else int(max_size),
    }
    if dry_run:
        found = oldest(live_segments(read_seals(directory)), **limits)
        if not found:
            click.echo("nothing to remove")
        for each in found:
            click.echo(f"would remove {each.rows} rows of {each.first} to {each.last}: {escape(each.file)}")
        return
    seal, expired = prune_audit(directory, **limits)
    if expired:
        what = (
            "1 question that nobody answered" if expired == 1 else f"{expired} questions that nobody answered"
        )
        click.echo(f"ended {what}: expired, and sealed next")
    if seal is None or seal.removed is None:
        click.echo("nothing to remove")
        return
    gone = seal.removed
    click.echo(f"seal {seal.seal}: removed {gone.rows} rows of {gone.first} to {gone.last} ({gone.why})")
    tell_witness([seal])
