"""Compare two policies: what was written otherwise, and which calls are decided otherwise."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from aegis_otel.model import Approval, Approvers, Verdict
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.precedence import APPROVAL_RANKS, is_as_strict
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy.loading.durations import written
from aegis_otel.policy.messages import quoted, shown
from aegis_otel.policy.policy import Policy
from aegis_otel.policy.rules import Conditions, Group, HistoryTest, ParamTest, Place, Rule
from aegis_otel.policy_tools.probes import Probe, make_probes


class Change(StrEnum):
    """What happened to a rule."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


class RuleChange(NamedTuple):
    change: Change
    rule: str
    place: Place
    """In the new policy; of a removed rule in the old one."""
    approval: Approval
    details: tuple[str, ...] = ()
    """What is otherwise, a line each."""


class Effect(StrEnum):
    """What a change of policy does to a call."""

    LOOSER = "looser"
    STRICTER = "stricter"
    RISK = "other risk"


class Difference(NamedTuple):
    """Calls that the policies decide differently, by the same rules."""

    effect: Effect
    old: Verdict
    new: Verdict
    calls: int
    example: Probe


class PolicyDiff(NamedTuple):
    old: Policy
    new: Policy
    rules: tuple[RuleChange, ...]
    differences: tuple[Difference, ...]
    """The looser ones first."""
    tried: int
    """How many calls were tried."""
    untried: tuple[str, ...]
    """Changed rules for which no example was found, and what else was not tried, a sentence each."""

    @property
    def loosens(self) -> bool:
        return any(each.effect is Effect.LOOSER for each in self.differences)


def diff_policies(old: Policy, new: Policy, inventory: Inventory | None = None) -> PolicyDiff:
    """Compare two policies.

    Args:
        inventory: The tools that they govern, for better examples; None where they are not known.
    """
    changes = tuple(_rule_changes(old.compiled.rules, new.compiled.rules))
    if old == new:
        return PolicyDiff(old, new, changes, (), 0, ())
    probes = make_probes((old, new), inventory)
    groups: dict[tuple[Any, ...], Difference] = {}
    deciding: set[tuple[int, str]] = set()
    for probe in probes.calls:
        before, after = (policy.evaluate(probe.action, now=probe.now).verdict for policy in (old, new))
        deciding |= {(id(old), before.matched_rule), (id(new), after.matched_rule)}
        effect = _effect(before, after)
        if effect is None:
            continue
        key = (before.matched_rule, before.approval, after.matched_rule, after.approval, effect)
        known = groups.get(key)
        found = Difference(effect, before, after, 1 if known is None else known.calls + 1, probe)
        if known is None or (_is_doubtful(known) and not _is_doubtful(found)):
            groups[key] = found
        else:
            groups[key] = known._replace(calls=found.calls)
    order = list(Effect)
    changed = {change.rule for change in changes}
    untried = [
        f"no call was found that rule {quoted(rule.name)} of {policy.sources[0]} decides"
        for policy, rule in probes.without_example
        if rule.name in changed and (id(policy), rule.name) not in deciding
    ]
    untried += [
        f"rule {quoted(name)} counts calls apart by other things, or for another time"
        for name in _counting_otherwise(old, new)
    ]
    if not probes.is_complete:
        untried.append("the policies are too large to try every call")
    return PolicyDiff(
        old,
        new,
        changes,
        tuple(sorted(groups.values(), key=lambda each: order.index(each.effect))),
        len(probes.calls),
        tuple(untried),
    )


def _is_doubtful(difference: Difference) -> bool:
    """Return whether a rule of either policy only may match the example: another call shows more."""
    return bool(difference.old.errors or difference.new.errors)


def _counting_otherwise(old: Policy, new: Policy) -> Iterator[str]:
    """Yield the rules that have another `by` or `within`: no past is tried that tells these apart."""
    earlier = {rule.name: rule.rule.conditions.all_history for rule in old.compiled.historic}
    for rule in new.compiled.historic:
        before, after = (
            [(test.key, test.words, test.within_s) for test in tests]
            for tests in (earlier.get(rule.name, ()), rule.rule.conditions.all_history)
        )
        if before and before != after:
            yield rule.name


def _effect(old: Verdict, new: Verdict) -> Effect | None:
    before, after = (APPROVAL_RANKS[each.enforced_approval] for each in (old, new))
    if before != after:
        return Effect.LOOSER if after < before else Effect.STRICTER
    if new.enforced_approval is Approval.APPROVE and old.approvers != new.approvers:
        return Effect.STRICTER if is_as_strict(new.approvers, old.approvers) else Effect.LOOSER
    return None if old.risk_level == new.risk_level else Effect.RISK


# --- rules as they are written ---


