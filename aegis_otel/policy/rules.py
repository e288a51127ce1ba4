"""A policy after validation: the types of what was written, each with its place. Nothing is compiled yet.

`loading/loader.py` makes these; the compiler and the linter read them. Their values are valid. What the
digest of a policy covers (`content`), and whether a rule looks at the time, stand here beside the values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain, takewhile
from typing import Any, NamedTuple

from aegis_otel.model import Approval, Approvers, Mode, RiskLevel

Scalar = str | int | float | bool
Expected = Scalar | tuple[Scalar, ...]
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Place(NamedTuple):
    """A place in a policy: `line` and `column` are 1-based, and 0 when the policy has no text."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Pattern:
    """One glob of `match`: `*` and `?` are wild, everything else is literal."""

    text: str
    place: Place
    ignores_case: bool = False


Patterns = tuple[Pattern, ...]


class SubjectMatch(NamedTuple):
    """`user`, `tenant` and `role` of a rule's `match`; empty where the rule does not ask for it.

    `*` matches only who is known, unlike in the rest of `match`, where it is the same as nothing.
    """

    user: Patterns = ()
    tenant: Patterns = ()
    role: Patterns = ()
    """One of the subject's roles matches one of these."""

    @property
    def content(self) -> dict[str, list[str]]:
        """What can change a decision."""
        return {
            name: [each.text for each in patterns] for name, patterns in self._asdict().items() if patterns
        }


ANYBODY = SubjectMatch()
"""What a rule matches that asks for no subject."""


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """`time_after`, `time_before`, `weekdays` and `timezone` of a rule, which are one condition."""

    after: int | None
    """Minutes since midnight, inclusive."""
    before: int | None
    """Minutes since midnight, exclusive."""
    weekdays: frozenset[int]
    """ISO days, 1 is Monday; empty when every day is in the window."""
    timezone: str
    """IANA name."""
    place: Place
    states_timezone: bool = True
    """Whether the rule names the zone; else it is UTC."""

    @property
    def wraps(self) -> bool:
        """Whether the window runs over midnight."""
        return self.after is not None and self.before is not None and self.after > self.before

    @property
    def content(self) -> list[Any]:
        """What can change a decision."""
        return [self.after, self.before, sorted(self.weekdays), self.timezone]

    def __str__(self) -> str:
        limits = (("from", self.after), ("to", self.before))
        times = [f"{word} {at // 60:02}:{at % 60:02}" for word, at in limits if at is not None]
        days = ", ".join(_WEEKDAYS[day - 1] for day in sorted(self.weekdays))
        return " ".join(part for part in (*times, days, self.timezone) if part)


class Step(Enum):
    """A step in the path of a parameter, as it is written between brackets: what it makes of a value."""

    ANY = "any"
    """At least one item of the list."""
    ALL = "all"
    """Every item of the list; true of an empty one."""
    COUNT = "count"
    """How many items the list has."""
    NUMBER = "number"
    """The number that the text writes as a plain decimal; a number is itself."""
    JSON = "json"
    """What the text holds as JSON; a mapping or a list is itself."""
    LOWER = "lower"
    """The text in small letters."""
    ANYWHERE = "anywhere"
    """At least one text in the value, at any depth."""


STEPS = tuple(f"[{step.value}]" for step in Step)
"""The steps as they are written."""
CALL = r"(?:all|any|count|float|int|len|length|lower|number|size)\("
"""How a path begins that is written as a call of a function, which is no path."""
_NAME = r"(?!\*(?:[.\[]|$)|[^.\[\]]*\(\))[^.\[\]]+"
_STEPS = r"(?:\[(?:any|all|json)\])*"
_TEXTS = r"\[anywhere\](?:\[lower\])?"
_LAST = rf"(?:\[(?:count|number|lower)\]|{_TEXTS})"
PARAM_PATH = rf"(?:{_TEXTS}|(?!{CALL}){_NAME}{_STEPS}(?:\.{_NAME}{_STEPS})*{_LAST}?)"
"""The regular expression of the path of a parameter: what ends in a number or a text leads no further."""
_PART = re.compile(r"\[([a-z]+)\]|([^.\[\]]+)")


def parts_of(path: str) -> tuple[str | Step, ...]:
    """Return the names and the steps that the `path` of a parameter leads through."""
    return tuple(Step(step) if step else name for step, name in _PART.findall(path))


