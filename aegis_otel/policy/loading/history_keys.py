"""Check the values of conditions on the calls that went before: limits, time, what calls are counted by.

A check returns the value in the form in which `loader.py` uses it, or raises Invalid.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from difflib import SequenceMatcher
from typing import Any

from aegis_otel.policy.evaluation.path_steps import UNIT, exact
from aegis_otel.policy.loading import durations
from aegis_otel.policy.loading.param_paths import param_path
from aegis_otel.policy.messages import Invalid, plain_number, quoted, shown
from aegis_otel.policy.rules import CALL_FACTS, MILLIONTHS, MOST_COUNTED, SPANS, Step, parts_of

_SPANS = {
    **dict.fromkeys(("process", "program"), "session"),
    **dict.fromkeys(("chat", "thread", "dialog", "dialogue"), "conversation"),
    **dict.fromkeys(("agent_run", "execution", "task", "trace", "turn"), "run"),
}
_PLACES = 6
MAX_BY = 10
"""Items of one `by`."""
_SEVERAL = (Step.ANY, Step.ALL, Step.ANYWHERE)
PARAMETER = "params."
"""Stands before a parameter whose name `by` would take for something else."""
_ALIKE = 0.83
"""How like a word of `by` a name is that is probably one in another spelling."""


def within(value: object) -> str:
    """Check and return for how long back it counts."""
    if isinstance(value, str) and (value in SPANS or durations.is_duration(value)):
        return value
    wanted = "`30s`, `15m`, `1h`, `7d` (at most `400d`), `session`, `conversation` or `run`"
    raise Invalid(f"must be {wanted}, not {durations.shown_duration(value)}", _meant_within(value))


def _meant_within(value: object) -> str | None:
    """Return the span or the duration that was probably meant."""
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in SPANS or word in _SPANS:
        return _SPANS.get(word, word)
    return durations.meant(value)


def count(value: object) -> int:
    """Check and return a limit of calls or tokens."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MOST_COUNTED:
        whole = int(value)
        if whole == value:
            return whole
    raise Invalid(f"must be a whole number from 0 to {MOST_COUNTED}, not {shown(value)}", _meant_count(value))


def _meant_count(value: object) -> str | None:
    text = plain_number(value) or value if isinstance(value, str) else value
    try:
        meant = Decimal(str(text).strip())
        is_whole = 0 <= meant <= MOST_COUNTED and meant == int(meant)
    except (ArithmeticError, ValueError):
        return None
    return None if isinstance(value, bool) or not is_whole else str(int(meant))


def total(value: object) -> int:
    """Check a limit of amounts, and return its millionths."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MOST_COUNTED:
        number = exact(value)
        if isinstance(number, int) and number % (UNIT // MILLIONTHS) == 0:
            return number // (UNIT // MILLIONTHS)
    raise Invalid(
        f"must be a number from 0 to {MOST_COUNTED} with at most {_PLACES} digits after the point, "
        f"not {shown(value)}",
        plain_number(value) if isinstance(value, str) else None,
    )


def one_value(value: object) -> str:
    """Check and return the path of a parameter that leads to one value."""
    path = param_path(value)
    for step in parts_of(path):
        if step in _SEVERAL:
            raise Invalid(f"needs one value of a call, and `[{step.value}]` gives several, in {quoted(path)}")
    return path


def words(value: object) -> list[Any]:
    """Check that `by` is a list of words, each of which `word` checks, and return it."""
    if not isinstance(value, list):
        meant = f"[{value}]" if isinstance(value, str) else None
        raise Invalid(f"must be a list, not {shown(value)}", meant)
    if not 0 < len(value) <= MAX_BY:
        raise Invalid(
            f"must list 1 to {MAX_BY} words, not {len(value)}: leave it out to count all calls together"
        )
    return value


def word(item: object) -> str:
    """Check and return one item of `by`. `params.` is left only before the name of what is no parameter."""
    if item in CALL_FACTS and isinstance(item, str):
        return item
    if isinstance(item, str) and item.startswith(PARAMETER):
        name = one_value(item.removeprefix(PARAMETER))
        return item if name in CALL_FACTS else name
    path = one_value(item)
    if meant := _misspelt(path):
        other = f"a parameter of that name is written {quoted(PARAMETER + path)}"
        raise Invalid(f"has {quoted(path)}, which is close to `{meant}`: {other}", meant)
    return path


def _misspelt(name: str) -> str | None:
    """Return the word of `by` that a name spells in another way."""
    matcher = SequenceMatcher(b=name.lower())
    for word in () if "_" in name else CALL_FACTS:  # `conversation_id` is a parameter's name, not a typo
        matcher.set_seq1(word)
        if matcher.quick_ratio() >= _ALIKE and matcher.ratio() >= _ALIKE:
            return word
    return None


def parameter_of(word: str) -> str | None:
    """Return the path of the parameter that a checked word of `by` is about; None where it is about none."""
    return None if word in CALL_FACTS else word.removeprefix(PARAMETER)


NEEDS: Mapping[str, tuple[str, ...]] = {
    "calls_over": ("limit", "within"),
    "total_over": ("param", "limit", "within"),
    "tokens_over": ("limit", "within"),
    "after": ("type", "within"),
    "repeats": ("by", "within"),
}
"""The keys that each condition must have."""
_EXAMPLES = {
    "calls_over": "{ limit: 100, within: 1h, by: [user] }",
    "total_over": "{ param: amount, limit: 500, within: 24h, by: [user] }",
    "tokens_over": "{ limit: 200000, within: run }",
    "after": "{ type: read_secret, within: conversation }",
    "repeats": "{ by: [order_id], within: 7d }",
}


def check_condition(key: str, value: object) -> None:
    """Check that the condition `key` is a mapping with all keys that it must have."""
    example = f"as in `{key}: {_EXAMPLES[key]}`"
    if not isinstance(value, dict):
        time = "; a time of day stands at `time_after`" if key == "after" and isinstance(value, str) else ""
        raise Invalid(f"must be a mapping, not {shown(value)}: write it {example}{time}")
    missing = [f"`{each}`" for each in NEEDS[key] if each not in value]
    if missing:
        raise Invalid(f"needs {' and '.join(missing)}, {example}")
    words = value.get("by")
    if key == "repeats" and isinstance(words, list) and words and all(each in CALL_FACTS for each in words):
        raise Invalid(f"needs a parameter in `by` that tells the calls apart, {example}")