def _rule_changes(old: Sequence[CompiledRule], new: Sequence[CompiledRule]) -> Iterator[RuleChange]:
    """Yield what happened to each rule, in the order of the new policy; removed rules last."""
    old_by_name, new_by_name = ({rule.name: rule for rule in rules} for rules in (old, new))
    staying = [rule.name for rule in new if rule.name in old_by_name]
    moved = _moved(staying, {rule.name: number for number, rule in enumerate(old)})
    before: str | None = None
    for rule in new:
        place, approval = rule.rule.place, rule.rule.approval
        earlier = old_by_name.get(rule.name)
        if earlier is None:
            yield RuleChange(Change.ADDED, rule.name, place, approval, (_position(before),))
        elif earlier.rule.content != rule.rule.content:
            details = tuple(_details(earlier.rule, rule.rule))
            if rule.name in moved:
                details = (*details, _position(before))
            yield RuleChange(Change.CHANGED, rule.name, place, approval, details)
        elif rule.name in moved:
            yield RuleChange(Change.MOVED, rule.name, place, approval, (_position(before),))
        before = rule.name
    for rule in old:
        if rule.name not in new_by_name:
            yield RuleChange(Change.REMOVED, rule.name, rule.rule.place, rule.rule.approval)


def _position(before: str | None) -> str:
    return "placed first" if before is None else f"placed after {quoted(before)}"


def _moved(names: Sequence[str], old: Mapping[str, int]) -> set[str]:
    """Return the fewest names that are to be moved to bring the others into their old order.

    The others are a longest increasing subsequence of the old positions.
    """
    ends: list[int] = []  # the least last position of a subsequence of each length
    rows: list[int] = []  # the length of the longest one that ends at each name
    for name in names:
        row = bisect_left(ends, old[name])
        ends[row : row + 1] = [old[name]]
        rows.append(row)
    length, kept = len(ends) - 1, set()
    for name, row in zip(reversed(names), reversed(rows), strict=True):
        if row == length:
            kept.add(name)
            length -= 1
    return set(names) - kept


_PATTERNS = {"match.type": "types", "match.target": "targets", "match.agent": "agents"}
_SUBJECT = {"match.user": "user", "match.tenant": "tenant", "match.role": "role"}


def _said(rule: Rule) -> dict[str, list[str]]:
    """Return what a rule says, by what it is about."""
    said = {label: [quoted(glob.text) for glob in getattr(rule, name)] for label, name in _PATTERNS.items()}
    said |= {
        label: [quoted(glob.text) for glob in getattr(rule.subject, name)] or ["anybody"]
        for label, name in _SUBJECT.items()
    }
    said["time window"] = ["any" if rule.window is None else str(rule.window)]
    said["conditions"] = [
        *map(_test, rule.tests),
        *map(_history, rule.conditions.history),
        *map(_group, rule.conditions.groups),
    ]
    said["risk_level"] = [rule.risk_level.name.lower()]
    said["approval"] = [rule.approval.value]
    said["mode"] = [rule.mode.value]
    said["message"] = [shown(rule.message)]
    said |= _approvers(rule.approvers)
    said["expires"] = ["not stated" if rule.expires_s is None else written(rule.expires_s)]
    said["match.ignore_case"] = ["true" if rule.ignores_case else "false"]
    return said


def _approvers(approvers: Approvers | None) -> dict[str, list[str]]:
    if approvers is None:
        names, approvers = ["whoever is asked"], Approvers(allows_requester=True)
    else:
        names = [*map(quoted, approvers.users)]
        names += [] if names or approvers.roles else ["anybody whose name is known"]
    return {
        "approvers.users": names,
        "approvers.roles": [*map(quoted, approvers.roles)],
        "approvers.count": [str(approvers.count)],
        "approvers.self": ["true" if approvers.allows_requester else "false"],
    }


def _test(test: ParamTest) -> str:
    return f"{test} {', '.join(map(shown, test.values))}".rstrip()


def _history(test: HistoryTest) -> str:
    return f"{test} {test.wanted}"


def _group(group: Group) -> str:
    members = (" and ".join(_all(member)) for member in group.members)
    return f"{group} ({' or '.join(members)})"


def _all(conditions: Conditions) -> list[str]:
    window = [] if conditions.window is None else [str(conditions.window)]
    history = map(_history, conditions.history)
    return [*window, *map(_test, conditions.tests), *history, *map(_group, conditions.groups)]


def _details(old: Rule, new: Rule) -> Iterator[str]:
    """Yield what was written otherwise, a line each."""
    before, after = _said(old), _said(new)
    for label in before:
        one, other = before[label], after[label]
        if one == other:
            continue
        gone = [text for text in one if text not in other]
        added = [text for text in other if text not in one]
        if len(gone) == len(added) == 1:
            yield f"{label}: {gone[0]} -> {added[0]}"
        else:
            yield from (f"{label}: - {text}" for text in gone)
            yield from (f"{label}: + {text}" for text in added)
