"""What pydantic found wrong, in words for the person who wrote the policy, with the place of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aegis_otel.errors import Problem
from aegis_otel.policy import messages
from aegis_otel.policy.loading.schema import KEYS
from aegis_otel.policy.loading.validators import APPROVALS, RISK_LEVELS, synonym
from aegis_otel.policy.loading.yaml_reader import Refused
from aegis_otel.policy.messages import closest, listed, quoted, shown
from aegis_otel.policy.rules import Place

Location = tuple[str | int, ...]
Locate = Callable[[Location, bool], Place]
"""(where in the data, whether its key is meant rather than its value) -> where in the text."""

_FEW_WORDS = {"approval": APPROVALS, "risk_level": RISK_LEVELS}
"""The words that may stand for a key."""

_SHORT = 60
"""Characters of a value that a suggestion repeats."""

_KEY = "[key]"  # pydantic's last step to the key of a mapping instead of its value


def follows(error: Any) -> bool:
    """Whether `error` only follows from a problem that the reader of the YAML has reported."""
    return isinstance(error["input"], Refused)


def reworded(problems: list[Problem], errors: list[Any]) -> list[Problem]:
    """`problems`, where a word that versions of YAML disagree on stands instead of one of a few.

    To quote it, as the reader of the YAML proposes, would not help; which words may stand there does.
    """
    better = {}
    for error in errors:
        subject, refused = _subject(error["loc"]), error["input"]
        words = _FEW_WORDS.get(subject.strip("`").removeprefix("defaults."))
        if words is not None and isinstance(refused, Refused) and refused.problem is not None:
            message = f"{subject} must be {listed(words)}, not {quoted(refused.text)}"
            better[refused.problem] = replace(refused.problem, message=message, suggestion=None)
    return [better.get(problem, problem) for problem in problems]


def duplicates(data: Any, locate: Locate, *, has_text: bool) -> list[Problem]:
    """Names of rules that are used twice; the data need not be valid otherwise."""
    rules = data.get("rules")
    first: dict[str, str] = {}
    problems = []
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        name = rule.get("name") if isinstance(rule, dict) else None
        if not isinstance(name, str):
            continue
        location = ("rules", index, "name")
        place = locate(location, True)
        if name in first:
            message = f"duplicate rule name {quoted(name)}: it is already at {first[name]}"
            message = message if has_text else f"{_path(location)}: {message}"
            problems.append(Problem(message, place.source, place.line, place.column))
        else:
            first[name] = str(place) if has_text else _path(location)
    return problems


def explain(errors: list[Any], locate: Locate, *, has_text: bool) -> list[Problem]:
    """What `errors` say, in their order."""
    problems = []
    for error in errors:
        location: Location = error["loc"]
        message, suggestion, at_key = _message(error, location)
        place = locate(location, at_key)
        if not has_text and location:
            message = f"{_path(location)}: {message}"
        problems.append(Problem(message, place.source, place.line, place.column, suggestion))
    return problems


def _message(error: Any, location: Location) -> tuple[str, str | None, bool]:
    """The sentence, what was probably meant, and whether it is about the key."""
    value = error["input"]
    match error["type"]:
        case "policy":
            message, suggestion = error["ctx"]["message"], error["ctx"]["suggestion"]
            meant = suggestion(value) if callable(suggestion) else suggestion
            return f"{_subject(location)} {message}", meant, location[-1] == _KEY
        case "extra_forbidden":
            return _unknown_key(location, value)
        case "invalid_key":
            return f"a key must be text, not {shown(value)}", None, True
        case "dict_type":
            return f"{_subject(location)} must be a mapping, not {shown(value)}", None, False
        case "list_type" if location[-1:] == ("rules",):
            return f"`rules` must be a list, not {shown(value)}", "[]" if value is None else None, False
        case "list_type" if location[-1:] == ("weekdays",):
            suggestion = f"[{value}]" if type(value) in (int, str) else None
            return f"`weekdays` must be a list of days, not {shown(value)}", suggestion, False
        case "list_type":
            return f"{_subject(location)} must be text or a list of texts, not {shown(value)}", None, False
        case "too_short":
            return f"{_subject(location)} must not be empty: leave it out if nothing is meant", None, False
        case _:
            return f"{_subject(location)} is not valid: {error['msg'].lower()}", None, False


def _unknown_key(location: Location, value: Any) -> tuple[str, str | None, bool]:
    key = str(location[-1])
    section = next((str(step) for step in reversed(location[:-1]) if isinstance(step, str)), "")
    where = {"": "a policy", "rules": "a rule"}.get(section, f"`{section}`")
    if (glued := key.partition(":"))[1] and glued[0] in KEYS[section]:
        return f"a space is missing after {quoted(glued[0] + ':')}", f"{glued[0]}: {glued[2]}", True
    known = KEYS[section]
    if section in ("rules", "defaults") and (word := _approval_word(key)) and value is not False:
        return f"unknown key {quoted(key)} in {where}", f"approval: {word}", True
    suggestion = synonym(key, messages.KEYS[section])
    if suggestion is not None:
        return f"unknown key {quoted(key)} in {where}", _with_value(suggestion, value), True
    home = next((name for name, keys in KEYS.items() if key in keys), None)
    suggestion = None if home is not None else closest(key, known)
    if suggestion is None:
        if home == "":
            return f"{quoted(key)} does not belong in {where}: it is a key of the policy itself", None, True
        if home == "rules":
            why = "it is a key of a rule, indented as the rule's other keys are"
            return f"{quoted(key)} does not belong in {where}: {why}", None, True
        if home is not None:
            return f"{quoted(key)} does not belong in {where}", f"{home}.{key}", True
    return f"unknown key {quoted(key)} in {where}", suggestion, True


def _approval_word(key: str) -> str | None:
    """The approval that a key such as `deny` or `ask` stands for."""
    return key if key in APPROVALS else synonym(key, messages.APPROVALS)


def _with_value(key: str, value: Any) -> str:
    """What to write in place of a key of another policy language: the key here, and its value."""
    section, _, inner = key.rpartition(".")
    words = {"approval": messages.APPROVALS, "risk_level": messages.RISK_LEVELS}.get(inner)
    few = _FEW_WORDS.get(inner, ())
    if words is not None:
        lower = value.lower() if isinstance(value, str) else ""
        meant = lower if lower in few else synonym(value, words)
        return f"{inner}: {meant}" if meant else inner
    if not section:
        return key
    short = isinstance(value, str) and value.isprintable() and len(value) <= _SHORT
    return f"{section}: {{ {inner}: {json.dumps(value, ensure_ascii=False) if short else '...'} }}"


def _subject(location: Location) -> str:
    """What the sentence is about."""
    names = [step for step in location if isinstance(step, str) and step != _KEY]
    if not names:
        return "a policy"
    if names[-1] == "rules":
        return "a rule"
    if len(names) > 1 and names[-2].startswith("param_"):
        if location[-1] == _KEY:
            return f"`{names[-2]}`"
        return f"`{names[-2]}` on {quoted(names[-1])}"
    if len(names) > 1 and names[-2] in ("match", "defaults"):
        return f"`{names[-2]}.{names[-1]}`"
    return f"`{names[-1]}`"


def _path(location: Location) -> str:
    """`rules[2].match.type`, for a policy that has no lines."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step != _KEY:
            path += f".{quoted(step)[1:-1]}" if path else quoted(step)[1:-1]
    return path
