"""Check the path of a parameter, and that what its steps give can be compared with the policy's value."""

from __future__ import annotations

import re
from typing import Any, TypeGuard

from aegis_otel.policy.evaluation.path_steps import exact
from aegis_otel.policy.loading.validators import DATA, MAX_NAME, by_synonym, readable
from aegis_otel.policy.messages import Invalid, closest, listed, quoted, shown
from aegis_otel.policy.operators.table import Meaning, Operator
from aegis_otel.policy.rules import CALL, PARAM_PATH, STEPS, Step, parts_of

_STEP_SYNONYMS = by_synonym(DATA["steps"])
_ITEMS = "`[any]` asks whether one item of a list passes, `[all]` whether every item does"
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_WORDS = tuple(step.value for step in Step)
_LAST = ("[count]", "[number]", "[lower]", "[anywhere]")
_ESCAPED = re.compile(r"\\[pP](?:\{[^}]*\}|.)|\\.|\(\?P?<\w+>|\(\?[a-zA-Z-]*[:)]", re.DOTALL)
"""What capital letters stand in that a pattern does not search for: classes, names and flags."""
_GIVEN = {"number": (Step.COUNT, Step.NUMBER), "string": (Step.LOWER, Step.ANYWHERE)}
"""The steps by the JSON type of what they give."""
_IGNORES_CASE = re.compile(r"\(\?[a-zA-Z]*i")


def param_path(value: object) -> str:
    """Check and return the path of a parameter."""
    path = readable(value, MAX_NAME)
    if re.fullmatch(PARAM_PATH, path) is None:
        raise _refusal(path)
    return path


def is_path(path: object) -> TypeGuard[str]:
    """Return whether `param_path` takes it."""
    return isinstance(path, str) and re.fullmatch(PARAM_PATH, path) is not None


def _refusal(path: str) -> Invalid:
    """Return what is wrong with a path, and what was probably meant."""
    if call := re.match(CALL, path):
        step = _STEP_SYNONYMS.get(call[0][:-1], call[0][:-1])
        inner = path[call.end() :].removesuffix(")")
        return _invalid(
            f"takes no function: a step stands behind a name, not {shown(path)}", f"{inner}[{step}]"
        )
    for found in _BRACKETS.finditer(path):
        word = found[1].strip().lower()
        if found[1] not in _WORDS:
            if not word or word == "*" or re.fullmatch(r"-?\d*:?-?\d*", word):
                return _invalid(f"does not choose items by {quoted(found[0])} in {quoted(path)}: {_ITEMS}")
            meant = _STEP_SYNONYMS.get(word) or closest(word, _WORDS)
            better = path.replace(found[0], f"[{meant}]", 1) if meant else None
            return _invalid(f"has no step {quoted(found[0])}: there are {listed(STEPS)}", better)
    if any(name == "*" for name in re.split(r"[.\[\]]", path)):
        return _invalid(f"takes no `*` in {quoted(path)}: {_ITEMS}")
    if "()" in path:
        return _invalid(
            f"takes no function in {quoted(path)}: a step stands between brackets", _uncalled(path)
        )
    if "[" in path or "]" in path:
        return _misplaced(path)
    return Invalid(f"needs parameter names between the dots, not {shown(path)}")


def _misplaced(path: str) -> Invalid:
    """Return what is wrong with a path whose steps exist."""
    if path.startswith("[") and not path.startswith("[anywhere]"):
        step = path.partition("]")[0] + "]"
        return _invalid(f"needs a parameter name before {quoted(step)}, not {shown(path)}")
    if found := re.search(r"\](?=[^.\[\]])", path):
        return _invalid(
            f"needs a dot or a bracket after a step, not {shown(path)}",
            f"{path[: found.end()]}.{path[found.end() :]}",
        )
    for step in _LAST:
        before, found_step, after = path.partition(step)
        if found_step and after and not (step == "[anywhere]" and after == "[lower]"):
            what = "text" if step in ("[lower]", "[anywhere]") else "a number"
            return _invalid(
                f"cannot go on behind {quoted(step)}, which gives {what}, in {quoted(path)}", before + step
            )
    return Invalid(f"needs names, dots and whole steps such as `[any]`, not {shown(path)}")


def _uncalled(path: str) -> str:
    """Return the path with steps instead of methods: `name.lower()` is `name[lower]`."""
    return re.sub(r"\.(\w+)\(\)", lambda found: f"[{_STEP_SYNONYMS.get(found[1], found[1])}]", path)


def _invalid(message: str, suggestion: str | None = None) -> Invalid:
    fits = suggestion is not None and re.fullmatch(PARAM_PATH, suggestion)
    return Invalid(message, suggestion if fits else None)


def check_fit(path: str, expected: Any, operator: Operator) -> None:
    """Check that the policy's value may be what the last step of a path gives. Raises Invalid."""
    last = parts_of(path)[-1]
    given = next((kind for kind, steps in _GIVEN.items() if last in steps), None)
    if isinstance(last, Step) and given and operator.compares and given not in operator.compares:
        raise Invalid(f"never compares what `[{last.value}]` gives: leave the step out")
    values = expected if isinstance(expected, (list, tuple)) else [expected]
    for value in values:
        is_text = isinstance(value, str)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if last in (Step.COUNT, Step.NUMBER) and not is_number:
            raise Invalid(f"must be a number, which `[{last.value}]` gives, not {shown(value)}")
        if last in (Step.LOWER, Step.ANYWHERE) and not is_text:
            raise Invalid(f"must be text, which `[{last.value}]` gives, not {shown(value)}")
        if last is Step.NUMBER and isinstance(exact(value), str):
            raise Invalid(f"must have at most 40 digits before and after the point, not {shown(value)}")
        if last is Step.LOWER:
            _check_lower(value, operator)


def _check_lower(text: str, operator: Operator) -> None:
    """Check that a text in small letters could match."""
    is_pattern = operator.meaning is Meaning.PATTERN
    if is_pattern and _IGNORES_CASE.search(text):
        return
    plain = _ESCAPED.sub("", text) if is_pattern else text
    if plain != plain.casefold():
        message = f"must be in small letters, as what `[lower]` gives is, not {shown(text)}"
        raise Invalid(message, f"(?i){text}" if is_pattern else text.casefold())
