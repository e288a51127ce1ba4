"""The tools that a policy governs, and the lists of them that programs write.

The forms of such lists are our own file, MCP's `tools/list`, and OpenAI's lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aegis_otel.policy.lint.parameter_content import WORDS
from aegis_otel.policy.messages import quoted, shown


class KnownTool(NamedTuple):
    """One tool as rules see it."""

    name: str
    """What rules match as `match.type`."""
    schema: Mapping[str, Any] | None
    """JSON Schema of its parameters; None where it is not known."""
    original_name: str | None = None
    """Its own name, where the model is given another."""
    target: str | None = None
    """What rules match as `match.target`; None where it is not known."""
    agent: str | None = None
    """The agent that has it; None where it is not known."""
    annotations: Mapping[str, Any] | None = None
    """What its MCP server says of it (`readOnlyHint`, `destructiveHint`): a hint, which may be wrong."""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if self.original_name is None else (self.name, self.original_name)


class UngovernableTool(NamedTuple):
    """Something that an agent can do and no policy is asked about, such as a tool of the model's service."""

    agent: str
    name: str
    kind: str


class Inventory(NamedTuple):
    """Everything that can be called, and by whom."""

    tools: tuple[KnownTool, ...]
    agents: tuple[str, ...] | None = None
    """All agents; None where they are not known."""
    is_complete: bool = True
    """False where the tools of a server could not be listed."""
    ungovernable: tuple[UngovernableTool, ...] = ()

    @classmethod
    def from_schemas(cls, schemas: Mapping[str, Mapping[str, Any]]) -> Inventory:
        """Make the inventory of tools of which only the names and the schemas are known."""
        return cls(tuple(KnownTool(name, schema) for name, schema in schemas.items()))

    @property
    def names(self) -> list[str]:
        """The names of all tools, those of their own included."""
        return [name for tool in self.tools for name in tool.names]

    @property
    def targets(self) -> frozenset[str] | None:
        """All targets; None where one is not known."""
        named = [tool.target for tool in self.tools]
        return None if None in named else frozenset(each for each in named if each is not None)


_SCHEMAS = ("parameters", "inputSchema", "input_schema")
_DESCRIBING = frozenset(WORDS["schema keywords"].split())


class NotTools(ValueError):
    """The data is not a list of tools; the message says why."""


def parse_tools(content: bytes) -> Inventory:
    """Return the inventory that a file has; errors as for `read_tools`, also where it is not JSON."""
    try:
        return read_tools(json.loads(content))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise NotTools(f"it is not JSON: {error}") from None


def read_tools(data: object) -> Inventory:
    """Return the inventory that `data`, parsed JSON, describes.

    Raises:
        NotTools: it has none of the known forms, or something in it is not a JSON Schema.
    """
    result = data.get("result") if isinstance(data, Mapping) and "jsonrpc" in data else data
    agents = None
    if isinstance(result, Mapping) and isinstance(result.get("tools"), list):
        agents = result.get("agents")
        result = result["tools"]
    if result in ([], {}):
        raise NotTools("it lists no tools")
    if isinstance(result, list):
        named = agents if isinstance(agents, list) and all(isinstance(each, str) for each in agents) else None
        return Inventory(tuple(_listed(result, None)), None if named is None else tuple(named))
    if isinstance(result, Mapping):
        return Inventory(
            tuple(KnownTool(str(name), _checked_schema(each, str(name))) for name, each in result.items())
        )
    raise NotTools(f"must be an object of schemas by tool, or a list of tools, not {shown(data)}")


def _listed(tools: list[Any], target: str | None) -> Iterator[KnownTool]:
    for tool in tools:
        if not isinstance(tool, Mapping):
            raise NotTools(f"a tool must be an object, not {shown(tool)}")
        inner = tool["function"] if isinstance(tool.get("function"), Mapping) else tool
        name = inner.get("name")
        if not isinstance(name, str) or not name:
            kind = tool.get("type")
            if isinstance(kind, str) and kind != "function":
                continue  # hosted tools of OpenAI have no name, and run where no policy is asked
            raise NotTools("a tool has no `name`")
        if isinstance(inner.get("tools"), list):
            yield from _listed(inner["tools"], name)
            continue
        given = next((inner[key] for key in _SCHEMAS if inner.get(key) is not None), None)
        yield KnownTool(
            name,
            None if given is None else _checked_schema(given, name),
            _text(inner, "original_name"),
            _text(inner, "target") or target,
            _text(inner, "agent"),
            inner["annotations"] if isinstance(inner.get("annotations"), Mapping) else None,
        )


def _text(tool: Mapping[str, Any], key: str) -> str | None:
    value = tool.get(key)
    return value if isinstance(value, str) else None


def _checked_schema(value: object, tool: str) -> Mapping[str, Any]:
    """Return `value` if it can be the JSON Schema of a tool's parameters.

    Raises:
        NotTools: it cannot. An object that describes nothing would count as one that allows everything.
    """
    if not isinstance(value, Mapping):
        raise NotTools(f"the schema of tool {quoted(tool)} must be an object, not {shown(value)}")
    what = f"the schema of tool {quoted(tool)} is not a JSON Schema of parameters"
    if value and not _DESCRIBING & set(value):
        keys = ", ".join(quoted(str(key)) for key in list(value)[:3])
        raise NotTools(f"{what}: it has {keys} and neither `type` nor `properties`")
    kind = value.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise NotTools(f"{what}: its `type` is {shown(kind)}, not `object`")
    properties = value.get("properties", {})
    if not isinstance(properties, Mapping):
        raise NotTools(f"{what}: its `properties` are {shown(properties)}, not an object")
    wrong = next((name for name, each in properties.items() if not isinstance(each, (Mapping, bool))), None)
    if wrong is not None:
        raise NotTools(
            f"{what}: its parameter {quoted(str(wrong))} is {shown(properties[wrong])}, not a schema"
        )
    return value