def path_of(parts: Sequence[str | Step]) -> str:
    """Return `parts` as they are written in a path."""
    text = "".join(f"[{part.value}]" if isinstance(part, Step) else f".{part}" for part in parts)
    return text.removeprefix(".")


def joined(parts: Sequence[str | Step]) -> tuple[str, ...]:
    """Return how a key is spelled that stands for the first two of `parts`, the first three, and so on."""
    return tuple(path_of(parts[:end]) for end in range(2, len(parts) + 1))


@dataclass(frozen=True, slots=True)
class ParamTest:
    """One condition on one parameter, or on all of them."""

    operator: str
    """Its key in a policy, as in `operators.table.OPERATORS`."""
    path: str
    """The parameter's name, or a path into it; empty for a condition on all parameters of the call."""
    expected: Expected
    """The checked value of the policy; a list of it stands here as a tuple. Empty where there is none."""
    place: Place
    reads_time: bool = False
    """Whether the checked value depends on the time of the call."""
    keys: tuple[str, ...] = field(init=False)
    """The keys that the path leads through, up to its first step."""
    plain_path: str = field(init=False)
    """The path up to its first step: all of it where it has none."""
    steps: tuple[str | Step, ...] = field(init=False)
    """The first step and all that follows it; empty where the path has none."""
    joint_keys: tuple[tuple[str, ...], ...] = field(init=False)
    """For each of `keys`, how a key beside it is spelled that stands for it and for what follows it.

    Of a plain path only a key for all of it counts. In a path with steps, any part could be hidden by one.
    """

    def __post_init__(self) -> None:
        parts = parts_of(self.path)
        keys = tuple(name for name in takewhile(lambda part: isinstance(part, str), parts))
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "plain_path", path_of(keys))
        object.__setattr__(self, "steps", parts[len(keys) :])
        whole = (self.path,) if len(keys) > 1 else ()
        joint_keys = (
            joined(parts[depth:]) if self.steps else () if depth else whole for depth in range(len(keys))
        )
        object.__setattr__(self, "joint_keys", tuple(joint_keys))

    @property
    def compares_one_value(self) -> bool:
        """Whether it is true or false of one value: not of each item of a list, or of each text."""
        return {Step.ANY, Step.ALL, Step.ANYWHERE}.isdisjoint(self.steps)

    @property
    def values(self) -> tuple[Scalar, ...]:
        """The values of a list, or the one value."""
        return self.expected if isinstance(self.expected, tuple) else (self.expected,)

    @property
    def content(self) -> list[Any]:
        """What can change a decision; the type keeps `1`, `1.0` and `true` apart."""
        kind = "list" if isinstance(self.expected, tuple) else type(self.expected).__name__
        return [self.path, self.operator.removeprefix("param_"), kind, self.expected]

    def __str__(self) -> str:
        return f"`{self.operator}` on `{self.path}`" if self.path else f"`{self.operator}`"


HISTORY = ("calls_over", "total_over", "tokens_over", "after", "repeats")
"""The keys of conditions on the calls that went before."""
CALL_FACTS = ("user", "tenant", "agent", "tool", "session", "conversation", "run")
"""What `by` names besides parameters."""
SPANS = ("session", "conversation", "run")
"""What `within` names besides durations."""
MILLIONTHS = 1_000_000
"""Amounts and their limits are counted as integers of a millionth."""
MOST_COUNTED = 9_000_000_000_000
"""The largest amount, number of calls or number of tokens that is counted."""
_SPAN_KEPT_S = 90 * 86_400.0
"""For how many seconds back a session, a conversation or a run is remembered."""


class Divider(NamedTuple):
    """One item of `by`: calls for which it has another value are counted apart."""

    word: str
    """As it is written; `params.` stands before a parameter only where its name is one of `CALL_FACTS`."""
    param: ParamTest | None = None
    """The path of the parameter, as a condition that compares nothing; None for one of `CALL_FACTS`."""


