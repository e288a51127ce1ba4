"""`aegis policy replay`: what a policy would have decided otherwise about the calls of an audit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.audit.options import path_option
from aegis_otel.cli.audit.source import open_audit
from aegis_otel.cli.policy.inventory import chosen_inventory, tools_option
from aegis_otel.cli.policy_files import load_policy, problems_in_json
from aegis_otel.cli.rendering import action, echo_wrapped, plural, visible
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    import duckdb

    from aegis_otel.audit.query.rows import Row
    from aegis_otel.policy import Policy
    from aegis_otel.policy_tools.replay.replay import Difference, Replay


@click.command(short_help="Decide recorded calls anew.")
@click.argument("files", metavar="NEW...", nargs=-1, required=True)
@path_option
@click.option(
    "--since",
    metavar="TIME",
    default="7d",
    show_default=True,
    help="Only calls since then: ISO 8601 (UTC without an offset), or how long ago: 30m, 2h, 7d.",
)
@click.option("--until", metavar="TIME", help="Only calls before this time, written like --since.")
@tools_option("Take the schemas of these tools, as for `check`, to say what an absent parameter means.")
@click.option(
    "--strict", is_flag=True, help="Exit with 1 also where a call cannot be replayed, or there are no calls."
)
@text_or_json_option
@click.pass_context
def replay(
    ctx: click.Context,
    /,
    *,
    files: tuple[str, ...],
    path: str | None,
    since: str,
    until: str | None,
    tools: Any,
    strict: bool,
    form: str,
) -> None:
    """Decide the calls of an audit anew under the policy NEW, and show what would be decided otherwise.

    Several files, also separated by `:`, are merged. Nothing runs, and the audit stays as it is. A call of
    which the audit does not have what the policy reads (it was redacted or cut, or only the tool's schema
    says it) is counted under "cannot be replayed", with the reason, and never as the same.

    Conditions on earlier calls are answered by the calls of the audit that ran, also those before --since.

    \b
    Exit codes:
      0  no call would be decided more loosely
      1  a call would be: it would run or be asked about where it was asked
         about or blocked; or the audit, or a part of it, cannot be read;
         or with --strict a call cannot be replayed, or there are no calls
      2  wrong usage
      3  the policy is not valid
    """
    from aegis_otel.audit.query.connection import problems
    from aegis_otel.audit.query.filters import compile_filters
    from aegis_otel.policy_tools.replay.replay import replay as replay_calls

    with problems_in_json(form):
        policy = load_policy(*files)
    condition = compile_filters(None, {"since": since, "until": until})
    known = chosen_inventory(tools)
    audit = open_audit(path)
    missing = problems(audit)  # printed already; calls in there may be decided otherwise
    found = replay_calls(policy, audit, condition, known)
    if form == "json":
        click.echo(json.dumps({**_document(policy, found), "left_out": missing}, indent=2))
    else:
        _print(found, since, _example_rows(audit, found))
    is_whole = found.calls > 0 and not found.unreplayed
    ctx.exit(1 if found.loosens or missing or (strict and not is_whole) else 0)


def _example_rows(audit: duckdb.DuckDBPyConnection, found: Replay) -> dict[str, Row]:
    """Return the rows of the examples, by their ids."""
    from aegis_otel.audit.query.filters import Condition
    from aegis_otel.audit.query.rows import read_rows

    ids = [id for each in found.differences for id in each.examples]
    ids += [obstacle.example for obstacle in found.obstacles]
    if not ids:
        return {}
    condition = Condition(f"decision_id IN ({', '.join('?' * len(ids))})", ids)
    return {row["decision_id"]: row for row in read_rows(audit, condition)}


def _example(row: Row | None, decision_id: str) -> str:
    """Return a call as its row has it, redacted, and the end of its id, which `aegis audit show` takes."""
    short = visible(decision_id[-8:])
    if row is None:
        return short
    params = row["action_params"]
    text = params if isinstance(params, str) else json.dumps(params, ensure_ascii=False)
    by = f" by {visible(row['agent_name'])}" if row["agent_name"] else ""
    return f"{visible(action(row))} {visible(text)}{by}  {short}"


def _time(row: Row | None) -> str:
    """Return when a call was decided: its id alone does not order the calls of one millisecond."""
    return (row or {}).get("timestamp") or ""


def _print(found: Replay, since: str, rows: Mapping[str, Row]) -> None:
    if not found.calls:
        click.echo(f"No calls since {escape(since)}: nothing to replay")
        return
    different = sum(each.calls for each in found.differences) - found.other_risk
    other_risk = f"{found.other_risk} alike but for the risk, " if found.other_risk else ""
    click.echo(
        f"{plural(found.calls, 'call')}: {found.same} decided alike, {different} otherwise, {other_risk}"
        f"{found.unreplayed} cannot be replayed"
    )
    for each in found.differences:
        echo_wrapped(f"  {each.effect}: {_words(each)}: {plural(each.calls, 'call')}")
        for example in sorted(each.examples, key=lambda id: _time(rows.get(id)), reverse=True):
            echo_wrapped(f"      {_example(rows.get(example), example)}")
    if found.obstacles:
        click.echo("Cannot be replayed:")
        for obstacle in found.obstacles:
            echo_wrapped(f"  {plural(obstacle.calls, 'call')}: {escape(obstacle.reason)}")
            echo_wrapped(f"      {_example(rows.get(obstacle.example), obstacle.example)}")
    if found.by_others:
        click.echo(
            f"{plural(found.by_others, 'call')} of these {'was' if found.by_others == 1 else 'were'} decided "
            f"by another policy than the last one ({found.policies} policies in all)"
        )
    if found.monitored:
        click.echo(
            f"{plural(found.monitored, 'call')} of these "
            f"{'was' if found.monitored == 1 else 'were'} in monitor mode: compared is what the rules said"
        )


def _words(each: Difference) -> str:
    before = f"{visible(each.approval)} by `{visible(each.rule)}`"
    after = f"{visible(each.new_approval)} by `{visible(each.new_rule)}`"
    if each.risk == each.new_risk:
        return f"{before} -> {after}"
    return f"{before}, {visible(each.risk)} -> {after}, {visible(each.new_risk)}"


def _document(policy: Policy, found: Replay) -> dict[str, Any]:
    return {
        "policy": {"sources": policy.sources, "digest": policy.digest},
        "calls": found.calls,
        "same": found.same,
        "other_risk": found.other_risk,
        "loosens": found.loosens,
        "differences": [
            {
                "effect": each.effect.value,
                "approval": each.approval,
                "rule": each.rule,
                "new_approval": each.new_approval,
                "new_rule": each.new_rule,
                "risk": each.risk,
                "new_risk": each.new_risk,
                "calls": each.calls,
                "examples": list(each.examples),
            }
            for each in found.differences
        ],
        "cannot_be_replayed": [each._asdict() for each in found.obstacles],
        "policies": found.policies,
        "decided_by_other_policies": found.by_others,
        "only_monitored": found.monitored,
    }
