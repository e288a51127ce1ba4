"""The table of the conditions on a parameter. To add one, add a row to `OPERATORS`.

The loader, the published JSON Schema, the evaluator, the explanation and the linter read the row; the table
in docs/policy.md needs a line for it. What a row does with a value stands in the module for its kind of
comparison.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

from aegis_otel.policy.operators import (
    comparisons,
    dates,
    file_paths,
    membership,
    presence,
    shell_lines,
    urls,
)
from aegis_otel.policy.operators.answer import Answer, kind
from aegis_otel.policy.patterns import compile_regex
from aegis_otel.policy.rules import Expected, ParamTest, Scalar


class Meaning(Enum):
    """What a condition says about a value: all that the linter asks of an operator."""

    EQUAL = "equal"
    LOWER_BOUND = "lower bound"
    UPPER_BOUND = "upper bound"
    PART = "part"
    """The value holds the expected one."""
    PATTERN = "pattern"
    """The expected value is a regular expression."""
    COMMANDS = "commands"
    """The expected values are shell commands; further words may follow one that ends with `*`."""
    OTHER = "other"


class Takes(Enum):
    """How a policy writes what a condition is about."""

    VALUES = "values"
    """A mapping: by the path of each parameter, the value that it is compared with."""
    PATHS = "paths"
    """A list of the paths of parameters, each of which is a condition of its own."""
    NAMES = "names"
    """A list of the names of parameters at the top, which is one condition on all of them together."""


class Operator(NamedTuple):
    """One condition on a parameter."""

    about: str
    """The sentence about it in the published JSON Schema."""
    check: Callable[[object], Any]
    """Check the policy's value and return it, JSON-like, for `ParamTest.expected`. Raises Invalid."""
    schema: Mapping[str, Any]
    """The JSON Schema of such a value."""
    judge: Callable[[Any, Any], Answer]
    """Compare a parameter's value, which is never null, with what `prepare` made of the policy's."""
    meaning: Meaning = Meaning.OTHER
    compares: tuple[str, ...] = ()
    """The JSON Schema types of parameters that it can compare; empty for that of the policy's value only."""
    prepare: Callable[[Any], Any] | None = None
    """Make of the checked value what `judge` gets, once when a policy is compiled; None: the value itself."""
    is_relative: Callable[[Any], bool] | None = None
    """Return whether a checked value depends on the time of the call; None where none does."""
    at_time: Callable[[Any, datetime], Any] | None = None
    """Return what a relative value stands for at a time, which is in UTC."""
    symbol: str | None = None
    """Python's operator that does the same to two values of one type, for `fast_path.py`."""
    price: int = 1
    """How long `judge` may take for each `PRICED_LENGTH` characters begun, in plain comparisons of 2.5 µs; 1:
    no longer for a long text. It bounds what a condition does with a list."""
    wanted: str | None = None
    """In words what a value must be for it to answer; None: of the type of the policy's value."""
    takes: Takes = Takes.VALUES
    is_negated: bool = False
    """Whether the condition holds where `judge` says no, and where there is no value."""
    synonyms: str = ""
    """Words of other policy languages, for suggestions."""


PRICED_LENGTH = 32
"""Characters that the price of an operator is for."""
_NUMERIC = ("number", "integer")


def _bound(sign: str, compare: Callable[[Any, Any], bool], about: str, synonyms: str) -> Operator:
    meaning = Meaning.LOWER_BOUND if sign[0] == ">" else Meaning.UPPER_BOUND
    judge = comparisons.comparison(compare)
    return Operator(
        *(about, comparisons.check_number, comparisons.NUMBER, judge, meaning, _NUMERIC),
        symbol=sign,
        synonyms=synonyms,
    )


