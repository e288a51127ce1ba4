"""Compile the common cases of a rule into one generated expression; the evaluator answers the others.

Most rules either plainly match a call or plainly do not, and the time that takes is the time of function
calls. So target, agent and comparisons of plain parameters become one Python expression for each rule. Where
the answer is not plain (absent, null, another type, NaN, any exception), the expression raises, and the
evaluator asks the three-valued tests, which alone say what is unknown. The source is made of the fixed pieces
below and numbered constants: no text of a policy is ever part of it. docs/design.md says what it saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from aegis_otel.model import Action
from aegis_otel.policy.evaluation.conditions import Condition
from aegis_otel.policy.operators.table import OPERATORS
from aegis_otel.policy.patterns import Glob, Shape
from aegis_otel.policy.rules import Group, ParamTest

Applies = Callable[[Action, datetime | None], bool]
"""(action, now) -> whether the rule applies; raises where that is not plain."""


class NotPlain(Exception):
    """The answer needs the three-valued tests."""


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
    constants: list[Any] = []

    def constant(value: Any) -> str:
        constants.append(value)
        return f"c{len(constants) - 1}"

    parts = []
    for name, globs in (("target", targets), ("agent", agents)):
        if not any(glob.matches_all for glob in globs):
            parts.append(_text(name, f"action.{name}", globs, constant))
    for name, globs in subject:  # without a subject each raises
        if name == "role":
            parts.append(_ROLE.format(globs=constant(globs)))
        else:
            parts.append(_text(name, f"action.subject.{name}", globs, constant))
    parts += [_condition(condition, constant) for condition in conditions]
    if not parts:
        return None
    names = "".join(f", c{number}" for number in range(len(constants)))
    source = (
        f"def make(doubt, plain, startswith, endswith, has_role{names}):\n"
        f"    def applies(action, now):\n"
        f"        params = action.params\n"
        f"        return {' and '.join(parts)}\n"
        f"    return applies\n"
    )
    applies: Applies = _factory(source)(
        *(_doubt, _plain, str.startswith, str.endswith, _has_role, *constants)
    )
    return applies


def never_plain(applies: Applies | None) -> Applies:
    """Return a test that is false where `applies` is, and leaves it to the evaluator where it is true."""

    def monitored(action: Action, now: datetime | None) -> bool:
        if applies is None or applies(action, now):
            raise NotPlain
        return False

    return monitored


def _text(name: str, value: str, globs: Iterable[Glob], constant: Callable[[Any], str]) -> str:
    """Return the expression that says whether the text `value` is matched; `name` is a variable for it."""
    globs = tuple(globs)
    if len(globs) == 1 and (bare := _BARE.get(globs[0].shape)):
        return bare.format(value=value, literal=constant(globs[0].literal))
    tests = []
    for glob in globs:
        if glob.shape is Shape.MIXED:
            tests.append(f"{constant(glob.matches)}({name})")
        else:
            tests.append(_SHAPES[glob.shape].format(text=name, literal=constant(glob.literal)))
    return _TEXT.format(name=name, value=value, test=f"({' or '.join(tests)})")


def _condition(condition: Condition, constant: Callable[[Any], str]) -> str:
    spec = condition.spec
    if isinstance(spec, Group):
        sets = [
            f"({' and '.join(_condition(each, constant) for each in member)})" for member in condition.members
        ]
        return f"(not {sets[0]})" if spec.key == "not" else f"({' or '.join(sets)})"
    symbol = OPERATORS[spec.operator].symbol if isinstance(spec, ParamTest) else None
    if not isinstance(spec, ParamTest) or symbol is None or len(spec.keys) > 1 or spec.steps:
        return _GENERAL.format(test=constant(condition.test))
    path, expected = constant(spec.path), constant(spec.expected)
    if type(spec.expected) in (int, float):
        return _NUMBER.format(order=symbol, path=path, expected=expected)
    return _OTHER.format(order=symbol, path=path, expected=expected, type=type(spec.expected).__name__)


@lru_cache(maxsize=256)
def _factory(source: str) -> Callable[..., Any]:
    """Return the maker of all rules of one form: there are few forms, however many rules."""
    namespace: dict[str, Any] = {}
    exec(source, namespace)  # noqa: S102 - assembled above from fixed pieces only
    make: Callable[..., Any] = namespace["make"]
    return make


def _doubt() -> NoReturn:
    raise NotPlain


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
