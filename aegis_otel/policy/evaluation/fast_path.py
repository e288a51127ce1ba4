"""Compile the common cases of a rule into one generated expression; the evaluator answers the others.

Most rules either plainly match a call or plainly do not, and the time that takes is the time of function
calls. So target, agent and comparisons of plain parameters become one Python expression for each rule. Where
the answer is not plain (absent, null, another type, NaN, any exception), the expression raises, and the
evaluator asks the three-valued tests, which alone say what is unknown. It always raises at a condition on the
calls that went before. The source is made of the fixed pieces below and numbered constants: no text of a
policy is ever part of it. docs/design.md says what it saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from aegis_otel.model import Action
from aegis_otel.policy.evaluation.conditions import Condition
from aegis_otel.policy.operators.table import OPERATORS
from aegis_otel.policy.patterns import Glob, Shape
from aegis_otel.policy.rules import Group, HistoryTest, ParamTest

Applies = Callable[[Action, datetime | None], bool]
"""(action, now) -> whether the rule applies; raises where that is not plain."""


class NotPlain(Exception):
    """The answer needs the three-valued tests."""


_Constant = Callable[[Any], str]
"""Makes a value a constant of a generated function, and returns its name there."""


class _Part(NamedTuple):
    """A part of the generated expression of a rule."""

    tests: int
    """How many tests it has."""
    expression: Callable[[_Constant], str]


_MOST_TESTS = 64
"""Tests in one generated function: Python takes a time that grows with their square to compile more."""

_BARE = {
    Shape.PREFIX: "startswith({value}, {literal})",
    Shape.SUFFIX: "endswith({value}, {literal})",
}
"""The tests of one glob by the methods of `str`, which raise where the text is none."""
_SHAPES = {
    Shape.EXACT: "{text} == {literal}",
    Shape.PREFIX: "{text}.startswith({literal})",
    Shape.SUFFIX: "{text}.endswith({literal})",
    Shape.INFIX: "{literal} in {text}",
}
_TEXT = "({test} if type({name} := {value}) is str else doubt())"
_ROLE = "has_role(action.subject.roles, {globs})"
_NUMBER = (
    "(v {order} {expected} if type(v := params[{path}]) is int or type(v) is float and v == v else doubt())"
)
_OTHER = "(v {order} {expected} if type(v := params[{path}]) is {type} else doubt())"
_GENERAL = "plain({test}(action, now, None))"


def compile_applies(
    targets: Iterable[Glob],
    agents: Iterable[Glob],
    conditions: Iterable[Condition],
    subject: Iterable[tuple[str, Sequence[Glob]]] = (),
) -> Applies | None:
    """Return the plain test of a rule beyond its action type; None when there is nothing more to test."""
    parts = []
    for name, globs in (("target", targets), ("agent", agents)):
        if not any(glob.matches_all for glob in globs):
            parts.append(_text(name, f"action.{name}", tuple(globs)))
    for name, globs in subject:  # without a subject each raises
        parts.append(_role(globs) if name == "role" else _text(name, f"action.subject.{name}", tuple(globs)))
    parts += map(_condition, conditions)
    return _function(_joined("and", parts)) if parts else None


def _function(part: _Part) -> Applies:
    constants: list[Any] = []

    def constant(value: Any) -> str:
        constants.append(value)
        return f"c{len(constants) - 1}"

    expression = part.expression(constant)
    names = "".join(f", c{number}" for number in range(len(constants)))
    source = (
        f"def make(doubt, plain, startswith, endswith, has_role{names}):\n"
        f"    def applies(action, now):\n"
        f"        params = action.params\n"
        f"        return {expression}\n"
        f"    return applies\n"
    )
    applies: Applies = _factory(source)(
        *(_doubt, _plain, str.startswith, str.endswith, _has_role, *constants)
    )
    return applies


def _joined(word: str, parts: Sequence[_Part]) -> _Part:
    """Return the parts with `and` or `or` between them; those that are too many as calls of functions."""
    while sum(part.tests for part in parts) > _MOST_TESTS:
        parts = [_call(_function(_inline(word, some))) for some in _divided(parts)]
    return _inline(word, parts)


def _inline(word: str, parts: Sequence[_Part]) -> _Part:
    return _Part(
        sum(part.tests for part in parts),
        lambda constant: f"({f' {word} '.join(part.expression(constant) for part in parts)})",
    )


def _call(function: Applies) -> _Part:
    return _Part(1, lambda constant: f"{constant(function)}(action, now)")


def _divided(parts: Sequence[_Part]) -> list[list[_Part]]:
    """Return the parts in groups of at most `_MOST_TESTS` tests."""
    groups: list[list[_Part]] = []
    room = 0
    for part in parts:
        if part.tests > room:
            groups.append([])
            room = _MOST_TESTS
        groups[-1].append(part)
        room -= part.tests
    return groups


def never_plain(applies: Applies | None) -> Applies:
    """Return a test that is false where `applies` is, and leaves it to the evaluator where it is true."""

    def monitored(action: Action, now: datetime | None) -> bool:
        if applies is None or applies(action, now):
            raise NotPlain
        return False

    return monitored


def _text(name: str, value: str, globs: Sequence[Glob]) -> _Part:
    """Return the test whether one of the globs matches the text `value`; `name` is a variable for it."""
    if len(globs) == 1 and (bare := _BARE.get(globs[0].shape)):
        literal = globs[0].literal
        return _Part(1, lambda constant: bare.format(value=value, literal=constant(literal)))

    def test(glob: Glob, constant: _Constant) -> str:
        if glob.shape is Shape.MIXED:
            return f"{constant(glob.matches)}({name})"
        return _SHAPES[glob.shape].format(text=name, literal=constant(glob.literal))

    def expression(constant: _Constant) -> str:
        if len(globs) > _MOST_TESTS:
            return _TEXT.format(name=name, value=value, test=f"{constant(_matcher(globs))}({name})")
        tests = " or ".join(test(glob, constant) for glob in globs)
        return _TEXT.format(name=name, value=value, test=f"({tests})")

    return _Part(1, expression)


def _role(globs: Sequence[Glob]) -> _Part:
    return _Part(1, lambda constant: _ROLE.format(globs=constant(globs)))


def _condition(condition: Condition) -> _Part:
    spec = condition.spec
    if isinstance(spec, Group):
        sets = [_joined("and", list(map(_condition, member))) for member in condition.members]
        if spec.key == "any":
            return _joined("or", sets)
        (inner,) = sets
        return _Part(inner.tests, lambda constant: f"(not {inner.expression(constant)})")
    if isinstance(spec, HistoryTest):
        return _Part(1, lambda _: "doubt()")
    symbol = OPERATORS[spec.operator].symbol if isinstance(spec, ParamTest) else None
    if not isinstance(spec, ParamTest) or symbol is None or len(spec.keys) > 1 or spec.steps:
        return _Part(1, lambda constant: _GENERAL.format(test=constant(condition.test)))
    name, expected = spec.path, spec.expected
    form = _NUMBER if type(expected) in (int, float) else _OTHER
    return _Part(
        1,
        lambda constant: form.format(
            order=symbol, path=constant(name), expected=constant(expected), type=type(expected).__name__
        ),
    )


@lru_cache(maxsize=256)
def _factory(source: str) -> Callable[..., Any]:
    """Return the maker of all rules of one form: there are few forms, however many rules."""
    namespace: dict[str, Any] = {}
    exec(source, namespace)  # noqa: S102 - assembled above from fixed pieces only
    make: Callable[..., Any] = namespace["make"]
    return make


def _doubt() -> NoReturn:
    raise NotPlain


def _matcher(globs: Sequence[Glob]) -> Callable[[str], bool]:
    return lambda text: any(glob.matches(text) for glob in globs)


def _has_role(roles: tuple[str, ...], globs: Sequence[Glob]) -> bool:
    for role in roles:  # raises where the roles are not known
        for glob in globs:
            if glob.matches(role):
                return True
    return False


def _plain(answer: bool | str) -> bool:
    if answer is True or answer is False:
        return answer
    raise NotPlain