OPERATORS: dict[str, Operator] = {
    "param_eq": Operator(
        "parameter equals; text, number and boolean never mix",
        *(comparisons.check_scalar, comparisons.SCALAR, comparisons.equal, Meaning.EQUAL),
        symbol="==",
        synonyms="eq equals param param_equal param_equals param_is",
    ),
    "param_gt": _bound(
        *(">", operator.gt, "parameter is greater than"),
        "above gt greater_than max_exceeded over param_above param_greater_than param_over",
    ),
    "param_lt": _bound(
        *("<", operator.lt, "parameter is less than"),
        "below less_than lt param_below param_less_than param_under under",
    ),
    "param_gte": _bound(
        *(">=", operator.ge, "parameter is at least"),
        "at_least ge gte min param_ge param_min",
    ),
    "param_lte": _bound(
        *("<=", operator.le, "parameter is at most"),
        "at_most le lte max param_le param_max",
    ),
    "param_contains": Operator(
        "text has this part, a list this item, a mapping this key",
        *(comparisons.check_scalar, comparisons.SCALAR, comparisons.contains, Meaning.PART),
        compares=("string", "array", "object"),
        synonyms="contains has includes param_has param_includes",
    ),
    "param_matches": Operator(
        "RE2 pattern found anywhere in the text; `(?i)` ignores case",
        *(comparisons.check_regex, comparisons.REGEX, comparisons.matches, Meaning.PATTERN),
        compares=("string",),
        prepare=compile_regex,
        synonyms="match matches param_match param_pattern param_re param_regex param_regexp pattern regex "
        "regexp",
    ),
    "param_in": Operator(
        "parameter is one of these; text, number and boolean never mix",
        *(membership.check, membership.SCHEMA, membership.judge),
        prepare=membership.prepare,
        synonyms="in one_of param_any_of param_one_of param_is_in param_values",
    ),
    "shell_only": Operator(
        "every command of the shell line is one of these; `*` as the last word allows any further words",
        *(shell_lines.check, shell_lines.SCHEMA, shell_lines.judge, Meaning.COMMANDS),
        compares=("string",),
        prepare=shell_lines.prepare,
        price=10,
        wanted="plain shell commands, without expansions, assignments or redirections to files",
        synonyms="commands allowed_commands only_commands param_shell shell shell_commands",
    ),
    "date_from": Operator(
        "date, or date-time, that is not before this one; `today-7d` and `now-24h` are relative to the call",
        *(dates.check, dates.SCHEMA, dates.judge_from),
        compares=("string",),
        prepare=dates.prepare,
        is_relative=dates.is_relative,
        at_time=dates.at_time,
        wanted="a date or date-time in the form of ISO 8601",
        synonyms="date_after param_after param_date_from since",
    ),
    "date_until": Operator(
        "date, or date-time, that is not after this one, or after the end of this day; `today+7d` "
        "and `now+24h` are relative to the call",
        *(dates.check, dates.SCHEMA, dates.judge_until),
        compares=("string",),
        prepare=dates.prepare,
        is_relative=dates.is_relative,
        at_time=dates.at_time,
        wanted="a date or date-time in the form of ISO 8601",
        synonyms="date_before date_to param_before param_date_until",
    ),
    "path_within": Operator(
        "path is one of these folders or below one; only its text is looked at",
        *(file_paths.check_roots, file_paths.ROOTS, file_paths.within),
        compares=("string",),
        prepare=file_paths.prepare_roots,
        price=2,
        wanted="a path that every program reads alike",
        synonyms="in_directory in_folder inside path_in path_inside path_under param_within within",
    ),
    "path_matches": Operator(
        "path matches these gitignore patterns; the last one that matches decides",
        *(file_paths.check_patterns, file_paths.PATTERNS, file_paths.matches),
        compares=("string",),
        prepare=file_paths.prepare_patterns,
        price=2,
        wanted="a path that every program reads alike",
        synonyms="gitignore glob path_glob path_globs path_match path_pattern path_patterns",
    ),
    "url_host": Operator(
        "host of the URL is one of these; `*.example.com` is every name below `example.com`",
        *(urls.check_hosts, urls.HOSTS, urls.leads_to),
        compares=("string",),
        prepare=urls.prepare_hosts,
        price=40,
        wanted="an absolute URL whose host every program reads alike",
        synonyms="domain domains host hostname hosts url url_domain url_hosts url_in",
    ),
    "param_present": Operator(
        "the call has these parameters",
        *(presence.refuse_value, presence.NO_VALUE, presence.is_there),
        compares=presence.ANY_TYPE,
        wanted="a value",
        takes=Takes.PATHS,
        synonyms="exists has_param param_exists param_given param_is_set param_not_null param_required "
        "present required",
    ),
    "param_absent": Operator(
        "the call does not have these parameters",
        *(presence.refuse_value, presence.NO_VALUE, presence.is_there),
        compares=presence.ANY_TYPE,
        wanted="no value",
        takes=Takes.PATHS,
        is_negated=True,
        synonyms="absent missing param_is_missing param_is_null param_missing param_not_exists "
        "param_not_given param_null param_unset without",
    ),
    "param_only": Operator(
        "the call has no parameters but these",
        *(presence.refuse_value, presence.NO_VALUE, presence.is_listed),
        compares=presence.ANY_TYPE,
        prepare=frozenset,
        wanted="no parameter but those",
        takes=Takes.NAMES,
        synonyms="allowed_params no_other_params only only_params param_allowed param_no_others params_only",
    ),
}
"""By the key in a policy."""


