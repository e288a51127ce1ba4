"""`aegis policy tools`: the tools of an agent, as rules see them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.cli import text_or_json_option
from aegis_otel.cli.policy.inventory import inventory_of, ungovernable_lines
from aegis_otel.cli.rendering import echo, plural, visible
from aegis_otel.policy.evaluation.schema_walk import properties_of

if TYPE_CHECKING:
    from aegis_otel.policy.lint import Inventory
    from aegis_otel.policy.lint.tool_list import KnownTool


@click.command(short_help="List an agent's tools, as rules see them.")
@click.argument("target", metavar="MODULE:AGENT")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the tools to FILE as JSON instead, for `check --tools` and for cases. It replaces FILE.",
)
@text_or_json_option
@click.pass_context
def tools(ctx: click.Context, /, *, target: str, out: Path | None, form: str) -> None:
    """Show the tools of an agent: what rules match as `match.type`, `match.target` and `match.agent`, and
    the parameters.

    These are all tools that the agent can reach: also by handoffs, through agents that are tools, and on
    MCP servers, to which it connects. What no policy can govern, such as tools that run in the model's
    service, is named as such. Importing MODULE runs its code.

    \b
    Exit codes:
      0  all tools are listed
      1  the tools of a server, or of an agent, could not be listed
      2  there is no such agent
    """
    known = inventory_of(target)
    if out is not None:
        out.write_text(json.dumps(_document(known), indent=2) + "\n", encoding="utf-8")
        echo(f"wrote {visible(str(out))}: {plural(len(known.tools), 'tool')}")
        for line in ungovernable_lines(known):
            echo(line)
    elif form == "json":
        click.echo(json.dumps(_document(known), indent=2))
    else:
        _print(known)
    if not known.is_complete:
        click.echo("warning: the tools of a server could not be listed", err=True)
        ctx.exit(1)


def _document(known: Inventory) -> dict[str, Any]:
    listed = [tool._asdict() for tool in known.tools]
    for tool in listed:
        tool["parameters"] = tool.pop("schema")
    return {
        "version": "1",
        "agents": list(known.agents or ()),
        "tools": listed,
        "not_governable": [each._asdict() for each in known.ungovernable],
    }


def _print(known: Inventory) -> None:
    """Print the tools by agent, each with a line for each of its parameters."""
    agents: dict[str | None, list[KnownTool]] = {name: [] for name in known.agents or ()}
    for tool in known.tools:
        agents.setdefault(tool.agent, []).append(tool)
    for agent, tools in agents.items():
        echo(f"agent {visible(agent or '-')}: {plural(len(tools), 'tool')}")
        for tool in tools:
            also = "" if tool.original_name is None else f", also {visible(tool.original_name)}"
            echo(f"\n  type {visible(tool.name)}{also}\n    target {visible(tool.target or '-')}")
            for line in _parameters(tool.schema):
                echo(f"    param {line}")
        echo("")
    for line in ungovernable_lines(known):
        echo(line)


def _parameters(schema: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the parameters at the top of a schema, each with its type and default, or `required`."""
    if schema is None:
        yield "(not known)"
        return
    required = schema.get("required")
    for name, inner in properties_of(schema).items():
        what = _type_of(inner, schema)
        if isinstance(inner, Mapping) and "default" in inner:
            what += f", default {visible(json.dumps(inner['default'], ensure_ascii=False, default=str))}"
        elif isinstance(required, (list, tuple)) and name in required:
            what += ", required"
        yield f"{visible(str(name))}: {what}"


def _type_of(schema: Any, root: Mapping[str, Any]) -> str:
    """Return what a parameter may be, in the words of JSON Schema."""
    if not isinstance(schema, Mapping):
        return "anything"
    reference = schema.get("$ref")
    if isinstance(reference, str):  # one step, as pydantic writes the types of fields
        definitions = root.get("$defs")
        found = definitions.get(reference.rpartition("/")[2]) if isinstance(definitions, Mapping) else None
        return _type_of(found, {})
    choices = schema.get("enum")
    if isinstance(choices, (list, tuple)) and choices:
        return visible("one of " + ", ".join(json.dumps(each, default=str) for each in choices))
    alternatives = schema.get("anyOf")
    if isinstance(alternatives, (list, tuple)) and alternatives:
        return " or ".join(dict.fromkeys(_type_of(each, root) for each in alternatives))
    kind = schema.get("type")
    kinds = kind if isinstance(kind, (list, tuple)) else [kind]
    return visible(" or ".join(each for each in kinds if isinstance(each, str)) or "anything")
