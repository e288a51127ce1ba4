"""`aegis policy show`: the text of a policy that was in force, as the audit keeps it."""

from __future__ import annotations

import click

from aegis_otel.cli.audit.options import path_option
from aegis_otel.redaction.terminal import escape


@click.command(short_help="Print a policy that was in force.")
@path_option
@click.argument("digest", required=False)
@click.pass_context
def show(ctx: click.Context, path: str | None, digest: str | None) -> None:
    """Print the text of a policy that was in force, as the audit keeps it.

    DIGEST is the policy's, as `aegis audit show` prints it, or the beginning of it; without it, the digests
    of all policies that are kept are listed. Exit code 1 if no such policy is kept, or if its text was
    changed.
    """
    from aegis_otel.cli.audit.source import find_audit
    from aegis_otel.cli.kept_policies import find_digests, kept_text

    source = find_audit(path)
    source.fetch()
    found = find_digests(source.directory, digest or "")
    if digest is None:
        for each in found:
            click.echo(each)
        return
    if len(found) != 1:
        what = "more than one policy is" if found else "no policy is"
        click.echo(f"{what} kept with the digest `{escape(digest)}`" + ":" * bool(found), err=True)
        for each in found:
            click.echo(f"  {each}", err=True)
        ctx.exit(1)
    text, fault = kept_text(source.directory, found[0])
    if fault is not None:
        click.echo(f"the text of `{found[0]}` is not what was in force: {escape(fault)}", err=True)
        ctx.exit(1)
    for line in text.splitlines():
        click.echo(escape(line))
