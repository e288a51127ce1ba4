"""Compile validated documents into one policy: named rules with verdicts, a digest, an index by type."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aegis_otel.errors import PolicyError, Problem
from aegis_otel.model import DEFAULT_RULE, Mode, Verdict
from aegis_otel.policy.evaluation.conditions import Condition, compile_conditions, history_readers
from aegis_otel.policy.evaluation.fast_path import Applies, compile_applies, never_plain
from aegis_otel.policy.evaluation.history_tests import HistoryReader
from aegis_otel.policy.evaluation.look_alikes import Skeleton, skeleton
from aegis_otel.policy.evaluation.parameter_paths import names_at_the_top
from aegis_otel.policy.messages import quoted
from aegis_otel.policy.patterns import Glob, Matcher, Shape, compile_glob
from aegis_otel.policy.rules import Defaults, ParamTest, Patterns, PolicyDocument, Rule


class TypeIndex:
    """The type patterns of all rules, by shape: literals and prefixes are looked up instead of tried."""

    def __init__(self, patterns: Sequence[Sequence[Glob]]) -> None:
        self._exact: dict[str, list[int]] = {}
        self._prefixes: dict[int, dict[str, list[int]]] = {}
        """Rules by prefix, by the prefix's length; `*` is the prefix of length 0."""
        self._others: list[tuple[Matcher, int]] = []
        for number, globs in enumerate(patterns):
            for glob in globs:
                if glob.shape is Shape.EXACT:
                    self._exact.setdefault(glob.literal, []).append(number)
                elif glob.shape is Shape.PREFIX:
                    by_prefix = self._prefixes.setdefault(len(glob.literal), {})
                    by_prefix.setdefault(glob.literal, []).append(number)
                else:
                    self._others.append((glob.matches, number))

    def find(self, action_type: str) -> list[int]:
        """Return the numbers of the rules whose type patterns match, in order."""
        found = set(self._exact.get(action_type, ()))
        for length, by_prefix in self._prefixes.items():
            found.update(by_prefix.get(action_type[:length], ()))
        found.update(number for matches, number in self._others if matches(action_type))
        return sorted(found)


_MAX_PLANS = 1024
_MAX_STEPS = 200_000
"""The most steps that all cached plans have together: thousands of rules for every tool make long plans."""
_LONGEST_KEPT = 256


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRule:
    """One rule with its name, its verdict and its tests."""

    rule: Rule
    name: str
    verdict: Verdict
    types: tuple[Glob, ...]
    targets: tuple[Glob, ...]
    agents: tuple[Glob, ...]
    texts: tuple[tuple[str, tuple[Glob, ...]], ...]
    """What of an action, and of its subject, the rule restricts, and the globs."""
    subject: tuple[tuple[str, tuple[Glob, ...]], ...]
    """The keys of `match` about the subject that the rule has, and their globs."""
    conditions: tuple[Condition, ...]
    names: frozenset[Skeleton]
    """The skeletons of the parameters at the top that it tests."""
    applies: Applies | None
    """The plain test of all but the type; None when every action of the right type matches. That of a rule
    which is only monitored raises where it matches: the rules after it decide what is enforced."""
    history: tuple[HistoryReader, ...]
    """Its conditions on the calls that went before, also those in groups."""

    def __str__(self) -> str:
        return f"rule {quoted(self.name)}"

    @property
    def scope(self) -> tuple[tuple[Glob, ...], ...]:
        """The globs of its type, of its target and of its agent."""
        return self.types, self.targets, self.agents


Step = tuple[Applies | None, Verdict, CompiledRule | None]
"""A rule's plain test and its verdict; the last step of a plan has no test, the default's no rule."""

Plan = tuple[tuple[Step, ...], bool, frozenset[Skeleton]]
"""The steps for one action type in order, whether any of them needs the time, and the skeletons of the
parameters at the top that they test."""


