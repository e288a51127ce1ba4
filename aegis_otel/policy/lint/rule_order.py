"""Checks of conditions that exclude each other, and of rules that an earlier rule makes pointless."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import permutations, product
from typing import Any

from aegis_otel.model import Approval, Mode
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.precedence import precedence
from aegis_otel.policy.lint.finding import Finding, Severity, finding
from aegis_otel.policy.lint.glob_index import Covering, Overlapping
from aegis_otel.policy.lint.subject import Family, Subject
from aegis_otel.policy.messages import quoted
from aegis_otel.policy.operators.table import Meaning, compared_types, judge, meaning
from aegis_otel.policy.patterns import (
    Glob,
    compile_glob,
    covers,
    covers_in_any_case,
    may_overlap,
    outline,
    overlap,
)
from aegis_otel.policy.rules import ANYBODY, ParamTest, Patterns, Rule, by_path


def contradictions(_subject: Subject, rule: CompiledRule) -> Iterator[Finding]:
    """Find conditions on one parameter that no value passes together."""
    for tests in by_path(rule.rule.tests).values():
        if pair := conflict(tests):
            yield finding("contradiction", rule.rule.place, rule, one=pair[0], other=pair[1])


def without_choice(_subject: Subject, rule: CompiledRule) -> Iterator[Finding]:
    """Find conditions on earlier calls that hold for every call, or that look for the rule's own calls."""
    for test, is_negated in rule.rule.conditions.history_with_sign():
        if test.key == "calls_over" and not test.limit:
            yield finding("always", test.place, rule, test=test, answer="false" if is_negated else "true")
        globs = tuple(compile_glob(each.text, each.ignores_case) for each in test.types)
        if not globs or not _is_about_types_only(rule) or not _all_covered(rule.types, globs):
            continue
        if is_negated is not (rule.rule.approval is Approval.AUTO):
            yield finding("after-itself/needs", test.place, rule, test=test)
        elif _all_covered(globs, rule.types):
            yield finding("after-itself", test.place, rule, test=test)


def _is_about_types_only(rule: CompiledRule) -> bool:
    """Return whether a rule is about all calls of its types, but for what went before them."""
    conditions = rule.rule.conditions
    return (
        conditions.window is None
        and not conditions.tests
        and all(group.reads_history for group in conditions.groups)
        and rule.rule.subject == ANYBODY
        and all(any(glob.matches_all for glob in globs) for globs in rule.scope[1:])
    )


def conflict(tests: Sequence[ParamTest]) -> tuple[ParamTest, ParamTest] | None:
    """Return two tests of one parameter that no value passes both."""
    if not all(test.compares_one_value for test in tests):
        return None  # two items of a list may pass one test each
    for one, other in permutations(tests, 2):
        is_fixed = meaning(one) is Meaning.EQUAL and not other.reads_time
        if is_fixed and judge(other, one.expected) is not True:
            return one, other
    for one, other in permutations(tests, 2):
        if not set(compared_types(one)) & set(compared_types(other)):
            return one, other
        if meaning(one) is Meaning.LOWER_BOUND and meaning(other) is Meaning.UPPER_BOUND:
            least, most = one.expected, other.expected
            assert isinstance(least, (int, float))
            assert isinstance(most, (int, float))
            both = judge(one, most) is True and judge(other, least) is True
            if least > most or (least == most and not both):
                return one, other
    return None


_MOST = {
    "comparisons": 15_000,
    "overlaps": 10_000,
    "combinations": 10_000,
    "splits": 30_000,
    "patterns": 500_000,
}
"""Pairs of rules that are compared (whether one covers the other, whether they overlap, whether one of their
conditions always holds), combinations of patterns that others may cover, and pairs of patterns of rules that
may overlap: a fraction of a second."""
_DAY = 24 * 60
_WEEK = frozenset(range(1, 8))
_ALWAYS = (1 << 7 * _DAY) - 1
"""All minutes of a week, as bits."""

_covers = lru_cache(maxsize=100_000)(covers)
_covers_in_any_case = lru_cache(maxsize=100_000)(covers_in_any_case)


def order(subject: Subject) -> Iterator[Finding]:
    """Find rules that can never match, then stricter rules that an earlier `auto` takes calls from."""
    hidden = set()
    limits = _Limits()
    scopes = _Scopes(subject.rules)
    for rule, shadow in _shadowed(subject.rules, scopes, limits):
        hidden.add(rule.name)
        yield shadow
    yield from _overlapping(subject, hidden, scopes, limits)
    yield from limits.findings


