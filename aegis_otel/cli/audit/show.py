"""`aegis audit show`: the timeline of one call, and rule by rule why it was decided so."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from aegis_otel.audit.query.filters import Condition
from aegis_otel.audit.query.rows import Row, read_rows
from aegis_otel.audit.query.timeline import TimelineEntry, grant_of, timeline
from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.audit.inbox import find_in_inbox, inbox_lines, inbox_report, terms_words, why_pending
from aegis_otel.cli.audit.options import path_option
from aegis_otel.cli.audit.source import find_audit
from aegis_otel.cli.explanation import explanation_report, print_rules, verdict_words
from aegis_otel.cli.rendering import (
    MONITOR,
    NOT_ENFORCED,
    UNBOUNDED,
    action,
    echo,
    echo_wrapped,
    is_monitored,
    terminal_width,
)
from aegis_otel.errors import PolicyError
from aegis_otel.policy_tools.hidden_values import is_hidden
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    import duckdb

    from aegis_otel.policy import Policy
    from aegis_otel.policy.explain import Explanation

_LONGEST = 20_000
"""Characters of one value that are printed; an older version may have written longer ones."""
_NOT_PROVEN = "not proven: no process with the approval key took it, so no run goes on with it"
_NEAR = Path("policy.yaml")
"""The policy to explain by when none is given, if it is the one that decided."""
_IDS = ("tool_call_id", "session_id", "conversation_id", "trace_id", "span_id")


@click.command(short_help="Show one call: what, when and why.")
@path_option
@click.option(
    "--policy",
    "policies",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The policy to explain the decision by. Repeat it to merge several.  [default: the one that "
    f"decided, as the audit keeps it, or as it is in {_NEAR}]",
)
@text_or_json_option
@click.argument("id")
def show(path: str | None, policies: tuple[Path, ...], form: str, id: str) -> None:
    """Show one call: what was asked for, decided, answered and done, when, and why.

    ID is its decision id, or the beginning or the end of it.
    """
    from aegis_otel.audit.answers.call_check import unproven_answers

    source = find_audit(path)
    source.fetch()
    row = _find(source.open(), id)
    unproven = row["human_decision"] is not None and row["decision_id"] in unproven_answers(source.directory)
    policy = _policy(policies, row, source.directory)
    explanation = None if policy is None else _explain(policy, row)
    in_inbox, why_not = find_in_inbox(source.directory, row)
    entries = timeline(row)
    if in_inbox and row["result_status"] == "pending" and (why := why_pending(in_inbox)) is not None:
        entries[-1] = entries[-1]._replace(what=why)
    if form == "json":
        more = {"answer_not_proven": unproven, "inbox": inbox_report(in_inbox)}
        click.echo(json.dumps(_report(row, entries, policy, explanation) | more, indent=2))
        return
    _print_row(row)
    for name, value in inbox_lines(in_inbox) if in_inbox else ():
        _line(name, value)
    _line("inbox", why_not)
    _line("answer", _NOT_PROVEN if unproven else None)
    _print_timeline(entries)
    _print_why(row, policy, explanation)


def _find(audit: duckdb.DuckDBPyConnection, wanted: str) -> Row:
    exact = Condition("decision_id = ?", [wanted])
    part = Condition("starts_with(decision_id, ?) OR ends_with(decision_id, ?)", [wanted, wanted])
    found = list(read_rows(audit, exact)) or list(read_rows(audit, part, limit=4))
    if len(found) == 1:
        return found[0]
    if not found:
        click.echo(f"no call with the id `{escape(wanted)}`", err=True)
    else:
        click.echo(f"more than one call has an id with `{escape(wanted)}`, among them:", err=True)
        for row in found:
            click.echo(f"  {escape(row['decision_id'])}", err=True)
    raise click.exceptions.Exit(1)


def _policy(files: tuple[Path, ...], row: Row, directory: Path) -> Policy | None:
    """Return the policy to explain by.

    Raises:
        PolicyError: one was given and is not valid.
        AuditError: the texts in the audit cannot be read.
    """
    from aegis_otel.cli.kept_policies import kept_policy
    from aegis_otel.policy import Policy

    if files:
        return Policy.from_yaml_files(*files)
    if (kept := kept_policy(directory, row["policy_digest"])) is not None:
        return kept
    try:
        near = Policy.from_yaml(_NEAR)
    except PolicyError:
        return None
    return near if near.digest == row["policy_digest"] else None


def _explain(policy: Policy, row: Row) -> Explanation:
    """Return the policy's verdict on what the row has: names, redacted arguments, no schema of the tool."""
    from aegis_otel.audit.record import recorded_subject
    from aegis_otel.model import Action
    from aegis_otel.policy.explain import explain
    from aegis_otel.policy_tools.replay.call_groups import judged_names

    params = row["action_params"] if isinstance(row["action_params"], dict) else {}
    subject = recorded_subject(row["user_id"], row["tenant_id"], row["user_roles"])
    own = row["action_type"] or "", row["action_target"] or ""
    names = judged_names(row["action_type"], row["action_target"], row["other_names"])
    asked, *forms = (
        Action(type_, target, params, agent=row["agent_name"], subject=subject)
        for type_, target in ([own] if names is None else names)  # the other names may be redacted
    )
    begun = datetime.now(UTC) if row["timestamp"] is None else datetime.fromisoformat(row["timestamp"])
    # After a yes the policy was asked again, and that verdict is the row's.
    waited = row["approval_wait_s"] if row["human_decision"] == "approved" else None
    now = begun + timedelta(seconds=waited or 0.0)
    return explain(policy, asked.qualify(forms), now, is_hidden=is_hidden)


