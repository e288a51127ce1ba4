"""The keys of a file with cases: the one table behind both its reader and its published JSON Schema.

It is read with the same YAML reader and the same checks as a policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aegis_otel.policy.lint.tool_list import NotTools, read_tools
from aegis_otel.policy.loading import durations, history_keys, validators
from aegis_otel.policy.loading.schema import SECTIONS as POLICY_SECTIONS
from aegis_otel.policy.loading.schema import Fault, Key, Reader, Validation, schema_of
from aegis_otel.policy.loading.validators import by_synonym
from aegis_otel.policy.loading.yaml_reader import Location
from aegis_otel.policy.messages import Invalid, closest, listed, quoted, shown
from aegis_otel.policy.rules import MOST_COUNTED

_MAX_TEXT = 1000
_MAX_TIMES = 10_000
_RESULTS = ("success", "failed", "unknown")
_READABLE = {"type": "string", "minLength": 1, "maxLength": _MAX_TEXT}


def _mapping(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"must be a mapping, not {shown(value)}")
    return value


def _text(_: Validation, value: Any, at: Location, what: str = "text") -> str:  # noqa: ARG001
    if not isinstance(value, str):
        raise Invalid(
            f"must be {what}, not {shown(value)}", f'"{value}"' if type(value) in (int, bool) else None
        )
    if not 0 < len(value) <= _MAX_TEXT:
        raise Invalid(f"must have 1 to {_MAX_TEXT} characters, not {len(value)}")
    return value


def _texts(validation: Validation, value: Any, at: Location) -> list[str]:
    if isinstance(value, str):
        return [_text(validation, value, at)]
    return _list(_text, "text or a list of texts", validation, value, at)


def _list(
    each: Reader, what: str, validation: Validation, value: Any, at: Location, *, some: bool = True
) -> list[Any]:
    if not isinstance(value, list):
        raise Invalid(f"must be {what}, not {shown(value)}")
    if some and not value:
        raise Invalid("must not be empty")
    return [validation.read(each, item, (*at, number)) for number, item in enumerate(value)]


def _section(name: str, validation: Validation, value: Any, at: Location) -> dict[str, Any]:
    keys, found = SECTIONS[name], {}
    for key, inner in _mapping(value).items():
        if key in keys:
            found[key] = validation.read(keys[key].read, inner, (*at, key))
        else:
            validation.faults.append(Fault((*at, key), inner, None, at_key=True))
    missing = [f"`{key}`" for key in REQUIRED.get(name, ()) if key not in value]
    if missing:
        raise Invalid(f"needs {' and '.join(missing)}")
    if name == "expect" and not value:
        raise Invalid("must not be empty: state `approval`, `rule` or both")
    if name == "approvers" and not value:
        raise Invalid("must not be empty: state who must be asked, as the policy does")
    return found


def _time(_: Validation, value: Any, at: Location) -> datetime:  # noqa: ARG001
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        message = f'must be an ISO 8601 time in quotes, such as "2026-03-04T12:00:00Z", not {shown(value)}'
        raise Invalid(message) from None


def _params(_: Validation, value: Any, at: Location) -> dict[Any, Any]:  # noqa: ARG001
    return _mapping(value)


def _schema(_: Validation, value: Any, at: Location) -> Mapping[str, Any] | None:  # noqa: ARG001
    try:
        (tool,) = read_tools({"tool": _mapping(value)}).tools
        return tool.schema
    except NotTools as error:
        raise Invalid(f"is not the JSON Schema of a tool's parameters: {error}") from None


def _checked(check: Callable[[object], Any]) -> Reader:
    return lambda _validation, value, _at: check(value)


def _times(_: Validation, value: Any, at: Location) -> int:  # noqa: ARG001
    if type(value) is not int or not 1 <= value <= _MAX_TIMES:
        raise Invalid(f"must be a whole number from 1 to {_MAX_TIMES}, not {shown(value)}")
    return value


def _result(_: Validation, value: Any, at: Location) -> str:  # noqa: ARG001
    if value not in _RESULTS:
        meant = closest(value, _RESULTS) if isinstance(value, str) else None
        raise Invalid(f"must be {listed(_RESULTS)}, not {shown(value)}", meant)
    return str(value)


def _or_null(read: Reader, schema: Mapping[str, Any], about: str) -> Key:
    """Return the key of what a call may lack: null says that it does."""

    def read_or_null(validation: Validation, value: Any, at: Location) -> Any:
        return None if value is None else read(validation, value, at)

    return Key(read_or_null, {**schema, "type": [schema["type"], "null"]}, about)


_text_or_null = partial(_or_null, partial(_text, what="text or `null`"), _READABLE)
_WHO = {
    "user": _text_or_null("the user that the agent acts for; not known without it, or as null"),
    "tenant": _text_or_null("the tenant that the agent acts for; not known without it, or as null"),
    "roles": _or_null(
        partial(_list, _text, "a list of texts or `null`", some=False),
        {"type": "array", "items": _READABLE},
        "the user's roles, all of them; not known without it, or as null",
    ),
    "session": _text_or_null(
        "the session; without it, one that all such calls have in common; not known as null"
    ),
    "conversation": _text_or_null("the conversation; likewise, and null where the program names none"),
    "run": _text_or_null("the run; likewise"),
}
"""What a case says about where its call comes from, and those before it with it."""
_TOKENS = {
    "tokens": _or_null(
        *(_checked(history_keys.count), {"type": "integer", "minimum": 0, "maximum": MOST_COUNTED}),
        "the tokens that the run has used by then; not known without it, or as null",
    ),
}
_ONE_OR_MORE = {"anyOf": [_READABLE, {"type": "array", "items": _READABLE, "minItems": 1}]}
SECTIONS: Mapping[str, Mapping[str, Key]] = {
    "": {
        "version": Key(_checked(validators.version), {"enum": ["1", 1]}, 'version of this format, "1"'),
        "policy": Key(
            *(_texts, _ONE_OR_MORE),
            "the policy file, or several that are merged; relative to this file",
        ),
        "tools": Key(
            *(_text, _READABLE),
            "a list of the tools in JSON, as `aegis policy tools --out` writes it; relative to this file",
        ),
        "cases": Key(
            partial(_list, partial(_section, "cases"), "a list of cases"),
            {"type": "array", "items": {"$ref": "#/$defs/Case"}, "minItems": 1},
        ),
    },
    "cases": {
        "name": Key(_text, _READABLE, "what the case shows; unique"),
        "action": Key(partial(_section, "action"), {"$ref": "#/$defs/Action"}),
        **_WHO,
        **_TOKENS,
        "before": Key(
            partial(_list, partial(_section, "before"), "a list of calls"),
            {"type": "array", "items": {"$ref": "#/$defs/Before"}, "minItems": 1},
            "calls that ran before this one, for conditions on earlier calls",
        ),
        "at": Key(
            *(_time, {"type": "string"}),
            "the time of the call in ISO 8601, UTC without an offset; needed where a rule looks at the time",
        ),
        "expect": Key(partial(_section, "expect"), {"$ref": "#/$defs/Expect"}),
    },
    "before": {
        "action": Key(partial(_section, "action"), {"$ref": "#/$defs/Action"}),
        "ago": Key(
            *(_checked(durations.duration), {"type": "string", "pattern": f"^{durations.DURATION}$"}),
            "how long before the case it was: `30s`, `15m`, `1h`, `7d`; just before without it",
        ),
        "result": Key(
            _result,
            {"enum": list(_RESULTS)},
            "how it ended; `unknown` where nobody knows; success without it",
        ),
        "times": Key(
            _times,
            {"type": "integer", "minimum": 1, "maximum": _MAX_TIMES},
            "how many of these calls there were; 1 without it",
        ),
        **{
            key: each._replace(
                about=f"{each.about.partition(';')[0]}; that of the case without it, not known as null"
            )
            for key, each in _WHO.items()
        },
        **_TOKENS,
    },
    "action": {
        "type": Key(_text, _READABLE, "the action type; for a tool call, the tool's name"),
        "target": Key(
            _text, _READABLE, "what is acted on; without it that of the tool in `tools`, or `default`"
        ),
        "agent": _text_or_null("the name of the agent that asks; not known without it, or as null"),
        "params": Key(_params, {"type": "object"}, "the arguments; none without it"),
        "schema": Key(
            *(_schema, {"type": "object"}),
            "JSON Schema of the arguments; without it that of the tool in `tools`",
        ),
    },
    "expect": {
        "approval": Key(
            _checked(validators.choice("approval")),
            {"enum": list(validators.APPROVALS)},
            "what the policy must say",
        ),
        "rule": Key(_text, _READABLE, "the rule that must decide; `<default>` where none may match"),
        "risk_level": Key(
            _checked(validators.choice("risk_level")),
            {"enum": list(validators.RISK_LEVELS)},
            "the risk that the policy must state",
        ),
        "mode": Key(
            _checked(validators.choice("mode")),
            {"enum": list(validators.CHOICES["mode"])},
            "monitor where the verdict must only be monitored; without it, an approval must be enforced",
        ),
        "approvers": Key(
            *(partial(_section, "approvers"), {"$ref": "#/$defs/Approvers"}),
            "who must be asked, all of it: what is left out is what a policy means by leaving it out",
        ),
    },
    "approvers": POLICY_SECTIONS["approvers"],
}
"""The keys of each section, by the section's own key; the whole file is the section without one."""
REQUIRED = {
    "": ("cases",),
    "cases": ("name", "action", "expect"),
    "before": ("action",),
    "action": ("type",),
}
_TITLES = {
    "": "a file with cases",
    "cases": "a case",
    "before": "a call of `before`",
    "action": "`action`",
    "expect": "`expect`",
    "approvers": "`approvers`",
}
_INSIDE = ("action", "before", "expect", "approvers")
_SYNONYMS = by_synonym(
    {
        "type": "tool",
        "params": "arguments args parameters",
        "name": "about title test",
        "expect": "expected then",
        "approval": "verdict decision outcome",
        "rule": "matched_rule",
        "risk_level": "risk",
        "at": "now time timestamp",
        "cases": "tests",
        "before": "earlier given history past previous",
        "ago": "age since when",
        "times": "count n repeat",
        "result": "status",
    }
)
_ABOUT = {
    "": ("aegis-otel policy cases", "Cases for `aegis policy test`: calls, and what a policy must decide."),
    "cases": ("Case", "One call, and what the policy must decide."),
    "before": ("Before", "Calls that ran before the one of the case."),
    "action": ("Action", "What an agent is about to do."),
    "expect": ("Expect", "What must be decided; all that is stated."),
    "approvers": ("Approvers", "Who must be asked, as a rule of a policy says it."),
}