class _Scopes:
    """Compares what rules match, once for all pairs of rules that match the same."""

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        numbers: dict[tuple[tuple[Glob, ...], ...], int] = {}
        self._number = {rule.name: numbers.setdefault(rule.scope, len(numbers)) for rule in rules}
        self._covers: dict[tuple[int, int], bool] = {}
        self._shared: dict[tuple[int, int], tuple[str, str] | None] = {}

    def covers(self, wide: CompiledRule, narrow: CompiledRule) -> bool:
        """Return whether `wide` matches every call that `narrow` matches, conditions aside."""
        key = self._number[wide.name], self._number[narrow.name]
        if key not in self._covers:
            self._covers[key] = all(map(_all_covered, wide.scope, narrow.scope))
        return self._covers[key]

    def shared(self, one: CompiledRule, other: CompiledRule) -> tuple[str, str] | None:
        """Return a type and a target that both rules match, which are empty where both match any."""
        key = self._number[one.name], self._number[other.name]
        if key not in self._shared:
            (found, target, agent) = map(_text, one.scope, other.scope)
            is_apart = found is None or target is None or agent is None
            self._shared[key] = None if is_apart else (found or "", target or "")
        return self._shared[key]


class _Limits:
    """Counts what is spent on one policy; holds the warnings that not all was checked."""

    def __init__(self) -> None:
        self._spent = dict.fromkeys(_MOST, 0)
        self.findings: list[Finding] = []

    def spend(self, what: str, rule: CompiledRule, amount: int = 1) -> bool:
        """Count more comparisons with `rule`. Returns False where nothing is left for them."""
        was_spent = self.is_spent(what)
        self._spent[what] += amount
        if self.is_spent(what) and not was_spent:
            self.findings.append(finding("limits/pairs", rule.rule.place, most=_MOST[what], what=what))
        return not self.is_spent(what)

    def is_spent(self, what: str) -> bool:
        """Return whether nothing is left."""
        return self._spent[what] > _MOST[what]


def _shadowed(
    rules: Sequence[CompiledRule], scopes: _Scopes, limits: _Limits
) -> Iterator[tuple[CompiledRule, Finding]]:
    """Find rules behind unconditional rules that match all they match."""
    index = Covering(rule for rule in rules if _ends_search(rule))
    for number, rule in enumerate(rules):
        near = index.near(rule)
        covering: list[CompiledRule] = []
        for each in index.find(*(found[0] for found in near)):
            earlier = rules[each]
            if not limits.spend("comparisons", rule):
                break
            if scopes.covers(earlier, rule):
                covering.append(earlier)
                if _hides(earlier, rule):
                    break
        is_hidden = bool(covering) and _hides(covering[-1], rule)
        if covering:
            by = covering[-1 if is_hidden else 0]
            what = "shadowed" if is_hidden else "shadowed/agent"
            yield rule, finding(what, rule.rule.place, rule, other=by.name, where=by.rule.place)
        elif several := _together(index, near, rules, rule, limits):
            yield rule, finding("shadowed/together", rule.rule.place, rule, others=_names(several))
        # What a hidden rule covers, the rule that hides it covers, too.
        if _ends_search(rule) and not is_hidden:
            index.add(number, rule)


def _ends_search(rule: CompiledRule) -> bool:
    """Return whether no rule after it is asked, whatever the call is beyond its type, target and agent."""
    return not rule.rule.is_conditional and rule.rule.mode is Mode.ENFORCE


def _hides(earlier: CompiledRule, later: CompiledRule) -> bool:
    """Return whether the covered rule never decides.

    An action need not name its agent: the strictest of the unknown rules decides then, the first of equals.
    """
    return any(glob.matches_all for glob in earlier.agents) or (
        precedence(earlier.verdict) >= precedence(later.verdict)
    )


def _all_covered(wides: Sequence[Glob], narrows: Sequence[Glob]) -> bool:
    if any(wide.matches_all for wide in wides):
        return True
    return all(any(_is_covered(wide, narrow) for wide in wides) for narrow in narrows)


def _is_covered(wide: Glob, narrow: Glob) -> bool:
    if narrow.ignores_case:
        return wide.ignores_case and _covers_in_any_case(wide, narrow.text)
    return _covers(wide.text, narrow.text)


