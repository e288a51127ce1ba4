"""Read text or data into a `PolicyDocument`, or raise every problem at once."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from aegis_otel.errors import PolicyError, PolicyNotFound, PolicyNotMapping, Problem
from aegis_otel.model import Approval, Approvers, Mode, RiskLevel
from aegis_otel.policy.loading import problem_messages, yaml_reader
from aegis_otel.policy.loading.durations import seconds
from aegis_otel.policy.loading.history_keys import parameter_of
from aegis_otel.policy.loading.schema import Fault, Validation, read_policy
from aegis_otel.policy.loading.validators import CHOICES, TIMES, time_fault
from aegis_otel.policy.loading.yaml_reader import Location
from aegis_otel.policy.messages import Invalid, listed, quoted, shown
from aegis_otel.policy.operators.table import OPERATORS, Takes
from aegis_otel.policy.rules import (
    GROUPS,
    HISTORY,
    MAX_GROUPS_DEEP,
    SPANS,
    Conditions,
    Defaults,
    Divider,
    Expected,
    Group,
    HistoryTest,
    ParamTest,
    Pattern,
    Place,
    PolicyDocument,
    Rule,
    SubjectMatch,
    TimeWindow,
)

NO_TEXT = "<policy>"
_MAX_PROBLEMS = 100
_DEEPEST = 3 + 2 * MAX_GROUPS_DEEP
"""Steps to a set of conditions in the deepest group."""
Locate = Callable[[Location, bool], Place]
"""(where in the data, whether its key is meant rather than its value) -> where in the text."""


def read_file(path: str | Path) -> PolicyDocument:
    """Read the policy in the file at `path`.

    Raises:
        PolicyNotFound: there is no such file; also a FileNotFoundError.
        PolicyError: it cannot be read or is not a valid policy.
    """
    source = str(path)
    return read_text(read_content(path, source), source)


def read_all(reads: Iterable[Callable[[], PolicyDocument]]) -> list[PolicyDocument]:
    """Return the documents that `reads` return.

    Raises:
        PolicyError: at least one of them raised it; this one has the problems of all.
    """
    documents: list[PolicyDocument] = []
    refused: list[PolicyError] = []
    for read in reads:
        try:
            documents.append(read())
        except PolicyError as error:
            refused.append(error)
    if refused:
        kind = type(refused[0]) if len(refused) == 1 else PolicyError
        raise kind([problem for error in refused for problem in error.problems])
    return documents


def read_content(path: str | Path, source: str, what: str = "policy file") -> bytes:
    """Read the file at `path`, up to the largest size of a policy; errors call it `what` and name `source`.

    Raises:
        PolicyNotFound: there is no such file; also a FileNotFoundError.
        PolicyError: it cannot be read.
    """
    try:
        mode = Path(path).stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe would wait for its other end
            raise PolicyError([Problem(f"{what} cannot be read: not a regular file", source)])
        with open(path, "rb") as file:
            return file.read(4 * yaml_reader.MAX_CHARACTERS + 1)
    except PolicyError:
        raise
    except FileNotFoundError:
        raise PolicyNotFound([Problem(f"{what} not found", source)]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PolicyError([Problem(f"{what} cannot be read: {reason.lower()}", source)]) from None


def read_text(text: str | bytes, source: str = NO_TEXT) -> PolicyDocument:
    """Read the policy written in `text`, or in the bytes of a file.

    Raises:
        PolicyNotMapping: the YAML is not a mapping; also a TypeError.
        PolicyError: it is not a valid policy.
    """
    text = decode_text(text, source) if isinstance(text, bytes) else text
    document, problems = yaml_reader.read(text, source)
    if document is None:
        if not problems:
            raise PolicyNotMapping([Problem("the policy is empty: write at least `rules: []`", source, 1, 1)])
        raise _refusal(problems)

    def locate(location: Location, at_key: bool) -> Place:
        return Place(source, *document.find(location, at_key=at_key))

    return replace(_document(document.value, source, locate, problems, has_text=True), written=text)


def decode_text(content: bytes, source: str) -> str:
    """Return the text in the bytes of a file. Raises PolicyError where it is not UTF-8."""
    encoding = json.detect_encoding(content[:4])
    if any(content[:4]) and not encoding.startswith("utf-8"):
        name = "UTF-32" if "32" in encoding else "UTF-16" + encoding[7:].upper()  # as iconv spells them
        command = f"`iconv -f {name} -t UTF-8 OLD > NEW`"
        message = f"not UTF-8 but {name}: save it as UTF-8 in the editor, or with {command}"
        raise PolicyError([Problem(message, source, 1, 1)])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        message = f"not UTF-8: byte 0x{content[error.start]:02x} has no meaning here"
        raise PolicyError([Problem(message, source, line, column)]) from None


def read_data(data: Any, source: str = NO_TEXT) -> PolicyDocument:
    """Read the policy in a dict.

    Raises:
        PolicyNotMapping: `data` is not a dict; also a TypeError.
        PolicyError: it is not a valid policy.
    """
    place = Place(source)
    document = _document(data, source, lambda _location, _at_key: place, [], has_text=False)
    return replace(document, written=deepcopy(data))  # the caller may change it


def _document(
    data: Any, source: str, locate: Locate, problems: list[Problem], *, has_text: bool
) -> PolicyDocument:
    if not isinstance(data, (dict, yaml_reader.Refused)):
        message = f"a policy must be a mapping with `rules`, not {shown(data)}"
        raise PolicyNotMapping([*problems, Problem(message, *locate((), False))])
    validation = Validation()
    valid = read_policy(data, validation)
    # Only what is shown is explained: a suggestion is looked for among hundreds of names.
    faults, rest = validation.faults[:_MAX_PROBLEMS], validation.faults[_MAX_PROBLEMS:]
    found = problem_messages.explain_faults(faults)
    found += _unnamed(data)
    found += _duplicates(data, lambda at: str(locate(at, True)) if has_text else problem_messages.path(at))
    problems = _reworded(problems, validation) + [
        Problem(
            message if has_text or not at else f"{problem_messages.path(at)}: {message}",
            *locate(at, at_key),
            suggestion,
        )
        for at, at_key, message, suggestion in found
    ]
    if problems:
        raise _refusal(problems, more=len(rest))
    return _build(valid, source, locate)


def _duplicates(data: Any, place: Callable[[Location], str]) -> list[tuple[Location, bool, str, None]]:
    """Return the faults of rules whose name another rule has. Other parts of the data may be invalid."""
    rules = data.get("rules") if isinstance(data, dict) else None
    first: dict[str, Location] = {}
    found: list[tuple[Location, bool, str, None]] = []
    for number, rule in enumerate(rules if isinstance(rules, list) else ()):
        name = rule.get("name") if isinstance(rule, dict) else None
        at: Location = ("rules", number, "name")
        if isinstance(name, str) and first.setdefault(name, at) is not at:
            message = f"duplicate rule name {quoted(name)}: it is already at {place(first[name])}"
            found.append((at, True, message, None))
    return found


def _unnamed(data: Any) -> Iterator[tuple[Location, bool, str, None]]:
    """Yield the faults of rules that count calls and have no name. Other parts of the data may be invalid."""
    rules = data.get("rules") if isinstance(data, dict) else None
    for number, rule in enumerate(rules if isinstance(rules, list) else ()):
        if isinstance(rule, dict) and "name" not in rule:
            found = next(_counting(rule.get("conditions"), ("rules", number, "conditions")), None)
            if found is not None:
                message = f"a rule with `{found[-1]}` needs a `name`: what it counts is kept under the name"
                yield found, True, message, None


def _counting(conditions: Any, at: Location) -> Iterator[Location]:
    """Yield where the conditions on the calls that went before are, also those in groups."""
    if len(at) > _DEEPEST or not isinstance(conditions, dict):
        return
    yield from ((*at, key) for key in HISTORY if key in conditions)
    for key in GROUPS:
        for where, member in _members(conditions.get(key), (*at, key)):
            yield from _counting(member, where)


def _reworded(problems: list[Problem], validation: Validation) -> list[Problem]:
    """Return `problems`, with those reworded of text on which YAML versions disagree and that no quotes help.

    That is text where one of a few words or a time must stand, and which is none. The message says which.
    """
    better: dict[Problem, Problem] = {}
    for at, refused in validation.refused:
        key = str(at[-1]) if at else ""
        if refused.problem is None or (len(at) > 1 and at[-2] in OPERATORS):
            continue
        if key in CHOICES:
            wrong = Invalid(f"must be {listed(CHOICES[key])}, not {quoted(refused.text)}")
        elif key in TIMES and (invalid := time_fault(refused.text)):
            wrong = invalid
        else:
            continue
        message, suggestion = problem_messages.explain_fault(Fault(at, refused.text, wrong))
        better[refused.problem] = replace(refused.problem, message=message, suggestion=suggestion)
    return [better.get(problem, problem) for problem in problems]


def _refusal(problems: list[Problem], more: int = 0) -> PolicyError:
    """Return the error with the first of `problems`; `more` is the number of problems not among them."""
    problems = sorted(problems, key=lambda problem: (problem.line, problem.column))
    rest = more + len(problems[_MAX_PROBLEMS:])
    if rest:
        problems = [*problems[:_MAX_PROBLEMS], Problem(f"and {rest} more problems", problems[0].source)]
    return PolicyError(problems)


def _build(valid: Any, source: str, locate: Locate) -> PolicyDocument:
    defaults = valid.get("defaults")
    return PolicyDocument(
        source=source,
        rules=tuple(_rule(rule, index, locate) for index, rule in enumerate(valid.get("rules", ()))),
        defaults=None if defaults is None else Defaults(*_verdict(defaults)),
        defaults_place=locate(("defaults",), True),
        states_rules="rules" in valid,
    )


def _verdict(section: Any) -> tuple[Approval, RiskLevel]:
    risk_level = RiskLevel[section.get("risk_level", "medium").upper()]
    return Approval(section.get("approval", "approve")), risk_level


def _rule(rule: Any, index: int, locate: Locate) -> Rule:
    at: Location = ("rules", index)
    match = rule.get("match", {})
    place = locate((*at, "name"), True) if "name" in rule else locate(at, False)

    def written(key: str) -> tuple[Pattern, ...]:
        return tuple(
            Pattern(text, locate((*at, "match", key, number), False), match.get("ignore_case", False))
            for number, text in enumerate(match.get(key, ()))
        )

    def patterns(key: str) -> tuple[Pattern, ...]:
        return written(key) or (Pattern("*", place),)

    approval, risk_level = _verdict(rule)
    return Rule(
        name=rule.get("name"),
        types=patterns("type"),
        targets=patterns("target"),
        agents=patterns("agent"),
        conditions=_conditions(
            rule.get("conditions", {}), (*at, "conditions"), locate, _Around(rule.get("name", ""), match)
        ),
        risk_level=risk_level,
        approval=approval,
        place=place,
        subject=SubjectMatch(*map(written, SubjectMatch._fields)),
        mode=Mode(rule.get("mode", Mode.ENFORCE)),
        message=rule.get("message", ""),
        approvers=approvers_of(rule["approvers"]) if "approvers" in rule else None,
        expires_s=float(rule["expires"]) if "expires" in rule else None,
    )


def approvers_of(section: Any) -> Approvers:
    """Return the approvers that a checked section says."""
    return Approvers(
        users=tuple(section.get("users", ())),
        roles=tuple(section.get("roles", ())),
        count=section.get("count", 1),
        allows_requester=section.get("self", False),
    )


class _Around(NamedTuple):
    """What stands around a set of conditions and matters in it."""

    rule: str
    """The name of the rule."""
    match: Mapping[str, Any]
    timezone: str | None = None
    """That of the sets around it, which holds in it as well."""


def _conditions(section: Any, at: Location, locate: Locate, around: _Around) -> Conditions:
    """Return one set of conditions."""
    around = around._replace(timezone=section.get("timezone", around.timezone))
    return Conditions(
        window=_window(section, at, locate, around.timezone),
        tests=tuple(
            test
            for key in section
            if key in OPERATORS
            for test in _tests(key, section[key], (*at, key), locate)
        ),
        groups=tuple(
            Group(
                key,
                tuple(
                    _conditions(member, where, locate, around)
                    for where, member in _members(section[key], (*at, key))
                ),
                locate((*at, key), True),
            )
            for key in GROUPS
            if key in section
        ),
        history=tuple(
            _history_test(key, section[key], (*at, key), locate, around) for key in HISTORY if key in section
        ),
    )


def _history_test(key: str, section: Any, at: Location, locate: Locate, around: _Around) -> HistoryTest:
    def reading(path: str, *where: str | int) -> ParamTest:
        return ParamTest("param_eq", path, "", locate((*at, *where), False))

    within = section["within"]
    dividers = {within: Divider(within)} if within in SPANS else {}
    for number, word in enumerate(section.get("by", ())):
        path = parameter_of(word)
        dividers[word] = Divider(word, None if path is None else reading(path, "by", number))
    return HistoryTest(
        key=key,
        rule=around.rule,
        by=tuple(dividers[word] for word in sorted(dividers)),
        within_s=None if within in SPANS else float(seconds(within)),
        within=within,
        place=locate(at, True),
        limit=section.get("limit", 0),
        amount=reading(section["param"], "param") if key == "total_over" else None,
        types=tuple(
            Pattern(text, locate((*at, "type", number), False), around.match.get("ignore_case", False))
            for number, text in enumerate(section.get("type", ()))
        ),
        result=section.get("result", ""),
    )


def _tests(key: str, section: Any, at: Location, locate: Locate) -> Iterator[ParamTest]:
    """Yield the conditions that one operator makes of what the policy says."""
    match OPERATORS[key].takes:
        case Takes.VALUES:
            is_relative = OPERATORS[key].is_relative
            for path, expected in section.items():
                reads_time = is_relative is not None and is_relative(expected)
                yield ParamTest(key, path, _immutable(expected), locate((*at, path), True), reads_time)
        case Takes.PATHS:
            for number, path in enumerate(section):
                yield ParamTest(key, path, (), locate((*at, number), False))
        case Takes.NAMES:
            yield ParamTest(key, "", tuple(section), locate(at, True))


def _members(value: Any, at: Location) -> Iterator[tuple[Location, Any]]:
    """Yield the place and the value of each set of conditions of a group."""
    if isinstance(value, list):
        yield from (((*at, number), member) for number, member in enumerate(value))
    else:
        yield at, value


def _immutable(expected: Any) -> Expected:
    """Return the checked value of a condition; a list of a dict that made a policy may change later."""
    return tuple(expected) if isinstance(expected, list) else expected


def _window(conditions: Any, at: Location, locate: Locate, timezone: str | None) -> TimeWindow | None:
    keys = [key for key in conditions if key not in OPERATORS and key not in GROUPS and key not in HISTORY]
    if not keys:
        return None
    return TimeWindow(
        after=conditions.get("time_after"),
        before=conditions.get("time_before"),
        weekdays=frozenset(conditions.get("weekdays", ())),
        timezone=timezone or "UTC",
        place=locate((*at, keys[0]), True),
        states_timezone=timezone is not None,
    )
