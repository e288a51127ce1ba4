"""Make up calls that two policies may decide differently.

They begin with the linter's examples: for every rule a call that it decides. Then one thing at a time is
changed: the name, the target, the agent, each parameter that a rule tests, up to its limits and over, and the
time, to the edges of every window. No number of calls proves that two policies agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain, combinations, islice
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from aegis_otel import model
from aegis_otel.model import Action, Past, Tally
from aegis_otel.policy.evaluation.compiler import CompiledRule
from aegis_otel.policy.evaluation.schema_walk import properties_of
from aegis_otel.policy.history.pasts import MUCH_BEFORE, NOTHING_BEFORE, past_with
from aegis_otel.policy.lint.regex_samples import branches, is_found, render, samples, slots
from aegis_otel.policy.lint.subject import ABSENT, NOON, Example, Subject
from aegis_otel.policy.lint.tool_list import Inventory
from aegis_otel.policy.operators.table import Meaning, meaning
from aegis_otel.policy.patterns import Glob
from aegis_otel.policy.policy import Policy
from aegis_otel.policy.rules import Conditions, HistoryTest, ParamTest, TimeWindow, number_of

_MAX_CALLS = 20_000
_MAX_MADE = 60_000
"""Calls that may be made up, most of which are the same for two rules: some seconds."""
_MAX_MIXED = 4_000
"""Pairs of rules whose examples are mixed."""
_MAX_PAIRS = 30
"""Pairs of roles that are tried together for one rule."""
_MAX_SAMPLES = 20
"""Texts that are tried for one regular expression."""
_EXACT = 2**53
"""The numbers below have a float between them and the next whole number."""
_OTHER = "some_other_tool"
_OTHER_PARAM = "some_other_parameter"
_USUAL = (_OTHER, "default", "agent")
_SOMEBODY = model.Subject("user", "tenant", ())


class Probe(NamedTuple):
    """A call to try, and when."""

    action: Action
    now: datetime
    before: str = ""
    """What went before, in words; empty where no policy asks about that."""


class Probes(NamedTuple):
    calls: tuple[Probe, ...]
    without_example: tuple[tuple[Policy, CompiledRule], ...]
    """Rules of which the linter has no example: it may be that they decide none of the calls."""
    is_complete: bool
    """False where there were too many calls to try them all."""


def make_probes(policies: Sequence[Policy], inventory: Inventory | None) -> Probes:
    """Return calls to try on all of the policies.

    Args:
        inventory: The tools that the policies govern, where they are known.
    """
    examples: list[tuple[CompiledRule, Example]] = []
    missing: list[tuple[Policy, CompiledRule]] = []
    for policy in policies:
        subject = Subject(policy, inventory)
        for rule in policy.compiled.rules:
            example = subject.example(rule)
            if example is None:
                missing.append((policy, rule))
            if example is not None:
                examples.append((rule, example))
            # In a group one condition may hide what another does: there, each is also tried alone.
            if example is None or rule.rule.conditions.groups:
                examples.append((rule, _seed(rule)))
    found: dict[tuple[Any, ...], Probe] = {}
    for made, probe in enumerate(_with_pasts(policies, _probes(policies, examples, inventory))):
        found.setdefault(_key(probe), probe)
        if len(found) > _MAX_CALLS or made > _MAX_MADE:
            return Probes(tuple(found.values())[:_MAX_CALLS], tuple(missing), False)
    return Probes(tuple(found.values()), tuple(missing), True)


def _key(probe: Probe) -> tuple[Any, ...]:
    action = probe.action
    call = action.type, action.target, action.agent, action.subject, repr(action.params)
    return *call, probe.now, id(action.schema), probe.before


def _with_pasts(policies: Sequence[Policy], probes: Iterable[Probe]) -> Iterator[Probe]:
    """Yield each probe, and where a policy asks what went before, with each past that may matter to it."""
    pasts: dict[str, dict[str, Past]] = {}
    for probe in probes:
        name = probe.action.type
        if name not in pasts:
            rules = (rule for policy in policies for rule in policy.compiled.asking(name))
            pasts[name] = dict(_pasts([test for rule in rules for test in rule.rule.conditions.all_history]))
        if not pasts[name]:
            yield probe
        for before, past in pasts[name].items():
            yield probe._replace(action=probe.action.with_past(past), before=before)


def _pasts(tests: Sequence[HistoryTest]) -> Iterator[tuple[str, Past]]:
    """Yield in words, and as they are, pasts in which some of the conditions hold and others do not."""
    if not tests:
        return
    yield "after nothing", NOTHING_BEFORE
    yield "after very much", MUCH_BEFORE
    for test in tests:
        if test.key == "after":
            yield "after calls that succeeded", past_with(Tally(1, succeeded=1), 0)
            yield "after calls that failed", past_with(Tally(1, failed=1), 0)
        elif test.key == "repeats":
            yield "after such a call", past_with(Tally(1), 0)
        elif test.key == "calls_over":
            for number in (test.limit - 1, test.limit):
                yield f"after {number} calls", past_with(Tally(max(number, 0)), 0)
        elif test.key == "total_over":
            yield f"after {number_of(test.limit)} in total", past_with(Tally(1, test.limit), 0)
        else:
            for number in (test.limit, test.limit + 1):
                yield f"after {number} tokens", past_with(Tally(), number)


def _probes(
    policies: Sequence[Policy], examples: Sequence[tuple[CompiledRule, Example]], inventory: Inventory | None
) -> Iterator[Probe]:
    yield Probe(Action(_OTHER, agent="agent", subject=_SOMEBODY), NOON)
    for tool in inventory.tools if inventory else ():
        target = tool.target or "default"
        agent = tool.agent or "agent"
        yield Probe(Action(tool.name, target, agent=agent, schema=tool.schema, subject=_SOMEBODY), NOON)
    for _, example in examples:
        yield Probe(example.action, example.now)
    for rule, example in examples:
        yield from _variants(policies, rule, example)
    mixed = ((one, other) for _, one in examples for _, other in examples if one is not other)
    for one, other in islice(mixed, _MAX_MIXED):
        params = {**other.action.params, **one.action.params}
        yield Probe(replace(one.action, params=params), one.now)
        yield Probe(replace(one.action, params=params, subject=other.action.subject), other.now)


def _seed(rule: CompiledRule) -> Example:
    """Return a call from which to begin where the linter has no example: without arguments."""
    asked = {name: next(_texts(glob.text for glob in globs)) for name, globs in rule.subject}
    roles = (asked.pop("role"),) if "role" in asked else ()
    names = [_usual(glob_texts, usual) for glob_texts, usual in zip(rule.scope, _USUAL, strict=True)]
    action_type, target, agent = names
    subject = model.Subject(**{"user": "user", "tenant": "tenant", **asked}, roles=roles)
    return Example(Action(action_type, target, agent=agent, subject=subject), NOON, None)


def _usual(globs: Sequence[Glob], usual: str) -> str:
    return usual if any(glob.matches(usual) for glob in globs) else next(_texts(glob.text for glob in globs))


def _variants(policies: Sequence[Policy], rule: CompiledRule, example: Example) -> Iterator[Probe]:
    """Yield the example with one thing changed."""
    action, now = example.action, example.now
    for text in _texts(glob.text for glob in rule.types):
        yield from (Probe(replace(action, type=name), now) for name in (text, text.swapcase()))
    near = [each for policy in policies for each in _near(policy, action.type)]
    for text in _texts(glob.text for each in near for glob in each.targets):
        yield Probe(replace(action, target=text), now)
    for text in _texts(glob.text for each in near for glob in each.agents):
        yield Probe(replace(action, agent=text), now)
    yield Probe(replace(action, subject=None), now)
    for subject in _subjects(action.subject or model.Subject(), near):
        yield Probe(replace(action, subject=subject), now)
    for test in [test for each in near for test in each.rule.conditions.all_tests]:
        # What is tested of all parameters is which there are.
        names = (test.path,) if test.path else (*map(str, test.values), _OTHER_PARAM)
        for name in names:
            whole = _is_whole(action.schema, name)
            for value in _values(test) if test.path else ("x", ABSENT):
                if whole and isinstance(value, float) and not value.is_integer():
                    continue
                # A step of the path may lead to no such value: nothing can be counted to make "x".
                with suppress(TypeError, ValueError, KeyError):
                    yield Probe(example.with_param(name, value), now)
    for path in dict.fromkeys(test.path for each in near for test in _read_for_history(each)):
        for value in ("x", 1, ABSENT):
            with suppress(TypeError, ValueError, KeyError):
                yield Probe(example.with_param(path, value), now)
    for moment in dict.fromkeys(moment for each in near for moment in _edges(each)):
        yield Probe(action, moment)


def _read_for_history(rule: CompiledRule) -> Iterator[ParamTest]:
    """Yield what the rule's conditions on earlier calls read of the arguments."""
    for test in rule.rule.conditions.all_history:
        yield from test.params