@dataclass(frozen=True, slots=True)
class HistoryTest:
    """One condition on the calls that went before."""

    key: str
    """Its key in a policy, one of `HISTORY`."""
    rule: str
    """The name of its rule, under which its marks are kept."""
    by: tuple[Divider, ...]
    """In the order of their words; `within` is among them where it is one of `SPANS`."""
    within_s: float | None
    """For how many seconds back it counts; None where a span ends it."""
    within: str
    """As it is written."""
    place: Place
    limit: int = 0
    """In calls or tokens, and for `total_over` in millionths."""
    amount: ParamTest | None = None
    """Where `total_over` finds the amount of a call, as a condition that compares nothing."""
    types: Patterns = ()
    """The types of the calls that `after` looks for."""
    result: str = ""
    """`success` or `failed`: how these calls must have ended; empty for either."""

    @property
    def kind(self) -> list[Any]:
        """What is counted, whatever the limit and `within` are."""
        kind: list[Any] = [self.key.removesuffix("_over")]
        if self.amount is not None:
            kind.append(self.amount.path)
        if self.types:
            texts = sorted({each.text for each in self.types})
            kind += [texts, *(["ignore_case"] if self.types[0].ignores_case else [])]
        return kind

    @property
    def words(self) -> tuple[str, ...]:
        """The words of `by`."""
        return tuple(each.word for each in self.by)

    @property
    def keep_s(self) -> float:
        """For how many seconds it asks for a mark."""
        return _SPAN_KEPT_S if self.within_s is None else self.within_s

    @property
    def params(self) -> tuple[ParamTest, ...]:
        """The parameters that it reads."""
        found = [each.param for each in self.by if each.param is not None]
        return (*found, self.amount) if self.amount is not None else tuple(found)

    @property
    def wanted(self) -> str:
        """The condition in words, for people."""
        types = ", ".join(f"`{each.text}`" for each in self.types)
        limit = number_of(self.limit) if self.key == "total_over" else str(self.limit)
        over = f"more than {limit}" if self.key.endswith("_over") else types
        words = ", ".join(f"`{each.word}`" for each in self.by if each.word != self.within)
        ended = {"success": "that succeeded", "failed": "that failed"}.get(self.result, "")
        parts = (over, ended, f"within {self.within}", f"by {words}" if words else "")
        return " ".join(filter(None, parts))

    @property
    def content(self) -> list[Any]:
        """What can change a decision."""
        return [self.kind, list(self.words), self.within_s, self.limit, self.result]

    def __str__(self) -> str:
        return f"`{self.key}` of `{self.amount.path}`" if self.amount is not None else f"`{self.key}`"


def number_of(millionths: int) -> str:
    """Return an amount as people write it."""
    whole, rest = divmod(millionths, MILLIONTHS)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".")