def _agrees(row: Row, explanation: Explanation) -> bool:
    verdict = explanation.verdict
    recorded = (row["matched_rule"], row["approval"], row["risk_level"])
    return recorded == (verdict.matched_rule, verdict.approval.value, verdict.risk_level.name)


# --- for people ---


def _print_row(row: Row) -> None:
    first = [row["decision_id"], row["risk_level"] or "-", row["result_status"] or "-"]
    click.echo(escape("  ".join([*first, MONITOR] if is_monitored(row) else first)) + "\n")
    params = row["action_params"]
    _line("action", action(row))
    _line("arguments", params if isinstance(params, str) else json.dumps(params, ensure_ascii=False))
    _line("agent", row["agent_name"])
    _line("user", row["user_id"])
    _line("tenant", row["tenant_id"])
    _line("roles", row["user_roles"])
    _line("tool", row["tool_name"])
    for name in _IDS:
        _line(name.removesuffix("_id").replace("_", " "), row[name])
    _line("process", " ".join(str(row[name]) for name in ("service", "host", "pid") if row[name] is not None))
    _line("rule", f"{row['matched_rule'] or '-'} ({row['approval'] or '-'})")
    _line("may answer", terms_words(row["approval_terms"]))
    _line("reason", row["reason"])
    _line("policy", row["policy_digest"])
    if row["candidate_approval"] is not None:
        _line("candidate", f"{row['candidate_approval']} by {row['candidate_rule'] or '-'}")
    _line("mode", f"{row['mode']}: {NOT_ENFORCED}" if is_monitored(row) else row["mode"])
    if (grant := grant_of(row)) is not None:
        by = f", by {row['approver']}" if row["approver"] else ""
        until = datetime.fromisoformat(grant[1]).astimezone(UTC)
        _line("grant", f"{grant[0]}{by}, until {until:%Y-%m-%d %H:%M:%S} UTC")
    _line("error", row["result_error"])


def _line(name: str, value: Any) -> None:
    if value:
        more = len(str(value)) - _LONGEST
        end = f"... ({more:,} more with --format json)" if more > 0 else ""
        _echo(f"  {name:<14}", f"{str(value)[:_LONGEST]}{end}")