def _together(
    index: Covering,
    near: tuple[list[set[int]], ...],
    rules: Sequence[CompiledRule],
    rule: CompiledRule,
    limits: _Limits,
) -> list[CompiledRule] | None:
    """Return unconditional rules that each cover a part of the rule's patterns, and together all of them."""
    if all(len(globs) == 1 for globs in rule.scope):
        return None
    found: dict[str, CompiledRule] = {}
    for combination in product(*(zip(*each, strict=True) for each in zip(rule.scope, near, strict=True))):
        if not limits.spend("combinations", rule):
            return None
        globs, numbers = zip(*combination, strict=True)
        for each in map(rules.__getitem__, index.find(*numbers)):
            if (
                limits.spend("comparisons", rule)
                and any(glob.matches_all for glob in each.agents)
                and all(_all_covered(wides, [glob]) for wides, glob in zip(each.scope, globs, strict=True))
            ):
                found[each.name] = each
                break
        else:
            return None
    return list(found.values())


def _overlapping(subject: Subject, hidden: set[str], scopes: _Scopes, limits: _Limits) -> Iterator[Finding]:
    """Find block rules that an earlier `auto` rule takes calls from, unless it is a narrower exception."""
    rules = subject.rules
    allowing = [number for number, rule in enumerate(rules) if _allows(rule)]
    overlapping = Overlapping([rules[number] for number in allowing])
    conditional = Covering(rules[number] for number in allowing if rules[number].rule.is_conditional)
    for number, rule in enumerate(rules):
        if _allows(rule) and rule.rule.is_conditional:
            conditional.add(number, rule)
        if rule.rule.approval is not Approval.BLOCK or rule.name in hidden:
            continue
        candidates = conditional.find(*(near[0] for near in conditional.near(rule)))
        covering = [
            each
            for each in map(rules.__getitem__, candidates)
            if limits.spend("splits", rule) and scopes.covers(each, rule)
        ]
        if names := _always_holding(covering):
            yield finding("split", rule.rule.place, rule, others=" and ".join(map(quoted, names)))
            continue
        near = iter(()) if limits.is_spent("overlaps") else overlapping.find(rule)
        for earlier in (rules[allowing[each]] for each in near if allowing[each] < number):
            if not limits.spend("overlaps", rule):
                break
            if not limits.spend("patterns", rule, _pairs(earlier, rule)):
                continue
            if found_overlap := _overlap(subject, scopes, earlier, rule):
                yield found_overlap
                break


def _pairs(one: CompiledRule, other: CompiledRule) -> int:
    """Return how many pairs of patterns there are to compare of two rules."""
    both = (
        *zip(one.scope, other.scope, strict=True),
        *zip(one.rule.subject, other.rule.subject, strict=True),
    )
    return sum(len(ones) * len(others) for ones, others in both)


def _allows(rule: CompiledRule) -> bool:
    return rule.rule.approval is Approval.AUTO and rule.rule.mode is Mode.ENFORCE


def _overlap(subject: Subject, scopes: _Scopes, earlier: CompiledRule, rule: CompiledRule) -> Finding | None:
    shared = scopes.shared(earlier, rule)
    if shared is None or _excludes(earlier.rule, rule.rule):
        return None
    widens = not scopes.covers(rule, earlier)
    if not widens and not (earlier.rule.is_conditional and rule.rule.is_conditional):
        return None  # an exception before a wider rule, as rules are meant to stand
    called = {name for tool in subject.tools_of(rule) for name in tool.names}
    named = called & {name for tool in subject.tools_of(earlier) for name in tool.names}
    call = " on ".join(quoted(each) for each in (shared[0] or "x", shared[1]) if each)
    is_error = bool(named) and widens and not earlier.rule.is_conditional
    is_conditional = earlier.rule.is_conditional or rule.rule.is_conditional
    return finding(
        *("overlap", rule.rule.place, rule),
        severity=Severity.ERROR if is_error else Severity.WARNING,
        earlier=earlier,
        where=earlier.rule.place,
        name=rule.name,
        when="where both conditions hold, " if is_conditional else "",
        call=quoted(min(named)) if named else call,
    )


def _text(ones: Sequence[Glob], others: Sequence[Glob]) -> str | None:
    """Return a text that one of `ones` and one of `others` match."""
    for one, other in product(ones, others):
        if may_overlap(outline(one.text), outline(other.text)):
            found = overlap(one.text, other.text)
            if found is not None:
                return found
    return None


