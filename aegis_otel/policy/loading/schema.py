"""The keys of a policy file: the one table behind both the loader and the published JSON Schema.

`SECTIONS` has the keys of each section. Each key has the function that reads its value, the JSON Schema of
that value, and a sentence for editors. The conditions on parameters come from `operators/table.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from aegis_otel.policy.loading import durations, history_keys, validators
from aegis_otel.policy.loading.param_paths import check_fit, is_path, param_path
from aegis_otel.policy.loading.validators import (
    DATA,
    DECEPTIVE,
    HIDDEN,
    MAX_GLOB,
    MAX_MESSAGE,
    MAX_NAME,
    WEEKDAYS,
    by_synonym,
)
from aegis_otel.policy.loading.yaml_reader import Location, Refused
from aegis_otel.policy.messages import Invalid, InvalidItems, shown
from aegis_otel.policy.operators.table import OPERATORS, Meaning, Operator, Takes
from aegis_otel.policy.patterns import MAX_PROGRAMS, TooLarge, compile_regex
from aegis_otel.policy.rules import (
    CALL_FACTS,
    GROUPS,
    HISTORY,
    MAX_GROUPS_DEEP,
    MOST_COUNTED,
    PARAM_PATH,
    SPANS,
)

_EMPTY = "must not be empty: leave it out if nothing is meant"


class Fault(NamedTuple):
    """One problem of a policy's data; `problem_messages.py` puts it into words, if it is shown."""

    location: Location
    value: Any
    error: Invalid | None
    """None where the section does not have the key."""
    at_key: bool = False
    """Whether it is the key that is wrong, not its value."""


