"""`aegis report`: the audit as one page that opens from disk."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aegis_otel.audit.keys import check_identity
from aegis_otel.audit.query.filters import compile_filters
from aegis_otel.cli.audit.inbox import open_inbox_if_any, terms_words
from aegis_otel.cli.audit.options import STDOUT, audit_id_option, path_option
from aegis_otel.cli.audit.source import expected_audit, find_audit, report_problems
from aegis_otel.cli.policy_files import load_policy
from aegis_otel.cli.rendering import plural, progress_bar
from aegis_otel.errors import AegisError
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    import duckdb

    from aegis_otel.audit.query.filters import Condition
    from aegis_otel.policy import Policy
    from aegis_otel.report.page import CandidateResult, DecidingPolicy
    from aegis_otel.report.queries import RefusedRow, ReportQueries

_MOST_REFUSED = 10_000


@click.command(short_help="Write an HTML report of the audit.")
@path_option
@click.option(
    "-o",
    "--out",
    "--output",
    "out",
    metavar="FILE",
    default="report.html",
    show_default=True,
    help="Where to write the page; `-` is standard output.",
)
@click.option("--since", metavar="TIME", help="Only calls from this time on, written as for `aegis audit`.")
@click.option("--until", metavar="TIME", help="Only calls before this time.")
@click.option("--title", help="The heading of the page.")
@click.option(
    "--candidate",
    metavar="NEW",
    help="Also show what the policy in this file would have decided otherwise (`aegis policy replay`).",
)
@audit_id_option
@click.option("--verify", "verifies", is_flag=True, help="Verify the audit first, and show the result.")
@click.pass_context
def report(
    ctx: click.Context,
    /,
    *,
    path: str | None,
    out: str,
    since: str | None,
    until: str | None,
    title: str | None,
    candidate: str | None,
    audit_id: str | None,
    verifies: bool,
) -> None:
    """Write one HTML page: what was decided, by which rules, for which agents, and what needs attention.

    The page needs no network, no script and no other file, and it prints well. Only this user can read it.
    It appears, or replaces an older one, once it is complete. If --verify finds something, the exit code
    is 1.
    """
    condition = compile_filters(None, {"since": since, "until": until})
    if not out:
        raise click.UsageError(f"give the file a name, or `{STDOUT}` for standard output")
    policy = None if candidate is None else load_policy(candidate)
    source = find_audit(path)
    check_identity(source.directory, expected_audit(audit_id, path))

    from aegis_otel.audit.answers.call_check import unproven_answers
    from aegis_otel.audit.query.connection import problems, unreadable_lines
    from aegis_otel.audit.query.export import write_file
    from aegis_otel.report.page import LONGEST_TITLE, TITLE, ReportScope, read_proof, render_page
    from aegis_otel.report.queries import ReportQueries

    source.fetch()  # once: the rows that are shown are those that were verified
    proof = None
    if verifies:
        with progress_bar("Verifying") as progress:
            proof = source.verify(progress=progress)
    audit = source.open()
    left_out = problems(audit)
    if unreadable := unreadable_lines(audit):
        left_out.append(f"journal lines that cannot be read: {unreadable}")
    ((total,),) = audit.execute("SELECT count(*) FROM audit").fetchall()
    queries = ReportQueries(
        audit, condition, unproven_answers(source.directory), _refused_answers(source.directory)
    )
    page = render_page(
        queries,
        read_proof(source.directory, left_out, proof, total, mirrors=source.is_shared),
        ReportScope((title or TITLE)[:LONGEST_TITLE], str(source.directory), since, until, datetime.now(UTC)),
        _policies(queries, source.directory),
        None if policy is None else _candidate_result(policy, audit, condition),
        terms_words=lambda terms: terms_words(terms) or terms,
    )
    if out == STDOUT:
        click.echo(page, nl=False)
    else:
        write_file(out, lambda file: file.write(page))
        click.echo(f"Wrote {escape(out)}")
    if proof is not None and proof.findings:
        found = plural(len(proof.findings), "finding")
        click.echo(f"the audit did not pass: {found} by `aegis audit verify`", err=True)
        ctx.exit(1)


def _refused_answers(directory: Path) -> list[RefusedRow]:
    """Return the newest refused answers of the inbox beside the audit; print where it cannot be read."""
    from aegis_otel.report.queries import RefusedRow

    try:
        inbox = open_inbox_if_any(directory)
        found = () if inbox is None else inbox.refused_answers(_MOST_REFUSED)
    except AegisError as error:
        report_problems([f"refused answers are left out: {error}"])
        return []
    return [RefusedRow(id, each.approver, each.why, each.at_ns // 1_000) for id, each in found]


def _policies(queries: ReportQueries, directory: Path) -> list[DecidingPolicy]:
    """Return the policies that decided calls and whose text the audit keeps, the last one first."""
    from aegis_otel.cli.kept_policies import kept_policy
    from aegis_otel.report.page import DecidingPolicy

    found = []
    for row in queries.groups("policy", order="last DESC").rows:
        policy = kept_policy(directory, row["policy"])
        if policy is not None:
            names = [rule.name for rule in policy.rules]
            unfired = queries.unfired(policy.digest, names)
            found.append(DecidingPolicy(policy.digest, policy.to_yaml() or "", len(names), unfired))
    return found


def _candidate_result(
    policy: Policy, audit: duckdb.DuckDBPyConnection, condition: Condition
) -> CandidateResult:
    from aegis_otel.policy_tools.replay.replay import replay
    from aegis_otel.report.page import CandidateResult

    found = replay(policy, audit, condition)
    differences = []
    for each in found.differences:
        risks = (f", {each.risk}", f", {each.new_risk}") if each.risk != each.new_risk else ("", "")
        row = {
            "effect": each.effect.value,
            "before": f"{each.approval} by {each.rule}{risks[0]}",
            "after": f"{each.new_approval} by {each.new_rule}{risks[1]}",
            "calls": each.calls,
        }
        differences.append(row)
    reasons = [{"reason": each.reason, "calls": each.calls} for each in found.obstacles]
    return CandidateResult(
        policy.digest, found.calls, found.same, found.other_risk, found.unreplayed, differences, reasons
    )
