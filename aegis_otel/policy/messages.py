"""The words of other policy languages, and what they are called here.

Data for the suggestions of error messages: a word that is not in these tables is compared by spelling.

How a policy's values are worded in messages: short, on one line, without control characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

_LONGEST = 60
_LARGEST = 10**30


def quoted(text: str) -> str:
    """`text` in backticks, cut to a readable length, unprintable characters escaped."""
    cut = text[:_LONGEST]
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return f"`{plain}{'…' if len(text) > _LONGEST else ''}`"


def shown(value: Any) -> str:
    """`value` as it may stand in a sentence."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        if not value:
            return "empty text"
        return f"the text {quoted(value)}" if value[0].isdigit() else quoted(value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a very large number"
    if isinstance(value, (int, float)):
        return f"the number `{value!r}`"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"a value of type {quoted(type(value).__name__)}"


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that was probably meant."""
    return _closest(word[:_LONGEST].strip().lower(), tuple(choices))


@lru_cache(maxsize=1024)
def _closest(word: str, choices: tuple[str, ...]) -> str | None:
    found = get_close_matches(word, choices, n=1)
    return found[0] if found else None


def listed(choices: Iterable[str]) -> str:
    """The choices in backticks, joined as a sentence joins alternatives."""
    *first, last = (f"`{choice}`" for choice in choices)
    return f"{', '.join(first)} or {last}" if first else last


_APPROVAL_WORDS = {
    "auto": "accept accepted allow allowed always approved automatic enable enabled go grant log ok pass "
    "permit permitted run skip true yes",
    "approve": "approval ask ask_human ask_user challenge confirm human human_approval interrupt manual "
    "needs_approval pause prompt require_approval require_human review wait",
    "block": "blocked cancel denied deny disable disallow drop false fail forbid forbidden halt never no "
    "prevent prohibit refuse reject rejected stop",
}
_RISK_WORDS = {
    "low": "info informational l lowest min minimal minor negligible none p4 safe trivial",
    "medium": "default mid middle moderate normal p3 standard warn warning",
    "high": "danger dangerous elevated error h important major p2 serious severe",
    "critical": "c catastrophic crit emergency fatal highest max maximum p0 p1 very_high",
}


def _by_word(words: Mapping[str, str]) -> dict[str, str]:
    return {other: own for own, others in words.items() for other in others.split()}


APPROVALS = _by_word(_APPROVAL_WORDS)
RISK_LEVELS = _by_word(_RISK_WORDS)

KEYS: dict[str, dict[str, str]] = {
    "": _by_word(
        {
            "rules": "policies policy rule rule_list ruleset statement statements permissions acl",
            "defaults": "default fallback otherwise default_action",
            "version": "api_version apiversion schema schema_version v",
        }
    ),
    "defaults": _by_word(
        {
            "approval": "action actions behavior behaviour decision default effect mode permission verdict",
            "risk_level": "level risk risklevel severity",
        }
    ),
    "rules": _by_word(
        {
            "approval": "action actions approve behavior behaviour decision effect mode outcome permission "
            "policy result then verdict",
            "risk_level": "criticality impact level priority risk risklevel severity",
            "conditions": "condition if only_if unless when where constraints params parameters "
            "args arguments",
            "name": "id key label rule rule_id rule_name title",
            "match.type": "action_type command function functions operation tool tool_name tool_names "
            "toolname tools",
            "match.target": "action_target resource resources server target_name",
            "match.agent": "actor agent_name agents principal principals subject",
            "match": "matches matcher on selector",
        }
    ),
    "match": _by_word(
        {
            "type": "action action_type command function functions name operation pattern tool tool_name "
            "tool_names toolname tools types",
            "target": "action_target host resource resources server targets",
            "agent": "actor agent_name agents principal role subject user",
            "conditions.param_eq": "args arguments constraints if param parameters params when where",
        }
    ),
    "conditions": _by_word(
        {
            "param_eq": "eq equals param param_equal param_equals param_is",
            "param_gt": "above gt greater_than max_exceeded over param_above param_greater_than param_over",
            "param_gte": "at_least ge gte min param_ge param_min",
            "param_lt": "below less_than lt param_below param_less_than param_under under",
            "param_lte": "at_most le lte max param_le param_max",
            "param_contains": "contains has includes param_has param_in param_includes",
            "param_matches": "match matches param_match param_pattern param_re param_regex param_regexp "
            "pattern regex regexp",
            "time_after": "after from not_before start start_time",
            "time_before": "before end end_time not_after to until",
            "weekdays": "day days days_of_week weekday",
            "timezone": "time_zone tz zone",
        }
    ),
}
"""Keys by the section they may stand in; `match.type` stands for `type` of the section `match`."""
