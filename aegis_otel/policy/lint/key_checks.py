"""Checks of what single keys say: of a whole file, of modes, of time windows, of approvers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from aegis_otel.model import Approval, Mode
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.precedence import precedence
from aegis_otel.policy.lint.finding import Finding, Severity, finding, severity_for
from aegis_otel.policy.lint.subject import NO_ACTION, NOON, Example, Family, Subject
from aegis_otel.policy.patterns import compile_glob
from aegis_otel.policy.rules import TimeWindow


def documents(subject: Subject) -> Iterator[Finding]:
    """Find files without `rules`, and defaults of a merge that come from an unexpected file.

    The first file that states `defaults` wins, wherever it stands.
    """
    written = subject.policy.documents
    for document in written:
        if not document.states_rules:
            yield finding("no-rules", document.defaults_place)
    stated = [document for document in written if document.defaults is not None]
    if not stated:
        return
    defaults = subject.policy.default
    words: dict[str, Any] = {
        "where": stated[0].defaults_place,
        "approval": defaults.approval.value,
        "risk": defaults.risk_level.name.lower(),
    }
    if stated[0] is not written[0]:
        yield finding("defaults/none", written[0].defaults_place, **words)
    for document in stated[1:]:
        if document.defaults != defaults:
            yield finding("defaults/other", document.defaults_place, **words)


def modes(subject: Subject, rule: CompiledRule) -> Iterator[Finding]:
    """Find rules that are only monitored where another rule, or the default, stops what they match."""
    if rule.rule.mode is Mode.ENFORCE:
        return
    verdict = subject.enforced_instead(rule)
    if verdict is not None:
        words: dict[str, Any] = {"other": verdict.matched_rule, "approval": verdict.approval.value}
        yield finding("monitored", rule.rule.place, rule, **words)


def times(subject: Subject, rule: CompiledRule) -> Iterator[Finding]:
    """Find empty windows, zones without a time, and windows that end at midnight or in an unstated zone."""
    window = rule.rule.window
    if window is None:
        return
    if window.after is not None and window.after == window.before:
        yield finding("never", rule.rule.place, rule)
    has_time = window.after is not None or window.before is not None
    if not has_time and not window.weekdays:
        if not any(group.reads_time for group in rule.rule.conditions.groups):  # it is their zone as well
            yield finding("timezone", window.place, rule)
        return
    example = subject.example(rule)
    if example is None or not _decides(subject, example):
        return
    if not window.states_timezone:
        yield finding("no-timezone", window.place, rule, what="times" if has_time else "days")
    yield from _half_open(subject, rule, window, example)


def _decides(subject: Subject, example: Example) -> bool:
    hours = (NOON + timedelta(hours=hour, minutes=1) for hour in range(0, 24 * 7, 7))
    within = subject.verdict(example.action, example.now)
    return any(precedence(subject.verdict(example.action, now)) != precedence(within) for now in hours)


def _half_open(
    subject: Subject, rule: CompiledRule, window: TimeWindow, example: Example
) -> Iterator[Finding]:
    """Find a window with one time only: it runs to midnight, or from midnight."""
    if (window.after is None) == (window.before is None) or window.after == 0:
        return
    other = _outside(rule, window)
    if other is None:
        return
    verdict = subject.verdict(example.action, other)
    loosens = rule.rule.mode is Mode.ENFORCE and precedence(verdict) < precedence(rule.verdict)
    if loosens or rule.rule.approval is Approval.AUTO:
        what = "half-open-window/before" if window.after is None else "half-open-window/after"
        then = f", and then `{verdict.enforced_approval}` does" if loosens else ""
        runs = verdict.enforced_approval is Approval.AUTO and loosens
        severity = severity_for(rule) if runs else Severity.WARNING
        yield finding(what, window.place, rule, severity=severity, then=then)


def _outside(rule: CompiledRule, window: TimeWindow) -> datetime | None:
    """Return a time on a day of the window, on the other side of midnight."""
    (test,) = [condition.test for condition in rule.conditions if condition.spec is window]

    def first(start: datetime, hours: range, *, within: bool) -> datetime | None:
        times = (start + timedelta(hours=hour) for hour in hours)
        return next((now for now in times if (test(NO_ACTION, now, None) is True) is within), None)

    inside = first(NOON + timedelta(minutes=1), range(24 * 7), within=True)
    if inside is None:
        return None
    return first(inside, range(-1, -24, -1) if window.after is None else range(1, 24), within=False)


def approvers(_: Subject, rule: CompiledRule) -> Iterator[Finding]:
    """Find approvers of rules that ask nobody, too few of them, and approvers beside whom anybody is one."""
    verdict = rule.verdict
    stated = {"approvers": verdict.approvers, "expires": verdict.expires_s}
    keys = " and ".join(f"`{key}`" for key, value in stated.items() if value is not None)
    if keys and verdict.approval is not Approval.APPROVE:
        what = "never-asks/runs" if verdict.approval is Approval.AUTO else "never-asks/blocks"
        yield finding(what, rule.rule.place, rule, keys=keys)
    if verdict.approvers is None:
        return
    users, roles, count = verdict.approvers.users, verdict.approvers.roles, verdict.approvers.count
    is_open = any(compile_glob(each).matches_all for each in users)
    if not roles and users and not any("*" in each or "?" in each for each in users):
        named = len({each.casefold() for each in users})
        if named < count:
            yield finding("too-few-approvers", rule.rule.place, rule, count=count, named=named)
    if is_open and (roles or len(users) > 1):
        yield finding("any-approver", rule.rule.place, rule)


CHECKS = Family(of_policy=(documents,), of_rule=(times, modes, approvers))
