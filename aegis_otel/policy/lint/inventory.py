"""What a policy governs: the tools, what rules match of them, and the agents that have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


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

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if self.original_name is None else (self.name, self.original_name)


class Inventory(NamedTuple):
    """Everything that can be called, and by whom."""

    tools: tuple[KnownTool, ...]
    agents: tuple[str, ...] | None = None
    """All agents; None where they are not known."""
    is_complete: bool = True
    """False where the tools of a server could not be listed."""

    @classmethod
    def from_schemas(cls, schemas: Mapping[str, Mapping[str, Any]]) -> Inventory:
        """The inventory of tools of which only the names and the schemas are known."""
        return cls(tuple(KnownTool(name, schema) for name, schema in schemas.items()))

    @property
    def targets(self) -> frozenset[str] | None:
        """All targets; None where one is not known."""
        named = [tool.target for tool in self.tools]
        return None if None in named else frozenset(each for each in named if each is not None)