def _subjects(usual: model.Subject, rules: Sequence[CompiledRule]) -> Iterator[model.Subject]:
    """Yield subjects that rules match, with one thing other than usual each."""
    asked_roles = (globs for rule in rules for name, globs in rule.subject if name == "role")
    roles = tuple(
        dict.fromkeys(chain.from_iterable(_texts(glob.text for glob in globs) for globs in asked_roles))
    )
    if len(roles) > 1:  # somebody may have several, and rules for each decide
        yield msgspec.structs.replace(usual, roles=roles)
        for pair in islice(combinations(roles, 2), _MAX_PAIRS):
            yield msgspec.structs.replace(usual, roles=pair)
    for name, globs in (asked for rule in rules for asked in rule.subject):
        for text in _texts(glob.text for glob in globs):
            if name == "role":
                yield msgspec.structs.replace(usual, roles=(text,))
            else:
                yield msgspec.structs.replace(usual, **{name: text})


def _near(policy: Policy, action_type: str) -> list[CompiledRule]:
    """Return the rules of a policy for actions of that type."""
    compiled = policy.compiled
    return [compiled.rules[number] for number in compiled.matching(action_type)]


def _is_whole(schema: Mapping[str, Any] | None, name: str) -> bool:
    """Return whether a tool takes only whole numbers for a parameter."""
    inner = properties_of(schema).get(name)
    return isinstance(inner, Mapping) and inner.get("type") == "integer"


