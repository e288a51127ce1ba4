"""Print why a policy decided so, rule by rule, for `aegis audit show` and `aegis policy`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from aegis_otel.cli.rendering import echo_wrapped
from aegis_otel.model import Approval, Mode, Verdict
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.policy.explain import Check, Explanation, RuleTrace

_MOST_NAMES = 5
"""Rules for other tools that are named on a line."""


def rule_lines(explanation: Explanation, decided: str | None) -> Iterator[str]:
    """Yield lines with each rule and its tests, not escaped yet; the rule that decided is marked.

    Rules for other tools have one line together where they follow each other.
    """
    for is_other, traces in groupby(explanation.rules, _is_for_other_tools):
        if is_other:
            yield f"   {_names(traces)}: for other tools"
            continue
        yield from _lines_of(traces, decided, explanation.is_schema_known)


def _is_for_other_tools(trace: RuleTrace) -> bool:
    return bool(trace.checks) and trace.checks[0].label == "`match.type`" and trace.checks[0].answer is False


def _names(traces: Iterable[RuleTrace]) -> str:
    names = [trace.name for trace in traces]
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _lines_of(traces: Iterable[RuleTrace], decided: str | None, is_schema_known: bool) -> Iterator[str]:
    for trace in traces:
        mark = "=>" if trace.name == decided else "  "
        says = trace.verdict.approval.value
        if trace.verdict.mode is Mode.MONITOR:
            says += ", only monitored"
        yield f"{mark} {trace.name} ({says}) {trace.match.value}  [{trace.rule.place}]"
        for check in trace.checks:
            answer = check.answer
            said = f"unknown: {answer}" if isinstance(answer, str) else "yes" if answer else "no"
            if check.lacks is not None:
                said += f": the call has no `{check.lacks}`"
                said += "" if is_schema_known else ", and the tool's default is not known"
            seen = f"({check.seen})" if check.seen else ""
            tested = " ".join(filter(None, (check.label, check.wanted, seen)))
            yield f"       {'  ' * check.depth}{tested}: {said}"


def print_rules(explanation: Explanation, decided: str | None, indent: str = "") -> None:
    """Print the lines of `rule_lines`."""
    for line in rule_lines(explanation, decided):
        echo_wrapped(indent + escape(line))


def verdict_words(verdict: Verdict) -> str:
    """Return the verdict, and why, not escaped yet."""
    what = f"{verdict.approval.value} by `{verdict.matched_rule}` at {verdict.risk_level.name.lower()} risk"
    return f"{what}: {verdict.reason}"


def question_words(verdict: Verdict) -> str | None:
    """Return who may answer and for how long, not escaped yet; None where the policy says neither."""
    from aegis_otel.policy.loading.durations import written
    from aegis_otel.policy.messages import approvers_in_words

    if verdict.enforced_approval is not Approval.APPROVE:
        return None
    who = "whoever is asked" if verdict.approvers is None else approvers_in_words(verdict.approvers)
    if verdict.expires_s is not None:
        return f"who may answer, for {written(verdict.expires_s)}: {who}"
    return None if verdict.approvers is None else f"who may answer: {who}"


def _check(check: Check) -> dict[str, Any]:
    """Return a test as it was before there were conditions on earlier calls, and `seen` where it is one."""
    found = check._asdict()
    return found if check.seen else {name: value for name, value in found.items() if name != "seen"}


def explanation_report(explanation: Explanation) -> dict[str, Any]:
    """Return the verdict and every rule, for programs."""
    verdict = explanation.verdict
    rules = [
        {
            "rule": trace.name,
            "place": str(trace.rule.place),
            "approval": trace.verdict.approval.value,
            "match": trace.match.value,
            "checks": [_check(check) for check in trace.checks],
        }
        for trace in explanation.rules
    ]
    return {
        "matched_rule": verdict.matched_rule,
        "approval": verdict.approval.value,
        "risk_level": verdict.risk_level.name,
        "reason": verdict.reason,
        **({} if verdict.approvers is None else {"approvers": verdict.approvers.as_written}),
        **({} if verdict.expires_s is None else {"expires_s": verdict.expires_s}),
        "rules": rules,
    }
