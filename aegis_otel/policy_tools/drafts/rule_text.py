"""Write a policy file: rules with comments that say where each comes from.

Names and values come from servers and models. A name becomes a glob only where the glob means that name and
nothing else, and a value a condition only where the policy would be read back with the same value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aegis_otel.model import Approval, RiskLevel
from aegis_otel.policy.loading import validators
from aegis_otel.policy.messages import Invalid
from aegis_otel.redaction.terminal import escape

_LONGEST_VALUE = 200
_LARGEST = 10**15
_LONGEST_COMMENT = 300


class DraftRule(NamedTuple):
    """A rule to be written."""

    name: str
    comment: Sequence[str]
    """Why it is there, a line each."""
    types: Mapping[str, str]
    """The action types, each with a comment, which may be empty."""
    approval: Approval
    risk_level: RiskLevel
    targets: Sequence[str] = ()
    """Any where there is none."""
    agents: Sequence[str] = ()
    """Any where there is none."""
    subject: Mapping[str, Sequence[str]] = {}
    """Users, tenants and roles by their key in `match`; anybody where there is none."""
    conditions: Mapping[str, Any] = {}
    """Plain values by the key of the condition."""


def render(comment: Sequence[str], defaults: str, rules: Sequence[DraftRule]) -> str:
    """Return the text of a policy whose default is to ask.

    Args:
        comment: What stands at the top, a line each.
        defaults: The comment at the defaults.
        rules: The rules, in order.
    """
    return "".join(f"{line}\n" for line in _lines(comment, defaults, rules))


def _lines(comment: Sequence[str], defaults: str, rules: Sequence[DraftRule]) -> Iterator[str]:
    yield from map(_comment, comment)
    yield 'version: "1"'
    yield from ("defaults:", f"  risk_level: {_word(RiskLevel.MEDIUM)}")
    yield f"  approval: {Approval.APPROVE.value} {_comment(defaults)}"
    yield "rules:" if rules else "rules: []"
    for rule in rules:
        yield ""
        yield from (f"  {_comment(line)}" for line in rule.comment)
        yield f"  - name: {_text(rule.name)}"
        yield "    match:"
        yield "      type:"
        for name, note in rule.types.items():
            yield f"        - {_text(name)}{f' {_comment(note)}' if note else ''}"
        for key, names in (("target", rule.targets), ("agent", rule.agents), *rule.subject.items()):
            if names:
                yield f"      {key}: {_value(list(names))}"
        if rule.conditions:
            yield "    conditions:"
        for key, value in rule.conditions.items():
            if isinstance(value, dict):
                yield f"      {key}:"
                yield from (f"        {_text(path)}: {_value(each)}" for path, each in value.items())
            elif value and isinstance(value[0], dict):
                yield f"      {key}:"
                yield from (f"        - {_value(each)}" for each in value)
            else:
                yield f"      {key}: {_value(value)}"
        yield f"    risk_level: {_word(rule.risk_level)}"
        yield f"    approval: {rule.approval.value}"


def _comment(text: str) -> str:
    shown = escape(text)
    return f"# {shown[:_LONGEST_COMMENT]}{'...' if len(shown) > _LONGEST_COMMENT else ''}".rstrip()


def _word(risk_level: RiskLevel) -> str:
    return risk_level.name.lower()


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # printable: a double-quoted scalar of YAML


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_text(key)}: {_value(each)}' for key, each in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)


def is_exact_glob(name: str) -> bool:
    """Return whether `name`, written as a glob, matches that name only and can be written."""
    try:
        return validators.glob(name) == name and not re.search(r"[*?\[]", name) and _is_writable(name)
    except Invalid:
        return False


def is_exact_value(value: object) -> bool:
    """Return whether a condition that `value` is written into compares with exactly that value."""
    if isinstance(value, bool):
        return True
    if isinstance(value, str):
        return len(value) <= _LONGEST_VALUE and _is_writable(value)
    if isinstance(value, float):
        return math.isfinite(value) and "e" not in repr(value) and abs(value) < _LARGEST
    return isinstance(value, int) and abs(value) < _LARGEST


def _is_writable(text: str) -> bool:
    return escape(text) == text and not re.search(r"[\u2000-\u206f\ufeff\x85]", text) and text == text.strip()


def slug(text: str) -> str:
    """Return a short name for rules that is made of `text`."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40] or "tool"
