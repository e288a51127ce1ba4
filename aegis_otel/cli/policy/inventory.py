"""The tools that a command of `aegis policy` is given: from an agent, or from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from aegis_otel.cli.load_agent import load_agent
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.policy.lint import Inventory

_Command = TypeVar("_Command", bound=Callable[..., Any])


def tools_option(help_text: str) -> Callable[[_Command], _Command]:
    """Return the option `--tools FILE`, for `chosen_inventory`."""
    return click.option("--tools", metavar="FILE", type=click.File("rb"), help=help_text)


def inventory_of(target: str) -> Inventory:
    """Return the tools that the agent at MODULE:AGENT can reach. Importing MODULE runs its code.

    Raises:
        click.UsageError: there is no such agent.
    """
    from aegis_otel.adapters.openai_agents.coverage.tool_inventory import inventory

    return inventory(load_agent(target))


def ungovernable_lines(known: Inventory) -> Iterator[str]:
    """Yield a line, for the terminal, for each thing that an agent can do and no policy governs."""
    for each in known.ungovernable:
        yield escape(f"not governable: `{each.name}` of {each.agent} ({each.kind}; see docs/coverage.md)")


def chosen_inventory(tools: IO[bytes] | None, agent: str | None = None) -> Inventory | None:
    """Return the tools that `--tools` or `--agent` gives; None where neither is given.

    Raises:
        click.UsageError: both are given, or what is given has no tools.
    """
    if tools is not None and agent is not None:
        raise click.UsageError("--tools and --agent exclude each other")
    if tools is not None:
        return _read_inventory(tools.read())
    return None if agent is None else inventory_of(agent)


def _read_inventory(content: bytes) -> Inventory:
    """Return the tools that a file for `--tools` lists.

    Raises:
        click.UsageError: it is not a list of tools.
    """
    from aegis_otel.policy.lint.tool_list import NotTools, parse_tools

    try:
        return parse_tools(content)
    except NotTools as error:
        raise click.UsageError(f"--tools: {escape(str(error))}") from None
