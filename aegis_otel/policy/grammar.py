"""The grammar of a policy file: the one model behind both the loader and the published JSON Schema.

Each leaf is a check in Python that words its own complaint, with the JSON Schema of the same check
beside it; pydantic walks the structure. Importing this module imports pydantic, so only `document.py`
does, when a policy is loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, NoReturn
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, TypeAdapter, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from aegis_otel.policy.regexes import MAX_REGEX, BadRegex, compile_regex
from aegis_otel.policy.wording import closest, listed, shown

VERSIONS = ("1", 1)
APPROVALS = ("auto", "approve", "block")
RISK_LEVELS = ("low", "medium", "high", "critical")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MAX_NAME = 200

# Control characters, zero-width space, direction marks and overrides, line separators, byte order mark:
# they make a name read as what it is not, in a terminal and in a review.
_DECEPTIVE = r"[\u0000-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
_DECEPTIVE_CHARACTER = re.compile(_DECEPTIVE + r"|[\ud800-\udfff]")
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?\s*([ap]m)?", re.IGNORECASE)
_PARAM_PATH = re.compile(r"[^.]+(\.[^.]+)*")


def _refuse(message: str, suggestion: str | None = None) -> NoReturn:
    """Fail the check; the message continues the sentence that begins with the key."""
    raise PydanticCustomError("policy", "{message}", {"message": message, "suggestion": suggestion or ""})


def _any_case(words: tuple[str, ...]) -> str:
    """A pattern for the words in any case: JSON Schema has no case-insensitive match."""
    spelled = ("".join(f"[{c.upper()}{c}]" for c in word) for word in words)
    return f"^({'|'.join(spelled)})$(?!\n)"


def _version(value: object) -> str:
    if isinstance(value, bool) or value not in VERSIONS:
        _refuse(f'must be "1", not {shown(value)}', '"1"')
    return "1"


def _approval(value: object) -> str:
    if not isinstance(value, str) or value not in APPROVALS:
        suggestion = closest(value, APPROVALS) if isinstance(value, str) else None
        _refuse(f"must be {listed(APPROVALS)}, not {shown(value)}", suggestion)
    return str(value)


def _risk_level(value: object) -> str:
    if not isinstance(value, str) or value.lower() not in RISK_LEVELS:
        suggestion = closest(value, RISK_LEVELS) if isinstance(value, str) else None
        _refuse(f"must be {listed(RISK_LEVELS)}, not {shown(value)}", suggestion)
    return value.lower()


def _readable(value: object, longest: int) -> str:
    if not isinstance(value, str):
        _refuse(f"must be text, not {shown(value)}")
    if not 0 < len(value) <= longest:
        _refuse(f"must have 1 to {longest} characters, not {len(value)}")
    if found := _DECEPTIVE_CHARACTER.search(value):
        _refuse(f"has a control or invisible character, {shown(found[0])}, in {shown(value)}")
    return value


def _name(value: object) -> str:
    name = _readable(value, MAX_NAME)
    if name == "<default>":
        _refuse("`<default>` is what signals call no rule at all: choose another name")
    return name


def _glob(value: object) -> str:
    return _readable(value, 1000)


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _time_of_day(value: object) -> int:
    """Minutes since midnight."""
    if isinstance(value, str) and _TIME_OF_DAY.fullmatch(value):
        return int(value[:2]) * 60 + int(value[3:])
    _refuse(f'must be a time of day in quotes, "00:00" to "23:59", not {shown(value)}', _meant_time(value))


def _meant_time(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        return f'"{value // 60:02}:{value % 60:02}"'  # YAML 1.1 reads an unquoted 18:00 as 1080
    if not isinstance(value, str) or not (found := _CLOCK.fullmatch(value.strip())):
        return None
    hour, minute = int(found[1]), int(found[2] or 0)
    if found[3] and 1 <= hour <= 12:
        hour = hour % 12 + (12 if found[3].lower() == "pm" else 0)
    return f'"{hour % 24:02}:{minute:02}"' if hour <= 24 and minute < 60 else None


def _weekday(value: object) -> int:
    """ISO weekday, 1 is Monday."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value in range(1, 8):
        return int(value)
    suggestion = None
    if isinstance(value, str):
        for number, day in enumerate(WEEKDAYS, 1):
            if value.lower() in (day, day[:3]):
                return number
        suggestion = value.strip() if value.strip() in "1234567" else closest(value, WEEKDAYS)
    _refuse(f"must name days: 1 (Monday) to 7, or `mon` to `sun`, not {shown(value)}", suggestion)


def _timezone(value: object) -> str:
    if not isinstance(value, str):
        _refuse(f"must be the name of an IANA time zone, like `Europe/Berlin`, not {shown(value)}")
    try:
        # `localtime` and its kind exist on some machines and mean something else on each.
        if value and "local" not in value and "posix" not in value:
            ZoneInfo(value)
            return value
    except (OSError, ValueError, KeyError):
        pass
    zones = {zone.lower(): zone for zone in available_timezones()}
    meant = zones.get(value.strip().lower()) or zones.get(closest(value, zones) or "")
    _refuse(f"must be the name of an IANA time zone, like `Europe/Berlin`, not {shown(value)}", meant)