def meaning(test: ParamTest) -> Meaning:
    """Return what `test` says about a value."""
    return OPERATORS[test.operator].meaning


def is_about_values(test: ParamTest) -> bool:
    """Return whether `test` compares a value, and does not only ask which parameters a call has."""
    return OPERATORS[test.operator].takes is Takes.VALUES


def is_absence(test: ParamTest) -> bool:
    """Return whether `test` asks for a parameter that the call does not have."""
    return OPERATORS[test.operator].is_negated


def compared_types(test: ParamTest) -> tuple[str, ...]:
    """Return the JSON Schema types of the values that `test` can compare."""
    types = (each for value in test.values for each in _types_of(value))
    return OPERATORS[test.operator].compares or tuple(dict.fromkeys(types))


def _types_of(expected: Scalar) -> tuple[str, ...]:
    if isinstance(expected, bool):
        return ("boolean",)
    return ("string",) if isinstance(expected, str) else _NUMERIC


def at_time(test: ParamTest, now: datetime) -> ParamTest:
    """Return `test` with the value that it compares with at `now`, which is in UTC."""
    fix = OPERATORS[test.operator].at_time
    if fix is None or not test.reads_time:
        return test
    return replace(test, expected=fix(test.expected, now), reads_time=False)


def prepared(test: ParamTest) -> Any:
    """Return what the `judge` of the operator compares a value with."""
    prepare = OPERATORS[test.operator].prepare
    return test.expected if prepare is None else prepare(test.expected)


def judge(test: ParamTest, value: Any) -> Answer:
    """Return how `value` compares with what `test` expects. For tools: a compiled policy has its own."""
    operator = OPERATORS[test.operator]
    expected: Any = test.expected
    if operator.prepare is not None:
        expected = _kept(test.operator, test.expected, tuple(map(type, test.values)))
    answer = operator.judge(value, expected)
    return answer if isinstance(answer, str) else answer is not operator.is_negated


@lru_cache(maxsize=64)
def _kept(operator: str, expected: Expected, _types: tuple[type, ...]) -> Any:
    """Return `expected` prepared, which takes long for many patterns. The types keep `1` and `true` apart."""
    prepare = OPERATORS[operator].prepare
    return expected if prepare is None else prepare(expected)


def wanted(test: ParamTest) -> str:
    """Return in words what a value must be for `test` to be answered."""
    operator = OPERATORS[test.operator]
    if operator.wanted is not None:
        return operator.wanted
    if "array" in operator.compares:
        return "text, a list or a mapping" if isinstance(test.expected, str) else "a list"
    return " or ".join(dict.fromkeys(map(kind, test.values)))