GROUPS = ("any", "not")
"""The keys of groups of conditions."""
MAX_GROUPS_DEEP = 8
"""How deep groups of conditions may be nested."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """A set of conditions that must all hold; without any it holds."""

    window: TimeWindow | None = None
    tests: tuple[ParamTest, ...] = ()
    groups: tuple[Group, ...] = ()
    history: tuple[HistoryTest, ...] = ()

    def tests_with_sign(self, *, negated: bool = False) -> Iterator[tuple[ParamTest, bool]]:
        """Yield each condition on a parameter, also those in groups, and whether it holds against the rule.

        It does where an odd number of `not` is around it: the rule may match where it is false.
        """
        yield from ((test, negated) for test in self.tests)
        for group in self.groups:
            for member in group.members:
                yield from member.tests_with_sign(negated=negated is not (group.key == "not"))

    @property
    def all_tests(self) -> Iterator[ParamTest]:
        """The conditions on parameters, also those in groups."""
        return (test for test, _ in self.tests_with_sign())

    def history_with_sign(self, *, negated: bool = False) -> Iterator[tuple[HistoryTest, bool]]:
        """Yield each condition on the calls that went before, as `tests_with_sign` does."""
        yield from ((test, negated) for test in self.history)
        for group in self.groups:
            for member in group.members:
                yield from member.history_with_sign(negated=negated is not (group.key == "not"))

    @property
    def all_history(self) -> tuple[HistoryTest, ...]:
        """The conditions on the calls that went before, also those in groups."""
        return tuple(test for test, _ in self.history_with_sign())

    @property
    def reads_time(self) -> bool:
        """Whether the answer depends on the time."""
        own = self.window is not None or any(test.reads_time for test in self.tests)
        return own or any(group.reads_time for group in self.groups)

    @property
    def content(self) -> list[Any]:
        """What can change a decision; without groups and history as it was before there were any."""
        own = [self.window and self.window.content, sorted(test.content for test in self.tests)]
        more = {
            **({"groups": [group.content for group in self.groups]} if self.groups else {}),
            **(
                {"history": [test.content for test in sorted(self.history, key=lambda each: each.key)]}
                if self.history
                else {}
            ),
        }
        return [*own, more] if more else own


@dataclass(frozen=True, slots=True)
class Group:
    """`any` or `not` over sets of conditions."""

    key: str
    """`any`: one of the members holds. `not`: its only member does not hold."""
    members: tuple[Conditions, ...]
    place: Place

    @property
    def reads_time(self) -> bool:
        """Whether the answer depends on the time."""
        return any(member.reads_time for member in self.members)

    @property
    def reads_history(self) -> bool:
        """Whether the answer depends on the calls that went before."""
        return any(member.all_history for member in self.members)

    @property
    def content(self) -> list[Any]:
        """What can change a decision."""
        return [self.key, [member.content for member in self.members]]

    def __str__(self) -> str:
        return f"`{self.key}`"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as written, with its defaults filled in."""

    name: str | None
    """None when the policy gives it none; the compiler then numbers it."""
    types: Patterns
    targets: Patterns
    agents: Patterns
    conditions: Conditions
    risk_level: RiskLevel
    approval: Approval
    place: Place
    subject: SubjectMatch = ANYBODY
    mode: Mode = Mode.ENFORCE
    message: str = ""
    """What the model reads beside a refusal; empty where the policy gives none."""
    approvers: Approvers | None = None
    """Who may answer; None where the rule does not say it."""
    expires_s: float | None = None
    """For how many seconds its question can be answered; None where the rule does not say it."""

    @property
    def content(self) -> list[Any]:
        """What can change a decision, all but the name."""
        return [
            self.approval.value,
            self.risk_level.name,
            *([pattern.text for pattern in patterns] for patterns in (self.types, self.targets, self.agents)),
            *self.conditions.content,
            *([more] if (more := self._more) else ()),
        ]

    @property
    def ignores_case(self) -> bool:
        """Whether its globs match in any case."""
        patterns = (*self.types, *self.targets, *self.agents, *chain(*self.subject))
        return any(each.ignores_case for each in patterns)

    @property
    def _more(self) -> dict[str, Any]:
        """The part of `content` that came later: what a rule does not use changes no digest."""
        return {
            **self.subject.content,
            **({"ignore_case": True} if self.ignores_case else {}),
            **({"mode": self.mode.value} if self.mode is not Mode.ENFORCE else {}),
            **({"message": self.message} if self.message else {}),
            **({"approvers": self.approvers.content} if self.approvers is not None else {}),
            **({"expires": self.expires_s} if self.expires_s is not None else {}),
        }

    @property
    def window(self) -> TimeWindow | None:
        """The time window that must hold, outside of groups."""
        return self.conditions.window

    @property
    def tests(self) -> tuple[ParamTest, ...]:
        """The conditions on parameters that must hold, outside of groups."""
        return self.conditions.tests

    @property
    def is_conditional(self) -> bool:
        """Whether it may not match a call, whatever the call's type, target and agent are."""
        own = self.window or self.tests or self.conditions.groups or self.conditions.history
        return bool(own) or self.subject != ANYBODY


def by_path(tests: Iterable[ParamTest]) -> dict[str, list[ParamTest]]:
    """Return the conditions on each parameter."""
    paths: dict[str, list[ParamTest]] = {}
    for test in tests:
        paths.setdefault(test.path, []).append(test)
    return paths


class Defaults(NamedTuple):
    """The approval and the risk of actions that no rule matches."""

    approval: Approval = Approval.APPROVE
    risk_level: RiskLevel = RiskLevel.MEDIUM


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """One policy file, or one dict, that passed validation."""

    source: str
    rules: tuple[Rule, ...]
    defaults: Defaults | None
    """None when the policy does not state any."""
    defaults_place: Place
    states_rules: bool
    """Whether there was a `rules` key: a file that was cut short while it was saved has none."""
    written: Any = field(default=None, compare=False, repr=False)
    """The text that it was read from, or a copy of the dict."""