def read_file_section(data: Any, validation: Validation) -> Any:
    """Return the checked `data` of a whole file; its faults are collected in `validation`."""
    return validation.read(partial(_section, ""), data, ())


def explain_fault(fault: Fault) -> tuple[str, str | None]:
    """Return the sentence about `fault`, and what was probably meant."""
    names = [step for step in fault.location if isinstance(step, str)]
    if fault.error is None:
        *above, key = names
        section = above[-1] if above else ""
        if section == "action" and key in SECTIONS["cases"]:
            return f"unknown key {quoted(key)} in `action`: it stands beside `action`", None
        meant = closest(key, SECTIONS[section]) or _SYNONYMS.get(key.lower())
        return f"unknown key {quoted(key)} in {_TITLES[section]}", meant
    if not names:
        subject = _TITLES[""]
    elif names[-1] in ("cases", "before") and fault.location[-1] != names[-1]:
        subject = _TITLES[names[-1]]
    else:
        inside = names[-2] if len(names) > 1 and names[-2] in _INSIDE else ""
        subject = f"`{inside}.{names[-1]}`" if inside else f"`{names[-1]}`"
    suggestion = fault.error.suggestion
    return f"{subject} {fault.error}", suggestion() if callable(suggestion) else suggestion


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a file with cases, for editors.

    It accepts what the reader accepts, save what JSON Schema cannot say: whether a file or a rule exists, a
    name is used twice, or a time is one.
    """
    bounds = {
        name: {"required": list(REQUIRED[name])} if name in REQUIRED else {"minProperties": 1}
        for name in _ABOUT
    }
    return schema_of(SECTIONS, _ABOUT, bounds)
