"""Rules that an earlier, looser rule makes pointless, wholly or in part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice, product

from aegis_otel.model import Approval
from aegis_otel.policy.compiler import CompiledRule
from aegis_otel.policy.evaluator import strictness
from aegis_otel.policy.globs import Glob, covers, may_overlap, outline, overlap
from aegis_otel.policy.lint.findings import Finding, Severity
from aegis_otel.policy.lint.nearby import Covering, Overlapping
from aegis_otel.policy.lint.never import by_path, conflict
from aegis_otel.policy.lint.subject import Subject
from aegis_otel.policy.rules import ParamTest, Rule
from aegis_otel.policy.wording import quoted

_MOST = {"overlaps": 10_000, "combinations": 10_000}
"""Pairs of rules that are compared for an overlap, and combinations of patterns that others may cover."""
_MAX_SPLIT = 200
_DAY = 24 * 60
_WEEK = frozenset(range(1, 8))

_covers = lru_cache(maxsize=100_000)(covers)


def order(subject: Subject) -> Iterator[Finding]:
    """Rules that can never match, then stricter rules that an earlier `auto` takes calls from."""
    hidden = set()
    limits = _Limits()
    for rule, finding in _shadowed(subject.rules, limits):
        hidden.add(rule.name)
        yield finding
    yield from _overlapping(subject, hidden, limits)
    yield from limits.findings


class _Limits:
    """What is spent on one policy, and the warnings that not all was looked for."""

    def __init__(self) -> None:
        self._spent = dict.fromkeys(_MOST, 0)
        self.findings: list[Finding] = []

    def spend(self, what: str, rule: CompiledRule) -> bool:
        """Whether there is anything left for one more comparison with `rule`."""
        self._spent[what] += 1
        if self._spent[what] == _MOST[what] + 1:
            message = f"more than {_MOST[what]} {what} to look at: from here on not all are; split the policy"
            self.findings.append(Finding(Severity.WARNING, "limits", message, rule.rule.place))
        return self._spent[what] <= _MOST[what]


def _shadowed(rules: Sequence[CompiledRule], limits: _Limits) -> Iterator[tuple[CompiledRule, Finding]]:
    """Rules behind unconditional rules that match all they match."""
    index = Covering(rule for rule in rules if not rule.rule.is_conditional)
    for number, rule in enumerate(rules):
        near = (rules[each] for each in index.find(rule.types[0], rule.targets[0], rule.agents[0]))
        covering: list[CompiledRule] = []
        for earlier in near:
            if _scope_covers(earlier, rule):
                covering.append(earlier)
                if _hides(earlier, rule):
                    break
        if covering:
            hiding = covering[-1] if _hides(covering[-1], rule) else covering[0]
            yield rule, _shadow(rule, hiding)
        elif several := _together(index, rules, rule, limits):
            names = " and ".join(quoted(each.name) for each in several)
            message = f"rule {quoted(rule.name)} can never match: {names} before it match all it does"
            yield rule, Finding(Severity.ERROR, "shadowed", message, rule.rule.place)
        if not rule.rule.is_conditional:
            index.add(number, rule)


def _shadow(rule: CompiledRule, earlier: CompiledRule) -> Finding:
    by = f"shadowed by {quoted(earlier.name)} at {earlier.rule.place}"
    if _hides(earlier, rule):
        message = f"rule {quoted(rule.name)} can never match: {by}"
        return Finding(Severity.ERROR, "shadowed", message, rule.rule.place)
    message = f"rule {quoted(rule.name)} can never be true: {by}; it still decides where the agent is unknown"
    return Finding(Severity.WARNING, "shadowed", message, rule.rule.place)


def _hides(earlier: CompiledRule, later: CompiledRule) -> bool:
    """Whether the covered rule never decides: an action need not name its agent, and of unknown rules
    the strictest decides, of equals the first."""
    return any(glob.matches_all for glob in earlier.agents) or (
        strictness(earlier.verdict) >= strictness(later.verdict)
    )


def _scope_covers(wide: CompiledRule, narrow: CompiledRule) -> bool:
    return (
        _all_covered(wide.types, narrow.types)
        and _all_covered(wide.targets, narrow.targets)
        and _all_covered(wide.agents, narrow.agents)
    )


def _all_covered(wides: Sequence[Glob], narrows: Sequence[Glob]) -> bool:
    return all(any(_covers(wide.text, narrow.text) for wide in wides) for narrow in narrows)


def _together(
    index: Covering, rules: Sequence[CompiledRule], rule: CompiledRule, limits: _Limits
) -> list[CompiledRule] | None:
    """Unconditional rules each of which covers a part of the rule's patterns, and together all of them."""
    if len(rule.types) * len(rule.targets) * len(rule.agents) == 1:
        return None
    found: dict[str, CompiledRule] = {}
    for of_type, target, agent in product(rule.types, rule.targets, rule.agents):
        if not limits.spend("combinations", rule):
            return None
        cover = next(
            (
                each
                for each in map(rules.__getitem__, index.find(of_type, target, agent))
                if any(glob.matches_all for glob in each.agents)
                and _all_covered(each.types, [of_type])
                and _all_covered(each.targets, [target])
                and _all_covered(each.agents, [agent])
            ),
            None,
        )
        if cover is None:
            return None
        found[cover.name] = cover
    return list(found.values())


