"""What a rule sees of the tools that get no JSON arguments: shells, patches, custom text, the computer.

Each kind has the JSON Schema of what it becomes, so that a rule on a parameter that no such call has
counts against the call, as with every other tool. What the model left out is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_STRING = {"type": "string"}
_INTEGER = {"type": "integer"}
_STRINGS = {"type": "array", "items": _STRING}
_POINTS = {"type": "array", "items": {"type": "object", "properties": {"x": _INTEGER, "y": _INTEGER}}}

Schema = Mapping[str, Any]


def _schema(**properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


SHELL = _schema(commands=_STRINGS, command_line=_STRING, timeout_ms=_INTEGER, max_output_length=_INTEGER)
LOCAL_SHELL = _schema(
    command=_STRINGS,
    command_line=_STRING,
    working_directory=_STRING,
    env={"type": "object"},
    timeout_ms=_INTEGER,
    user=_STRING,
)
APPLY_PATCH = _schema(
    type={"enum": ["create_file", "update_file", "delete_file"]}, path=_STRING, diff=_STRING, move_to=_STRING
)
CUSTOM = _schema(input=_STRING)
COMPUTER = _schema(
    type=_STRING,
    x=_INTEGER,
    y=_INTEGER,
    button=_STRING,
    keys=_STRINGS,
    path=_POINTS,
    scroll_x=_INTEGER,
    scroll_y=_INTEGER,
    text=_STRING,
    arguments={"type": "array"},
)

_POSITIONAL = {
    "click": ("x", "y", "button"),
    "double_click": ("x", "y"),
    "drag": ("path",),
    "keypress": ("keys",),
    "move": ("x", "y"),
    "screenshot": (),
    "scroll": ("x", "y", "scroll_x", "scroll_y"),
    "type": ("text",),
    "wait": (),
}
"""What the SDK passes to each method of a computer, in order."""


def of_shell(request: Any) -> dict[str, Any]:
    """The parameters of a `ShellCommandRequest`; `command_line` is all of it as text, for regexes."""
    action = request.data.action
    return {**_given(action, SHELL), "command_line": "\n".join(action.commands)}


def of_local_shell(request: Any) -> dict[str, Any]:
    """The parameters of a `LocalShellCommandRequest`; `command_line` is all of it as text, for regexes."""
    action = request.data.action
    return {**_given(action, LOCAL_SHELL), "command_line": " ".join(action.command)}


def of_patch(operation: Any) -> dict[str, Any]:
    """The parameters of one `ApplyPatchOperation`."""
    return _given(operation, APPLY_PATCH)


def of_computer(method: str, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of one action of a computer; `arguments` are those of an action not known here."""
    names = _POSITIONAL.get(method, ())
    params = {"type": method, **dict(zip(names, positional, strict=False)), **named}
    if len(positional) > len(names):
        params["arguments"] = list(positional[len(names) :])
    return params


def _given(holder: Any, schema: Schema) -> dict[str, Any]:
    values = {name: getattr(holder, name, None) for name in schema["properties"]}
    return {name: value for name, value in values.items() if value is not None}