class Validation:
    """One reading of a policy's data, which collects all its faults."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.refused: list[tuple[Location, Refused]] = []
        """Values whose problem the reader of the YAML has reported already."""
        self._programs = 0

    def regex(self, check: Callable[[object], str], value: object) -> str | None:
        """Return the checked regular expression, None where those before it are too large together.

        Raises:
            Invalid: it is none, or the first with which they are too large.
        """
        if self._programs > MAX_PROGRAMS:
            return None
        checked, refusal = None, None
        try:
            checked = check(value)
            self._programs += compile_regex(checked).size
        except Invalid as error:
            refusal = error
            if isinstance(error.__cause__, TooLarge):
                self._programs += TooLarge.size
        if self._programs > MAX_PROGRAMS:
            raise Invalid(
                "is too large together with the regular expressions before it, "
                f"for which RE2 needs more than {MAX_PROGRAMS} steps: repeat large sets of characters, "
                "such as `\\pL`, less often, as in `\\pL+` instead of `\\pL{1,100}`"
            )
        if refusal is not None:
            raise refusal
        return checked

    def read(self, reader: Reader, value: Any, at: Location, *, at_key: bool = False) -> Any:
        """Return what `reader` makes of the value at `at`, None where there is a fault."""
        if isinstance(value, Refused):
            self.refused.append((at, value))
            return None
        try:
            return reader(self, value, at)
        except InvalidItems as error:
            self.faults += [
                Fault((*at, number), value[number], each) for number, each in error.faults.items()
            ]
            return None
        except Invalid as error:
            self.faults.append(Fault(at, value, error, at_key))
            return None


Reader = Callable[[Validation, Any, Location], Any]


class Key(NamedTuple):
    """One key of a section."""

    read: Reader
    """Return the value as `loader.py` uses it. Raises Invalid."""
    schema: Mapping[str, Any]
    about: str = ""


def _value(check: Callable[[object], Any]) -> Reader:
    return lambda _validation, value, _at: check(value)


def _section(name: str) -> Reader:
    def read(validation: Validation, value: Any, at: Location) -> dict[str, Any]:
        keys, found = SECTIONS[name], {}
        for key, inner in _mapping(value).items():
            if key in keys:
                found[key] = validation.read(keys[key].read, inner, (*at, key))
            else:
                validation.faults.append(Fault((*at, key), inner, None, at_key=True))
        return found

    return read


def _items(each: Reader, what: str, suggest: Callable[[Any], str | None], *, some: bool = True) -> Reader:
    def read(validation: Validation, value: Any, at: Location) -> list[Any]:
        if not isinstance(value, list):
            raise Invalid(f"must be {what}, not {shown(value)}", suggest(value))
        if some and not value:
            raise Invalid(_EMPTY)
        return [validation.read(each, item, (*at, number)) for number, item in enumerate(value)]

    return read


def _group(validation: Validation, value: Any, at: Location) -> dict[str, Any]:
    """Return one set of conditions of a group."""
    if sum(step in GROUPS for step in at) > MAX_GROUPS_DEEP:
        raise Invalid(f"is nested too deep: groups may be nested {MAX_GROUPS_DEEP} deep")
    if isinstance(value, list):
        raise Invalid("must be a mapping of conditions, not a list", "{ any: [ ... ] }")
    if not _mapping(value):
        raise Invalid(_EMPTY)
    conditions: dict[str, Any] = _section("conditions")(validation, value, at)
    return conditions


def _history(name: str, about: str) -> Key:
    """Return the key of a condition on the calls that went before, which is a section."""
    section = _section(name)

    def read(validation: Validation, value: Any, at: Location) -> dict[str, Any]:
        if not isinstance(value, dict) or SECTIONS[name].keys() >= value.keys():
            history_keys.check_condition(name, value)  # else a key that is missing is one that is misspelt
        found: dict[str, Any] = section(validation, value, at)
        return found

    return Key(read, {"$ref": f"#/$defs/{_ABOUT[name][0]}"}, about)


def _approvers(validation: Validation, value: Any, at: Location) -> dict[str, Any]:
    if not _mapping(value):
        what = "must not be empty: write `{ count: 1 }` for anybody whose name is known"
        raise Invalid(what, "{ count: 1 }")
    found: dict[str, Any] = _section("approvers")(validation, value, at)
    return found


def _by(validation: Validation, value: Any, at: Location) -> list[str]:
    """Return what calls are counted apart by."""
    found: list[str] = []
    for number, item in enumerate(history_keys.words(value)):
        word = validation.read(_value(history_keys.word), item, (*at, number))
        if word in found:
            validation.faults.append(Fault((*at, number), item, Invalid(f"lists {shown(item)} twice")))
        elif word is not None:
            found.append(word)
    return found


def _params(operator: Operator) -> Key:
    def read(validation: Validation, value: Any, at: Location) -> dict[str, Any]:
        if not _mapping(value):
            raise Invalid(_EMPTY)
        for path in value:
            validation.read(_value(param_path), path, (*at, path), at_key=True)
        return {path: validation.read(check, expected, (*at, path)) for path, expected in value.items()}

    def check(validation: Validation, value: Any, at: Location) -> Any:
        items = enumerate(value if isinstance(value, list) else ())
        refused = [((*at, number), item) for number, item in items if isinstance(item, Refused)]
        validation.refused += refused
        if refused:
            return None
        if operator.meaning is Meaning.PATTERN:
            checked = validation.regex(operator.check, value)
            if checked is None:
                return None
        else:
            checked = operator.check(value)
        if is_path(path := at[-1]):
            check_fit(path, checked, operator)
        return checked

    schema = {"type": "object", "minProperties": 1, "propertyNames": _PATH}
    steps = {steps: {"allOf": [operator.schema, of_type]} for steps, of_type in _OF_STEPS.items()}
    return Key(
        read, {**schema, "patternProperties": steps, "additionalProperties": operator.schema}, operator.about
    )


def _one_or_some(type_: str) -> dict[str, Any]:
    return {"type": [type_, "array"], "items": {"type": type_}}


_OF_STEPS = {
    r"\[(count|number)\]$": _one_or_some("number"),
    r"\[(lower|anywhere)\]$": _one_or_some("string"),
}
"""What a value must be that is compared with what the last step of a path gives."""


def _list_of_params(operator: Operator) -> Key:
    """Return the key of a condition that lists parameters, and compares them with nothing."""
    by_name = operator.takes is Takes.NAMES
    each = _value(validators.param_name if by_name else param_path)

    def read(validation: Validation, value: Any, at: Location) -> list[Any]:
        if not isinstance(value, list):
            names = value if isinstance(value, dict) else [value]
            meant = (
                f"[{', '.join(map(str, names))}]" if all(isinstance(name, str) for name in names) else None
            )
            raise Invalid(f"must be a list of parameters, not {shown(value)}", meant)
        if not 0 < len(value) <= _MAX_PARAMS:
            raise Invalid(f"must list 1 to {_MAX_PARAMS} parameters, not {len(value)}")
        for number, name in enumerate(value):
            if isinstance(name, str) and name in value[:number]:
                fault = Invalid(f"lists {shown(name)} twice")
                validation.faults.append(Fault((*at, number), name, fault))
        return [validation.read(each, name, (*at, number)) for number, name in enumerate(value)]

    schema = {"type": "array", "minItems": 1, "maxItems": _MAX_PARAMS, "uniqueItems": True}
    return Key(read, {**schema, "items": _PARAM if by_name else _PATH}, operator.about)


def _mapping(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"must be a mapping, not {shown(value)}")
    return value


def _whole(pattern: str) -> str:
    """Return `pattern` for the whole text: in some engines `$` also matches before a last line break."""
    return f"^({pattern})$(?!\n)"


def _any_case(words: Iterable[str]) -> dict[str, Any]:
    """Return the schema of the words in any case: JSON Schema has no case-insensitive match."""
    pattern = "|".join("".join(f"[{c.upper()}{c}]" for c in word) for word in words)
    return {"type": "string", "pattern": _whole(pattern)}


def _choice(key: str, about: str) -> Key:
    words = validators.CHOICES[key]
    # The `enum` is what editors complete.
    schema = {"type": "string", "anyOf": [{"enum": list(words)}, _any_case(words)]}
    return Key(_value(validators.choice(key)), schema, about)


def _globs(about: str) -> Key:
    one = {**_READABLE, "maxLength": MAX_GLOB}
    several = _items(_value(validators.glob), "text or a list of texts", lambda _: None)
    return Key(
        lambda validation, value, at: several(validation, [value] if isinstance(value, str) else value, at),
        {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]},
        about,
    )


_READABLE = {"type": "string", "minLength": 1, "not": {"pattern": DECEPTIVE}}
_PARAM = {**_READABLE, "maxLength": MAX_NAME}
_PATH = {**_PARAM, "pattern": _whole(PARAM_PATH)}
_MAX_PARAMS = 1_000
"""Parameters that one condition lists."""
_NAME = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_NAME,
    "not": {"anyOf": [{"pattern": DECEPTIVE}, {"enum": list(validators.RESERVED)}]},
}
_SHORT_DAYS = [day[:3] for day in WEEKDAYS]
_DAY = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 7},
        {"enum": _SHORT_DAYS},
        _any_case([*_SHORT_DAYS, *WEEKDAYS]),
    ]
}
_TIME = {"type": "string", "pattern": _whole(validators.TIME_OF_DAY.pattern)}
_TIME_OF_DAY = _value(validators.time_of_day)
_MEMBERS = _items(
    *(_group, "a list of mappings of conditions, of which one must hold"),
    lambda value: "[{ ... }, { ... }]" if isinstance(value, dict) else None,
)
_MEMBER = {"$ref": "#/$defs/Conditions", "minProperties": 1}
_RULES = _items(_section("rules"), "a list", lambda value: "[]" if value is None else None, some=False)
_DAYS = _items(
    *(_value(validators.weekday), "a list of days"),
    lambda value: f"[{value}]" if type(value) in (int, str) else None,
)
_VERDICT = {
    "risk_level": _choice("risk_level", "medium when it is not given"),
    "approval": _choice("approval", "approve when it is not given"),
}

_ONE_VALUE = {**_PATH, "not": {"anyOf": [{"pattern": DECEPTIVE}, {"pattern": r"\[(any|all|anywhere)\]"}]}}
_BY = Key(
    _by,
    {
        "type": "array",
        "items": {"anyOf": [{"enum": list(CALL_FACTS)}, _ONE_VALUE]},
        "minItems": 1,
        "maxItems": history_keys.MAX_BY,
        "uniqueItems": True,
    },
    "count calls apart by these: words, or parameters of the call; all together without it",
)
_WITHIN = Key(
    _value(history_keys.within),
    {"anyOf": [{"enum": list(SPANS)}, {"type": "string", "pattern": _whole(durations.DURATION)}]},
    "for how long back: `30s`, `15m`, `1h`, `7d`, or in the same session, conversation or run",
)
_COUNT = Key(
    *(_value(history_keys.count), {"type": "integer", "minimum": 0, "maximum": MOST_COUNTED}),
    "how many may be reached; the condition holds for what is over it",
)


def _persons(about: str) -> Key:
    """Return the key of globs for persons, of which a record of the audit has them all."""
    globs = _globs(about)

    def read(validation: Validation, value: Any, at: Location) -> list[Any]:
        if isinstance(value, list) and len(value) > validators.MAX_PERSONS:
            raise Invalid(f"must list 1 to {validators.MAX_PERSONS} texts, not {len(value)}")
        found: list[Any] = globs.read(validation, value, at)
        return found

    one, several = globs.schema["anyOf"]
    return Key(read, {"anyOf": [one, {**several, "maxItems": validators.MAX_PERSONS}]}, about)


_EXPIRES = Key(
    _value(lambda value: durations.duration(value, validators.MAX_EXPIRES_S)),
    {"type": "string", "pattern": _whole(durations.DURATION)},
    "for how long the question can be answered: `30s`, `15m`, `1h`, `7d`; `30d` at most",
)

_ABOUT = {
    "": (
        "aegis-otel policy",
        "A policy of aegis-otel: rules from top to bottom, the first that matches decides.",
    ),
    "defaults": ("Defaults", "What holds when no rule matches."),
    "rules": ("Rule", "One rule. The first that matches decides."),
    "approvers": ("Approvers", "Who may answer the question of a rule. One no is a no."),
    "match": (
        "Match",
        "What the rule is about. Globs: `*` and `?` are wild, everything else is literal, case counts "
        "unless `ignore_case` is true.",
    ),
    "conditions": ("Conditions", "What must hold as well; all of it."),
    "calls_over": ("CallsOver", "How many calls have been permitted."),
    "total_over": ("TotalOver", "What a parameter of the permitted calls adds up to."),
    "tokens_over": ("TokensOver", "How many tokens the runs have used."),
    "after": ("After", "A call that went before."),
    "repeats": ("Repeats", "A call with the same values that went before."),
}

SECTIONS: Mapping[str, Mapping[str, Key]] = {
    "": {
        "version": Key(_value(validators.version), {"enum": ["1", 1]}, 'version of this format, "1"'),
        "defaults": Key(_section("defaults"), {"$ref": "#/$defs/Defaults"}),
        "rules": Key(_RULES, {"type": "array", "items": {"$ref": "#/$defs/Rule"}}),
    },
    "defaults": _VERDICT,
    "rules": {
        "name": Key(
            *(_value(validators.name), _NAME),
            "how decisions, audit and signals call it; unique; `rule_<number>` without it",
        ),
        "match": Key(_section("match"), {"$ref": "#/$defs/Match"}),
        "conditions": Key(_section("conditions"), {"$ref": "#/$defs/Conditions"}),
        **_VERDICT,
        "mode": _choice(
            "mode", "`monitor`: decided and recorded, not enforced; enforce when it is not given"
        ),
        "message": Key(
            *(
                _value(validators.message),
                {**_READABLE, "maxLength": MAX_MESSAGE, "not": {"pattern": HIDDEN}},
            ),
            "what the model reads after the text of a refusal, such as what to do instead",
        ),
        "approvers": Key(
            *(_approvers, {"$ref": "#/$defs/Approvers", "minProperties": 1}),
            "who may answer where the rule asks; anybody whom the channel asks when it is not given",
        ),
        "expires": _EXPIRES,
    },
    "approvers": {
        "users": _persons("who may answer, by name: globs; with `roles`, either is enough"),
        "roles": _persons("who may answer, by one of their roles: globs; with `users`, either is enough"),
        "count": Key(
            *(
                _value(validators.approver_count),
                {"type": "integer", "minimum": 1, "maximum": validators.MAX_APPROVERS},
            ),
            "how many different persons have to say yes; 1 when it is not given",
        ),
        "self": Key(
            *(_value(validators.flag), {"type": "boolean"}),
            "whether the user that the agent acts for may be one of them; false when it is not given",
        ),
    },
    "match": {
        "type": _globs("the action type; for a tool call, the tool's name"),
        "target": _globs("what is acted on"),
        "agent": _globs("the name of the agent that asks"),
        "user": _globs("the user that the agent acts for; where it is not known, the stricter verdict wins"),
        "tenant": _globs("the tenant that the agent acts for; likewise"),
        "role": _globs("one of the user's roles; likewise"),
        "ignore_case": Key(
            *(_value(validators.flag), {"type": "boolean"}),
            "whether these globs match in any case; false when it is not given",
        ),
    },
    "conditions": {
        "time_after": Key(_TIME_OF_DAY, _TIME, "at or after this time of day"),
        "time_before": Key(_TIME_OF_DAY, _TIME, "before this time of day"),
        "weekdays": Key(
            *(_DAYS, {"type": "array", "items": _DAY, "minItems": 1}),
            "on these days; a window over midnight belongs to the day it began on",
        ),
        "timezone": Key(
            *(_value(validators.timezone), {"type": "string", "minLength": 1}),
            "IANA zone the times and days are in; UTC without it",
        ),
        **{
            key: _params(operator) if operator.takes is Takes.VALUES else _list_of_params(operator)
            for key, operator in OPERATORS.items()
        },
        "calls_over": _history("calls_over", "with this call, more calls than this have been permitted"),
        "total_over": _history(
            "total_over", "with this call, a parameter of the permitted calls adds up to more"
        ),
        "tokens_over": _history("tokens_over", "the runs have used more tokens than this"),
        "after": _history("after", "a call of these types went before"),
        "repeats": _history("repeats", "a call with the same values was permitted before, however it ended"),
        "any": Key(
            *(_MEMBERS, {"type": "array", "items": _MEMBER, "minItems": 1}),
            "one of these sets of conditions holds",
        ),
        "not": Key(_group, _MEMBER, "this set of conditions does not hold"),
    },
    "calls_over": {"limit": _COUNT, "within": _WITHIN, "by": _BY},
    "total_over": {
        "param": Key(_value(history_keys.one_value), _ONE_VALUE, "the parameter that has the amount"),
        "limit": Key(
            *(_value(history_keys.total), {"type": "number", "minimum": 0, "maximum": MOST_COUNTED}),
            "how much may be reached, with at most six digits after the point",
        ),
        "within": _WITHIN,
        "by": _BY,
    },
    "tokens_over": {"limit": _COUNT, "within": _WITHIN, "by": _BY},
    "after": {
        "type": _globs("the type of the call that went before"),
        "result": _choice("result", "how it ended; either when it is not given"),
        "within": _WITHIN,
        "by": _BY,
    },
    "repeats": {
        "by": _BY._replace(schema={**_BY.schema, "contains": {"not": {"enum": list(CALL_FACTS)}}}),
        "within": _WITHIN,
    },
}
"""The keys of each section, by the section's own key; the whole policy is the section without one."""
KEYS = {name: tuple(keys) for name, keys in SECTIONS.items()}
KEY_SYNONYMS: Mapping[str, Mapping[str, str]] = {
    name: by_synonym(
        DATA["keys"][name]
        | ({key: operator.synonyms for key, operator in OPERATORS.items()} if name == "conditions" else {})
    )
    for name in SECTIONS
}
"""Our keys by those of other policy languages, for each section."""


