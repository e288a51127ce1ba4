"""Checks of whole files (missing rules, defaults that may surprise) and of time windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from aegis_otel.model import Approval
from aegis_otel.policy.evaluation.compiler import CompiledPolicy, CompiledRule
from aegis_otel.policy.evaluation.evaluator import strictness
from aegis_otel.policy.lint.finding import Finding, Severity, severity_for
from aegis_otel.policy.lint.subject import NO_ACTION, NOON, Example, Subject
from aegis_otel.policy.messages import quoted
from aegis_otel.policy.rules import PolicyDocument, TimeWindow


def documents(subject: Subject) -> Iterator[Finding]:
    """Find files without `rules`, and defaults of a merge that come from an unexpected file."""
    written = subject.policy.documents
    for document in written:
        if not document.states_rules:
            message = "there is no `rules` key: was the file cut short?"
            yield Finding(Severity.WARNING, "no-rules", message, document.defaults_place)
    yield from _defaults(written, subject.policy.compiled)


def _defaults(written: Sequence[PolicyDocument], compiled: CompiledPolicy) -> Iterator[Finding]:
    """Find surprises of a merge: the first file that states `defaults` wins, wherever it stands."""
    stated = [document for document in written if document.defaults is not None]
    approval, risk_level = compiled.defaults
    in_force = f"{approval.value} and {risk_level.name.lower()}"
    if stated and stated[0] is not written[0]:
        yield Finding(
            Severity.WARNING,
            "defaults",
            f"no `defaults` here: those of {stated[0].defaults_place} hold, {in_force}",
            written[0].defaults_place,
        )
    for document in stated[1:]:
        if document.defaults != compiled.defaults:
            yield Finding(
                Severity.WARNING,
                "defaults",
                f"these `defaults` do not hold: those of {stated[0].defaults_place} do, {in_force}",
                document.defaults_place,
            )


def times(subject: Subject) -> Iterator[Finding]:
    """Find windows within which something else is decided than outside."""
    for rule in subject.rules:
        window = rule.rule.window
        if window is None or (window.after, window.before, window.weekdays) == (None, None, frozenset()):
            continue
        example = subject.example(rule)
        if example is None or not _decides(subject, example):
            continue
        if not window.states_timezone:
            what = "days" if (window.after, window.before) == (None, None) else "times"
            message = (
                f"the {what} of rule {quoted(rule.name)} are in UTC, because it has no `timezone`: elsewhere "
                "they begin and end hours earlier or later; write the zone, or `timezone: UTC`"
            )
            yield Finding(Severity.WARNING, "no-timezone", message, window.place)
        if finding := _half_open(subject, rule, window, example):
            yield finding


def _decides(subject: Subject, example: Example) -> bool:
    hours = (NOON + timedelta(hours=hour, minutes=1) for hour in range(0, 24 * 7, 7))
    within = subject.verdict(example.action, example.now)
    return any(strictness(subject.verdict(example.action, now)) != strictness(within) for now in hours)


def _half_open(subject: Subject, rule: CompiledRule, window: TimeWindow, example: Example) -> Finding | None:
    """Find a window with one time only: it runs to midnight, or from midnight."""
    if (window.after is None) == (window.before is None) or window.after == 0:
        return None
    other = _outside(rule, window)
    if other is None:
        return None
    verdict = subject.verdict(example.action, other)
    loosens = strictness(verdict) < strictness(rule.verdict)
    if not loosens and rule.rule.approval is not Approval.AUTO:
        return None
    if window.after is not None:
        span = f"`time_after` alone ends at midnight: rule {quoted(rule.name)} does not hold at 03:00"
        fix = "write `time_before`, too: a window may run over midnight"
    else:
        span = f"`time_before` alone begins at midnight: rule {quoted(rule.name)} does not hold at 23:00"
        fix = "write `time_after`, too: a window may run over midnight"
    what = f", and then `{verdict.approval}` does" if loosens else ""
    severity = severity_for(rule.rule) if verdict.approval is Approval.AUTO and loosens else Severity.WARNING
    return Finding(severity, "half-open-window", f"{span}{what}; {fix}", window.place)


def _outside(rule: CompiledRule, window: TimeWindow) -> datetime | None:
    """Return a time on a day of the window, on the other side of midnight."""
    (test,) = [condition.test for condition in rule.conditions if condition.spec is window]
    inside = next(
        (
            now
            for hour in range(24 * 7)
            if test(NO_ACTION, now := NOON + timedelta(hours=hour, minutes=1), None) is True
        ),
        None,
    )
    if inside is None:
        return None
    steps = range(1, 24) if window.after is not None else range(-1, -24, -1)
    return next(
        (now for hour in steps if test(NO_ACTION, now := inside + timedelta(hours=hour), None) is not True),
        None,
    )
