"""The executor: carries out the actions of a plan. Tools of an agent need none, they are their own."""

from __future__ import annotations

from abc import ABC, abstractmethod

from aegis_otel.model import Action, Result


class BaseExecutor(ABC):
    """Subclass it and implement `execute`. See docs/executors.md."""

    @abstractmethod
    async def execute(self, action: Action) -> Result:
        """Carry out one action that the policy allowed.

        An exception counts as a FAILED result; it does not leave the Runtime.
        """

    async def verify(self, action: Action, result: Result) -> bool:  # noqa: ARG002
        """Whether the action really happened. False turns a success into FAILED."""
        return result.ok

    async def setup(self) -> None:  # noqa: B027
        """Called once on `async with Runtime(...)`, before the first action."""

    async def teardown(self) -> None:  # noqa: B027
        """Called once at the end of `async with Runtime(...)`."""