def read_policy(data: Any, validation: Validation) -> Any:
    """Return the checked `data` of a whole policy; its faults are collected in `validation`."""
    return validation.read(_section(""), data, ())


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a policy file, for editors.

    It accepts all that the loader accepts, and some of what the loader refuses: docs/policy.md lists what it
    cannot check, such as whether a regular expression compiles or a host can be one.
    """
    return schema_of(SECTIONS, _ABOUT, {key: {"required": list(history_keys.NEEDS[key])} for key in HISTORY})


def schema_of(
    sections: Mapping[str, Mapping[str, Key]],
    titles: Mapping[str, tuple[str, str]],
    bounds: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the JSON Schema of a file that has these sections.

    Args:
        sections: The keys of each section, by its name; the whole file is the section without one.
        titles: The title of each section, and a sentence about it.
        bounds: What else the schema of a section says, by its name.
    """
    made = {
        title: {
            "title": title,
            "description": about,
            "type": "object",
            "additionalProperties": False,
            "properties": {
                key: {**it.schema, **({"description": it.about} if it.about else {})}
                for key, it in sections[name].items()
            },
            **((bounds or {}).get(name, {})),
        }
        for name, (title, about) in titles.items()
    }
    whole = made.pop(titles[""][0])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole, "$defs": made}