class CompiledPolicy:
    """A policy ready to be evaluated. Only its cache of plans ever changes."""

    def __init__(self, rules: tuple[CompiledRule, ...], defaults: Defaults, digest: str) -> None:
        self.rules = rules
        self.defaults = defaults
        self.digest = digest
        self.default_verdict = Verdict(*defaults, DEFAULT_RULE, "no rule matched", (), digest)
        self.plans: dict[str, Plan] = {}
        self.historic = tuple(rule for rule in rules if rule.history)
        """The rules that have conditions on the calls that went before."""
        self._kept_steps = 0
        self._steps: list[Step] = [(rule.applies, rule.verdict, rule) for rule in rules]
        self._index = TypeIndex([rule.types for rule in rules])

    def matching(self, action_type: str) -> list[int]:
        """Return the numbers of the rules whose type patterns match, in order."""
        return self._index.find(action_type)

    def plan(self, action_type: str) -> Plan:
        """Return the plan for `action_type`, made on first use.

        Action types come from a model, so the cache is bounded. To make a plan again costs little.
        """
        plan = self.plans.get(action_type)
        if plan is None:
            plan = self._make_plan(action_type)
            if len(action_type) <= _LONGEST_KEPT:
                self._keep(action_type, plan)
        return plan

    def _keep(self, action_type: str, plan: Plan) -> None:
        self._kept_steps += len(plan[0])
        if len(self.plans) >= _MAX_PLANS or self._kept_steps > _MAX_STEPS:
            self.plans.clear()
            self._kept_steps = len(plan[0])
        self.plans[action_type] = plan

    def _make_plan(self, action_type: str) -> Plan:
        steps: list[Step] = []
        for number in self.matching(action_type):
            steps.append(self._steps[number])
            if self.rules[number].applies is None:
                break  # nothing after it can be reached
        else:
            steps.append((None, self.default_verdict, None))
        rules = [rule.rule for _, _, rule in steps if rule is not None]
        names = frozenset[Skeleton]().union(*(rule.names for _, _, rule in steps if rule is not None))
        if self.historic:
            names = names.union(*(rule.names for rule in self.marking(action_type)))
        return tuple(steps), any(rule.conditions.reads_time for rule in rules), names

    def asking(self, action_type: str) -> list[CompiledRule]:
        """Return the rules that ask about the calls before an action of a type."""
        if not self.historic:
            return []
        return [rule for _, _, rule in self.plan(action_type)[0] if rule is not None and rule.history]

    def marking(self, action_type: str) -> list[CompiledRule]:
        """Return the rules for which permitted actions of a type may leave a mark.

        Those are also rules that are never asked about them: what they count says their `match`, or `after`.
        """
        return [rule for rule in self.historic if _counts(rule, action_type)]


def compile_policy(documents: Sequence[PolicyDocument]) -> CompiledPolicy:
    """Compile `documents` as one policy, the first one's rules first.

    Raises:
        PolicyError: two rules have one name; every such pair is named.
    """
    rules = [rule for document in documents for rule in document.rules]
    names = _name(rules)
    defaults = next((doc.defaults for doc in documents if doc.defaults is not None), Defaults())
    digest = _digest(rules, names, defaults)
    return CompiledPolicy(
        tuple(_compile(rule, name, digest) for rule, name in zip(rules, names, strict=True)),
        defaults,
        digest,
    )


def _name(rules: Sequence[Rule]) -> list[str]:
    """Return the names of `rules`; one without a name is called by its number, counted from 0."""
    names = [rule.name or f"rule_{number}" for number, rule in enumerate(rules)]
    first: dict[str, Rule] = {}
    problems = []
    for name, rule in zip(names, rules, strict=True):
        if name in first:
            message = f"duplicate rule name {quoted(name)}: it is already at {first[name].place}"
            problems.append(Problem(message, *rule.place))
        else:
            first[name] = rule
    if problems:
        raise PolicyError(problems)
    return names


def _digest(rules: Sequence[Rule], names: Sequence[str], defaults: Defaults) -> str:
    """Return `sha256:` and the hex digest of what can change a decision."""
    content = [
        defaults.approval.value,
        defaults.risk_level.name,
        [[name, *rule.content] for rule, name in zip(rules, names, strict=True)],
    ]
    canonical = json.dumps(content, separators=(",", ":")).encode("ascii")
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"


def _compile(rule: Rule, name: str, digest: str) -> CompiledRule:
    # Everything is compiled now: no decision may wait for it, nor read a time zone from the disk.
    types, targets, agents = _globs(rule.types), _globs(rule.targets), _globs(rule.agents)
    texts = (("type", types), ("target", targets), ("agent", agents))
    subject = tuple((name, _globs(each)) for name, each in rule.subject._asdict().items() if each)
    conditions = compile_conditions(rule.conditions)
    applies = compile_applies(targets, agents, conditions, subject)
    return CompiledRule(
        rule,
        name,
        Verdict(
            *(rule.approval, rule.risk_level, name, f"rule {quoted(name)} matched", (), digest),
            message=rule.message,
            mode=rule.mode,
            approvers=rule.approvers,
            expires_s=rule.expires_s,
            asks_each_time=any(test.key == "repeats" for test in rule.conditions.all_history),
        ),
        types,
        targets,
        agents,
        (
            *((name, globs) for name, globs in texts if not any(glob.matches_all for glob in globs)),
            *subject,
        ),
        subject,
        conditions,
        frozenset(skeleton(name) for test in _read(rule) for name in names_at_the_top(test)),
        applies if rule.mode is Mode.ENFORCE else never_plain(applies),
        tuple(history_readers(conditions)),
    )


def _read(rule: Rule) -> Iterator[ParamTest]:
    """Yield everything in a rule that reads parameters."""
    yield from rule.conditions.all_tests
    for test in rule.conditions.all_history:
        yield from test.params


def _counts(rule: CompiledRule, action_type: str) -> bool:
    is_matched = any(glob.matches(action_type) for glob in rule.types)
    return any(
        any(glob.matches(action_type) for glob in reader.types) if reader.types else is_matched
        for reader in rule.history
    )


def _globs(patterns: Patterns) -> tuple[Glob, ...]:
    return tuple(compile_glob(pattern.text, pattern.ignores_case) for pattern in patterns)
