"""Print why a policy decided so, rule by rule, for `aegis audit show` and `aegis policy`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.model import Mode
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.policy.explain import Explanation, RuleTrace


def rule_lines(rules: Iterable[RuleTrace], decided: str | None) -> Iterator[str]:
    """Yield lines with each rule and its tests, not escaped yet; the rule that decided is marked."""
    for trace in rules:
        mark = "=>" if trace.name == decided else "  "
        says = trace.verdict.approval.value
        if trace.verdict.mode is Mode.MONITOR:
            says += ", only monitored"
        yield f"{mark} {trace.name} ({says}) {trace.match.value}  [{trace.rule.place}]"
        for label, wanted, answer, depth in trace.checks:
            said = f"unknown: {answer}" if isinstance(answer, str) else "yes" if answer else "no"
            tested = " ".join(filter(None, (label, wanted)))
            yield f"       {'  ' * depth}{tested}: {said}"


def print_rules(rules: Iterable[RuleTrace], decided: str | None, indent: str = "") -> None:
    """Print the lines of `rule_lines`."""
    for line in rule_lines(rules, decided):
        click.echo(indent + escape(line))


def explanation_report(explanation: Explanation) -> dict[str, Any]:
    """Return the verdict and every rule, for programs."""
    verdict = explanation.verdict
    rules = [
        {
            "rule": trace.name,
            "place": str(trace.rule.place),
            "approval": trace.verdict.approval.value,
            "match": trace.match.value,
            "checks": [check._asdict() for check in trace.checks],
        }
        for trace in explanation.rules
    ]
    return {
        "matched_rule": verdict.matched_rule,
        "approval": verdict.approval.value,
        "risk_level": verdict.risk_level.name,
        "reason": verdict.reason,
        "rules": rules,
    }