def _echo(prefix: str, text: str) -> None:
    """Print a text, escaped, behind a prefix: a terminal gets as many lines as it takes, a pipe gets one.

    Each further line begins with characters of ours, so that no text can look like another field.
    """
    room = terminal_width()
    if room >= UNBOUNDED:
        echo(f"{prefix}{escape(text)}")
        return
    from aegis_otel.runtime.approval.screen import NARROWEST, Screen, wrapped

    screen = Screen(max(room, NARROWEST), 0, sys.stdout.encoding or "utf-8")
    for line in wrapped(prefix, text, screen):
        echo(line.rstrip())


def _print_timeline(entries: list[TimelineEntry]) -> None:
    click.echo("\nTimeline")
    for entry in entries:
        at = "-" if entry.at is None else f"{entry.at:%Y-%m-%d %H:%M:%S.%f}"[:-3]
        _echo(f"  {at:<24}{f'+{entry.after_s:.3f} s':>12}  {entry.stage:<10} ", entry.what)


def _print_why(row: Row, policy: Policy | None, explanation: Explanation | None) -> None:
    click.echo("\nWhy")
    if policy is None or explanation is None:
        click.echo("  the audit has not its text: give the policy that decided with --policy FILE")
        return
    print_rules(explanation, row["matched_rule"])
    if policy.digest != row["policy_digest"]:
        conclusion = f"this is not the policy that decided: it is {policy.digest}"
    elif _agrees(row, explanation):
        verdict = explanation.verdict
        if verdict.errors and " " in (row["reason"] or ""):  # a sentence, and not the name of a cause
            # What is unknown now, such as the calls that went before, need not be what was unknown then.
            verdict = msgspec.structs.replace(verdict, reason=row["reason"])
        conclusion = f"so it decided: {verdict_words(verdict)}"
    else:
        conclusion = _why_else(row, explanation)
    echo_wrapped(f"  {escape(conclusion)}")


def _why_else(row: Row, explanation: Explanation) -> str:
    """Return why a policy says something else now than the row does, which it decided.

    Where only rules that are unknown now stand between the two, nothing contradicts the row.
    """
    from aegis_otel.policy.explain import Match

    says = row["matched_rule"], row["approval"], row["risk_level"]
    own = {
        (trace.name, trace.verdict.approval.value, trace.verdict.risk_level.name): trace.match
        for trace in explanation.rules
    }
    unknown = [trace for trace in explanation.rules if trace.match is Match.UNKNOWN and trace.name != says[0]]
    why = " and ".join(_lacking(explanation)) or "the audit does not have all that it looked at"
    is_hidden_by = explanation.verdict.matched_rule in [trace.name for trace in unknown]
    if is_hidden_by and own.get(says) in (Match.YES, Match.UNKNOWN):
        names = ", ".join(f"`{trace.name}`" for trace in unknown)
        return f"it decided by `{says[0]}`; {names} cannot be judged again: {why}"
    return f"this is not what it decided: {why}"


def _lacking(explanation: Explanation) -> Iterator[str]:
    """Yield what the audit lacks of what the rules looked at."""
    from aegis_otel.policy.evaluation.history_tests import NOT_KNOWN
    from aegis_otel.policy.explain import REDACTED

    checks = [check for trace in explanation.rules for check in trace.checks]
    answers = {check.answer for check in checks}
    if REDACTED in answers:
        yield "the audit has no redacted value"
    if NOT_KNOWN in answers:
        yield "the audit keeps no count of earlier calls"
    if any(check.lacks for check in checks) and not explanation.is_schema_known:
        yield "the audit has no tool's schema"
    yield from sorted({each for each in answers if isinstance(each, str)} - {REDACTED, NOT_KNOWN})


# --- for programs ---


def _report(
    row: Row, entries: list[TimelineEntry], policy: Policy | None, explanation: Explanation | None
) -> dict[str, Any]:
    life = [each._asdict() | {"at": None if each.at is None else each.at.isoformat()} for each in entries]
    if policy is None or explanation is None:
        return {"row": row, "life": life, "explanation": None}
    why = {
        "policy_digest": policy.digest,
        "is_the_policy_that_decided": policy.digest == row["policy_digest"],
        "agrees_with_the_row": _agrees(row, explanation),
        **explanation_report(explanation),
    }
    return {"row": row, "life": life, "explanation": why}
