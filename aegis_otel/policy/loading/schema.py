"""The grammar of a policy file: the one model behind both the loader and the published JSON Schema.

Pydantic walks the structure, `validators.py` checks the values; beside each check stands what JSON Schema
can say of it. Importing this module imports pydantic, so only `loading/loader.py` does, when a policy is
loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    WithJsonSchema,
    with_config,
)
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict

from aegis_otel.policy.evaluation.patterns import MAX_REGEX
from aegis_otel.policy.loading import validators
from aegis_otel.policy.loading.validators import DECEPTIVE, MAX_GLOB, MAX_NAME, RISK_LEVELS, WEEKDAYS


def _any_case(words: Iterable[str]) -> str:
    """A pattern for the words in any case: JSON Schema has no case-insensitive match."""
    return _whole("|".join("".join(f"[{c.upper()}{c}]" for c in word) for word in words))


def _whole(pattern: str) -> str:
    """`pattern` for the whole text; to some engines `$` also stands before a last line break."""
    return f"^({pattern})$(?!\n)"


def _params(expected: dict[str, Any]) -> WithJsonSchema:
    """A mapping from parameter names to what is expected of them."""
    return WithJsonSchema(
        {"type": "object", "minProperties": 1, "propertyNames": _PATH, "additionalProperties": expected}
    )


_READABLE = {"type": "string", "minLength": 1, "not": {"pattern": DECEPTIVE}}
_PATH = {**_READABLE, "maxLength": MAX_NAME, "pattern": _whole(validators.PARAM_PATH.pattern)}
_GLOB = {**_READABLE, "maxLength": MAX_GLOB}
_NAME = {
    **_READABLE,
    "maxLength": MAX_NAME,
    "not": {"anyOf": [{"pattern": DECEPTIVE}, {"enum": list(validators.RESERVED)}]},
}


def _one_of(words: Iterable[str]) -> WithJsonSchema:
    """One of `words`, in any case; the `enum` is what editors complete."""
    return WithJsonSchema({"type": "string", "anyOf": [{"enum": list(words)}, {"pattern": _any_case(words)}]})


_SHORT_DAYS = [day[:3] for day in WEEKDAYS]
_DAY = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 7},
        {"enum": _SHORT_DAYS},
        {"type": "string", "pattern": _any_case([*_SHORT_DAYS, *WEEKDAYS])},
    ]
}
_TIME = {"type": "string", "pattern": _whole(validators.TIME_OF_DAY.pattern)}
_TEXT = {"type": "string", "minLength": 1}

Version = Annotated[
    str, PlainValidator(validators.version), WithJsonSchema({"enum": list(validators.VERSIONS)})
]
Approval = Annotated[str, PlainValidator(validators.approval), _one_of(validators.APPROVALS)]
RiskLevel = Annotated[str, PlainValidator(validators.risk_level), _one_of(RISK_LEVELS)]
Name = Annotated[str, PlainValidator(validators.name), WithJsonSchema(_NAME)]
Globs = Annotated[
    list[Annotated[str, PlainValidator(validators.glob)]],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [_GLOB, {"type": "array", "items": _GLOB, "minItems": 1}]}),
]
TimeOfDay = Annotated[int, PlainValidator(validators.time_of_day), WithJsonSchema(_TIME)]
Weekday = Annotated[int, PlainValidator(validators.weekday), WithJsonSchema(_DAY)]
Timezone = Annotated[str, PlainValidator(validators.timezone), WithJsonSchema(_TEXT)]
_Path = Annotated[str, PlainValidator(validators.param_path)]
Numbers = Annotated[
    dict[_Path, Annotated[int | float, PlainValidator(validators.number)]],
    Field(min_length=1),
    _params({"type": "number"}),
]
Scalars = Annotated[
    dict[_Path, Annotated[str | int | float | bool, PlainValidator(validators.scalar)]],
    Field(min_length=1),
    _params({"type": ["string", "number", "boolean"]}),
]
Regexes = Annotated[
    dict[_Path, Annotated[str, PlainValidator(validators.regex)]],
    Field(min_length=1),
    _params({**_TEXT, "maxLength": MAX_REGEX}),
]

_strict = with_config(ConfigDict(extra="forbid", strict=True))


@_strict
class Match(TypedDict, total=False):
    """What the rule is about. Globs: `*` and `?` are wild, everything else is literal, case counts."""

    type: Annotated[Globs, Field(description="the action type; for a tool call, the tool's name")]
    target: Annotated[Globs, Field(description="what is acted on")]
    agent: Annotated[Globs, Field(description="the name of the agent that asks")]


@_strict
class Conditions(TypedDict, total=False):
    """What must hold as well; all of it."""

    time_after: Annotated[TimeOfDay, Field(description="at or after this time of day")]
    time_before: Annotated[TimeOfDay, Field(description="before this time of day")]
    weekdays: Annotated[
        list[Weekday],
        Field(
            min_length=1, description="on these days; a window over midnight belongs to the day it began on"
        ),
    ]
    timezone: Annotated[Timezone, Field(description="IANA zone the times and days are in; UTC without it")]
    param_eq: Annotated[Scalars, Field(description="parameter equals; text, number and boolean never mix")]
    param_gt: Annotated[Numbers, Field(description="parameter is greater than")]
    param_lt: Annotated[Numbers, Field(description="parameter is less than")]
    param_gte: Annotated[Numbers, Field(description="parameter is at least")]
    param_lte: Annotated[Numbers, Field(description="parameter is at most")]
    param_contains: Annotated[
        Scalars, Field(description="text has this part, a list this item, a mapping this key")
    ]
    param_matches: Annotated[
        Regexes, Field(description="RE2 pattern found anywhere in the text; `(?i)` ignores case")
    ]


@_strict
class Rule(TypedDict, total=False):
    """One rule. The first that matches decides."""

    name: Annotated[
        Name,
        Field(description="how decisions, audit and signals call it; unique; `rule_<number>` without it"),
    ]
    match: Match
    conditions: Conditions
    risk_level: Annotated[RiskLevel, Field(description="medium when it is not given")]
    approval: Annotated[Approval, Field(description="approve when it is not given")]


@_strict
class Defaults(TypedDict, total=False):
    """What holds when no rule matches."""

    risk_level: Annotated[RiskLevel, Field(description="medium when it is not given")]
    approval: Annotated[Approval, Field(description="approve when it is not given")]


@_strict
class Policy(TypedDict, total=False):
    """A policy of aegis-otel: rules from top to bottom, the first that matches decides."""

    version: Annotated[Version, Field(description='version of this format, "1"')]
    defaults: Defaults
    rules: list[Rule]


POLICY: TypeAdapter[Policy] = TypeAdapter(Policy)

KEYS: dict[str, tuple[str, ...]] = {
    "": tuple(Policy.__annotations__),
    "defaults": tuple(Defaults.__annotations__),
    "rules": tuple(Rule.__annotations__),
    "match": tuple(Match.__annotations__),
    "conditions": tuple(Conditions.__annotations__),
}
"""The keys of each section, by the section's own key; the whole policy is the section without one."""


class _WithoutTitles(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a policy file, for editors.

    It accepts what the loader accepts, save what JSON Schema cannot say: whether a regular expression
    compiles, a time zone exists, a name is used twice or a number is finite.
    """
    schema = POLICY.json_schema(schema_generator=_WithoutTitles)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "aegis-otel policy"}
