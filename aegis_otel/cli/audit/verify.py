"""`aegis audit verify`: is the audit as it was written?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aegis_otel.audit.location import SEALS, locate
from aegis_otel.cli.audit.options import (
    audit_id_option,
    expected_audit,
    fetch_others,
    find_audit,
    path_option,
    verify_fetched,
)
from aegis_otel.cli.rendering import progress_bar
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aegis_otel.audit.findings import Proof


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Check that nothing was tampered with.")
@path_option
@click.option(
    "--witness",
    type=_FILE,
    multiple=True,
    metavar="FILE",
    help="What an OpenTelemetry Collector wrote of the sealings (OTLP/JSON); may be repeated.",
)
@click.option(
    "--public-key",
    "public_keys",
    type=_FILE,
    multiple=True,
    metavar="FILE",
    help="The key (PEM) that seals are signed with; may be repeated, where it was changed.",
)
@audit_id_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
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

    Says what is wrong and where, and what could not be proven. Nothing is changed; agents go on meanwhile.
    The exit code is 0 where nothing was found, 1 where something was.
    """
    if path is not None and directory is not None:
        raise click.UsageError("give one directory, as DIR or with --path")
    named = path if directory is None else directory
    found = locate(named)
    if not ((witness or public_keys) and (found / SEALS).is_file()):  # as a copy without its journal is
        found = find_audit(ctx, named)

    fetched = fetch_others(found)
    with progress_bar("Verifying", color=ctx.color is not False) as progress:
        proof = verify_fetched(
            found,
            fetched,
            witness=witness,
            public_keys=public_keys,
            audit=expected_audit(audit_id, named),
            progress=progress,
        )
    click.echo(json.dumps(_report(proof), indent=2) if form == "json" else _text(proof))
    ctx.exit(1 if proof.findings else 0)


def _report(proof: Proof) -> dict[str, object]:
    return {
        "audit": proof.audit,
        "findings": [each._asdict() for each in proof.findings],
        "notes": proof.notes,
        "not_proven": proof.unproven,
        "seals": proof.seals,
        "chain": proof.chain,
        "segments": proof.segments,
        "rows": proof.rows,
        "journals": proof.journals,
        "lines": proof.lines,
    }


def _text(proof: Proof) -> str:
    text: list[str] = []
    for title, sentences in (
        ("Found:", list(map(str, proof.findings))),
        ("Noted:", proof.notes),
        ("Not proven:", proof.unproven),
    ):
        if sentences:
            text += [title, *(f"  {escape(each)}" for each in sentences), ""]
    return "\n".join([*text, *_summary(proof)])


def _summary(proof: Proof) -> Iterator[str]:
    """What was looked at, in names that docs/audit-proof.md explains, and the verdict."""
    yield f"Audit       {proof.audit or 'unknown: neither a key nor a seal says it'}"
    if proof.seals:
        yield f"Seals       {proof.seals}"
        yield f"Last seal   {proof.chain}"
    else:
        yield "Seals       none yet: `aegis audit seal` makes the first"
    if proof.seals or proof.segments:  # also those of others
        yield f"Intact      {_many(proof.rows, 'sealed row')} in {_many(proof.segments, 'file')}"
    yield f"Not sealed  {_many(proof.lines, 'line')} in {_many(proof.journals, 'journal file')}"
    if proof.findings:
        yield f"FAILED: {_many(len(proof.findings), 'finding')}"
    else:
        yield f"PASSED: no tampering found{', but see what is not proven' if proof.unproven else ''}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
