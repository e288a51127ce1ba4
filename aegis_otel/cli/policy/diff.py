"""`aegis policy diff`: what a new policy says otherwise, and what it decides otherwise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.policy.inventory import chosen_inventory, tools_option
from aegis_otel.cli.policy_files import load_policy, problems_in_json
from aegis_otel.cli.rendering import echo_wrapped, plural, visible
from aegis_otel.model import Mode
from aegis_otel.redaction.terminal import escape, name_list, quoted_name

if TYPE_CHECKING:
    from aegis_otel.model import Subject, Verdict
    from aegis_otel.policy import Policy
    from aegis_otel.policy_tools.diff import PolicyDiff
    from aegis_otel.policy_tools.probes import Probe

_SIGNS = {"added": "+", "removed": "-", "changed": "~", "moved": ">"}


@click.command(short_help="Compare two policies.")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@tools_option("Try calls of these tools, as for `check`.")
@click.option(
    "--agent", metavar="MODULE:AGENT", help="Try calls of this agent's tools; this runs MODULE's code."
)
@text_or_json_option
@click.pass_context
def diff(ctx: click.Context, /, *, old: str, new: str, tools: Any, agent: str | None, form: str) -> None:
    """Show which rules differ between the policies OLD and NEW, and which calls they decide differently.

    Each is a file; several that are merged are separated by `:`. Calls are made up from the rules of both:
    a call that each rule decides, and from there up to the limits of every condition, and over. So a
    difference that is shown is a real one, and one that is not shown may be there.

    \b
    Exit codes:
      0  no call was found that NEW decides more loosely
      1  NEW decides a call more loosely: it runs or is asked about where OLD
         asks or blocks
      2  wrong usage
      3  a policy is not valid
    """
    from aegis_otel.policy_tools.diff import diff_policies

    known = chosen_inventory(tools, agent)
    with problems_in_json(form):
        found = diff_policies(load_policy(old), load_policy(new), known)
    if form == "json":
        click.echo(json.dumps(_document(found), indent=2))
    else:
        _print(found)
    ctx.exit(1 if found.loosens else 0)


def _print(found: PolicyDiff) -> None:
    if found.old == found.new:
        click.echo(f"no difference: both are {found.new.digest}")
        return
    old, new = found.old.default, found.new.default
    if old != new:
        click.echo(f"~ defaults: {_words(*old)} -> {_words(*new)}")
    for change in found.rules:
        what = f"{_SIGNS[change.change]} {change.rule} ({change.approval.value}) {change.change}"
        echo_wrapped(escape(f"{what}  [{change.place}]"))
        for line in change.details:
            echo_wrapped(f"    {escape(line)}")
    click.echo(f"\n{plural(found.tried, 'call')} tried:")
    for each in found.differences:
        echo_wrapped(escape(f"  {each.effect}: {_verdict(each.old)} -> {_verdict(each.new)}"))
        more = f" and {each.calls - 1} more" if each.calls > 1 else ""
        echo_wrapped(f"      {_call(each.example, found)}{more}")
    if not found.differences:
        click.echo("  no call was found that is decided differently")
    for sentence in found.untried:
        echo_wrapped(escape(f"not tried: {sentence}"))


def _words(approval: Any, risk_level: Any) -> str:
    return f"{approval.value} at {risk_level.name.lower()} risk"


def _verdict(verdict: Verdict) -> str:
    from aegis_otel.policy.messages import approvers_in_words

    monitored = " (only monitored)" if verdict.mode is Mode.MONITOR else ""
    asked = f", asking {approvers_in_words(verdict.approvers)}" if verdict.approvers is not None else ""
    return f"{_words(verdict.approval, verdict.risk_level)} by `{verdict.matched_rule}`{monitored}{asked}"


def _call(probe: Probe, found: PolicyDiff) -> str:
    """Return a call: `default`, the target that nobody named, is left out, and a time that no rule reads."""
    action = probe.action
    params = visible(json.dumps(action.params, ensure_ascii=False, default=str)) if action.params else "{}"
    by = "" if action.agent in (None, "agent") else f" by {visible(quoted_name(action.agent or ''))}"
    target = "" if action.target == "default" else f" -> {visible(quoted_name(action.target))}"
    reads_time = any(policy.compiled.plan(action.type)[1] for policy in (found.old, found.new))
    at = f" at {probe.now:%a %H:%M %Z}" if reads_time else ""
    before = f", {probe.before}" if probe.before else ""
    name = visible(quoted_name(action.type))
    return f"{name}{target} {params}{by}{_acting_for(action.subject)}{at}{before}"


def _acting_for(subject: Subject | None) -> str:
    """Return for whom a call is made, where that is not the usual somebody."""
    if subject is None:
        return " for nobody known"
    parts = [f"user {quoted_name(subject.user)}"] if subject.user not in (None, "user") else []
    parts += [f"tenant {quoted_name(subject.tenant)}"] if subject.tenant not in (None, "tenant") else []
    parts += [f"roles {name_list(subject.roles)}"] if subject.roles not in (None, (), ("role",)) else []
    return f" for {visible(', '.join(parts))}" if parts else ""


def _document(found: PolicyDiff) -> dict[str, Any]:
    return {
        "old": _policy(found.old),
        "new": _policy(found.new),
        "loosens": found.loosens,
        "rules": [
            {
                "change": change.change.value,
                "rule": change.rule,
                "approval": change.approval.value,
                **change.place._asdict(),
                "details": list(change.details),
            }
            for change in found.rules
        ],
        "tried": found.tried,
        "differences": [
            {
                "effect": each.effect.value,
                "old": _decided(each.old),
                "new": _decided(each.new),
                "calls": each.calls,
                "example": {
                    "type": each.example.action.type,
                    "target": each.example.action.target,
                    "agent": each.example.action.agent,
                    "user": each.example.action.subject and each.example.action.subject.user,
                    "tenant": each.example.action.subject and each.example.action.subject.tenant,
                    "roles": each.example.action.subject and each.example.action.subject.roles,
                    "params": json.loads(json.dumps(each.example.action.params, default=str)),
                    "at": each.example.now.isoformat(),
                    "before": each.example.before or None,
                },
            }
            for each in found.differences
        ],
        "not_tried": list(found.untried),
    }


def _policy(policy: Policy) -> dict[str, Any]:
    approval, risk_level = policy.default
    return {
        "sources": policy.sources,
        "digest": policy.digest,
        "rules": policy.rule_count,
        "defaults": {"approval": approval.value, "risk_level": risk_level.name.lower()},
    }


def _decided(verdict: Verdict) -> dict[str, Any]:
    return {
        "approval": verdict.approval.value,
        "rule": verdict.matched_rule,
        "risk_level": verdict.risk_level.name.lower(),
        "mode": verdict.mode.value,
        **({} if verdict.approvers is None else {"approvers": verdict.approvers.as_written}),
    }