def _excludes(one: Rule, other: Rule) -> bool:
    """Return whether no call meets the conditions of both rules, or whether that is not known.

    Only conditions outside of groups, and none on earlier calls, are compared.
    """
    if one.is_conditional and other.is_conditional and any(_has_more(each) for each in (one, other)):
        return True
    # Somebody may have the roles of both rules.
    if _are_apart(one.subject.user, other.subject.user) or _are_apart(
        one.subject.tenant, other.subject.tenant
    ):
        return True
    theirs = by_path(other.tests)
    return any(
        conflict([*tests, *theirs[path]]) is not None
        for path, tests in by_path(one.tests).items()
        if path in theirs
    )


def _has_more(rule: Rule) -> bool:
    """Return whether a rule has conditions that are not compared."""
    return bool(rule.conditions.groups or rule.conditions.history)


def _are_apart(ones: Patterns, others: Patterns) -> bool:
    """Return whether both are asked for, and nobody passes both."""
    ignores_case = any(each.ignores_case for each in (*ones, *others))
    pairs = product(
        *([_folded(each.text) if ignores_case else each.text for each in globs] for globs in (ones, others))
    )
    return bool(ones and others) and all(overlap(one, other) is None for one, other in pairs)


def _folded(glob: str) -> str:
    """Return a glob that matches the case folding of each text that `glob` matches in any case."""
    return glob.casefold().replace("?", "*")  # one character of a text may be folded to several


def _always_holding(rules: Sequence[CompiledRule]) -> Sequence[str] | None:
    """Return the names of conditional rules of which always one holds."""
    return None if len(rules) < 2 else _numbers(rules) or _booleans(rules) or _windows(rules)


def _only_tests(rules: Sequence[CompiledRule]) -> Iterator[tuple[str, ParamTest]]:
    """Yield the name and the condition of each rule that has one condition, and no time window."""
    for rule in rules:
        tests = rule.rule.tests
        has_one = len(tests) == 1 and rule.rule.window is None and not _has_more(rule.rule)
        if has_one and rule.rule.subject == ANYBODY and tests[0].compares_one_value:
            yield rule.name, tests[0]


def _numbers(rules: Sequence[CompiledRule]) -> tuple[str, str] | None:
    """Return two rules whose bounds on one parameter meet: the lowest and the highest."""
    lows: dict[str, tuple[Any, bool, str]] = {}
    highs: dict[str, tuple[Any, bool, str]] = {}
    for name, test in _only_tests(rules):
        includes = judge(test, test.expected) is True
        if meaning(test) is Meaning.LOWER_BOUND:
            low = (test.expected, not includes, name)
            lows[test.path] = min(lows.get(test.path, low), low)
        elif meaning(test) is Meaning.UPPER_BOUND:
            high = (test.expected, includes, name)
            highs[test.path] = max(highs.get(test.path, high), high)
    for path in lows.keys() & highs.keys():
        (least, excludes, one), (most, includes, other) = lows[path], highs[path]
        if least < most or (least == most and (includes or not excludes)):
            return one, other
    return None


def _booleans(rules: Sequence[CompiledRule]) -> tuple[str, str] | None:
    seen: dict[tuple[str, bool], str] = {}
    for name, test in _only_tests(rules):
        if meaning(test) is Meaning.EQUAL and isinstance(test.expected, bool):
            if other := seen.get((test.path, not test.expected)):
                return other, name
            seen[test.path, test.expected] = name
    return None


def _windows(rules: Sequence[CompiledRule]) -> list[str] | None:
    """Return the rules whose time windows together are all of the week."""
    held = 0
    names = []
    zones = set()
    for rule in rules:
        window = rule.rule.window
        if window is None or rule.rule.tests or _has_more(rule.rule) or rule.rule.subject != ANYBODY:
            continue
        zones.add(window.timezone)
        end = _DAY if window.before is None else window.before
        minutes = _minutes(window.after or 0, end, window.weekdays)
        if minutes & ~held:
            names.append(rule.name)
            held |= minutes
    return names if held == _ALWAYS and len(zones) == 1 and len(names) > 1 else None


def _names(rules: Sequence[CompiledRule]) -> str:
    return " and ".join(quoted(each.name) for each in rules)


@lru_cache(maxsize=4096)
def _minutes(after: int, before: int, weekdays: frozenset[int]) -> int:
    """Return the minutes of the week within a window, as bits; one over midnight ends on the day after."""
    length = (before - after) % _DAY if after > before else before - after
    found = 0
    for day in weekdays or _WEEK:
        found |= ((1 << length) - 1) << (day - 1) * _DAY + after
    return (found | found >> 7 * _DAY) & _ALWAYS


CHECKS = Family(of_policy=(order,), of_rule=(contradictions, without_choice))