def _texts(globs: Iterable[str]) -> Iterator[str]:
    """Yield a text that each glob matches."""
    for glob in dict.fromkeys(globs):
        yield glob.replace("*", "").replace("?", "x") or "x"


def _values(test: ParamTest) -> Iterator[Any]:
    """Yield values of a parameter that pass a test, and that just fail it."""
    yield ABSENT
    if meaning(test) is Meaning.PATTERN:
        yield from islice(_samples(str(test.expected)), _MAX_SAMPLES)
    for value in test.values or ("x",):
        yield value
        if isinstance(value, bool):
            yield not value
        elif isinstance(value, str):
            yield f"{value}x"
        else:
            yield from (value + 1, value - 1)
            if abs(value) < _EXACT:  # between this limit and the next of any rule
                yield from (math.nextafter(value, math.inf), math.nextafter(value, -math.inf))


def _samples(pattern: str) -> Iterator[str]:
    """Yield texts in which the pattern is found, with each of its alternatives, also of those in brackets."""
    texts = (render(branch, atom, atom.sample()) for branch in branches(pattern) for atom in slots(branch))
    return (text for text in dict.fromkeys(chain(samples(pattern), texts)) if is_found(pattern, text))


def _edges(rule: CompiledRule) -> Iterator[datetime]:
    """Yield the first and the last minute inside and outside of a rule's time windows, on each day."""
    for window in _windows(rule.rule.conditions):
        yield from _edges_of(window)


def _windows(conditions: Conditions) -> Iterator[TimeWindow]:
    """Yield the time windows of a rule, also those in groups."""
    if conditions.window is not None:
        yield conditions.window
    for group in conditions.groups:
        for member in group.members:
            yield from _windows(member)


def _edges_of(window: TimeWindow) -> Iterator[datetime]:
    midnight = NOON.astimezone(ZoneInfo(window.timezone)).replace(hour=0, minute=0)
    times = [at for at in (window.after, window.before) if at is not None] or [12 * 60]
    for day in range(7):
        for at in times:
            for step in (-1, 0):
                yield midnight + timedelta(days=day, minutes=at + step)