def _overlapping(subject: Subject, hidden: set[str], limits: _Limits) -> Iterator[Finding]:
    """Block rules that an earlier `auto` takes calls from, other than as an exception of its own."""
    rules = subject.rules
    allowing = [number for number, rule in enumerate(rules) if rule.rule.approval is Approval.AUTO]
    overlapping = Overlapping([rules[number] for number in allowing])
    conditional = Covering(rules[number] for number in allowing if rules[number].rule.is_conditional)
    for number, rule in enumerate(rules):
        if rule.rule.approval is Approval.AUTO and rule.rule.is_conditional:
            conditional.add(number, rule)
        if rule.rule.approval is not Approval.BLOCK or rule.name in hidden:
            continue
        covering = (rules[each] for each in conditional.find(rule.types[0], rule.targets[0], rule.agents[0]))
        near = (rules[allowing[each]] for each in overlapping.find(rule) if allowing[each] < number)
        finding = _split(list(islice(covering, _MAX_SPLIT)), rule)
        for earlier in near:
            if finding is not None or not limits.spend("overlaps", rule):
                break
            finding = _overlap(subject, earlier, rule)
        if finding is not None:
            yield finding


def _overlap(subject: Subject, earlier: CompiledRule, rule: CompiledRule) -> Finding | None:
    shared = _shared(earlier, rule)
    if shared is None or _excludes(earlier.rule, rule.rule):
        return None
    widens = not _scope_covers(rule, earlier)
    if not widens and not (earlier.rule.is_conditional and rule.rule.is_conditional):
        return None  # an exception before a wider rule, as rules are meant to stand
    call = " on ".join(each for each in (quoted(shared[0] or "x"), shared[1] and quoted(shared[1])) if each)
    where = "where both conditions hold, " if earlier.rule.is_conditional or rule.rule.is_conditional else ""
    called = {name for tool in subject.tools_of(rule) for name in tool.names}
    named = called & {name for tool in subject.tools_of(earlier) for name in tool.names}
    runs = quoted(min(named)) if named else call
    message = (
        f"rule {quoted(earlier.name)} at {earlier.rule.place} comes before {quoted(rule.name)} and lets "
        f"a part of what it blocks run: {where}{runs} runs; put the block first"
    )
    is_error = bool(named) and widens and not earlier.rule.is_conditional
    return Finding(Severity.ERROR if is_error else Severity.WARNING, "overlap", message, rule.rule.place)


def _shared(one: CompiledRule, other: CompiledRule) -> tuple[str, str] | None:
    """A type and a target that both rules match; the target is empty where any will do."""
    found = _text(one.types, other.types)
    target = None if found is None else _text(one.targets, other.targets)
    if found is None or target is None or _text(one.agents, other.agents) is None:
        return None
    return found, target


def _text(ones: Sequence[Glob], others: Sequence[Glob]) -> str | None:
    for one in ones:
        for other in others:
            found = (
                overlap(one.text, other.text) if may_overlap(outline(one.text), outline(other.text)) else None
            )
            if found is not None:
                return found
    return None


def _excludes(one: Rule, other: Rule) -> bool:
    """Whether no call meets the conditions of both rules."""
    theirs = by_path(other)
    return any(
        conflict([*tests, *theirs[path]]) is not None
        for path, tests in by_path(one).items()
        if path in theirs
    )


def _split(allowing: Sequence[CompiledRule], rule: CompiledRule) -> Finding | None:
    """Conditional `auto` rules of which always one holds, before a rule that both cover."""
    wide = [each for each in allowing if each.rule.is_conditional and _scope_covers(each, rule)]
    if len(wide) < 2:
        return None
    for names in (_numbers(wide), _booleans(wide), _windows(wide)):
        if names:
            listed = " and ".join(quoted(name) for name in names)
            message = (
                f"rule {quoted(rule.name)} decides nothing but what is unknown: of {listed} before it one "
                "always holds, so every call runs; put the block first"
            )
            return Finding(Severity.ERROR, "split", message, rule.rule.place)
    return None


def _numbers(rules: Sequence[CompiledRule]) -> tuple[str, str] | None:
    """Two rules whose bounds on one parameter meet."""
    bounds: dict[str, list[tuple[ParamTest, str]]] = {}
    for rule in rules:
        if len(rule.rule.tests) == 1 and rule.rule.window is None:
            bounds.setdefault(rule.rule.tests[0].path, []).append((rule.rule.tests[0], rule.name))
    for its in bounds.values():
        for (low, one), (high, other) in product(its, its):
            if low.operator in ("gt", "gte") and high.operator in ("lt", "lte"):
                a, b = float(low.expected), float(high.expected)
                touch = a == b and (low.operator == "gte" or high.operator == "lte")
                if a < b or touch:
                    return one, other
    return None


def _booleans(rules: Sequence[CompiledRule]) -> tuple[str, str] | None:
    seen: dict[tuple[str, bool], str] = {}
    for rule in rules:
        if len(rule.rule.tests) == 1 and rule.rule.window is None and rule.rule.tests[0].operator == "eq":
            test = rule.rule.tests[0]
            if isinstance(test.expected, bool):
                if other := seen.get((test.path, not test.expected)):
                    return other, rule.name
                seen[test.path, test.expected] = rule.name
    return None


def _windows(rules: Sequence[CompiledRule]) -> list[str] | None:
    """Rules whose time windows together are all of the week."""
    left = {(day, minute) for day in _WEEK for minute in range(0, _DAY, 5)}
    names = []
    zones = set()
    for rule in rules:
        window = rule.rule.window
        if window is None or rule.rule.tests:
            continue
        zones.add(window.timezone)
        after, before = window.after or 0, _DAY if window.before is None else window.before
        days = window.weekdays or _WEEK
        taken = set()
        for day, minute in left:
            if after <= before:
                held = day in days and after <= minute < before
            else:
                began = day if minute >= after else (day - 2) % 7 + 1
                held = began in days and (minute >= after or minute < before)
            if held:
                taken.add((day, minute))
        if taken:
            names.append(rule.name)
            left -= taken
    return names if not left and len(zones) == 1 and len(names) > 1 else None