def _param_path(value: object) -> str:
    path = _readable(value, MAX_NAME)
    if not _PARAM_PATH.fullmatch(path):
        _refuse(f"needs parameter names between the dots, not {shown(path)}")
    return path


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        suggestion = value if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value) else None
        _refuse(f"must be a finite number, not {shown(value)}", suggestion)
    return value


def _scalar(value: object) -> str | int | float | bool:
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        _refuse(f"must be text, a finite number, true or false, not {shown(value)}")
    return value


def _regex(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_REGEX:
        _refuse(f"must be a regular expression of 1 to {MAX_REGEX} characters, not {shown(value)}")
    try:
        compile_regex(value)
    except BadRegex as error:
        _refuse(f"is not a regular expression in RE2 syntax: {error}")
    return value


_GLOB_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 1000, "not": {"pattern": _DECEPTIVE}}
_PATH_SCHEMA = {
    "minLength": 1,
    "maxLength": MAX_NAME,
    "pattern": f"^{_PARAM_PATH.pattern}$",
    "not": {"pattern": _DECEPTIVE},
}


def _leaf(check: Callable[[Any], Any], schema: dict[str, Any]) -> Any:
    return Annotated[Any, PlainValidator(check), WithJsonSchema(schema)]


def _params(check: Callable[[Any], Any], schema: dict[str, Any]) -> Any:
    """A mapping from parameter names to what is expected of them."""
    return Annotated[
        dict[Annotated[str, PlainValidator(_param_path)], Annotated[Any, PlainValidator(check)]],
        Field(min_length=1),
        WithJsonSchema(
            {
                "type": "object",
                "minProperties": 1,
                "propertyNames": _PATH_SCHEMA,
                "additionalProperties": schema,
            }
        ),
    ]


Approval = _leaf(_approval, {"enum": list(APPROVALS)})
RiskLevel = _leaf(
    _risk_level,
    {"type": "string", "anyOf": [{"enum": list(RISK_LEVELS)}, {"pattern": _any_case(RISK_LEVELS)}]},
)
Globs = Annotated[
    list[Annotated[str, PlainValidator(_glob)]],
    Field(min_length=1),
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [_GLOB_SCHEMA, {"type": "array", "items": _GLOB_SCHEMA, "minItems": 1}]}),
]
TimeOfDay = _leaf(_time_of_day, {"type": "string", "pattern": f"^({_TIME_OF_DAY.pattern})$(?!\n)"})
Weekday = _leaf(
    _weekday,
    {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 7},
            {"enum": [day[:3] for day in WEEKDAYS]},
            {"type": "string", "pattern": _any_case((*WEEKDAYS, *(day[:3] for day in WEEKDAYS)))},
        ]
    },
)
Numbers = _params(_number, {"type": "number"})
Scalars = _params(_scalar, {"type": ["string", "number", "boolean"]})
Regexes = _params(_regex, {"type": "string", "minLength": 1, "maxLength": MAX_REGEX})

_STRICT = ConfigDict(extra="forbid", strict=True)


class Match(TypedDict, total=False):
    """What the rule is about. Globs: `*` and `?` are wild, everything else is literal, case counts."""

    __pydantic_config__ = _STRICT
    type: Annotated[Globs, Field(description="the action type; for a tool call, the tool's name")]
    target: Annotated[Globs, Field(description="what is acted on")]
    agent: Annotated[Globs, Field(description="the name of the agent that asks")]


class Conditions(TypedDict, total=False):
    """What must hold as well; all of it."""

    __pydantic_config__ = _STRICT
    time_after: Annotated[TimeOfDay, Field(description="at or after this time of day")]
    time_before: Annotated[TimeOfDay, Field(description="before this time of day")]
    weekdays: Annotated[
        list[Weekday],
        Field(min_length=1, description="on these days; a window over midnight belongs to the day it began on"),
    ]
    timezone: Annotated[
        str,
        PlainValidator(_timezone),
        WithJsonSchema({"type": "string", "minLength": 1}),
        Field(description="IANA zone the times and days are in; UTC when it is not given"),
    ]
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


class Rule(TypedDict, total=False):
    """One rule. The first that matches decides."""

    __pydantic_config__ = _STRICT
    name: Annotated[
        str,
        PlainValidator(_name),
        WithJsonSchema(
            {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_NAME,
                "not": {"anyOf": [{"pattern": _DECEPTIVE}, {"const": "<default>"}]},
            }
        ),
        Field(description="how decisions, audit and signals call it; unique; `rule_<number>` without it"),
    ]
    match: Match
    conditions: Conditions
    risk_level: Annotated[RiskLevel, Field(description="medium when it is not given")]
    approval: Annotated[Approval, Field(description="approve when it is not given")]


class Defaults(TypedDict, total=False):
    """What holds when no rule matches."""

    __pydantic_config__ = _STRICT
    risk_level: Annotated[RiskLevel, Field(description="medium when it is not given")]
    approval: Annotated[Approval, Field(description="approve when it is not given")]


class Policy(TypedDict, total=False):
    """A policy of aegis-otel: rules from top to bottom, the first that matches decides."""

    __pydantic_config__ = _STRICT
    version: Annotated[
        str,
        PlainValidator(_version),
        WithJsonSchema({"enum": list(VERSIONS)}),
        Field(description='version of this format, "1"'),
    ]
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
